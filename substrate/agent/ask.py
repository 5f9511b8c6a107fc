"""Asking the model for a turn: live, with room made where its context is full, or from its row.

Invariant: a transcript knows after each reply which row holds it and what that was asked, live as
on a replay, so that the next row goes on from there.
"""

from collections.abc import Sequence
from dataclasses import replace

from substrate.agent.compacting import can_make_room, make_room
from substrate.agent.confidence import Asked
from substrate.agent.end import End
from substrate.agent.events import TurnStart, emit
from substrate.agent.history.keys import MODEL
from substrate.agent.model_call import ModelCall, model_step, next_model_call, note_reply
from substrate.agent.panel import Make, ask_panel, panel_requests
from substrate.agent.purse import LAST, TURN, Purse, not_paid
from substrate.agent.recorded import end_in, let_others_run, read, record_of, turn_ahead
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.panel import Answering, Panel
from substrate.values.errors import ContextOverflow
from substrate.values.records import Promise

_LAST_WORDS = (
    "Stop here: {detail}. Without calling another tool, give the best answer you can from what "
    "you have found so far, and say what is missing."
)


async def last_reply(
    ctx: Context, model: Answering, transcript: Transcript, *, tools: Sequence[Tool], make: Make
) -> Reply:
    """Have the model say what it has, at the end of a loop that was cut short."""
    if turn_ahead(ctx, transcript) is not None:
        return await replay_reply(ctx, transcript)
    row, transcript = await call_model(ctx, model, transcript, tools=tools, make=make, follow=LAST)
    return note_reply(row, transcript)


async def call_model(
    ctx: Context,
    model: Answering,
    transcript: Transcript,
    *,
    tools: Sequence[Tool],
    make: Make,
    follow: int = TURN,
) -> tuple[Promise, Transcript]:
    """Ask; return the reply's row, and the transcript that was really asked.

    That is another where the context is full: then room is made in it first, and only when that
    has not helped, others are asked. A panel's members are asked side by side. What the call
    may use is what budgets leave, less what is kept for those that `follow` it.
    """
    if isinstance(model, Panel):
        return await ask_panel(ctx, model, transcript, tools=tools, make=make, follow=follow)
    asked = make(transcript, model).within(Purse.allowance(ctx, transcript, follow))
    emit(ctx, TurnStart(transcript.turns + 1, asked.model.id))
    begun = ctx.recorded(MODEL)
    while can_make_room(ctx, transcript):
        # A full context is no outcome here: `attempt` gives the key back, and what is asked after
        # the summary has it. So a replay finds one `model.n` for the turn.
        try:
            step = model_step(ctx, asked.raising_overflow(), begun=begun)
            return await ctx.attempt(step), transcript
        except ContextOverflow:
            full = transcript
            transcript = await make_room(ctx, model, full, tools, is_full=True)
            asked = make(transcript, model).within(Purse.allowance(ctx, transcript, follow))
            begun = ctx.recorded(MODEL)
            if transcript is full:  # nothing has helped
                break
    return await ctx.checkpoint(model_step(ctx, asked, begun=begun)).settled(), transcript


def not_payable(
    ctx: Context, model: Answering, transcript: Transcript, make: Make, follow: int
) -> End | None:
    """Return the end of a loop that what is left does not pay a call for; None where it does."""
    allowed = Purse.allowance(ctx, transcript, follow)
    if allowed is None:
        return None
    if not allowed.is_used_up:
        if isinstance(model, Panel):
            asked = panel_requests(model, transcript, make, allowed)
            is_paid = all(each.is_payable for each in asked.values())
        else:
            is_paid = make(transcript, model).within(allowed).is_payable
        if is_paid:
            return None
    return not_paid(allowed)


def turn_model_call(
    transcript: Transcript, model: Model, *, tools: Sequence[Tool], typed: Asked | None
) -> ModelCall:
    """Return what a usual turn asks."""
    return next_model_call(transcript, model, tools, typed)


def last_model_call(
    transcript: Transcript,
    model: Model,
    *,
    end: End,
    tools: Sequence[Tool],
    typed: Asked | None,
) -> ModelCall:
    """Return what is asked for at the end of a loop that is cut short: its row tells the end."""
    plea = transcript.with_message(_LAST_WORDS.format(detail=end.detail))
    asked = next_model_call(plea, model, tools, typed)
    return replace(
        asked,
        request=replace(asked.request, may_call_tools=False),
        validate=lambda reply: reply if typed is None else typed.marked(reply),
        more={"end": record_of(end)},
    )


async def replay_reply(ctx: Context, transcript: Transcript) -> Reply:
    """Return the recorded reply of a turn; nothing is asked, and no request is made."""
    await let_others_run(transcript)
    row = await read(ctx, MODEL)
    transcript.chain.ended_at = end_in(row)
    return note_reply(row, transcript)
