"""When the loop ends, and why: conditions over a transcript, composed with `any_of` and `all_of`.

A condition is a pure function: transcript to `End`, or None to go on; an `Advice` says what to do
before going on. It is asked at the top of each turn, so tools that the model has called always
finish. What one needs beside the transcript, it says: see `condition`.
"""

from datetime import datetime, timedelta

from substrate.agent.budget import budget
from substrate.agent.condition import Condition, Needs, confidences, joined
from substrate.agent.confidence import confident
from substrate.agent.end import Advice, End, EndedBy, EndReason, Measure, Stop, Verdict
from substrate.agent.ended import CUT_OFF, answer_in, cut_short, declined, nothing_more
from substrate.agent.signalled import signalled
from substrate.agent.stop_trial import condition_fault, verdict_fault
from substrate.agent.transcript import Transcript
from substrate.models.messages import StopReason, ToolMessage
from substrate.values.clock import seconds_of
from substrate.values.errors import Misuse
from substrate.values.number import is_number, is_whole

__all__ = [
    "Advice",
    "Condition",
    "End",
    "EndReason",
    "EndedBy",
    "Needs",
    "Stop",
    "Verdict",
    "all_of",
    "answered",
    "any_of",
    "budget",
    "confident",
    "deadline",
    "failed",
    "max_turns",
    "refused",
    "signalled",
]

_ERROR = 200  # characters of a tool's error that a detail quotes


def answered() -> Stop:
    """Stop when the model has replied without asking for a tool.

    An answer that does not fit the agent's `answer` type is none, and neither is one of which the
    model is not as sure as `confident` wants. When no model has one that fits, or can call a tool
    rightly, however often they were told, the loop ends as `failed`. One that a budget has cut off
    ends it as `budget`.

    Example:
        >>> stop = any_of(answered(), max_turns(20))
    """

    def stop(transcript: Transcript) -> End | None:
        if (end := nothing_more(transcript)) is not None:
            return end
        reply = answer_in(transcript)
        if reply is None or (reply.confidence is not None and not reply.confidence.is_enough):
            return None
        if reply.is_cut_short:
            return cut_short()
        if reply.stop is StopReason.LENGTH:
            return End(EndReason.ANSWERED, CUT_OFF)
        return End(EndReason.ANSWERED)

    return stop


def refused() -> Stop:
    """Stop when the model, or its provider, has declined, and nobody has said anything since.

    `answered` and `confident` do so, too: it is for who composes conditions without them.

    Example:
        >>> stop = any_of(signalled(), refused(), max_turns(50))
    """
    return declined


def max_turns(limit: int) -> Stop:
    """Stop after so many model calls. One more, without tools, may follow to sum up.

    Args:
        limit: How many; 1 or more, else `Misuse`.

    Example:
        >>> stop = any_of(answered(), max_turns(20))
    """
    if not is_whole(limit) or limit < 1:
        raise Misuse(f"max_turns({limit!r}): give 1 or more, as a whole number")

    def stop(transcript: Transcript) -> End | None:
        if transcript.turns >= limit:
            return End(EndReason.MAX_TURNS, f"the limit of {limit} is reached")
        return None

    return stop


def failed(times: int) -> Stop:
    """Stop when so many tool calls in a row have failed, in one turn or in several.

    A call has failed when the model is told of an error: the tool raised or took too long, there is
    none of that name, its arguments were wrong, or nobody knows whether it happened. Calls count in
    the order in which the model asked for them; one that succeeds begins the count anew. A last
    call of the model, without tools, gives what there is.

    Args:
        times: How many; 1 or more, else `Misuse`.

    Example:
        >>> stop = any_of(answered(), failed(5), max_turns(20))
    """
    if not is_whole(times) or times < 1:
        raise Misuse(f"failed({times!r:.60}): give 1 or more, as a whole number")

    def stop(transcript: Transcript) -> End | None:
        if transcript.failures < times:
            return None
        row = "a tool call" if times == 1 else f"{transcript.failures} tool calls in a row"
        return End(EndReason.FAILED, f"{row} failed{_last_error(transcript)}")

    return stop


