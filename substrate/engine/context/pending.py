"""`Pending`: an operation that has its key and has not been started yet.

- It is started once: by awaiting it, or by giving it to a combinator of the same context.
- If the journal has its outcome, awaiting it returns that without yielding to the event loop.
- Until it is started or refused, `TaskState.unstarted` lists it: see `check_nothing_forgotten`.

It is a `Coroutine` only for type checkers: they warn of a coroutine that is never awaited, and of
no other awaitable.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, ClassVar, TypeVar

from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised
from substrate.engine.run.mismatch import RequestedCall
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
"""Characters of JSON that are read on the event loop, at most: a millisecond or two."""


class Pending(Coroutine[Any, Any, T]):
    """One operation of a context, to be awaited once."""

    __slots__ = ("_asked", "_driven", "_is_taken", "_live", "_read", "_scope")

    _driven: Generator[Any, Any, T]

    leaves_a_row: ClassVar[bool] = True
    """Whether the journal has its outcome, whatever that is."""

    def __init__(self, scope: Scope, asked: RequestedCall, live: Live, read: Read[T]) -> None:
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
            self.drop()  # the caller gets the refusal, so it is not also reported
            raise
        try:
            promise = self.take(scope)
        except Interrupt:
            # Code that catches everything and tries again would otherwise spin, and block the loop.
            yield from scope.execution.lifecycle.delay_refusal().__await__()
            raise
        # A settled promise is read without a yield: a thousand replayed steps are one turn of the
        # event loop.
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
        """See `Coroutine.send`. A task made of it calls this, and `check_use` refuses."""
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
        if driven is None:  # made on first use: `await` never needs it
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

    def after(self, first: Callable[[], Awaitable["Pending[T] | None"]]) -> "Pending[T]":
        """Return this operation as one that begins with something else, which may replace it.

        It takes this one's place, which can no longer be awaited. Where the journal has it, `first`
        is not called: it was begun. `first` returns None, or another operation of the same key.
        """
        self._mark_taken()

        async def live(recorded: Promise | None) -> Promise:
            if recorded is None and (other := await first()) is not None:
                other.settled().drop()  # begun here, so nobody else has to await it
                return await other.live(None)()
            return await self._live(recorded)

        return Pending(self._scope, self._asked, live, self._read)

    def take(self, scope: Scope) -> Promise | None:
        """Mark it as started by its own context; return its recorded promise, None if it has none.

        A promise that was recorded as pending is returned too: the operation goes on from there.
        """
        self._check_taker(scope)
        execution = scope.execution
        execution.lifecycle.check_open()
        self._mark_taken()
        try:
            return execution.journal.take(self._asked)
        except Interrupt as interrupt:
            execution.lifecycle.drain_and_raise(interrupt)

    def live(self, recorded: Promise | None) -> Branch:
        """Return a function that drives it from `recorded` to its settled promise."""
        return partial(self._live, recorded)

    def read(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Return the value of its outcome, or the failure, which the caller raises."""
        if isinstance(outcome, Raised):
            return outcome
        self._scope.task_state.observe(outcome)
        try:
            return self._read(outcome)
        except Interrupt as interrupt:
            self._scope.execution.lifecycle.drain_and_raise(interrupt)
        except Exception:
            # If the row itself is damaged, this pauses the run: the code cannot handle that.
            self._scope.execution.check_readable(outcome)
            raise

    async def read_aside(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Do as `read` does, but read a long value in a thread: the event loop stays free."""
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
        """Take it off the list of operations that were made and never awaited."""
        self._scope.task_state.unstarted.pop(self, None)


def is_long(outcome: Promise | Raised[Exception]) -> bool:
    """Whether its value is so long that reading it would make other runs wait."""
    value = None if isinstance(outcome, Raised) else outcome.value
    return value is not None and len(value) > _LONG
