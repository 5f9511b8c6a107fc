"""What a loop has recorded beyond the point that it has come to, and what that decides.

Hooks change between a crash and the restart: limits are lowered, tools taken out. A model call that
is recorded means that its turn was taken, or that the loop was cut short there, whatever `stop`
says now; a warning or a summary before it was given, and one that is not recorded was not.

Invariant: new hooks rule from the first turn on that has no record.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from substrate.agent.cut import Cut
from substrate.agent.end import End, EndedBy, EndReason
from substrate.agent.history.keys import COMPACT, MODEL, PROMPT, REVISION, SUMMARY, WARNING
from substrate.agent.history.rows import input_of, value_of
from substrate.agent.model_call import reply_of
from substrate.agent.named_step import named_step, read_only
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Json
from substrate.values.ids import Key
from substrate.values.records import Promise

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
    if found is None or is_of_later_loop(ctx, found):
        return None
    return found if transcript.chain.owns(input_of(found)) else None


def is_of_later_loop(ctx: Context, row: Promise) -> bool:
    """Whether a row ahead is one of a loop that began after this one: its prompt comes before."""
    following = ctx.recorded(PROMPT)
    return following is not None and following.seq < row.seq


def end_in(row: Promise) -> End | None:
    """Return the end at which a model call asked for last words; None for a usual turn."""
    end = input_of(row).get("end")
    if end is None:
        return None
    by = end.get("by")
    return End(EndReason(end["reason"]), end["detail"], None if by is None else EndedBy(by))


def record_of(end: End) -> dict[str, Json]:
    """Return what the row of last words tells of their end."""
    by = {} if end.by is None else {"by": end.by.value}
    return {"reason": end.reason.value, "detail": end.detail, **by}


def before(ctx: Context) -> dict[str, Json]:
    """Return what the row of a warning or a summary tells: before which turn it was given."""
    return {"before": ctx.key_ahead(MODEL)}


async def read(ctx: Context, name: str) -> Promise:
    """Take the next row of this name, which is recorded and has its outcome."""
    return await ctx.checkpoint(read_only(name)).settled()


async def recall(ctx: Context, transcript: Transcript) -> Transcript:
    """Return the transcript with what is recorded before its next turn.

    That are warnings, summaries, cuts, and why an answer went back.
    """
    while True:
        transcript = await recall_revisions(ctx, transcript)
        names = [name for name in (WARNING, SUMMARY, COMPACT) if is_ahead(ctx, name)]
        if not names:
            return transcript
        # In the order in which they came about: a cut names messages by their places.
        row = await read(ctx, min(names, key=partial(_seq, ctx)))
        if row.name == WARNING:
            transcript = transcript.warned(value_of(row), row.key)
        elif row.name == SUMMARY:
            room: int | None = input_of(row).get("room")
            transcript = transcript.summed_up(reply_of(row), room, row.key)
        else:
            found = {key: ctx.recorded_at(Key(key)) for key in value_of(row)["asked"]}
            asked = {key: each for key, each in found.items() if each is not None}
            transcript = compacted(transcript, row, asked)


def compacted(transcript: Transcript, row: Promise, asked: Mapping[str, Promise]) -> Transcript:
    """Return the transcript as a recorded cut leaves it; `asked` are rows of what it was asked."""
    record, given = value_of(row), input_of(row)
    cut, replies = (
        Cut.from_json(record["cut"]),
        {key: reply_of(each) for key, each in asked.items()},
    )
    words = replies[cut.summary].text if cut.summary is not None else ""
    told = transcript.compacted(
        cut, list(replies.values()), words, is_full=given["cause"] == "full"
    )
    model, times = transcript.missed
    if record["missed"] is not None:
        return replace(
            told, missed=(record["missed"], times + 1 if model == record["missed"] else 1)
        )
    return told if cut.summary is None else replace(told, missed=("", 0))


def _seq(ctx: Context, name: str) -> int:
    row = ctx.recorded(name)
    return 0 if row is None else row.seq


async def recall_revisions(ctx: Context, transcript: Transcript) -> Transcript:
    """Return the transcript with why its answer went back, as recorded before its next turn."""
    while is_ahead(ctx, REVISION):
        row = await read(ctx, REVISION)
        transcript = transcript.revised(value_of(row), input_of(row)["source"], row.key)
    return transcript


async def revise(ctx: Context, transcript: Transcript, words: str, source: str) -> Transcript:
    """Send an answer back with these words, which are recorded; return the transcript with them."""

    async def tell() -> Json:
        return words

    step = named_step(REVISION, tell, {**before(ctx), "source": source})
    row = await ctx.checkpoint(step).settled()
    return transcript.revised(value_of(row), source, row.key)


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
            await ctx.abandon(read_only(found.name), why).settled()


def is_ahead(ctx: Context, name: str) -> bool:
    """Whether the next row of this name is recorded and belongs to the next turn."""
    row = ctx.recorded(name)
    if row is None or not row.is_settled or is_of_later_loop(ctx, row):
        return False
    return bool(input_of(row).get("before") == ctx.key_ahead(MODEL))
