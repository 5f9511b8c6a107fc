"""What a stop condition says of a transcript: end here and why, go on with an advice, or go on."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from substrate.agent.transcript import Transcript


class EndReason(StrEnum):
    """Why a loop ended."""

    #: The model has answered.
    ANSWERED = "answered"
    #: It has had as many turns as it may.
    MAX_TURNS = "max_turns"
    #: Its budget is used up.
    BUDGET = "budget"
    #: The model, or its provider, declined.
    REFUSED = "refused"
    #: No model gave what was asked for.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a loop: why, and in words what exactly."""

    #: Why, in a word.
    reason: EndReason
    #: Why, in words.
    detail: str = ""


class Measure(StrEnum):
    """What is to be done before the loop goes on."""

    #: The model is told that little is left.
    WARN = "warn"
    #: What was said so far is summed up.
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Advice:
    """What is to be done before the loop goes on, and why. It is false, as nothing ends."""

    #: What is to be done.
    measure: Measure
    #: Why, in words.
    detail: str

    def __bool__(self) -> Literal[False]:
        """Return False: ``while not (end := stop(transcript))`` goes on."""
        return False


Verdict = End | Advice | None
"""What a stop condition says; None to go on."""

Stop = Callable[[Transcript], Verdict]
"""A stop condition: a pure function of the transcript."""
