"""Whether a transcript has come to an end by itself: it has its answer, or none is to come.

What conditions ask in common. Pure.
"""

from substrate.agent.end import End, EndReason
from substrate.agent.transcript import Transcript
from substrate.models.messages import Invalid, Reply, StopReason, UserMessage

CUT_OFF = "cut off at the model's longest output"
"""The detail of an answer that is as long as its model can write, and may have gone on."""


def answer_in(transcript: Transcript) -> Reply | None:
    """Return the reply that is the answer: the last word, in which no tool is asked for."""
    last = transcript.messages[-1]
    return last if isinstance(last, Reply) and not last.tool_calls else None


def nothing_more(transcript: Transcript) -> End | None:
    """Return why no answer is to come: the model declined, or nobody has one that fits."""
    return _given_up(transcript) or declined(transcript)


def cut_short() -> End:
    """Return the end of an answer that its budget has cut off: it is not whole."""
    return End(EndReason.BUDGET, "what was left of the budget paid for no longer an answer")


def declined(transcript: Transcript) -> End | None:
    """Return the end where the model, or its provider, declined, and nobody said anything since."""
    reply, last = transcript.last_reply, transcript.messages[-1]
    if reply is None or reply.stop is not StopReason.REFUSAL or isinstance(last, UserMessage):
        return None
    return End(EndReason.REFUSED, "the model declined to answer")


def _given_up(transcript: Transcript) -> End | None:
    reply = transcript.last_reply
    if reply is None or reply.invalid is None or not reply.invalid.is_last:
        return None
    if reply.invalid.is_unpaid:  # nobody was asked, so nobody said what was wrong
        return End(EndReason.BUDGET, reply.invalid.problems)
    return End(EndReason.FAILED, _failed(transcript, reply.invalid))


def _failed(transcript: Transcript, invalid: Invalid) -> str:
    """Say how often it went wrong and, on one line, what was wrong with the last reply."""
    times = sum(each.invalid is not None for each in transcript.replies)
    problems = "; ".join(line.lstrip("- ") for line in invalid.problems.splitlines())
    were = "reply was" if times == 1 else "replies were"
    return f"{times} {were} not what was asked for, the last: {problems}"
