"""When the loop ends, and why: conditions over a transcript, composed with `any_of` and `all_of`.

A condition is a pure function: transcript to `End`, or None to go on. It is asked at the top of
each turn, so tools that the model has called always finish first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from substrate.agent.transcript import Transcript
from substrate.models.messages import Reply, StopReason
from substrate.values.errors import Misuse


class Reason(StrEnum):
    """Why a loop ended."""

    ANSWERED = "answered"
    MAX_TURNS = "max_turns"
    BUDGET = "budget"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a loop: why, and in words what exactly."""

    reason: Reason
    detail: str = ""


Stop = Callable[[Transcript], End | None]


def answered() -> Stop:
    """Stop when the model has replied without asking for a tool.

    >>> stop = any_of(answered(), max_turns(20))
    """

    def stop(transcript: Transcript) -> End | None:
        last = transcript.messages[-1]
        if not isinstance(last, Reply) or last.tool_calls:
            return None
        if last.stop is StopReason.REFUSAL:
            return End(Reason.REFUSED, "the model declined to answer")
        if last.stop is StopReason.LENGTH:
            return End(Reason.ANSWERED, "cut off at the model's longest output")
        return End(Reason.ANSWERED)

    return stop


def max_turns(limit: int) -> Stop:
    """Stop after so many model calls. One more, without tools, may follow to sum up."""
    if limit < 1:
        raise Misuse(f"max_turns({limit!r}): give 1 or more")

    def stop(transcript: Transcript) -> End | None:
        if transcript.turns >= limit:
            return End(Reason.MAX_TURNS, f"the limit of {limit} is reached")
        return None

    return stop


def budget(*, usd: float | None = None, tokens: int | None = None) -> Stop:
    """Stop before the run costs more than so many dollars, or so many tokens, in and out.

    Room is kept for one last call without tools, as large as the largest so far, so that the run
    returns what it has. A model whose price is not known ends a budget in dollars at once: nobody
    could keep it. Limit `tokens` there.
    """
    if usd is None and tokens is None:
        raise Misuse("budget() limits nothing; give usd= or tokens=")
    if (usd is not None and usd <= 0) or (tokens is not None and tokens <= 0):
        raise Misuse("a budget must be more than 0")

    def stop(transcript: Transcript) -> End | None:
        if not transcript.replies:
            return None
        return _over_dollars(transcript, usd) or _over_tokens(transcript, tokens)

    return stop


def any_of(*conditions: Stop) -> Stop:
    """Stop when one of the conditions says so; the first to say so gives the reason."""
    _check_some(conditions)

    def stop(transcript: Transcript) -> End | None:
        return next((end for one in conditions if (end := one(transcript))), None)

    return stop


def all_of(*conditions: Stop) -> Stop:
    """Stop when all of the conditions say so; the last gives the reason."""
    _check_some(conditions)

    def stop(transcript: Transcript) -> End | None:
        ends = [one(transcript) for one in conditions]
        return ends[-1] if all(ends) else None

    return stop


def _check_some(conditions: tuple[Stop, ...]) -> None:
    if not conditions:
        raise Misuse("nothing to stop on; give conditions, such as answered() and max_turns(20)")


def _over_dollars(transcript: Transcript, usd: float | None) -> End | None:
    if usd is None:
        return None
    costs = [reply.usage.cost_usd for reply in transcript.replies]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        model = next(r.model for r in transcript.replies if r.usage.cost_usd is None)
        detail = f"the price of {model!r} is not known; use budget(tokens=…)"
        return End(Reason.BUDGET, detail)
    if float(sum(known) + max(known)) > usd:
        return End(Reason.BUDGET, f"${sum(known):.4f} of ${usd:.2f} spent; the rest is kept")
    return None


def _over_tokens(transcript: Transcript, tokens: int | None) -> End | None:
    if tokens is None:
        return None
    used = [reply.usage.input_tokens + reply.usage.output_tokens for reply in transcript.replies]
    if sum(used) + max(used) > tokens:
        return End(Reason.BUDGET, f"{sum(used):,} of {tokens:,} tokens used; the rest is kept")
    return None
