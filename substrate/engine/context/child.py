"""Child runs: a run starts another run, which has a lease, attempts and a failure of its own.

- The child's row in `runs` and the promise that its parent waits for are created in one commit.
- When the child ends, its own last commit settles that promise.
- If the child fails, awaiting it raises a `RunFailed` in the parent, which holds the child's error.
- A child that no worker can drive is not started: its parent is paused, with the reason.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from substrate.engine.context.call import read_call
from substrate.engine.context.pending import Pending
from substrate.engine.context.scope import Scope
from substrate.engine.failure import error_of_run, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.function.place import how_to_be_found, in_place
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group
from substrate.engine.run.mismatch import RequestedCall
from substrate.values.errors import Interrupt, Misuse, Paused, UnknownFunction
from substrate.values.ids import RunId, lane_of
from substrate.values.records import JsonText, NewRun, OnDead, Promise

T = TypeVar("T")

MAX_DEPTH = 32
"""How deep runs may be nested: the child of a root run is at depth 1."""

_RECHECK_S = 0.5  # seconds until the functions known to workers are read a second time


@dataclass(frozen=True, slots=True)
class Spawn:
    """The options of a child that is to be started."""

    #: The function that the child runs.
    function: Durable[..., Any]
    #: The queue whose workers drive it.
    queue: str
    #: Seconds from its start until it is ended; None for no limit.
    timeout: float | None
    #: What follows if the child would be declared dead: `RunDead` in its parent, or it is paused.
    on_dead: OnDead
    #: What it may use of its parent's budget, as JSON; asked for only when it is started.
    grant: Callable[[], JsonText | None] = lambda: None

    def new_run(self, execution: Execution, promise: Promise) -> NewRun:
        """Return the row of the child run; its id is the id of the promise."""
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
        self, scope: Scope, asked: RequestedCall, spawn: Spawn, new_promise: Callable[[], Promise]
    ) -> None:
        async def live(recorded: Promise | None) -> Promise:
            promise = recorded or await start_child(scope.execution, spawn, new_promise())
            if promise.is_settled:
                return promise
            group = scope.task_state.group or Group()
            return await scope.execution.wakeups.wait_for_child(promise, group)

        read = partial(read_call, spawn.function, failed=error_of_run)
        super().__init__(scope, asked, live, read)
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
            # `take` has marked it as used; a child that was started may still be awaited once.
            self._is_taken = False
        return self

    def take(self, scope: Scope) -> Promise | None:
        """See `Pending.take`. A child that was started is not looked for in the journal again."""
        if self._started is None:
            return super().take(scope)
        self._check_taker(scope)
        self._mark_taken()
        return self._started


async def start_child(execution: Execution, spawn: Spawn, promise: Promise) -> Promise:
    """Commit a child's promise and its run; return the promise as it was recorded."""
    if execution.fence.run_id.count("#") >= MAX_DEPTH:
        raise Misuse(
            f"run {execution.fence.run_id!r} stands {MAX_DEPTH} runs deep and would spawn "
            f"{spawn.function.name!r} below it; children that spawn each other in a circle never "
            "end: call the function with ctx.call, or let the parent spawn it"
        )
    if execution.services.is_strange(spawn.function, spawn.queue):
        await _check_known(execution, spawn)
    promise = replace(promise, granted=spawn.grant())
    # One commit: a crash leaves no promise without its run, and no run without its promise.
    recorded = await execution.recorder.write(promise, child=spawn.new_run(execution, promise))
    # Only after the commit: a worker that looked earlier would find no such run.
    execution.services.on_wake(RunId(promise.id))
    return recorded


async def _check_known(execution: Execution, spawn: Spawn) -> None:
    """Pause the run if no worker knows the child's function: the parent would wait for ever.

    The workers' functions are read twice, since a worker that starts at this moment may not have
    registered its own yet.
    """
    function = spawn.function
    lane = lane_of(spawn.queue, function.name, function.version)
    for pause in (_RECHECK_S, None):
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
