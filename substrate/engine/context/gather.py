"""Runs several operations at once, and waits for all of them: `gather` and `map`.

Waiting for all means all, also if some have failed: no operation is cancelled half done. What a
combinator is given is checked and taken here, for `race` as well (see `race`).
"""

import asyncio
import inspect
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from substrate.engine.context.pending import Branch, Pending, is_long
from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.engine.run.user_code import is_ctrl_c
from substrate.values.errors import Interrupt, Misuse
from substrate.values.records import Promise

T = TypeVar("T")

_NOT_YET: Raised[Exception] = Raised(RuntimeError("it was not begun"))


async def settle_all(
    scope: Scope, pendings: Sequence[Pending[T]], limit: int | None = None
) -> list[T]:
    """Start all, at most `limit` at once; wait for all; return their values in order.

    When some fail, the failure of the lowest index is raised after all have ended, with the others
    in its `others`.
    """
    found = await take_all(scope, pendings)
    # Only operations without a recorded outcome become tasks: a replay of all of them makes none.
    work = [
        pending.live(promise)
        for pending, promise in zip(pendings, found, strict=True)
        if promise is None or not promise.is_settled
    ]
    fresh: Iterator[Promise | Raised[Exception]] = iter(())
    if work:
        group = Group(needs_any=limit is not None and limit < len(work))
        together = partial(_together, scope.execution, work, limit, group)
        fresh = iter(await scope.task_state.drive(together, group))
    outcomes = [promise if promise and promise.is_settled else next(fresh) for promise in found]
    values = [
        await pending.read_aside(outcome) if is_long(outcome) else pending.read(outcome)
        for pending, outcome in zip(pendings, outcomes, strict=True)
    ]
    failures = [value.error for value in values if isinstance(value, Raised)]
    if failures:
        raise _first_of(failures)
    return [value for value in values if not isinstance(value, Raised)]


async def take_all(
    scope: Scope, pendings: Sequence[Pending[Any]], *, is_race: bool = False
) -> list[Promise | None]:
    """Mark all operations as started; return the recorded promise of each, None if it has none."""
    try:
        scope.task_state.check_use()
        _check_pendings(pendings)
        if is_race and not all(pending.leaves_a_row for pending in pendings):
            raise Misuse("ctx.hear never waits and may leave no row, so it cannot race; await it")
        return [pending.take(scope) for pending in pendings]
    except Misuse as refusal:
        everything: Sequence[object] = pendings
        for given in everything:
            # The caller gets this refusal: it is not also reported as an operation never awaited.
            if isinstance(given, Pending):
                given.drop()
            # Such as `ctx.map(…)` given to gather: the operations inside it will never start, and
            # if the code swallows the refusal, the run is paused with it as the reason.
            elif isinstance(given, Coroutine):
                unstarted = scope.task_state.unstarted
                inside = [each for each in _held_by(given) if each in unstarted]
                unstarted.update({each: str(refusal) for each in inside})
                given.close()
        raise
    except Interrupt:
        await scope.execution.lifecycle.delay_refusal()
        raise


async def _together(
    execution: Execution, branches: Sequence[Branch], limit: int | None, group: Group
) -> Sequence[Promise | Raised[Exception]]:
    """Drive all branches, at most `limit` at once; return their outcomes in order."""
    outcomes: list[Promise | Raised[Exception]] = [_NOT_YET] * len(branches)
    count = min(limit or len(branches), len(branches))
    turns = iter(enumerate(branches))
    branches_at_work = execution.idle.branch_out(count)

    async def next_branches() -> None:
        for i, branch in turns:
            # While branches wait for their turn, the run must wake up for each child that ends:
            # the next branch can start. Afterwards it need not wake up before the last one.
            group.needs_any = i + 1 < len(branches)
            outcomes[i] = await as_data(branch)

    running = [branches_at_work.start_branch(next_branches()) for _ in range(count)]
    for ended in await asyncio.gather(*running, return_exceptions=True):
        if ended is not None:
            raise ended
    return outcomes


async def as_data(branch: Branch) -> Promise | Raised[Exception]:
    """Return a branch's outcome, or its failure as data; raise only what ends the run."""
    try:
        return await branch()
    except Exception as error:  # noqa: BLE001 - raised where the outcome is read
        return Raised(error)
    except (SystemExit, KeyboardInterrupt) as error:
        # Reading a value or an error can run user code, which raised this. If a task raised it,
        # asyncio would end the whole process.
        if is_ctrl_c(error):
            raise
        return Raised(RuntimeError(f"code of the run raised {type(error).__name__}"))


def _held_by(coroutine: object) -> Sequence[Pending[Any]]:
    """Return the operations among the arguments of a coroutine that has not begun (`ctx.map`)."""
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
    """Return the failure of the lowest index, with the other failures in its `others`."""
    first, *others = failures
    first.others = tuple(others)  # type: ignore[attr-defined]
    return first


def _check_pendings(given: Sequence[object]) -> None:
    others = [each for each in given if not isinstance(each, Pending)]
    if others:
        raise Misuse(
            "a combinator takes pending operations of its own ctx, not "
            f"{_named(others[0])}; put several operations of one branch into a durable "
            "function, and give it ctx.call(that_function, …)"
        )


def _named(given: object) -> str:
    """Return how a message names an argument that is no operation; a combinator by its own name.

    Type checkers accept a combinator here, since it is a coroutine as operations are.
    """
    kind = type(given).__name__
    if not inspect.iscoroutine(given):
        return kind
    is_map = given.cr_code is settle_all.__code__
    name = "map" if is_map else given.__qualname__.removeprefix("Context.")
    is_several = name in ("map", "gather", "race")
    return f"{kind} of ctx.{name}(…), which is several" if is_several else kind
