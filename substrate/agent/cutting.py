"""Making room in a transcript, by the hook `compact`: what is asked for it, and what is recorded.

=========================  ========================================================================
``compact.n/extract.0``    of `remember_first`: the facts that a model has found
``…/remember.k``           below it: each of them, as memory has it
``compact.n/summary.0``    of `summarise`: what a model wrote down
``compact.n``              the cut, and why it is one: the decision
=========================  ========================================================================

``compact.n`` is looked up first (see `recorded`), so a cut that was made holds, whatever the hook
says now. A crash before it makes the same cut again, and pays for no call that was recorded.

Invariants: where no model was asked and nothing is saved, nothing is recorded; a summary that is
none leaves the transcript as it was, and after three in a row nobody is asked for another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import cast

from substrate.agent.compact import Compact, DropResults, DropTurns, RememberFirst, Summarise
from substrate.agent.compaction import SHARES
from substrate.agent.cut import Cut
from substrate.agent.deferrals import Deferrals
from substrate.agent.events import TurnStart, emit
from substrate.agent.extract import (
    HEAD,
    extract_call,
    facts_type,
    no_summary,
    own_words,
    summary_call,
)
from substrate.agent.history.keys import COMPACT, EXTRACT, MODEL, SUMMARY
from substrate.agent.history.rows import input_of
from substrate.agent.hook_fault import hook
from substrate.agent.model_call import ModelCall, model_step, next_model_call, reply_of
from substrate.agent.named_step import named_step, read_only
from substrate.agent.purse import ASIDE, Purse
from substrate.agent.recorded import before, compacted, read
from substrate.agent.room import Plan, fill_of, staying
from substrate.agent.shorten import shortened, size
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Message, StopReason
from substrate.models.model import Model
from substrate.models.panel import Answering, speaker_of
from substrate.values.errors import ContextOverflow, MemoryRefused, Misuse
from substrate.values.ids import Key
from substrate.values.memory import Policy, check_namespace
from substrate.values.records import Promise, PromiseState

Make = Callable[[Transcript, Model, Sequence[Tool]], ModelCall]
"""Makes the request of a call aside."""

MISSES = 3
"""After so many replies in a row that are no summary, a model is asked for none."""

_LEAST_SAVED = 10
"""Less than a tenth of a context is not worth a cut: what is cached would be lost for it."""

_LEAST_TOLD = 5
"""Less than a fifth is not worth a summary: that has some length as well."""


class Cause(StrEnum):
    """Why room is made."""

    #: Too much of the context is filled.
    FILL = "fill"
    #: The model has refused what did not fit.
    FULL = "full"
    #: A budget advises it.
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class _Inside:
    """The scope of a cut that is not recorded yet."""

    key: Key
    ctx: Context


@dataclass(slots=True, kw_only=True)
class Cutting:
    """One cut that is being made: the plan, what was asked for it, and what went wrong."""

    #: The loop's context.
    ctx: Context
    #: The hook.
    policy: Compact
    #: Who answers in the loop.
    model: Answering
    #: What was said so far.
    transcript: Transcript
    #: What the model may call.
    tools: Sequence[Tool]
    #: Why room is made.
    cause: Cause
    #: How many tokens the model may read, where that is known.
    window: int | None
    _inside: Context = field(init=False)
    _plan: Plan = field(init=False)
    _base: int = field(init=False)
    _asked: list[Promise] = field(init=False, default_factory=list)
    _failed: dict[str, str] = field(init=False, default_factory=dict)
    _missed: str | None = field(init=False, default=None)
    _facts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Begin a plan in which nothing is left out yet."""
        told, policy = self.transcript, self.policy
        self._inside = _inside(self.ctx)
        fill = fill_of(
            told, self.model, next_model_call(told, self._speaker, self.tools, None).request
        )
        self._base = self._room_of(fill.tokens)
        self._plan = Plan(
            told.messages,
            staying(told, policy.keep, {*Deferrals.of(self.ctx).gates}),
            self._speaker.provider,
            fill,
            int(policy.to * self._base),
            int(self._too_much * self._base),
            told.chain.results_of,
            policy.keep,
            head=HEAD,
        )

    @property
    def _speaker(self) -> Model:
        return speaker_of(self.model)

    @property
    def _too_much(self) -> float:
        """Which part of the context is too much: to save a budget, half of the way is."""
        at, to = self.policy.at, self.policy.to
        return (at + to) / 2 if self.cause is Cause.BUDGET else at

    def _room_of(self, tokens: int) -> int:
        """Return the context of which parts are to be free."""
        if self.cause is Cause.BUDGET:
            return int(tokens / self.policy.at)
        if self.cause is Cause.FILL and self.window is not None:
            return self.window
        # Nobody knows how much too long it was: what has fitted the last time did fit. A second
        # and a third cut of a turn leave less each time.
        last = self.transcript.last_reply
        fitted = last.usage.input_tokens if last else 0
        known = [each for each in (tokens, self.window, max(fitted, tokens // 16)) if each]
        rooms = self.transcript.rooms
        again = rooms if self.transcript.made_room_at == self.transcript.turns else 0
        return min(known, default=1) // cast("int", 4**again)

    async def make(self) -> Transcript:
        """Make the cut, record it, and return the transcript that it leaves."""
        plan, had = self._plan, self._plan.fill.tokens
        if self.cause is Cause.FILL and had < plan.limit:
            return self.transcript  # what was counted was more than there is
        for strategy in self.policy.strategies:
            match strategy:
                case DropResults(keep) if plan.tokens > plan.target:
                    plan.drop_results(keep)
                case RememberFirst() if plan.tokens > plan.target and self._is_first:
                    await self._remember(strategy)
                case Summarise(model) if plan.tokens > plan.target and self._is_first:
                    await self._summarise(model or self._speaker)
                case DropTurns() if plan.tokens > plan.limit:
                    plan.drop_turns()
        if self.cause is Cause.FULL and plan.tokens > plan.target:
            plan.drop_turns()  # else a person would have to be asked
        is_worth_it = had - plan.tokens >= self._least_saved and not plan.cut.is_nothing
        if not is_worth_it and not self._asked:
            return self.transcript
        return await self._record(is_nothing=not is_worth_it)

    @property
    def _is_first(self) -> bool:
        """Whether a model may be asked: once a turn is enough."""
        told = self.transcript
        return self.cause is not Cause.FULL or told.made_room_at != told.turns

    @property
    def _least_saved(self) -> int:
        if self.cause is Cause.FULL:
            return 1
        return min(self._base // _LEAST_SAVED, (self._plan.limit - self._plan.target) // 2)

    @property
    def _worth_words(self) -> Sequence[int]:
        """The places of the turns that would go, where they are worth a model's words."""
        old = self._plan.old_turns()
        return old if self._plan.size_of(old) >= self._base // _LEAST_TOLD else ()

    async def _summarise(self, model: Model) -> None:
        plan, told = self._plan, self.transcript
        who, times = told.missed
        if (who == model.id and times >= MISSES) or not (old := self._worth_words):
            return
        row = await self._ask(model, SUMMARY, summary_call, told.messages)
        if row is None:
            return
        reply = reply_of(row)
        if (problem := no_summary(reply)) is None:
            had, gone = plan.tokens, set(plan.gone)
            plan.gone.update(old)
            plan.summary = (row.key, reply.text)
            if had - plan.tokens >= max(self._least_saved, plan.size_of(old) // 2):
                return
            plan.gone, plan.summary = gone, None
            problem = "it is about as long as what it sums up"
        self._failed[SUMMARY] = problem
        self._missed = model.id

    async def _remember(self, strategy: RememberFirst) -> None:
        """Have what goes looked through for facts, and keep them."""
        if not (old := self._worth_words):
            return
        ctx, told = self._inside, self.transcript
        told_to = [told.messages[0], *(told.messages[i] for i in old if i)]
        where = strategy.namespace
        with hook(self.ctx, "compact"):
            ns = where if isinstance(where, str) else where(self.ctx)
            check_namespace(ns)
        more = {"namespace": ns, "most": strategy.most}
        make = partial(extract_call, more=more)
        row = await self._ask(strategy.model or self._speaker, EXTRACT, make, own_words(told_to))
        if row is None:
            return
        reply, given = reply_of(row), input_of(row)
        try:
            if reply.tool_calls or reply.stop in (StopReason.REFUSAL, StopReason.LENGTH):
                raise ValueError(f"the reply ended with {reply.stop}")
            found = facts_type().value(reply.text)["facts"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            self._failed[EXTRACT] = f"no facts could be read: {error}"
            return
        # What is recorded of the hook holds: another namespace would be another write.
        below = ctx.inside(row.key)
        memory = below.memory(given["namespace"])
        writes = []
        for each in found[: given["most"]]:
            policy = Policy.ONE if each["replaces"] else Policy.MANY
            said = (each["subject"], each["predicate"], each["value"])
            try:
                writes.append(memory.remember(*said, policy=policy))
            except Misuse as error:  # a name that is none: the model has made it up
                self._failed[EXTRACT] = str(error)
        try:
            self._facts = len(await below.gather(*writes)) if writes else 0
        except MemoryRefused as error:
            self._failed[EXTRACT] = str(error)

    async def _ask(
        self, model: Model, name: str, make: Make, messages: Sequence[Message]
    ) -> Promise | None:
        """Ask a model aside from the loop; None where that does not fit, or is not paid for."""
        ctx, told = self._inside, self.transcript
        await _pass_by(ctx, name, self.ctx.key_ahead(MODEL))
        if (found := ctx.recorded(name)) is not None and found.is_settled:
            row = await read(ctx, name)
            self._asked.append(row)
            return row
        allowed = Purse.allowance(self.ctx, told, ASIDE)
        allowed = allowed and replace(allowed, counted=None)  # it reads something else than a turn
        whole = size(messages)
        rooms = [whole // share for share in SHARES]
        fits = self.cause is not Cause.FULL and self._plan.fill.tokens < self._base
        for room in [None, *rooms] if fits else rooms:
            sent = messages if room is None else shortened(messages, room)
            asked = make(replace(told, messages=tuple(sent)), model, self.tools)
            asked = replace(asked, more={**before(self.ctx), **asked.more}).within(allowed)
            if not asked.is_payable:
                continue
            emit(self.ctx, TurnStart(told.turns + 1, asked.model.id))
            try:
                row = await ctx.attempt(model_step(ctx, asked, begun=found))
            except ContextOverflow:
                continue
            self._asked.append(row)
            return row
        return None

    async def _record(self, *, is_nothing: bool) -> Transcript:
        ctx, plan = self.ctx, self._plan
        cut = Cut(len(plan.messages)) if is_nothing else plan.cut
        gone = [key for message in plan.gone_in(cut) for key in self._keys_of(message)]
        told: dict[str, Json] = {
            "cut": cut.to_json(),
            "asked": [row.key for row in self._asked],
            "tokens": [plan.fill.tokens, plan.fill.tokens if is_nothing else plan.tokens],
            "keys": [*gone, *plan.shortened_in(cut)],
            "facts": self._facts,
            "failed": self._failed,
            "missed": self._missed,
        }
        given: dict[str, Json] = {
            **before(ctx),
            "cause": self.cause.value,
            "policy": str(self.policy),
            "window": self.window,
            "from": gone[0] if gone else None,
            "to": gone[-1] if gone else None,
        }

        async def decide() -> Json:
            return told

        row = await ctx.checkpoint(named_step(COMPACT, decide, given)).settled()
        return compacted(self.transcript, row, {each.key: each for each in self._asked})

    def _keys_of(self, message: Message) -> Sequence[str]:
        """Return the keys of the rows that a message stands in."""
        chain = self.transcript.chain
        key = chain.key_of(message)
        return chain.results_of(message) if key is None else [key]


async def close_cut(ctx: Context) -> None:
    """Close what was begun for a cut that was not made, since the loop ends."""
    if ctx.recorded(COMPACT) is None:
        inside = _inside(ctx)
        for name in (EXTRACT, SUMMARY):
            await _pass_by(inside, name)


def _inside(ctx: Context) -> Context:
    """Return the scope of the cut that is made next: the same one, so that no key is used twice."""
    key = ctx.key_ahead(COMPACT)
    found = ctx.notes.get(_Inside)
    if not isinstance(found, _Inside) or found.key != key:
        found = ctx.notes[_Inside] = _Inside(key, ctx.inside(key))
    return found.ctx


async def _pass_by(inside: Context, name: str, unless: str | None = None) -> None:
    """Pass by what was asked for cuts that were not made, but for one before the turn `unless`."""
    while (row := inside.recorded(name)) is not None:
        is_good = not row.is_settled or row.state is PromiseState.RESOLVED
        if is_good and unless is not None and input_of(row).get("before") == unless:
            return
        if row.is_settled:
            await read(inside, name)
        else:
            why = f"the cut for which {row.key!r} was asked was not made"
            await inside.abandon(read_only(name), why).settled()
