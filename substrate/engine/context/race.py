"""Runs several operations at once until the first has its outcome, or enough have: `race`.

- A race is won by the outcome with the lowest change number, so a replay has the same winner.
- Before a race returns its winner, it closes the losers. A loser may have settled in the same
  moment: a signal that it took goes back into the inbox.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Generic, NamedTuple

from typing_extensions import TypeVar

from substrate.engine.context.gather import as_data, take_all
from substrate.engine.context.pending import Branch, Pending
from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.engine.step.close import close_branches, open_in, took_signals
from substrate.values.errors import Interrupt, Misuse
from substrate.values.ids import PromiseId
from substrate.values.records import Promise

Value_co = TypeVar("Value_co", covariant=True, default=Any)
Place_co = TypeVar("Place_co", bound=int, covariant=True, default=int)

IsEnough = Callable[[Sequence[Promise]], bool]
"""Whether these settled promises are all that is waited for."""


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


async def settle_first(scope: Scope, pendings: Sequence[Pending[Any]]) -> Winner[Any]:
    """Start all; return the one that settled first in the journal's order, and close the others.

    Raises the winner's failure if it failed.
    """
    found = await take_all(scope, pendings, is_race=True)
    if not pendings:
        raise Misuse("a race needs at least one operation; write ctx.race(ctx.step(…), …)")
    settled = {promise.id: promise for promise in found if promise and promise.is_settled}
    # One recorded outcome decides the race: its change number is lower than any that would follow.
    if not settled:
        work = [pending.live(promise) for pending, promise in zip(pendings, found, strict=True)]
        ids = [pending.id for pending in pendings]
        race = partial(_race, scope.execution, work, ids, lambda ended: True)
        settled = await scope.task_state.drive(race, Group(needs_any=True))
    first = min(settled.values(), key=lambda promise: promise.seq)
    await _close_losers(scope, [each for each in pendings if each.id != first.id], settled.values())
    place = next(i for i, pending in enumerate(pendings) if pending.id == first.id)
    value = await pendings[place].read_aside(first)
    if isinstance(value, Raised):
        raise value.error
    return Winner(place, value)


async def settle_enough(
    scope: Scope, pendings: Sequence[Pending[Any]], is_enough: IsEnough
) -> list[Promise]:
    """Start all, until those that have settled are enough; close the others.

    Returns those that have settled, in the journal's order; some may have settled beyond what was
    enough. What the journal has is asked first: where that is enough, nothing is started.
    """
    found = await take_all(scope, pendings, is_race=True)
    settled = {promise.id: promise for promise in found if promise and promise.is_settled}
    open_ = [
        (pending, promise)
        for pending, promise in zip(pendings, found, strict=True)
        if pending.id not in settled
    ]
    if open_ and not (settled and is_enough(list(settled.values()))):
        work = [pending.live(promise) for pending, promise in open_]
        before = list(settled.values())
        enough = partial(_with_those_before, is_enough, before)
        race = partial(_race, scope.execution, work, [each.id for each, _ in open_], enough)
        settled |= await scope.task_state.drive(race, Group(needs_any=True))
        if len(settled) < len(pendings):
            ids = [pending.id for pending in pendings]
            settled |= await scope.task_state.drive(partial(_settled_at_last, scope, ids))
    await _close_losers(scope, [each for each in pendings if each.id not in settled], ())
    for promise in settled.values():
        scope.task_state.observe(promise)
    return sorted(settled.values(), key=attrgetter("seq"))


async def _settled_at_last(scope: Scope, ids: Sequence[PromiseId]) -> dict[PromiseId, Promise]:
    """Return what has settled: also what a branch was writing when it was cancelled."""
    await scope.execution.services.committer.barrier()
    return await scope.execution.access.settled_of(ids)


def _with_those_before(
    is_enough: IsEnough, before: Sequence[Promise], ended: Sequence[Promise]
) -> bool:
    return is_enough([*before, *ended])


async def _close_losers(
    scope: Scope, losers: Sequence[Pending[Any]], settled: Collection[Promise]
) -> None:
    """Close the losers of a race and all that they began; return their signals to the inbox."""
    ids = {loser.id for loser in losers}
    scope.execution.journal.leave_out(loser.key for loser in losers)
    late = [each for each in settled if each.id in ids and took_signals(each)]
    # Asked on a replay too: a crash may have come between the winner's commit and this one.
    if late or open_in(scope.execution, ids):
        await scope.task_state.drive(partial(close_branches, scope.execution, ids, late))


async def _race(
    execution: Execution,
    branches: Sequence[Branch],
    ids: Sequence[PromiseId],
    is_enough: IsEnough,
) -> dict[PromiseId, Promise]:
    """Drive branches until what they came to is enough, or all have ended; cancel the others.

    Returns all that settled, by id.
    """
    done: list[Promise] = []

    def lets_go(task: asyncio.Task[Any]) -> bool:
        outcome = None if _error_of(task) is not None else task.result()
        if not isinstance(outcome, Promise):
            return True  # it has no outcome in a row, which ends them all
        done.append(outcome)
        return is_enough(done)

    branches_at_work = execution.idle.branch_out(len(branches), lets_go)
    running = [branches_at_work.start_branch(as_data(branch)) for branch in branches]
    try:
        await branches_at_work.let_go.wait()
        ended = {task for task in running if task.done()}
        if any(isinstance(_error_of(task), Interrupt) for task in ended):
            # The run drains: its steps in flight may finish before their branches are cancelled.
            await execution.lifecycle.block_while_draining()
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        # Read also if this task is cancelled: asyncio logs each exception that was never read.
        errors = [_error_of(task) for task in running]
    execution.lifecycle.check_open()
    if interrupt := next((error for error in errors if isinstance(error, Interrupt)), None):
        raise interrupt
    # Read from the store: a cancelled branch may have committed, and not seen that commit return.
    settled = await execution.access.settled_of(ids)
    outcomes = [task.result() for task in ended if _error_of(task) is None]
    failed = next((each.error for each in outcomes if isinstance(each, Raised)), None)
    if failed is not None and not (settled and is_enough(list(settled.values()))):
        await close_branches(execution, set(ids), ())  # its error is not recorded in a row
        raise failed
    return settled


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the exception of a task that has ended; None if it returned."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
