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
    #: Its time is over.
    DEADLINE = "deadline"
    #: Whoever may end the work has: the agent with its tool, or a person with a signal.
    SIGNALLED = "signalled"
    #: The model, or its provider, declined.
    REFUSED = "refused"
    #: No model gave what was asked for, or the tools failed again and again.
    FAILED = "failed"
    #: The model has answered, and is not as sure as was wanted.
    CONFIDENCE = "confidence"
    #: The model has answered, and a check of the answer did not pass.
    UNCHECKED = "unchecked"


class EndedBy(StrEnum):
    """Who has ended the work, where it is `SIGNALLED`."""

    #: The agent, with a tool: it has given its answer.
    AGENT = "agent"
    #: A person, with a signal: the agent says what it has.
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a loop: why, and in words what exactly."""

    #: Why, in a word.
    reason: EndReason
    #: Why, in words.
    detail: str = ""
    #: Who has ended it, where it is `SIGNALLED`.
    by: EndedBy | None = None


class Measure(StrEnum):
    """What is to be done before the loop goes on."""

    #: The model is told that little is left.
    WARN = "warn"
    #: What was said so far is summed up.
    COMPACT = "compact"
    #: The answer goes back to the model, with why.
    REVISE = "revise"


@dataclass(frozen=True, slots=True)
class Advice:
    """What is to be done before the loop goes on, and why. It is false, as nothing ends."""

    #: What is to be done.
    measure: Measure
    #: Why, in words; to revise its answer, the very words that the model is told.
    detail: str
    #: Whose advice it is to revise an answer: `Transcript.revisions` has it for each time.
    source: str = ""

    def __bool__(self) -> Literal[False]:
        """Return False: ``while not (end := stop(transcript))`` goes on."""
        return False


Verdict = End | Advice | None
"""What a stop condition says; None to go on."""

Stop = Callable[[Transcript], Verdict]
"""A stop condition: a pure function of the transcript."""