def deadline(until: datetime | timedelta | float) -> Stop:
    """Stop at a moment, or when the loop has been at work for so long.

    The time is that of the last thing that was recorded, so a replay says the same. It is asked at
    the top of each turn and ends nothing in the middle: a call that is under way, or a wait, may
    last beyond it. A last call of the model, without tools, gives what there is. Where a run is to
    be over whatever it does, start it with a `timeout`.

    Args:
        until: A time with its zone; or a timedelta or seconds, above 0, from the beginning of the
            loop, its waits included.

    Raises:
        Misuse: a time without a zone, or no duration.

    Example:
        >>> stop = any_of(answered(), deadline(timedelta(minutes=10)))
    """
    _check_deadline(until)
    limit = until if isinstance(until, datetime) else timedelta(seconds=seconds_of(until))

    def stop(transcript: Transcript) -> End | None:
        now, began = transcript.now, transcript.began
        if now is None or began is None:
            return None
        if isinstance(limit, datetime):
            moment = limit.isoformat(sep=" ", timespec="seconds")
            return End(EndReason.DEADLINE, f"it is past {moment}") if now >= limit else None
        took = str(now - began).split(".")[0]
        is_over = now - began >= limit
        return End(EndReason.DEADLINE, f"{took} of {limit} are over") if is_over else None

    return stop


def any_of(*conditions: Stop) -> Stop:
    """Stop when one of the conditions says so; the first to say so gives the reason.

    Where none does, the first advice is passed on; one to revise an answer comes before others. A
    condition of your own is a function from a `Transcript` to an `End`, or to None to go on.

    Example:
        >>> def short(transcript: Transcript) -> End | None:
        ...     return End(EndReason.BUDGET, "long enough") if transcript.turns > 3 else None
        >>> stop = any_of(answered(), short)
    """
    _check_all("any_of", conditions)

    def stop(transcript: Transcript) -> Verdict:
        advice: Verdict = None
        for condition in conditions:
            verdict = condition(transcript)
            if transcript.told is not None:
                continue  # nobody asks whether to stop: each budget is to tell what is left of it
            # What is no verdict is passed on, too: whoever asked says whose fault that is.
            if isinstance(verdict, End) or verdict_fault(verdict):
                return verdict
            advice = _first(advice, verdict)
        return advice

    wanted = confidences(conditions)
    return Condition(stop, joined(conditions, min(wanted, default=None)), conditions)


def all_of(*conditions: Stop) -> Stop:
    """Stop when all of the conditions say so; the last gives the reason.

    Where not all do, the first advice is passed on; one to revise an answer comes before others.

    An answer has to end the loop, or go back: `answered` stands beside it, in `any_of`. A `stop` of
    the kit's own conditions that does neither is refused where the hooks are loaded.

    Example:
        >>> stop = any_of(answered(), all_of(failed(3), max_turns(6)), max_turns(20))
    """
    _check_all("all_of", conditions)

    def stop(transcript: Transcript) -> Verdict:
        verdicts = [one(transcript) for one in conditions]
        if wrong := [each for each in verdicts if verdict_fault(each)]:
            return wrong[0]
        if all(isinstance(each, End) for each in verdicts):
            return verdicts[-1]
        advice: Verdict = None
        for each in verdicts:
            advice = advice if isinstance(each, End) else _first(advice, each)
        return advice

    wanted = confidences(conditions)
    return Condition(stop, joined(conditions, max(wanted, default=None)), conditions)


def _first(one: Verdict, other: Verdict) -> Verdict:
    """Return which of two advices is followed: an answer that goes back is told of at once."""
    if not isinstance(one, Advice):
        return other
    revises = isinstance(other, Advice) and other.measure is Measure.REVISE
    return other if revises and one.measure is not Measure.REVISE else one


def _check_all(composer: str, conditions: tuple[Stop, ...]) -> None:
    if not conditions:
        raise Misuse("nothing to stop on; give conditions, such as answered() and max_turns(20)")
    for condition in conditions:
        if problem := condition_fault(condition, composer):
            raise Misuse(problem)


def _check_deadline(until: object) -> None:
    if isinstance(until, datetime):
        if until.tzinfo is None or until.utcoffset() is None:
            raise Misuse(
                f"deadline({until!r}) has no time zone; write datetime(…, tzinfo=UTC), or a "
                "timedelta from the beginning"
            )
        return
    if not isinstance(until, timedelta) and not is_number(until):
        raise Misuse(
            f"deadline({until!r:.80}): give a time with its zone, or a duration, such as "
            "timedelta(minutes=10)"
        )
    if seconds_of(until) <= 0:  # type: ignore[arg-type]  # which of them it is was looked at
        raise Misuse(f"deadline({until!r}): give a duration above 0")


def _last_error(transcript: Transcript) -> str:
    """Return the last error that a tool gave, with its tool, for a detail."""
    told = (each for each in reversed(transcript.messages) if isinstance(each, ToolMessage))
    results = next((each.results for each in told), ())
    wrong = [each for each in results if each.is_error]
    if not wrong:
        return ""
    line = " ".join(wrong[-1].content.split())
    text = line if len(line) <= _ERROR else f"{line[:_ERROR]}…"
    return f", the last: {wrong[-1].name}: {text}"
