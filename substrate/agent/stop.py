"""When the loop ends, and why: conditions over a transcript, composed with `any_of` and `all_of`.

A condition is a pure function: transcript to `End`, or None to go on; an `Advice` says what to do
before going on. It is asked at the top of each turn, so tools that the model has called always
finish first.
"""

from substrate.agent.budget import budget
from substrate.agent.end import Advice, End, EndReason, Stop, Verdict
from substrate.agent.faults import condition_fault, verdict_fault
from substrate.agent.transcript import Transcript
from substrate.models.messages import Invalid, Reply, StopReason, UserMessage
from substrate.values.errors import Misuse
from substrate.values.number import is_whole

__all__ = [
    "Advice",
    "End",
    "EndReason",
    "Stop",
    "Verdict",
    "all_of",
    "answered",
    "any_of",
    "budget",
    "max_turns",
]


def answered() -> Stop:
    """Stop when the model has replied without asking for a tool.

    An answer that does not fit the agent's `answer` type is none. When no model has one that fits,
    or can call a tool rightly, however often they were told, the loop ends as `failed`.

    Example:
        >>> stop = any_of(answered(), max_turns(20))
    """

    def stop(transcript: Transcript) -> End | None:
        last, reply = transcript.messages[-1], transcript.last_reply
        if reply is not None and reply.invalid is not None and reply.invalid.is_last:
            return End(EndReason.FAILED, _failed(transcript, reply.invalid))
        is_heard = isinstance(last, UserMessage)  # somebody has said something since
        if reply is not None and reply.stop is StopReason.REFUSAL and not is_heard:
            return End(EndReason.REFUSED, "the model declined to answer")
        if not isinstance(last, Reply) or last.tool_calls:
            return None
        if last.stop is StopReason.LENGTH:
            return End(EndReason.ANSWERED, "cut off at the model's longest output")
        return End(EndReason.ANSWERED)

    return stop


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


def any_of(*conditions: Stop) -> Stop:
    """Stop when one of the conditions says so; the first to say so gives the reason.

    Where none does, the first advice is passed on. A condition of your own is a function from a
    `Transcript` to an `End`, or to None to go on.

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
            advice = verdict if advice is None else advice
        return advice

    return stop


def all_of(*conditions: Stop) -> Stop:
    """Stop when all of the conditions say so; the last gives the reason.

    Where not all do, the first advice is passed on.

    Example:
        >>> stop = any_of(all_of(answered(), max_turns(3)), max_turns(20))
    """
    _check_all("all_of", conditions)

    def stop(transcript: Transcript) -> Verdict:
        verdicts = [one(transcript) for one in conditions]
        if wrong := [each for each in verdicts if verdict_fault(each)]:
            return wrong[0]
        if all(isinstance(each, End) for each in verdicts):
            return verdicts[-1]
        return next((each for each in verdicts if isinstance(each, Advice)), None)

    return stop


def _check_all(composer: str, conditions: tuple[Stop, ...]) -> None:
    if not conditions:
        raise Misuse("nothing to stop on; give conditions, such as answered() and max_turns(20)")
    for condition in conditions:
        if problem := condition_fault(condition, composer):
            raise Misuse(problem)


def _failed(transcript: Transcript, invalid: Invalid) -> str:
    """Say how often it went wrong and, on one line, what was wrong with the last reply."""
    times = sum(each.invalid is not None for each in transcript.replies)
    problems = "; ".join(line.lstrip("- ") for line in invalid.problems.splitlines())
    were = "reply was" if times == 1 else "replies were"
    return f"{times} {were} not what was asked for, the last: {problems}"
