"""What a loop gives back: the words of its last answer, its value, and why it ended. Pure."""

from collections.abc import Sequence

from substrate.agent.confidence import Asked, answer_words
from substrate.agent.end import End, EndReason
from substrate.agent.signalled import finished_with, finishing_call
from substrate.agent.task import Answer
from substrate.agent.transcript import Transcript
from substrate.models.messages import Json, StopReason


def answer_of(
    transcript: Transcript, end: End, asked: Asked | None, finish: Sequence[str] = ()
) -> Answer:
    """Return what the agent gives back. `finish` are the tools by which it may end its work."""
    reply = transcript.last_reply
    calls = (finishing_call(transcript, name) for name in finish)
    call = next((each for each in calls if each is not None), None)
    words = answer_words(reply) if reply else ""
    text = words if call is None else finished_with(call)
    value: Json = None
    if asked is not None and reply is not None and reply.stop is not StopReason.REFUSAL:
        try:
            value = asked.value(text)
        except ValueError as error:
            if end.reason is EndReason.ANSWERED:  # it fitted the type that it was asked for
                end = End(EndReason.FAILED, f"the answer fits its type no more: {error}")
    sure = None if call is not None or reply is None else reply.confidence
    return Answer(
        text,
        end.reason.value,
        end.detail,
        transcript.turns,
        transcript.usage,
        value,
        None if sure is None else sure.value,
        None if end.by is None else end.by.value,
    )
