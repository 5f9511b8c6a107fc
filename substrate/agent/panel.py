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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from substrate.agent.answer_type import TypedAnswer
from substrate.agent.compaction import can_sum_up, sum_up
from substrate.agent.events import TurnStart, emit
from substrate.agent.history.rows import MODEL
from substrate.agent.history.usage import NOTHING, summed, usage_of
from substrate.agent.hook_fault import HookRaised, hook
from substrate.agent.model_call import (
    ModelCall,
    model_step,
    next_model_call,
    note_reply,
    reply_of,
)
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
    vote_of,
    why_no_vote,
    with_problem,
)
from substrate.engine.context.context import Context
from substrate.engine.failure import decode_failure
from substrate.engine.function.returns import Measured
from substrate.engine.step.step import Step
from substrate.models.messages import Json, Reply, Usage
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
from substrate.values.codec import fingerprint
from substrate.values.errors import ContextOverflow, Failure, Misuse
from substrate.values.ids import Key, PromiseId
from substrate.values.records import Kind, Promise, PromiseState

Make = Callable[[Transcript, Model], ModelCall]
"""Makes the request for a transcript and a model."""


async def ask_panel(
    ctx: Context, panel: Panel, transcript: Transcript, *, tools: Sequence[Tool], make: Make
) -> tuple[Promise, Transcript]:
    """Ask all members; return the row of their answer, and the transcript that was really asked."""
    emit(ctx, TurnStart(transcript.turns + 1, panel.id))
    if tools and not panel.may_call_tools:
        with hook(ctx, "model"):
            raise Misuse(tools_problem(panel))
    poll = _Poll(ctx, panel, ctx.key_ahead(MODEL))
    await poll.close_gone()
    poll.asked = _requests(panel, transcript, make)
    await poll.ask(poll.names)
    if poll.has_failed and can_sum_up(transcript) and poll.is_too_long:
        transcript = await sum_up(ctx, poll.speaker, transcript, tools, is_full=True)
        poll.asked = _requests(panel, transcript, make)
        await poll.ask(poll.again())
    elif poll.has_failed and poll.failed_before:
        await poll.ask(poll.again())  # somebody has resumed the run, or it goes on after a crash
    if poll.has_failed:
        ctx.pause(Failure("PanelFailed", poll.why_failed))
    judging = await _judgement(poll, transcript)
    asked = replace(poll.asked[poll.names[0]], is_silent=True)
    step = model_step(ctx, asked, panel)
    step = replace(step, call=partial(_merge, poll, judging, _used_before(ctx)))
    return await ctx.checkpoint(step).settled(), transcript


