"""Summing up what was said: to save a budget, or because it fills the model's context.

The model writes the summary, in a call of its own with a row of its own; with the task and the last
turn it takes the place of all before it. Where a context is full, the request for the summary has
to fit as well: what the tools gave back is left out of it, the oldest first, then old turns, until
half of what did not fit is left, then a quarter, and so on. What is kept of the last turn is
shortened to the same room, which the row tells.

Invariant: a full context makes one summary a turn; when that does not help, another model is asked,
or a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from substrate.agent.events import TurnStart, emit
from substrate.agent.history.keys import SUMMARY
from substrate.agent.model_call import ModelCall, model_step, next_model_call, reply_of
from substrate.agent.purse import ASIDE, Purse
from substrate.agent.recorded import before
from substrate.agent.shorten import shortened, size
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Reply, UserMessage
from substrate.models.model import Model
from substrate.values.errors import ContextOverflow

SHARES = (2, 4, 16, 128, 1024)
"""Into how many parts of what did not fit the request for a summary is to fit."""

_SUM_UP = (
    "Before you go on, sum up what you did so far. Only this summary and what the last tools gave "
    "back will be left of it, so write down every fact, figure, name and id that you need, what "
    "you tried in vain, and what is yet to be done. Call no tool now."
)


async def sum_up(
    ctx: Context, model: Model, transcript: Transcript, tools: Sequence[Tool], *, is_full: bool
) -> Transcript:
    """Have the model sum up what was said; return the transcript as it is when that does not fit.

    Likewise where what is left pays for no summary beside a turn and last words.

    A context that `is_full` has just refused the transcript.
    """
    whole, allowed = size(transcript.messages), Purse.allowance(ctx, transcript, ASIDE)
    allowed = allowed and replace(
        allowed, counted=None
    )  # it reads less than a turn, where it is full
    rooms = [whole // share for share in SHARES]
    for room in chain([] if is_full else [None], rooms):
        asked = _request(transcript, model, tools, {**before(ctx), "room": room}).within(allowed)
        if not asked.is_payable:
            continue
        emit(ctx, TurnStart(transcript.turns + 1, asked.model.id))
        try:
            row = await ctx.attempt(model_step(ctx, asked))
        except ContextOverflow:
            continue
        return transcript.summed_up(reply_of(row), room, row.key)
    return transcript


def can_sum_up(transcript: Transcript) -> bool:
    """Whether there is something to sum up, and a full context has not made it so just now."""
    has_replies = any(isinstance(each, Reply) for each in transcript.messages)
    return has_replies and transcript.made_room_at != transcript.turns


def _request(
    transcript: Transcript, model: Model, tools: Sequence[Tool], more: Mapping[str, Json]
) -> ModelCall:
    room: int | None = more["room"]
    messages = transcript.messages if room is None else shortened(transcript.messages, room)
    pleading = replace(transcript, messages=(*messages, UserMessage.of(_SUM_UP)))
    asked = next_model_call(pleading, model, tools, None)
    return replace(
        asked.raising_overflow(),
        request=replace(asked.request, may_call_tools=False),
        name=SUMMARY,
        validate=lambda reply: reply,
        more=more,
    )
