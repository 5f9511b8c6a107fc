"""Asking a panel for a turn: its members side by side, and one row with what they came to.

==========================  =======================================================================
``model.n/<member>.k``      a member's reply; k > 0: asked again, as too many had failed
``model.n/judge.k``         what a judge says of the answers; k > 0: asked again, it was none
``model.n/judge.k/…``       where a panel judges: the same again, below its row
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
from substrate.agent.compacting import can_make_room, make_room
from substrate.agent.events import TurnStart, Voices, emit
from substrate.agent.history.keys import MODEL
from substrate.agent.history.usage import NOTHING, summed, usage_of
from substrate.agent.hook_fault import HookRaised, hook
from substrate.agent.model_call import (
    ModelCall,
    model_step,
    next_model_call,
    note_reply,
)
from substrate.agent.named_step import read_only
from substrate.agent.poll import Poll, close_below
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
    Answering,
    Judge,
    Panel,
    Simple,
    Vote,
    Weighted,
    first,
    tools_problem,
)
from substrate.models.tokens import estimate
from substrate.values.errors import Failure, Misuse
from substrate.values.ids import PromiseId
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
    await _prepare(poll, transcript, make, follow)
    await poll.ask(poll.names)
    if poll.has_failed and can_make_room(ctx, transcript) and poll.is_too_long:
        transcript = await make_room(ctx, panel, transcript, tools, is_full=True)
        await _prepare(poll, transcript, make, follow)
        await poll.ask(poll.again())
    elif poll.has_failed and poll.failed_before:
        # Somebody has resumed the run, or it goes on after a crash.
        await _prepare(poll, transcript, make, follow)
        await poll.ask(poll.again())
    return await _came_out(poll, transcript, MODEL), transcript


async def _prepare(poll: Poll, transcript: Transcript, make: Make, follow: int) -> None:
    """Make the requests of a turn, within what it may use. One member is heard, or none.

    Which one: a vote that came first is the answer, and of others nobody knows yet.
    """
    panel = poll.panel
    poll.allowed = Purse.allowance(poll.ctx, transcript, follow)
    asked = panel_requests(panel, transcript, make, await _left(poll))
    voices = Voices(poll.ctx, is_heard=panel.merge is first)
    poll.asked = {
        name: replace(each, is_silent=False, voice=voices.of(name)) for name, each in asked.items()
    }


async def ask_judge(
    ctx: Context,
    judge: Answering,
    asking: Transcript,
    *,
    typed: TypedAnswer,
    name: str,
    allowed: Allowance | None,
) -> Promise | None:
    """Ask who judges, a model or a panel; return the row of what that says: the next of this name.

    None where what is `allowed` does not pay for it. Nobody hears it live.
    """
    found = ctx.recorded(name)
    if found is not None and found.is_settled:
        return await ctx.checkpoint(read_only(name)).settled()
    if isinstance(judge, Model):
        await close_below(ctx, ctx.key_ahead(name), f"the panel of {name!r} is gone")
        asked = judge_call(judge, asking, typed=typed, name=name, allowed=allowed)
        if found is None and not asked.is_payable:
            return None
        return await ctx.checkpoint(model_step(ctx, asked, begun=found)).settled()
    poll = Poll(ctx, judge, ctx.key_ahead(name), allowed)
    has_begun = ctx.has_begun(name)
    await poll.close_gone()
    make = partial(next_model_call, tools=(), typed=typed)
    poll.asked = panel_requests(judge, asking, make, await _left(poll))
    if not has_begun and not any(each.is_payable for each in poll.asked.values()):
        return None
    await poll.ask(poll.names)
    if poll.has_failed and poll.failed_before:
        poll.asked = panel_requests(judge, asking, make, await _left(poll))
        await poll.ask(poll.again())
    return await _came_out(poll, asking, name)


def judge_call(
    judge: Model, asking: Transcript, *, typed: TypedAnswer, name: str, allowed: Allowance | None
) -> ModelCall:
    """Return what one model that judges is asked, for no more than is `allowed`."""
    asked = replace(next_model_call(asking, judge, (), typed), name=name, is_silent=True)
    # What was counted is of what the agent was asked: this is another request.
    return asked.within(allowed and replace(allowed, counted=None))


async def _came_out(poll: Poll, transcript: Transcript, name: str) -> Promise:
    """Return the row of what votes came to; pause the run where there are too few."""
    ctx = poll.ctx
    if poll.has_failed:
        ctx.pause(Failure("PanelFailed", poll.why_failed))
    judging = await _judgement(poll, transcript)
    asked = replace(poll.asked[poll.names[0]], name=name, is_silent=True)
    step = model_step(ctx, asked, poll.panel)
    begun = ctx.recorded_at(poll.key)  # by a model that was no panel yet
    used = NOTHING if begun is None else usage_of(begun)
    step = replace(step, call=partial(_merge, poll, judging, used))
    return await ctx.checkpoint(step).settled()


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


async def _left(poll: Poll) -> Allowance | None:
    """Return what this panel may still use: less than all, where some of it is recorded."""
    allowed = poll.allowed
    if allowed is None or not (poll.rows or poll.ctx.inside(poll.key).recorded_names()):
        return allowed
    below = PromiseId(f"{poll.ctx.run_id}#{poll.key}/")
    return allowed.less(summed(await poll.ctx.usages_below(below)))


async def _judgement(poll: Poll, transcript: Transcript) -> Chosen | None:
    """Ask the judge, where there is one and something to choose, until it says which is best.

    None as well where what is left does not pay for that.
    """
    panel, ctx, votes = poll.panel, poll.ctx, poll.votes
    judge = panel.merge
    if not isinstance(judge, Judge) or not poll.has_votes or are_unanimous(votes):
        return None
    told = ballot(judge, transcript.opening or transcript.task.message, votes)
    asking = Transcript.begin(transcript.task, JUDGE_PROMPT, None, told)
    typed, inside = _choice(len(votes)), ctx.inside(poll.key)
    while True:
        allowed = await _left(poll)
        row = await ask_judge(inside, judge.model, asking, typed=typed, name=JUDGE, allowed=allowed)
        if row is None:
            return None
        reply = note_reply(row, asking)
        asking += reply
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
    return TypedAnswer(create_model("Choice", **fields), decides="best")


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
        asked = poll.asked[name]
        model, request = asked.model.first_asked(asked.request)
        most = model.longest_answer(request)
        longest = written if most is None else min(written, most)
        total += model.priced(Usage(estimate(request, model.provider), longest))
    return total
