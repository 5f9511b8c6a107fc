"""What the children of one tool call may use together: an even part of what a turn's budget leaves.

The calls of a turn that may start children, those of tools that take a `ctx`, have an equal part
each. Where a part would be less than the cheapest model call so far, the first calls have one, as
many as can, and the others start nothing: what each of them had would pay for no call at all. What
an open child was granted counts as spent, and once it has ended what it has used; so a second try,
or a second `ctx.map`, has what the first one left.

Invariants: a grant is made when its child is started, and recorded with it: a replay makes none.
The turn's own part is pure, so a restart in the middle of a turn divides as before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from substrate.agent.grant import DelegateFailed, Grant, Unit
from substrate.agent.purse import Purse
from substrate.agent.spent import used_below
from substrate.engine.context.context import Context
from substrate.models.messages import Reply
from substrate.values.ids import PromiseId
from substrate.values.records import Promise


class Share:
    """What one tool call may have its children use; handed down in the call's context."""

    def __init__(self, loop: Context, reply: Reply | None, calls: int, place: int = 0) -> None:
        self._left: Callable[[], Grant | None] = lambda: Purse.left(loop, reply)
        self._cheapest: Callable[[], dict[Unit, Decimal]] = lambda: Purse.cheapest(loop, reply)
        self._calls = calls
        # Among the calls of its turn that may start children, from 0.
        self._place = place
        self._outer = loop.handed_down.get(Share)
        self._call: Context | None = None
        self._reserved: dict[PromiseId, Grant] = {}
        self._lock = asyncio.Lock()
        #: The time zone in which children are told the day.
        self.timezone: str | None = Purse.timezone(loop)

    @classmethod
    def of(cls, ctx: Context) -> "Share | None":
        """Return the one of the call that this context is in."""
        found = ctx.handed_down.get(cls)
        return found if isinstance(found, cls) else None

    def hand_to(self, call: Context) -> None:
        """Let a call's context, and what it calls, have it."""
        self._call = call
        call.handed_down = {**call.handed_down, Share: self}

    @asynccontextmanager
    async def granting(
        self, ids: Sequence[PromiseId], known: Sequence[Promise | None]
    ) -> AsyncIterator[Mapping[PromiseId, Grant]]:
        """Grant children what they may use, and count it as spent while they are at work.

        `known` are their rows, None for each that is to be started: those are granted something.
        An even part; where that would be less than the cheapest model call so far, the first ones
        have one, as many as can, and the others nothing, so that they end without asking anybody.
        Once some of them were started, the others have as much as those.

        Gives nothing where nothing is limited. Raises `DelegateFailed`, and grants nothing, where
        nothing is left, or where nobody knows.
        """
        fresh = [id_ for id_, row in zip(ids, known, strict=True) if row is None]
        grants: dict[PromiseId, Grant] = {}
        if fresh:
            # Two at once would both find what is left for one of them.
            async with self.granting_one:
                grants = await self._grants(fresh, [row for row in known if row is not None])
                self.reserve(grants)
        try:
            yield grants
        finally:
            self.release(grants)

    async def _grants(
        self, fresh: Sequence[PromiseId], begun: Sequence[Promise]
    ) -> dict[PromiseId, Grant]:
        if begun and not begun[0].granted:
            return {}
        rest = await self.rest()
        if rest is None:
            return {}
        before = (Grant.from_json(row.granted) for row in begun if row.granted)
        if begun:
            each = next((grant for grant in before if not grant.is_none), rest.none)
            count = 0 if each.is_none else rest.times(each)
        else:
            cheapest = self._cheapest()
            fits = [int(most / cheapest[u]) for u, most in rest.most.items() if cheapest.get(u)]
            count = max(1, min([len(fresh), *fits]))
            each = rest.divided(count)
        return {id_: each if i < count else rest.none for i, id_ in enumerate(fresh)}

    def reserve(self, grants: Mapping[PromiseId, Grant]) -> None:
        """Count these as spent, here and around it."""
        self._reserved |= grants
        if isinstance(self._outer, Share):
            self._outer.reserve(grants)

    def release(self, grants: Mapping[PromiseId, Grant]) -> None:
        """Count them no more: what their children have used is recorded."""
        for id_ in grants:
            self._reserved.pop(id_, None)
        if isinstance(self._outer, Share):
            self._outer.release(grants)

    @property
    def granting_one(self) -> asyncio.Lock:
        """Held by whoever grants something, in the outermost one: all around it have granted it."""
        return self._outer.granting_one if isinstance(self._outer, Share) else self._lock

    async def rest(self) -> Grant | None:
        """Return what is left of it, and of that of the call around it."""
        whole, call = self._left(), self._call
        own = None
        if whole is not None and call is not None:
            used = await used_below(call, call.id_prefix, self._reserved)
            own = self._part(whole).less(used)
        outer = await self._outer.rest() if isinstance(self._outer, Share) else None
        # A loop inside of a tool: its calls divide what that tool's own call may have used.
        around = None if outer is None else self._part(outer)
        return around if own is None else own.within(around)

    def _part(self, whole: Grant) -> Grant:
        """Return this call's part. Raises `DelegateFailed` where those before it have it all."""
        cheapest = self._cheapest()
        fits = [int(most / cheapest[u]) for u, most in whole.most.items() if cheapest.get(u)]
        parts = max(1, min([self._calls, *fits]))
        if self._place >= parts:
            raise DelegateFailed(
                f"nothing is left of the budget for it: {self._calls} calls at once would have "
                "less each than one model call has cost so far; call fewer at a time"
            )
        return whole.divided(parts)
