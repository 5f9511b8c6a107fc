"""`Pending`: an operation that has its key and has not been started yet.

It is started once: by awaiting it, or by giving it to a combinator of the same context. What the
journal has settled comes back at once, without yielding to the event loop.

It is a coroutine, though nothing but `await` gets anything out of it, since type checkers warn of a
coroutine that nobody awaits, and of no other awaitable.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, ClassVar, TypeVar

from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised
from substrate.engine.run.journal import Expected
from substrate.values.errors import Interrupt, Misuse
from substrate.values.ids import Key, PromiseId, promise_id
from substrate.values.records import Promise

T = TypeVar("T")
Live = Callable[[Promise | None], Coroutine[Any, Any, Promise]]
"""Drives an operation to its outcome, from the pending row that was recorded, if one was."""
Branch = Callable[[], Coroutine[Any, Any, Promise]]
Read = Callable[[Promise], T | Raised[Exception]]
"""Turns a settled promise into the operation's value, or its failure."""

_LONG = 256 * 1024
"""How many characters of JSON are read on the event loop, in a millisecond or two."""


class Pending(Coroutine[Any, Any, T]):
    """One operation of a context, to be awaited once."""

    __slots__ = ("_asked", "_driven", "_is_taken", "_live", "_read", "_scope")

    _driven: Generator[Any, Any, T]

    leaves_a_row: ClassVar[bool] = True
    """Whether the journal has its outcome, whatever that is."""

    def __init__(self, scope: Scope, asked: Expected, live: Live, read: Read[T]) -> None:
        self._scope = scope
        self._asked = asked
        self._live = live
        self._read = read
        self._is_taken = False
        scope.task_state.unstarted[self] = None

    def __str__(self) -> str:
        return self._asked.key

    def __bool__(self) -> bool:
        # Else `if ctx.receive("approved", bool):` would go on as if somebody had said yes.
        raise Misuse(
            f"{self._asked.key!r} was not awaited, so it is neither true nor false; write "
            "`await` before it"
        )

    def __repr__(self) -> str:
        return f"<Pending {self._scope.run_id}#{self._asked.key}>"

    def __await__(self) -> Generator[Any, Any, T]:
        scope = self._scope
        try:
            scope.task_state.check_use(self._asked.key)
        except Misuse:
            self.drop()  # whoever awaits it is told
            raise
        try:
            promise = self.take(scope)
        except Interrupt:
            yield from scope.execution.lifecycle.delay_refusal().__await__()
            raise
        # What is settled comes back without a yield: a replay of a thousand steps is one turn.
        if promise is None or not promise.is_settled:
            live = partial(self._live, promise)
            promise = yield from scope.task_state.drive(live).__await__()
        if is_long(promise):
            value = yield from self.read_aside(promise).__await__()
        else:
            value = self.read(promise)
        if isinstance(value, Raised):
            raise value.error
        return value

    def send(self, value: Any) -> Any:
        """See `Coroutine.send`: what a task does with it, which is told to await it instead."""
        return self._steps.send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        """See `Coroutine.throw`."""
        return self._steps.throw(error if value is None else value)

    def close(self) -> None:
        """See `Coroutine.close`."""
        self._steps.close()

    @property
    def _steps(self) -> Generator[Any, Any, T]:
        driven: Generator[Any, Any, T] | None = getattr(self, "_driven", None)
        if driven is None:  # made here, so that it costs nothing where it is awaited
            driven = self._driven = self.__await__()
        return driven

    @property
    def key(self) -> Key:
        """The key of its promise."""
        return self._asked.key

    @property
    def id(self) -> PromiseId:
        """The id of its promise; a child's is also the id of its run."""
        return promise_id(self._scope.run_id, self._asked.key)

    def settled(self) -> "Pending[Promise]":
        """Return this operation as one that gives its settled promise and never raises its failure.

        It takes this one's place, which can no longer be awaited.
        """
        self._mark_taken()
        return Pending(self._scope, self._asked, self._live, lambda promise: promise)

    def take(self, scope: Scope) -> Promise | None:
        """Mark it as started by its own context; return what the journal has under its key."""
        self._check_taker(scope)
        execution = scope.execution
        execution.lifecycle.check_open()
        self._mark_taken()
        try:
            return execution.journal.take(self._asked)
        except Interrupt as interrupt:
            execution.lifecycle.drain_and_raise(interrupt)

    def live(self, recorded: Promise | None) -> Branch:
        """Return what brings it to its outcome, when it is called."""
        return partial(self._live, recorded)

    def read(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Return what its outcome stands for: a value, or a failure."""
        if isinstance(outcome, Raised):
            return outcome
        self._scope.task_state.observe(outcome)
        try:
            return self._read(outcome)
        except Interrupt as interrupt:
            self._scope.execution.lifecycle.drain_and_raise(interrupt)
        except Exception:
            self._scope.execution.check_readable(outcome)
            raise

    async def read_aside(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Return what `read` does; what is long is read in a thread, and the loop goes on."""
        if isinstance(outcome, Raised) or not is_long(outcome):
            return self.read(outcome)
        task_state = self._scope.task_state
        task_state.observe(outcome)
        reading = partial(asyncio.to_thread, self._read, outcome)
        try:
            return await task_state.drive(reading, is_live=task_state.is_live)
        except Interrupt as interrupt:
            self._scope.execution.lifecycle.drain_and_raise(interrupt)
        except Exception:
            self._scope.execution.check_readable(outcome)
            raise

    def _check_taker(self, scope: Scope) -> None:
        if self._scope is not scope:
            raise Misuse(f"{self!r} belongs to another ctx; a combinator takes its own only")

    def _mark_taken(self) -> None:
        if self._is_taken:
            raise Misuse(f"{self!r} was awaited before; make a new one, or keep its result")
        self._is_taken = True
        self.drop()

    def drop(self) -> None:
        """Count it no more as one that nobody asks for."""
        self._scope.task_state.unstarted.pop(self, None)


def is_long(outcome: Promise | Raised[Exception]) -> bool:
    """Whether what it holds takes so long to read that other runs would have to wait for it."""
    value = None if isinstance(outcome, Raised) else outcome.value
    return value is not None and len(value) > _LONG
