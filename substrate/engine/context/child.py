"""A child: a run started by a run, with a lease, attempts and a failure of its own.

Its row in `runs` is created in the same commit as the promise that its parent waits for, and it
settles that promise itself when it ends. What it raises comes to its parent as an exception that
holds the child's error.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from substrate.engine.context.pending import Pending
from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised, error_of_run, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.function.place import how_to_be_found, in_place
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.engine.run.journal import Expected
from substrate.values.errors import Interrupt, Misuse, Paused, UnknownFunction
from substrate.values.ids import RunId, lane_of
from substrate.values.records import JsonText, NewRun, OnDead, Promise, PromiseState

T = TypeVar("T")

MAX_DEPTH = 32
"""How many runs may stand below each other."""

_MOMENT = 0.5  # seconds between two looks at what the workers know


@dataclass(frozen=True, slots=True)
class Spawn:
    """A child to be started."""

    #: What it runs.
    function: Durable[..., Any]
    #: Whose workers drive it.
    queue: str
    #: After how many seconds it is ended.
    timeout: float | None
    #: What becomes of it where it would be dead.
    on_dead: OnDead

    def new_run(self, execution: Execution, promise: Promise) -> NewRun:
        """Return the row of the run that a promise stands for."""
        now, timeout = execution.now_ms, self.timeout
        return NewRun(
            id=RunId(promise.id),
            function=self.function.name,
            version=self.function.version,
            queue=self.queue,
            input=promise.input or JsonText("{}"),
            fingerprint=promise.fingerprint or "",
            seed=secrets.randbits(62),
            deadline_at=None if timeout is None else now + round(timeout * 1000),
            on_dead=self.on_dead,
        )


class Child(Pending[T]):
    """A child run: await it for its result, or `start` it and keep the handle.

    One that was started lives on by itself, whether it is awaited or not.
    """

    __slots__ = ("_group", "_spawn", "_started")

    def __init__(
        self, scope: Scope, asked: Expected, spawn: Spawn, new_promise: Callable[[], Promise]
    ) -> None:
        async def live(recorded: Promise | None) -> Promise:
            promise = recorded or await start_child(scope.execution, spawn, new_promise())
            if promise.is_settled:
                return promise
            group = scope.task_state.group or Group()
            return await scope.execution.wakeups.wait_for_child(promise, group)

        super().__init__(scope, asked, live, partial(read_child, spawn.function))
        self._spawn = spawn
        self._started: Promise | None = None

    async def start(self) -> "Child[T]":
        """Start it, if it was not started before; return itself, to be awaited later."""
        scope = self._scope
        scope.task_state.check_use(self._asked.key)
        if self._started is None:
            try:
                found = super().take(scope)
            except Interrupt:
                await scope.execution.lifecycle.delay_refusal()
                raise
            if found is None:
                new_promise = scope.new_promise(self._asked)
                start = partial(start_child, scope.execution, self._spawn, new_promise)
                found = await scope.task_state.drive(start)
            self._started = found
            self._is_taken = False  # it was begun, and may be awaited once
        return self

    def take(self, scope: Scope) -> Promise | None:
        """See `Pending.take`. What was started is waited for where it stands."""
        if self._started is None:
            return super().take(scope)
        self._check_taker(scope)
        self._mark_taken()
        return self._started


async def start_child(execution: Execution, spawn: Spawn, promise: Promise) -> Promise:
    """Commit a child's promise and its run; return the promise as it stands."""
    if execution.fence.run_id.count("#") >= MAX_DEPTH:
        raise Misuse(
            f"run {execution.fence.run_id!r} stands {MAX_DEPTH} runs deep and would spawn "
            f"{spawn.function.name!r} below it; children that spawn each other in a circle never "
            "end: call the function with ctx.call, or let the parent spawn it"
        )
    if execution.services.is_strange(spawn.function, spawn.queue):
        await _check_known(execution, spawn)
    # One commit: there is no promise without its run, and no run that nobody waits for.
    stands = await execution.recorder.write(promise, child=spawn.new_run(execution, promise))
    execution.services.on_wake(RunId(promise.id))
    return stands


async def _check_known(execution: Execution, spawn: Spawn) -> None:
    """Pause the run where nobody could drive the child: it would wait for ever, in silence.

    A second look leaves a worker that comes just now the time to say what it knows.
    """
    function = spawn.function
    lane = lane_of(spawn.queue, function.name, function.version)
    for pause in (_MOMENT, None):
        lanes = await execution.access.known_lanes()
        if lanes is None or lane in lanes:
            return
        if pause is not None:
            await asyncio.sleep(pause)
    message = (
        f"no worker knows {function.name!r}, version {function.version}{in_place(function)}, so "
        f"nobody could drive it: {how_to_be_found(function)}; then resume the run"
    )
    execution.lifecycle.drain_and_raise(Paused(failure_of(UnknownFunction(message))))


def read_child(function: Durable[..., T], promise: Promise) -> T | Raised[Exception]:
    """Return a child's result as its function's type, or its failure.

    Raises `Paused` where the type has changed and takes the record no more.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of_run(promise))
    try:
        return function.decode_result(JsonText("null") if promise.value is None else promise.value)
    except Misuse as error:
        raise Paused(failure_of(error)) from None
