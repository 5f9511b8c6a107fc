"""What a stop condition needs beside the transcript: it says so, and the loop brings it along.

A condition is a plain function of the transcript. One that needs more (a confidence in each answer,
a tool, a signal) is a `Condition`, which says what that is; `any_of` and `all_of` need what their
parts do.

Invariants: pure; a condition that needs nothing is any function, as it ever was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from substrate.agent.end import Stop, Verdict
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.values.errors import InvalidId, Misuse
from substrate.values.ids import check_name


@dataclass(frozen=True, slots=True)
class Needs:
    """What a condition needs beside the transcript.

    Raises `Misuse` for a name that is none.
    """

    #: The least confidence with which an answer is one; then the model is asked for it with each.
    confidence: float | None = None
    #: Signals to listen for before each turn: `Transcript.signals` has those that came.
    signals: tuple[str, ...] = ()
    #: Tools that the model may call besides those of the hook.
    tools: tuple[Tool, ...] = ()
    #: Names of tools by which the model gives its answer and ends its work: the loop makes them.
    finish: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that could not stand in a key."""
        for name in (*self.signals, *self.finish):
            if name == "message" and name in self.signals:
                raise Misuse("people say messages to the run under 'message'; give another name")
            try:
                check_name(name)
            except (InvalidId, TypeError) as error:
                raise Misuse(f"{name!r} is no name of a signal or a tool: {error}") from None
        for tool in self.tools:
            given: object = tool
            if not isinstance(given, Tool):
                raise Misuse(f"{given!r:.80} is no tool; put @tool on a function and give that")


NOTHING = Needs()
"""What a plain function needs."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A stop condition that says what it needs; called, it is that of `decide`.

    Example:
        >>> def told(transcript: Transcript) -> End | None:
        ...     said = transcript.signals.get("enough")
        ...     return None if said is None else End(EndReason.SIGNALLED, str(said))
        >>> stop = any_of(answered(), Condition(told, Needs(signals=("enough",))))
    """

    #: What it says of a transcript.
    decide: Stop
    #: What it needs for that.
    needs: Needs = NOTHING
    #: The conditions that it is composed of.
    parts: tuple[Stop, ...] = ()

    def __call__(self, transcript: Transcript) -> Verdict:
        """Say whether the loop ends here."""
        return self.decide(transcript)


def needs_of(stop: object) -> Needs:
    """Return what a condition needs."""
    return stop.needs if isinstance(stop, Condition) else NOTHING


def joined(parts: Sequence[Stop], confidence: float | None) -> Needs:
    """Return what all of these need, with this least confidence."""
    needs = [needs_of(each) for each in parts]
    # A condition may stand in two places of a composition, and needs one tool.
    return Needs(
        confidence,
        tuple(dict.fromkeys(name for each in needs for name in each.signals)),
        tuple({id(tool): tool for each in needs for tool in each.tools}.values()),
        tuple(dict.fromkeys(name for each in needs for name in each.finish)),
    )


def confidences(parts: Sequence[Stop]) -> list[float]:
    """Return the confidences that these need."""
    found = (needs_of(each).confidence for each in parts)
    return [each for each in found if each is not None]