@dataclass(slots=True)
class _Poll:
    """Who is asked in a turn, and what they have said."""

    #: The loop's.
    ctx: Context
    #: Who is asked.
    panel: Panel
    #: The key of the turn.
    key: Key
    #: What each member is asked, by name.
    asked: dict[str, ModelCall] = field(default_factory=dict)
    #: How often each was asked anew.
    tries: dict[str, int] = field(default_factory=dict)
    #: What has settled, by name.
    rows: dict[str, Promise] = field(default_factory=dict)
    #: Those that an earlier claim on the run has seen fail.
    failed_before: set[str] = field(default_factory=set)

    @property
    def names(self) -> list[str]:
        """The members, in order."""
        return list(self.panel.named)

    @property
    def speaker(self) -> Model:
        """Who sums up: the first member."""
        return self.panel.named[self.names[0]]

    async def ask(self, names: Sequence[str]) -> None:
        """Ask these members until there are votes enough, or all have ended."""
        keys = {self._key(name): name for name in names}
        steps = [
            self.ctx.checkpoint(_step(self.ctx, name, self.asked[name]), key)
            for key, name in keys.items()
        ]
        before = {name: row for name, row in self.rows.items() if name not in names}

        def is_enough(settled: Sequence[Promise]) -> bool:
            return self._is_enough(before | {keys[row.key]: row for row in settled})

        settled = await self.ctx.settle_enough(steps, is_enough)
        self.rows = before | {keys[row.key]: row for row in settled}

    def again(self) -> list[str]:
        """Count one more try for those that have failed; return them."""
        failed = [name for name in self.names if not self._has_replied(name)]
        for name in failed:
            self.tries[name] = self.tries.get(name, 0) + 1
        return failed

    @property
    def votes(self) -> list[Vote]:
        """The votes that count, in the order of the members."""
        cast = [name for name in self.names if self._reply(name) and not self._problem(name)]
        cast.sort(key=lambda name: self.rows[name].seq)
        counting = set(cast[: self.panel.enough])
        return [
            vote_of(name, reply_of(self.rows[name]), self.asked[name].typed)
            for name in self.names
            if name in counting
        ]

    @property
    def spoilt(self) -> list[Reply]:
        """The replies that are no votes: first those that a model may mend."""
        names = [name for name in self.names if self._reply(name) and self._problem(name)]

        def rank(name: str) -> tuple[bool, bool, int]:
            invalid = reply_of(self.rows[name]).invalid
            is_last = invalid is not None and invalid.is_last
            return invalid is None, is_last, self.rows[name].seq

        return [reply_of(self.rows[name]) for name in sorted(names, key=rank)]

    @property
    def has_votes(self) -> bool:
        """Whether there are votes enough to answer."""
        return len(self.votes) >= self.panel.least

    @property
    def has_failed(self) -> bool:
        """Whether there is nothing to answer: too few votes, and no reply that can be mended."""
        return not self.has_votes and not self.spoilt

    @property
    def is_too_long(self) -> bool:
        """Whether what was said is too long for one that has failed."""
        failed = [row for row in self.rows.values() if row.state is PromiseState.REJECTED]
        return any(decode_failure(row).type == ContextOverflow.__name__ for row in failed)

    @property
    def left(self) -> list[str]:
        """The members that were not waited for."""
        return [
            name
            for name in self.names
            if name not in self.rows or self.rows[name].state is PromiseState.CANCELLED
        ]

    @property
    def missing(self) -> dict[str, str]:
        """Why members that were waited for have no vote, by name."""
        waited = [name for name in self.names if name not in self.left]
        found = {name: self._problem(name) for name in waited}
        return {name: why for name, why in found.items() if why is not None}

    @property
    def why_failed(self) -> str:
        """Say why there is no answer, and what to do."""
        count = len(self.votes)
        said = "; ".join(f"{name}: {why}" for name, why in self.missing.items())
        return (
            f"{count} of {len(self.names)} members of the panel voted, and {self.panel.least} have "
            f"to: {said}; mend what is wrong there, and resume the run: those are asked again"
        )

    async def close_gone(self) -> None:
        """Close what was begun of members that are gone; note who has failed before."""
        inside = self.ctx.inside(self.key)
        kept = {*self.names, *([JUDGE] if isinstance(self.panel.merge, Judge) else [])}
        for name in inside.recorded_names():
            if name in kept:
                self._note_tries(name)
                continue
            while (row := inside.recorded(name)) is not None:
                why = f"the member {name!r} is gone before {row.key!r} had an outcome"
                if row.is_settled:
                    await inside.checkpoint(_nothing(name)).settled()
                else:
                    await inside.abandon(_nothing(name), why).settled()

    def _note_tries(self, name: str) -> None:
        k = 0
        while (row := self.ctx.recorded_at(Key(f"{self.key}/{name}.{k}"))) is not None:
            self.tries[name] = k
            has_failed = row.is_settled and row.state is not PromiseState.RESOLVED
            (self.failed_before.add if has_failed else self.failed_before.discard)(name)
            k += 1

    def _key(self, name: str) -> Key:
        return Key(f"{self.key}/{name}.{self.tries.get(name, 0)}")

    def _is_enough(self, rows: Mapping[str, Promise]) -> bool:
        enough = self.panel.enough
        if len(rows) == len(self.panel.named):
            return True
        cast = [row for row in rows.values() if row.state is PromiseState.RESOLVED]
        votes = sum(why_no_vote(reply_of(row)) is None for row in cast)
        return enough is not None and votes >= enough

    def _has_replied(self, name: str) -> bool:
        return name in self.rows and self.rows[name].state is PromiseState.RESOLVED

    def _reply(self, name: str) -> bool:
        return self._has_replied(name)

    def _problem(self, name: str) -> str | None:
        row = self.rows[name]
        if row.state is PromiseState.RESOLVED:
            return why_no_vote(reply_of(row))
        failure = decode_failure(row)
        return f"{failure.type}: {failure.message}"


def _requests(panel: Panel, transcript: Transcript, make: Make) -> dict[str, ModelCall]:
    return {
        name: replace(make(transcript, model), is_silent=True)
        for name, model in panel.named.items()
    }


def _step(ctx: Context, name: str, asked: ModelCall) -> Step:
    """Prepare the call of a member: where it fails for good, that is its outcome."""
    return replace(model_step(ctx, replace(asked, name=name)), pause_on=(Misuse,))


async def _judgement(poll: _Poll, transcript: Transcript) -> Chosen | None:
    """Ask the judge, where there is one and something to choose, until it says which is best."""
    panel, ctx, votes = poll.panel, poll.ctx, poll.votes
    judge = panel.merge
    if not isinstance(judge, Judge) or not poll.has_votes or are_unanimous(votes):
        return None
    told = ballot(judge, transcript.opening or transcript.task.message, votes)
    asking = Transcript.begin(transcript.task, JUDGE_PROMPT, None, told)
    typed, k = _choice(len(votes)), 0
    while True:
        asked = next_model_call(asking, judge.model, (), typed)
        step = model_step(ctx, replace(asked, name=JUDGE, is_silent=True))
        row = await ctx.checkpoint(step, Key(f"{poll.key}/{JUDGE}.{k}")).settled()
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


async def _merge(poll: _Poll, chosen: Chosen | None, begun: Usage) -> Measured:
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


async def _came_to(poll: _Poll, votes: Sequence[Vote], chosen: Chosen | None) -> Merged:
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


def _estimated(poll: _Poll, votes: Sequence[Vote]) -> Usage:
    """Return what calls took that were not waited for: nobody has counted."""
    written = max((vote.reply.usage.output_tokens for vote in votes), default=0)
    total = NOTHING
    for name in poll.left:
        model, request = poll.asked[name].model.available(), poll.asked[name].request
        total += model.priced(Usage(estimate(request, model.provider), written))
    return total


def _used_before(ctx: Context) -> Usage:
    """Return what was used under the turn's own key, by a model that was no panel yet."""
    found = ctx.recorded(MODEL)
    return NOTHING if found is None else usage_of(found)


def _nothing(name: str) -> Step:
    """Prepare a step that is only read."""
    return Step(name=name, call=_never, fingerprint=fingerprint(Kind.STEP.value, name))


async def _never() -> None:
    raise AssertionError("what is recorded is not asked again")
