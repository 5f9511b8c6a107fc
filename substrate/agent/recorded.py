"""What a loop has recorded beyond the point that it has come to, and what that decides.

Hooks change between a crash and the restart: limits are lowered, tools taken out. A model call that
is recorded means that its turn was taken, or that the loop was cut short there, whatever `stop`
says now; a warning or a summary before it was given, and one that is not recorded was not.

Invariant: new hooks rule from the first turn on that has no record.
"""

import asyncio

from substrate.agent.end import End, EndReason
from substrate.agent.history.rows import MODEL, SUMMARY, WARNING, input_of, value_of
from substrate.agent.model_call import reply_of
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.engine.step.step import Step
from substrate.models.messages import Json
from substrate.values.codec import fingerprint
from substrate.values.records import Kind, Promise

YIELD_EACH = 16
"""After so many recorded turns the others have theirs: a long replay lets the worker live."""


def turn_ahead(ctx: Context, transcript: Transcript) -> Promise | None:
    """Return the model call with which this loop went on, where it has its reply."""
    found = _model_call(ctx, transcript)
    return found if found is not None and found.is_settled else None


def _model_call(ctx: Context, transcript: Transcript) -> Promise | None:
    """Return the next model call of the journal, unless it is that of a later loop.

    One function may run several loops, one after the other: a call goes on from the last one of its
    own loop, or begins anew with its task.
    """
    found = ctx.recorded(MODEL)
    return found if found and transcript.chain.owns(input_of(found)) else None


def end_in(row: Promise) -> End | None:
    """Return the end at which a model call asked for last words; None for a usual turn."""
    end = input_of(row).get("end")
    return None if end is None else End(EndReason(end["reason"]), end["detail"])


def before(ctx: Context) -> dict[str, Json]:
    """Return what the row of a warning or a summary tells: before which turn it was given."""
    return {"before": ctx.key_ahead(MODEL)}


async def read(ctx: Context, name: str) -> Promise:
    """Take the next row of this name, which is recorded and has its outcome."""
    same = fingerprint(Kind.STEP.value, name)
    return await ctx.checkpoint(Step(name=name, call=_nothing, fingerprint=same)).settled()


async def recall(ctx: Context, transcript: Transcript) -> Transcript:
    """Return the transcript with the warning and the summaries recorded before its next turn."""
    while True:
        if _is_ahead(ctx, WARNING):
            warned = await read(ctx, WARNING)
            transcript = transcript.warned(value_of(warned), warned.key)
        elif _is_ahead(ctx, SUMMARY):
            summary = await read(ctx, SUMMARY)
            room: int | None = input_of(summary).get("room")
            transcript = transcript.summed_up(reply_of(summary), room, summary.key)
        else:
            return transcript


async def let_others_run(transcript: Transcript) -> None:
    """Yield to the event loop, now and then."""
    if transcript.turns % YIELD_EACH == 0:
        await asyncio.sleep(0)


async def close(ctx: Context, transcript: Transcript) -> None:
    """Close what the loop has begun to ask and will not ask any more."""
    call, summary = _model_call(ctx, transcript), ctx.recorded(SUMMARY)
    is_own = summary is not None and input_of(summary).get("before") == ctx.key_ahead(MODEL)
    for found in (call, summary if is_own else None):
        if found is not None and not found.is_settled:
            why = f"the loop ended before {found.key!r} had an outcome"
            same = fingerprint(Kind.STEP.value, found.name)
            step = Step(name=found.name, call=_nothing, fingerprint=same)
            await ctx.abandon(step, why).settled()


def _is_ahead(ctx: Context, name: str) -> bool:
    """Whether the next row of this name is recorded and belongs to the next turn."""
    row = ctx.recorded(name)
    if row is None or not row.is_settled:
        return False
    return bool(input_of(row).get("before") == ctx.key_ahead(MODEL))


async def _nothing() -> None:
    raise AssertionError("what has its outcome is not called")
