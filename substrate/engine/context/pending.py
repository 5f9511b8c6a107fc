"""`Pending`: an operation that has its key and has not been started yet.

It is started once: by awaiting it, or by giving it to a combinator of the same context. What the
journal has settled comes back at once, without yielding to the event loop.

It is a coroutine, though nothing but `await` gets anything out of it, since type checkers warn of a
coroutine that nobody awaits, and of no other awaitable.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

from typing_extensions import TypeVar

from substrate.engine.failure import Raised
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.engine.run.journal import Expected
from substrate.engine.step.close import close_branches, open_in, took_signals
from substrate.values.errors import Interrupt, Misuse
from substrate.values.ids import Key, PromiseId, promise_id
from substrate.values.records import Promise

if TYPE_CHECKING:
    from substrate.engine.context.context import Context

T = TypeVar("T")
Value_co = TypeVar("Value_co", covariant=True, default=Any)
Place_co = TypeVar("Place_co", bound=int, covariant=True, default=int)
Live = Callable[[Promise | None], Coroutine[Any, Any, Promise]]
"""Drives an operation to its outcome, from the pending row that was recorded, if one was."""
Branch = Callable[[], Coroutine[Any, Any, Promise]]
Read = Callable[[Promise], T | Raised[Exception]]
"""Turns a settled promise into the operation's value, or its failure."""

_LONG = 256 * 1024
"""How many characters of JSON are read on the event loop, in a millisecond or two."""

_NOT_YET: Raised[Exception] = Raised(RuntimeError("it was not begun"))


class Pending(Coroutine[Any, Any, T]):
    """One operation of a context, to be awaited once."""

    __slots__ = ("_asked", "_context", "_driven", "_is_taken", "_live", "_read")

    _driven: Generator[Any, Any, T]

    leaves_a_row: ClassVar[bool] = True
    """Whether the journal has its outcome, whatever that is."""

    def __init__(self, context: "Context", asked: Expected, live: Live, read: Read[T]) -> None:
        self._context = context
        self._asked = asked
        self._live = live
        self._read = read
        self._is_taken = False
        context.task_state.idle[self] = None

    def __str__(self) -> str:
        return self._asked.key

    def __bool__(self) -> bool:
        # Else `if ctx.receive("approved", bool):` would go on as if somebody had said yes.
        raise Misuse(
            f"{self._asked.key!r} was not awaited, so it is neither true nor false; write "
            "`await` before it"
        )

    def __repr__(self) -> str:
        return f"<Pending {self._context.run_id}#{self._asked.key}>"

    def __await__(self) -> Generator[Any, Any, T]:
        context = self._context
        try:
            context.task_state.check_use()
        except Misuse:
            self.drop()  # whoever awaits it is told
            raise
        try:
            promise = self.take(context)
        except Interrupt:
            yield from context.execution.hold_up().__await__()
            raise
        if promise is None or not promise.is_settled:
            live = partial(self._live, promise)
            promise = yield from context.task_state.drive(live).__await__()
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
        return promise_id(self._context.run_id, self._asked.key)

    def settled(self) -> "Pending[Promise]":
        """Return this operation as one that gives its settled promise and never raises its failure.

        It takes this one's place, which can no longer be awaited.
        """
        self._mark_taken()
        return Pending(self._context, self._asked, self._live, lambda promise: promise)

    def take(self, context: "Context") -> Promise | None:
        """Mark it as started by its own context; return what the journal has under its key."""
        self._check_taker(context)
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
        self._context.task_state.observe(outcome)
        try:
            return self._read(outcome)
        except Interrupt as interrupt:
            self._context.execution.leave(interrupt)
        except Exception:
            self._context.execution.check_readable(outcome)
            raise

    async def read_aside(self, outcome: Promise | Raised[Exception]) -> T | Raised[Exception]:
        """Return what `read` does; what is long is read in a thread, and the loop goes on."""
        if isinstance(outcome, Raised) or not is_long(outcome):
            return self.read(outcome)
        task_state = self._context.task_state
        task_state.observe(outcome)
        reading = partial(asyncio.to_thread, self._read, outcome)
        try:
            return await task_state.drive(reading, is_live=task_state.is_live)
        except Interrupt as interrupt:
            self._context.execution.leave(interrupt)
        except Exception:
            self._context.execution.check_readable(outcome)
            raise

    def _check_taker(self, context: "Context") -> None:
        if self._context is not context:
            raise Misuse(f"{self!r} belongs to another ctx; a combinator takes its own only")

    def _mark_taken(self) -> None:
        if self._is_taken:
            raise Misuse(f"{self!r} was awaited before; make a new one, or keep its result")
        self._is_taken = True
        self.drop()

    def drop(self) -> None:
        """Count it no more as one that nobody asks for."""
        self._context.task_state.idle.pop(self, None)


