"""What a loop has recorded beyond the point that it has come to, and what that decides.

Hooks change between a crash and the restart: limits are lowered, tools taken out. A model call that
is recorded means that its turn was taken, or that the loop was cut short there, whatever `stop`
says now; a warning or a summary before it was given, and one that is not recorded was not.

Invariant: new hooks rule from the first turn on that has no record.
"""

import asyncio

from substrate.agent.end import End, Reason
from substrate.agent.model_call import SUMMARY, reply_of
from substrate.agent.transcript import Transcript
from substrate.engine.context import Context
from substrate.engine.step import Step
from substrate.models.messages import Json
from substrate.values.codec import decode, fingerprint
from substrate.values.records import Json as JsonText
from substrate.values.records import Kind, Promise

WARNING = "warning"

YIELD_EACH = 16
"""After so many recorded turns the others have theirs: a long replay lets the worker live."""


def settled_ahead(ctx: Context, name: str) -> Promise | None:
    """Return the next row of this name, where it is recorded and has its outcome."""
    found = ctx.recorded(name)
    return found if found is not None and found.is_settled else None


def end_in(row: Promise) -> End | None:
    """Return the end at which a model call asked for last words; None for a usual turn."""
    end = _input(row).get("end")
    return None if end is None else End(Reason(end["reason"]), end["detail"])


def turn_of(row: Promise) -> int | None:
    """Return how many turns there had been when a row was written that belongs to one."""
    turn: int | None = _input(row).get("turn")
    return turn


async def read(ctx: Context, name: str) -> Promise:
    """Take the next row of this name, which is recorded and has its outcome."""
    same = fingerprint(Kind.STEP.value, name)
    return await ctx.perform(Step(name=name, call=_nothing, fingerprint=same)).settled()


async def recall(ctx: Context, transcript: Transcript) -> Transcript:
    """Return the transcript with the warning and the summaries recorded before its next turn."""
    while True:
        if _is_of(transcript, ctx, WARNING):
            warned = await read(ctx, WARNING)
            transcript = transcript.warned(decode(warned.value or JsonText("null")), warned.key)
        elif _is_of(transcript, ctx, SUMMARY):
            summary = await read(ctx, SUMMARY)
            room: int | None = _input(summary).get("room")
            transcript = transcript.summed_up(reply_of(summary), room, summary.key)
        else:
            return transcript


async def let_others_run(transcript: Transcript) -> None:
    """Yield to the event loop, now and then."""
    if transcript.turns % YIELD_EACH == 0:
        await asyncio.sleep(0)


async def close(ctx: Context, name: str) -> None:
    """Close what was begun under the next key of this name, if it has no outcome: nobody asks."""
    found = ctx.recorded(name)
    if found is not None and not found.is_settled:
        why = f"the loop ended before {found.key!r} had an outcome"
        same = fingerprint(Kind.STEP.value, name)
        await ctx.give_up(Step(name=name, call=_nothing, fingerprint=same), why).settled()


def _is_of(transcript: Transcript, ctx: Context, name: str) -> bool:
    row = settled_ahead(ctx, name)
    return row is not None and turn_of(row) == transcript.turns


def _input(row: Promise) -> dict[str, Json]:
    given = decode(row.input or JsonText("{}"))
    return given if isinstance(given, dict) else {}


async def _nothing() -> None:
    raise AssertionError("what has its outcome is not called")
