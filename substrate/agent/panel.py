"""Asking a panel for a turn: its members side by side, and one row with what they came to.

==========================  =======================================================================
``model.n/<member>.k``      a member's reply; k > 0: asked again, as too many had failed
``model.n/judge.k``         what a judge says of the answers; k > 0: asked again, it was none
``model.n``                 the answer, with the votes and how they were merged
==========================  =======================================================================

A member is asked as a model is, and retries alone; one that fails for good is a vote that is
missing. Where enough have voted, nobody else is waited for: calls in flight are cancelled, and each
counts as one that read the request and wrote as much as the longest vote.

Invariants: ``model.n`` is looked up first, so what was merged holds whatever the hooks say by now.
The votes that count are those of the lowest seqs, so a crash between them and ``model.n`` changes
nothing, and nobody is asked who was not waited for. What a row used stands in that row alone; in
``model.n`` stands what was estimated, and all of it together in its value.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from substrate.agent.answer_type import TypedAnswer
from substrate.agent.compaction import can_sum_up, sum_up
from substrate.agent.events import TurnStart, emit
from substrate.agent.history.keys import MODEL
from substrate.agent.history.usage import NOTHING, summed, usage_of
from substrate.agent.hook_fault import HookRaised, hook
from substrate.agent.model_call import (
    ModelCall,
    model_step,
    next_model_call,
    note_reply,
)
from substrate.agent.poll import Poll
from substrate.agent.purse import TURN, Purse
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.agent.votes import (
    JUDGE as JUDGE_PROMPT,
)
from substrate.agent.votes import (
    Chosen,
    Merged,
    are_unanimous,
    ballot,
    by_function,
    judged,
    merged,
    with_problem,
)
from substrate.engine.context.context import Context
from substrate.engine.function.returns import Measured
from substrate.models.allowance import Allowance
from substrate.models.messages import Json, Usage
from substrate.models.model import Model
from substrate.models.panel import (
    JUDGE,
    Judge,
    Panel,
    Simple,
    Vote,
    Weighted,
    tools_problem,
)
from substrate.models.tokens import estimate
from substrate.values.errors import Failure, Misuse
from substrate.values.ids import Key, PromiseId
from substrate.values.records import Promise

Make = Callable[[Transcript, Model], ModelCall]
"""Makes the request for a transcript and a model."""


async def ask_panel(
    ctx: Context,
    panel: Panel,
    transcript: Transcript,
    *,
    tools: Sequence[Tool],
    make: Make,
    follow: int = TURN,
) -> tuple[Promise, Transcript]:
    """Ask all members; return the row of their answer, and the transcript that was really asked.

    What the turn may use is divided evenly among them and the judge, where there is one.
    """
    emit(ctx, TurnStart(transcript.turns + 1, panel.id))
    if tools and not panel.may_call_tools:
        with hook(ctx, "model"):
            raise Misuse(tools_problem(panel))
    poll = Poll(ctx, panel, ctx.key_ahead(MODEL))
    await poll.close_gone()
    poll.asked = panel_requests(panel, transcript, make, await _left(poll, transcript, follow))
    await poll.ask(poll.names)
    if poll.has_failed and can_sum_up(transcript) and poll.is_too_long:
        transcript = await sum_up(ctx, poll.speaker, transcript, tools, is_full=True)
        poll.asked = panel_requests(panel, transcript, make, await _left(poll, transcript, follow))
        await poll.ask(poll.again())
    elif poll.has_failed and poll.failed_before:
        # Somebody has resumed the run, or it goes on after a crash.
        poll.asked = panel_requests(panel, transcript, make, await _left(poll, transcript, follow))
        await poll.ask(poll.again())
    if poll.has_failed:
        ctx.pause(Failure("PanelFailed", poll.why_failed))
    judging = await _judgement(poll, transcript, follow)
    asked = replace(poll.asked[poll.names[0]], is_silent=True)
    step = model_step(ctx, asked, panel)
    step = replace(step, call=partial(_merge, poll, judging, _used_before(ctx)))
    return await ctx.checkpoint(step).settled(), transcript


def panel_requests(
    panel: Panel, transcript: Transcript, make: Make, allowed: Allowance | None
) -> dict[str, ModelCall]:
    """Return what each member is asked, where all of them together may use so much."""
    parts = len(panel.named) + isinstance(panel.merge, Judge)
    # What the last turn read is what all of them read: each one's own is estimated.
    part = allowed and replace(allowed.divided(parts), counted=None)
    return {
        name: replace(make(transcript, model).within(part), is_silent=True)
        for name, model in panel.named.items()
    }


async def _left(poll: Poll, transcript: Transcript, follow: int) -> Allowance | None:
    """Return what this turn may still use: less than all, where some of it is recorded."""
    allowed = Purse.allowance(poll.ctx, transcript, follow)
    if allowed is None or not (poll.rows or poll.ctx.inside(poll.key).recorded_names()):
        return allowed
    below = PromiseId(f"{poll.ctx.run_id}#{poll.key}/")
    return allowed.less(summed(await poll.ctx.usages_below(below)))


async def _judgement(poll: Poll, transcript: Transcript, follow: int) -> Chosen | None:
    """Ask the judge, where there is one and something to choose, until it says which is best.

    None as well where what is left does not pay for that.
    """
    panel, ctx, votes = poll.panel, poll.ctx, poll.votes
    judge = panel.merge
    if not isinstance(judge, Judge) or not poll.has_votes or are_unanimous(votes):
        return None
    told = ballot(judge, transcript.opening or transcript.task.message, votes)
    asking = Transcript.begin(transcript.task, JUDGE_PROMPT, None, told)
    typed, k = _choice(len(votes)), 0
    while True:
        asked, key = next_model_call(asking, judge.model, (), typed), Key(f"{poll.key}/{JUDGE}.{k}")
        begun = ctx.recorded_at(key)
        if begun is None or not begun.is_settled:
            allowed = await _left(poll, transcript, follow)
            asked = asked.within(allowed and replace(allowed, counted=None))
            if not asked.is_payable:
                return None
        step = model_step(ctx, replace(asked, name=JUDGE, is_silent=True))
        row = await ctx.checkpoint(step, key).settled()
        reply = note_reply(row, asking)
        asking, k = asking + reply, k + 1
        if reply.invalid is None or reply.invalid.is_last:
            break
    try:
        said = typed.value(reply.text)
    except (ValueError, RecursionError):
        return None
    return Chosen(said["reason"], int(said["best"]))


@lru_cache(maxsize=64)
def _choice(count: int) -> TypedAnswer:
    """Return what a judge of so many answers is asked for: one of their numbers."""
    numbers: Any = Literal[tuple(str(i) for i in range(1, count + 1))]
    why = Field(description="Why that one, in a sentence or two.")
    best = Field(description="The number of the best answer.")
    fields: dict[str, Any] = {
        "reason": (Annotated[str, why], ...),
        "best": (Annotated[numbers, best], ...),
    }
    return TypedAnswer(create_model("Choice", **fields))


async def _merge(poll: Poll, chosen: Chosen | None, begun: Usage) -> Measured:
    """Merge the votes; return the answer as the value of its row, with all that is told of it."""
    votes = poll.votes
    came_to = await _came_to(poll, votes, chosen)
    left = await asyncio.to_thread(_estimated, poll, votes)
    below = PromiseId(f"{poll.ctx.run_id}#{poll.key}/")
    usage = summed(await poll.ctx.usages_below(below)) + begun + left
    record: dict[str, Json] = {
        "merge": poll.panel.merge_name,
        "votes": [
            {
                "member": vote.member,
                "key": poll.rows[vote.member].key,
                "agrees": vote.member in came_to.agreeing,
            }
            for vote in votes
        ],
        "missing": [{"member": name, "why": why} for name, why in poll.missing.items()],
        "left": poll.left,
        "why": came_to.why,
        "usage": usage.to_json(),
    }
    used = {"model": poll.panel.id, **left.to_json()}
    return Measured({**came_to.reply.to_json(), "panel": record}, used)


async def _came_to(poll: Poll, votes: Sequence[Vote], chosen: Chosen | None) -> Merged:
    panel, typed = poll.panel, poll.asked[poll.names[0]].typed
    if not poll.has_votes:
        least = f"{len(votes)} of {len(poll.names)} voted, and {panel.least} have to"
        return with_problem(poll.spoilt[0], least)
    match panel.merge:
        case Simple() | Weighted():
            return merged(panel, votes)
        case Judge():
            if are_unanimous(votes):
                return replace(judged(votes, Chosen("", 1)), why="all say the same")
            return judged(votes, chosen)
    try:
        return await by_function(panel.merge, votes, typed)
    except Exception as error:
        raise HookRaised("model", error) from error


def _estimated(poll: Poll, votes: Sequence[Vote]) -> Usage:
    """Return what calls took that were not waited for: nobody has counted."""
    written = max((vote.reply.usage.output_tokens for vote in votes), default=0)
    total = NOTHING
    for name in poll.left:
        model, request = poll.asked[name].model.available(), poll.asked[name].request
        most = model.longest_answer(request)
        longest = written if most is None else min(written, most)
        total += model.priced(Usage(estimate(request, model.provider), longest))
    return total


def _used_before(ctx: Context) -> Usage:
    """Return what was used under the turn's own key, by a model that was no panel yet."""
    found = ctx.recorded(MODEL)
    return NOTHING if found is None else usage_of(found)