async def settle_all(
    context: "Context", pendings: Sequence[Pending[T]], limit: int | None = None
) -> list[T]:
    """Start all, at most `limit` at once; wait for all; return their values in order.

    When some fail, the failure of the lowest index is raised after all have ended, with the others
    in its `others`.
    """
    found = await _take_all(context, pendings)
    work = [
        pending.live(promise)
        for pending, promise in zip(pendings, found, strict=True)
        if promise is None or not promise.is_settled
    ]
    fresh: Iterator[Promise | Raised[Exception]] = iter(())
    if work:
        group = Group(needs_any=limit is not None and limit < len(work))
        together = partial(_together, context.execution, work, limit, group)
        fresh = iter(await context.task_state.drive(together, group))
    outcomes = [promise if promise and promise.is_settled else next(fresh) for promise in found]
    values = [
        await pending.read_aside(outcome) if is_long(outcome) else pending.read(outcome)
        for pending, outcome in zip(pendings, outcomes, strict=True)
    ]
    failures = [value.error for value in values if isinstance(value, Raised)]
    if failures:
        raise _first_of(failures)
    return [value for value in values if not isinstance(value, Raised)]


class Winner(NamedTuple, Generic[Value_co, Place_co]):
    """What won a race: its place among those that were started, and its value.

    Of a race whose operations were given one by one, up to six, type checkers know the value by
    its place: ``if winner.place == 0:``.
    """

    #: Its place among those that were started, from 0.
    place: Place_co
    #: What it came to.
    value: Value_co

    @property
    def index(self) -> Place_co:  # type: ignore[override]  # a tuple's method, which nobody means
        """The place of the winner, by the name that it has elsewhere."""
        return self.place


async def settle_first(context: "Context", pendings: Sequence[Pending[Any]]) -> Winner[Any]:
    """Start all; return the one that is settled first by the journal's order; end the others.

    Raises the failure of the first, if that is what it came to.
    """
    found = await _take_all(context, pendings, is_race=True)
    if not pendings:
        raise Misuse("a race needs at least one operation")
    settled = {promise.id: promise for promise in found if promise and promise.is_settled}
    first = min(settled.values(), key=lambda promise: promise.seq, default=None)
    if first is None:
        work = [pending.live(promise) for pending, promise in zip(pendings, found, strict=True)]
        race = partial(_race, context.execution, work, [pending.id for pending in pendings])
        settled = await context.task_state.drive(race, Group(needs_any=True))
        first = min(settled.values(), key=lambda promise: promise.seq)
    losers = {pending.id for pending in pendings if pending.id != first.id}
    context.execution.journal.leave_out(each.key for each in pendings if each.id != first.id)
    late = [loser for loser in settled.values() if loser.id in losers and took_signals(loser)]
    if late or open_in(context.execution, losers):
        await context.task_state.drive(partial(close_branches, context.execution, losers, late))
    place = next(i for i, pending in enumerate(pendings) if pending.id == first.id)
    value = await pendings[place].read_aside(first)
    if isinstance(value, Raised):
        raise value.error
    return Winner(place, value)


