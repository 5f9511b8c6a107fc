"""What the children of one tool call may use together: an even part of what a turn's budget leaves.

The calls of a turn that may start children, those of tools that take a `ctx`, have an equal part
each. Where a part would be less than the cheapest model call so far, the first calls have one, as
many as can, and the others start nothing: nobody knows what a child's first call will cost, and
many of them would go over the budget. What an open child was granted counts as spent, and once it
has ended what it has used; so a second try, or a second `ctx.map`, has what the first one left.

Invariants: a grant is made when its child is started, and recorded with it: a replay makes none.
The turn's own part is pure, so a restart in the middle of a turn divides as before.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal

from substrate.agent.budget import told_by
from substrate.agent.end import Stop
from substrate.agent.grant import DelegateFailed, Grant, Unit
from substrate.agent.hook_fault import hook
from substrate.agent.spent import used_below
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Reply
from substrate.values.ids import PromiseId


@dataclass(slots=True)
class Purse:
    """What a loop's budget is read from, noted in its context as the loop goes."""

    #: The condition that keeps its budgets.
    stop: Stop
    #: What was said before the turn's reply.
    transcript: Transcript

    @classmethod
    def note(cls, ctx: Context, transcript: Transcript, stop: Stop | None = None) -> None:
        """Note what the loop's next turn begins with."""
        found = ctx.notes.get(cls)
        if stop is not None:
            ctx.notes[cls] = cls(stop, transcript)
        elif isinstance(found, cls):
            found.transcript = transcript

    @classmethod
    def left(cls, ctx: Context, reply: Reply | None) -> Grant | None:
        """Return what the budgets leave once a reply, if any, is paid; None without budgets.

        Raises `DelegateFailed` where that is not known.
        """
        found = ctx.notes.get(cls)
        if not isinstance(found, cls):
            return None
        with hook(ctx, "stop"):
            paid = found.transcript if reply is None else found.transcript.counting(reply)
            told = told_by(found.stop, paid)
        return Grant.of(told)

    @classmethod
    def cheapest(cls, ctx: Context, reply: Reply | None) -> dict[Unit, Decimal]:
        """Return what the cheapest model call of the loop so far has used, where that is known."""
        found = ctx.notes.get(cls)
        before = found.transcript.replies if isinstance(found, cls) else ()
        said = before if reply is None else (*before, reply)
        least: dict[Unit, Decimal] = {}
        for unit in Unit:
            used = [amount for each in said if (amount := unit.of(each.usage))]
            if used:
                least[unit] = min(used)
        return least

    @classmethod
    def timezone(cls, ctx: Context) -> str | None:
        """Return the time zone of the loop's task."""
        found = ctx.notes.get(cls)
        return found.transcript.task.timezone if isinstance(found, cls) else None


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

    async def for_children(self, count: int) -> Grant | None:
        """Return what each of so many children may use now; None where nothing is limited.

        Raises `DelegateFailed` where nothing is left, or where nobody knows.
        """
        rest = await self.rest()
        return None if rest is None else rest.divided(count)

    @contextmanager
    def reserving(self, ids: Iterable[PromiseId], grant: Grant | None) -> Iterator[None]:
        """Count these grants as spent while their children are at work."""
        mine = {} if grant is None else dict.fromkeys(ids, grant)
        self._reserved |= mine
        around = self._outer.reserving(mine, grant) if isinstance(self._outer, Share) else None
        try:
            with around or nullcontext():
                yield
        finally:
            for id_ in mine:
                self._reserved.pop(id_, None)

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
        fits = [int(most / cheapest[u]) for u, most in whole.most.items() if u in cheapest]
        parts = max(1, min([self._calls, *fits]))
        if self._place >= parts:
            raise DelegateFailed(
                f"nothing is left of the budget for it: {self._calls} calls at once would have "
                "less each than one model call has cost so far; call fewer at a time"
            )
        return whole.divided(parts)
