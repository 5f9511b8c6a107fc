"""`Pending`: an operation that has its key and has not been started yet.

It is started once: by awaiting it, or by giving it to a combinator of the same context. What the
journal has settled comes back at once, without yielding to the event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from substrate.engine.failure import Raised
from substrate.engine.journal import Asked
from substrate.values.errors import Interrupt, Misuse
from substrate.values.records import Promise

if TYPE_CHECKING:
    from substrate.engine.context import Context

T = TypeVar("T")
Live = Callable[[Promise | None], Coroutine[Any, Any, Promise]]
"""Drives an operation to its outcome, from the pending row that was recorded, if one was."""
Branch = Callable[[], Coroutine[Any, Any, Promise]]
Read = Callable[[Promise], T | Raised[Exception]]
"""Turns a settled promise into the operation's value, or its failure."""


class Pending(Generic[T]):
    """One operation of a context, to be awaited once."""

    __slots__ = ("_asked", "_context", "_is_taken", "_live", "_read")

    def __init__(self, context: "Context", asked: Asked, live: Live, read: Read[T]) -> None:
        self._context = context
        self._asked = asked
        self._live = live
        self._read = read
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<Pending {self._context.run_id}#{self._asked.key}>"

    def __await__(self) -> Generator[Any, Any, T]:
        context = self._context
        context.strand.check_use()
        promise = self.take(context)
        if promise is None or not promise.is_settled:
            live = partial(self._live, promise)
            promise = yield from context.strand.drive(live).__await__()
        value = self.read(promise)
        if isinstance(value, Raised):
            raise value.error
        return value

    def settled(self) -> "Pending[Promise]":
        """Return this operation as one that gives its settled promise and never raises its failure.

        It takes this one's place, which can no longer be awaited.
        """
        self._mark_taken()
        return Pending(self._context, self._asked, self._live, lambda promise: promise)

    def take(self, context: "Context") -> Promise | None:
        """Mark it as started by its own context; return what the journal has under its key."""
        if self._context is not context:
            raise Misuse(f"{self!r} belongs to another ctx; a combinator takes its own only")
        execution = context.execution
        execution.check_open()
        self._mark_taken()
        try:
            return execution.journal.take(self._asked)
        except Interrupt as interrupt:
            execution.leave(interrupt)

    def live(self, recorded: Promise | None) -> Branch:
        """Return what brings it to its outcome, when it is called."""
        return partial(self._live, recorded)

    def read(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Return what its outcome stands for: a value, or a failure."""
        if isinstance(outcome, Raised):
            return outcome
        self._context.strand.observe(outcome)
        return self._read(outcome)

    def _mark_taken(self) -> None:
        if self._is_taken:
            raise Misuse(f"{self!r} was awaited before; make a new one, or keep its result")
        self._is_taken = True


async def settle_all(
    context: "Context", pendings: Sequence[Pending[T]], limit: int | None = None
) -> list[T]:
    """Start all, at most `limit` at once; wait for all; return their values in order.

    When some fail, the failure of the lowest index is raised after all have ended, with the others
    in its `others`.
    """
    context.strand.check_use()
    _check_pendings(pendings)
    found = [pending.take(context) for pending in pendings]
    work = [
        pending.live(promise)
        for pending, promise in zip(pendings, found, strict=True)
        if promise is None or not promise.is_settled
    ]
    fresh = iter(await context.strand.drive(partial(_together, work, limit)) if work else ())
    values = [
        pending.read(promise if promise and promise.is_settled else next(fresh))
        for pending, promise in zip(pendings, found, strict=True)
    ]
    failures = [value.error for value in values if isinstance(value, Raised)]
    if failures:
        raise _first_of(failures)
    return [value for value in values if not isinstance(value, Raised)]


async def _together(
    branches: Iterable[Branch], limit: int | None
) -> Sequence[Promise | Raised[Exception]]:
    """Wait for all, at most `limit` at once."""
    if limit is not None:
        seats = asyncio.Semaphore(limit)
        branches = [partial(_seated, seats, branch) for branch in branches]
    running = [branch() for branch in branches]
    return [_as_data(each) for each in await asyncio.gather(*running, return_exceptions=True)]


async def _seated(seats: asyncio.Semaphore, branch: Branch) -> Promise:
    async with seats:
        return await branch()


def _as_data(outcome: Promise | BaseException) -> Promise | Raised[Exception]:
    """Keep a branch's failure as data; let pass what ends the run."""
    if isinstance(outcome, Promise):
        return outcome
    if isinstance(outcome, Exception):
        return Raised(outcome)
    raise outcome


def _first_of(failures: Sequence[Exception]) -> Exception:
    """Return the failure of the lowest index, which brings the others along."""
    first, *others = failures
    first.others = tuple(others)  # type: ignore[attr-defined]
    return first


def _check_pendings(given: Sequence[object]) -> None:
    strangers = [each for each in given if not isinstance(each, Pending)]
    for stranger in strangers:
        if isinstance(stranger, Coroutine):
            stranger.close()
    if strangers:
        raise Misuse(
            "a combinator takes pending operations of its own ctx, not "
            f"{type(strangers[0]).__name__}; put several operations of one branch into a durable "
            "function, and give it ctx.call(that_function, …)"
        )