async def _take_all(
    context: "Context", pendings: Sequence[Pending[Any]], *, is_race: bool = False
) -> list[Promise | None]:
    """Mark all as started; return what the journal has of each."""
    try:
        context.task_state.check_use()
        _check_pendings(pendings)
        if is_race and not all(pending.leaves_a_row for pending in pendings):
            raise Misuse("ctx.hear never waits and may leave no row, so it cannot race; await it")
        return [pending.take(context) for pending in pendings]
    except Misuse as refusal:
        everything: Sequence[object] = pendings
        for given in everything:  # whoever gave them is told
            if isinstance(given, Pending):
                given.drop()
            elif isinstance(given, Coroutine):  # what it holds is done by nobody: see `_call`
                idle = context.task_state.idle
                idle.update({each: str(refusal) for each in _held_by(given) if each in idle})
                given.close()
        raise
    except Interrupt:
        await context.execution.hold_up()
        raise


async def _together(
    execution: Execution, branches: Sequence[Branch], limit: int | None, group: Group
) -> Sequence[Promise | Raised[Exception]]:
    """Bring all to their outcomes, at most `limit` at once."""
    outcomes: list[Promise | Raised[Exception]] = [_NOT_YET] * len(branches)
    seats = min(limit or len(branches), len(branches))
    turns = iter(enumerate(branches))
    fan = execution.idle.fan(seats)

    async def start_branch() -> None:
        for i, branch in turns:
            group.needs_any = i + 1 < len(branches)
            outcomes[i] = await _as_data(branch)

    seated = [fan.start_branch(start_branch()) for _ in range(seats)]
    for ended in await asyncio.gather(*seated, return_exceptions=True):
        if ended is not None:
            raise ended
    return outcomes


async def _race(
    execution: Execution, branches: Sequence[Branch], ids: Sequence[PromiseId]
) -> dict[PromiseId, Promise]:
    """Return what has been settled when the first was, all the others having been cancelled."""
    fan = execution.idle.fan(len(branches), needs_any=True)
    running = [fan.start_branch(_as_data(branch)) for branch in branches]
    try:
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if any(isinstance(_error_of(task), Interrupt) for task in ended):
            await (
                execution.wait_unless_draining()
            )  # the run drains: calls in flight come to their end first
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        errors = [_error_of(task) for task in running]
    execution.check_open()
    if interrupt := next((error for error in errors if isinstance(error, Interrupt)), None):
        raise interrupt
    settled = await execution.settled_of(ids)
    if not settled:
        await close_branches(execution, set(ids), ())
        outcomes = [task.result() for task in ended if _error_of(task) is None]
        raise next(each.error for each in outcomes if isinstance(each, Raised))
    return settled


def is_long(outcome: Promise | Raised[Exception]) -> bool:
    """Whether what it holds takes so long to read that other runs would have to wait for it."""
    value = None if isinstance(outcome, Raised) else outcome.value
    return value is not None and len(value) > _LONG


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what ended a task that has ended, if that was an error or its cancellation."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def _as_data(branch: Branch) -> Promise | Raised[Exception]:
    """Keep a branch's failure as data; let pass what ends the run."""
    try:
        return await branch()
    except Exception as error:  # noqa: BLE001 - raised by who reads it
        return Raised(error)


def _held_by(coroutine: object) -> Sequence[Pending[Any]]:
    """Return the operations that a coroutine was given which has not begun, as `ctx.map` is."""
    if not inspect.iscoroutine(coroutine):
        return []
    values = inspect.getcoroutinelocals(coroutine).values()
    return [
        each
        for value in values
        for each in (value if isinstance(value, list | tuple) else (value,))
        if isinstance(each, Pending)
    ]


def _first_of(failures: Sequence[Exception]) -> Exception:
    """Return the failure of the lowest index, which brings the others along."""
    first, *others = failures
    first.others = tuple(others)  # type: ignore[attr-defined]
    return first


def _check_pendings(given: Sequence[object]) -> None:
    strangers = [each for each in given if not isinstance(each, Pending)]
    if strangers:
        raise Misuse(
            "a combinator takes pending operations of its own ctx, not "
            f"{type(strangers[0]).__name__}; put several operations of one branch into a durable "
            "function, and give it ctx.call(that_function, …)"
        )
