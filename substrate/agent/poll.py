"""Who of a panel is asked in a turn, under which keys, and what they have said.

Invariants: the votes that count are those of the lowest seqs; who has failed is asked again only
where there are too few votes without, and under a key of its own, so that no outcome is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from substrate.agent.model_call import ModelCall, model_step, reply_of
from substrate.agent.named_step import read_only
from substrate.agent.votes import vote_of, why_no_vote
from substrate.engine.context.context import Context
from substrate.engine.failure import decode_failure
from substrate.engine.step.step import Step
from substrate.models.allowance import Allowance
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.panel import JUDGE, Judge, Panel, Vote
from substrate.values.errors import ContextOverflow, Misuse
from substrate.values.ids import Key
from substrate.values.records import Promise, PromiseState


@dataclass(slots=True)
class Poll:
    """Who is asked in a turn, and what they have said."""

    #: The loop's.
    ctx: Context
    #: Who is asked.
    panel: Panel
    #: The key of the turn, or of what is judged.
    key: Key
    #: What all of it may use.
    allowed: Allowance | None = None
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
        cast = [name for name in self.names if self._has_replied(name) and not self._problem(name)]
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
        names = [name for name in self.names if self._has_replied(name) and self._problem(name)]

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
            else:
                await close(inside, name, f"the member {name!r} is gone")

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

    def _problem(self, name: str) -> str | None:
        row = self.rows[name]
        if row.state is PromiseState.RESOLVED:
            return why_no_vote(reply_of(row))
        failure = decode_failure(row)
        return f"{failure.type}: {failure.message}"


async def close_below(ctx: Context, key: Key, why: str) -> None:
    """Close what was begun below a key, at whatever depth."""
    inside = ctx.inside(key)
    for name in inside.recorded_names():
        await close(inside, name, why)


async def close(ctx: Context, name: str, why: str) -> None:
    """Close what was begun under a name in this scope, and below it, for somebody who is gone."""
    while True:
        await close_below(ctx, ctx.key_ahead(name), why)
        if (row := ctx.recorded(name)) is None:
            return
        if row.is_settled:
            await ctx.checkpoint(read_only(name)).settled()
        else:
            told = f"{why} before {row.key!r} had an outcome"
            await ctx.abandon(read_only(name), told).settled()


def _step(ctx: Context, name: str, asked: ModelCall) -> Step:
    """Prepare the call of a member: where it fails for good, that is its outcome."""
    return replace(model_step(ctx, replace(asked, name=name)), pause_on=(Misuse,))
