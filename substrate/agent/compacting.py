"""Room in a transcript, as the hook `compact` says: before a turn, and where a context is full.

How a cut is made, and what is recorded of it, stands in `cutting`. Without the hook a full context
is summed up (see `compaction`), and nothing is left out before that.

Invariant: in a turn that is recorded nothing is left out any more.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from substrate.agent.compact import Compact
from substrate.agent.compaction import can_sum_up, sum_up
from substrate.agent.cutting import Cause, Cutting
from substrate.agent.recorded import turn_ahead
from substrate.agent.room import quick_fill
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models import prices
from substrate.models.bound import own_limit
from substrate.models.messages import Reply
from substrate.models.model import SCRIPTED, Model
from substrate.models.panel import Answering, Panel, speaker_of

ROOMS = 3
"""How many cuts are made for a turn whose context is full; the first one may ask for a summary."""

_FEWEST = 4_000
"""No context of a model that is listed is so small, so until then nobody looks it up."""


@dataclass(slots=True)
class _Policy:
    """The hook, as it was last read; in the context of the loop."""

    compact: Compact


def note_policy(ctx: Context, compact: Compact | None) -> None:
    """Note the hook for the loop of this context: None for none."""
    if compact is None:
        ctx.notes.pop(_Policy, None)
    else:
        ctx.notes[_Policy] = _Policy(compact)


def policy_of(ctx: Context) -> Compact | None:
    """Return the hook of the loop of this context."""
    found = ctx.notes.get(_Policy)
    return found.compact if isinstance(found, _Policy) else None


def can_make_room(ctx: Context, transcript: Transcript) -> bool:
    """Whether there is something to leave out of a context that is full."""
    if policy_of(ctx) is None:
        return can_sum_up(transcript)
    has_replies = any(isinstance(each, Reply) for each in transcript.messages)
    return has_replies and (transcript.made_room_at != transcript.turns or transcript.rooms < ROOMS)


async def make_room(
    ctx: Context, model: Answering, transcript: Transcript, tools: Sequence[Tool], *, is_full: bool
) -> Transcript:
    """Return a transcript in which there is room, as the hook says; else one that is summed up.

    It is the same transcript where nothing helps.
    """
    policy = policy_of(ctx)
    if policy is None:
        return await sum_up(ctx, speaker_of(model), transcript, tools, is_full=is_full)
    cause = Cause.FULL if is_full else Cause.BUDGET
    window = await window_of(policy, model)
    return await Cutting(
        ctx=ctx,
        policy=policy,
        model=model,
        transcript=transcript,
        tools=tools,
        cause=cause,
        window=window,
    ).make()


async def keep_room(
    ctx: Context, model: Answering, transcript: Transcript, tools: Sequence[Tool]
) -> Transcript:
    """Return the transcript as the next turn is asked: with room in it, where the hook says so."""
    policy = policy_of(ctx)
    if policy is None or transcript.cut_at == transcript.turns:
        return transcript
    if turn_ahead(ctx, transcript) is not None or not _may_be_full(policy, model, transcript):
        return transcript
    window = await window_of(policy, model)
    if window is None or (quick_fill(transcript, model) or window) < policy.at * window:
        return transcript
    return await Cutting(
        ctx=ctx,
        policy=policy,
        model=model,
        transcript=transcript,
        tools=tools,
        cause=Cause.FILL,
        window=window,
    ).make()


def _may_be_full(policy: Compact, model: Answering, transcript: Transcript) -> bool:
    """Whether it is worth to find out how much the model's context holds."""
    if not policy.strategies or len(transcript.messages) < 2:
        return False
    read = quick_fill(transcript, model)
    return policy.window is not None or read is None or read >= policy.at * _FEWEST


async def window_of(policy: Compact, model: Answering) -> int | None:
    """Return how many tokens may be read: those of the smallest member of a panel; None if unknown.

    The room for the longest answer that is asked for is not among them.
    """
    members = list(model.named.values()) if isinstance(model, Panel) else [model]
    found: list[int] = []
    for each in map(Model.available, members):
        holds = policy.window
        if holds is None and each.provider not in SCRIPTED:
            if not prices.is_loaded():  # it takes a while, and is done once
                await asyncio.to_thread(prices.load, each.provider)
            holds = _listed(each.provider, each.name)
        if holds:
            answer = own_limit(each.request("", ())) or 0
            found.append(holds - answer if 2 * answer < holds else holds // 2)
    return min(found, default=None)


@lru_cache(maxsize=256)
def _listed(provider: str, name: str) -> int | None:
    return prices.context_window(provider, name)
