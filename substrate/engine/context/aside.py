"""Gates beside the code: asked without a wait, looked at now and then, waited for with a signal.

- What became of such a gate is no outcome that the code has seen until it looks, live or on a
  replay: a decision of this week must not move the clock of what was done last week.
- A look that finds nothing leaves no row; who looks records what it has found.
- A wait for a signal is given up for a gate that is settled. Its row is cancelled then, so a replay
  knows which came first.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from substrate.engine.context.gate import GateRequest, Tell, follow_gate, open_gate
from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Wait
from substrate.engine.run.open_wait import Accepted, OpenWait
from substrate.engine.run.receiver import Released, receiver_of
from substrate.values.codec import decode, encode
from substrate.values.gates import GateState
from substrate.values.ids import Key, promise_id
from substrate.values.records import JsonText, Promise, PromiseState, ReceivedSignal

_NO_END = JsonText(encode({"due_at": None}))


async def ask_aside(
    execution: Execution, promise: Promise, request: Callable[[], GateRequest], tell: Tell
) -> Promise:
    """Commit a gate, and follow it beside the code; return its promise. Raises `NoUseLeft`."""
    gate = await open_gate(execution, promise, request())
    follow_aside(execution, gate, tell)
    return gate


def follow_aside(execution: Execution, gate: Promise, tell: Tell) -> None:
    """Follow an open gate beside the code: people are told, and its time ends."""
    # Whatever is done for it comes between the rows of the code, and tells nothing of that.
    execution.journal.leave_out([gate.key])
    if not gate.is_settled:
        execution.aside.follow(gate.key, partial(follow_gate, execution, gate, tell))


async def settled_aside(execution: Execution, keys: Sequence[Key]) -> Mapping[Key, Promise]:
    """Return those of these gates that are settled by now."""
    execution.aside.check()
    ids = [promise_id(execution.fence.run_id, key) for key in keys]
    found = await execution.access.settled_of(ids)
    return {each.key: each for each in found.values()}


async def take_up(execution: Execution, gate: Promise) -> None:
    """Follow a settled gate no more; who asks for its key again is given its outcome."""
    await execution.aside.leave(gate.key)
    execution.open.closed(gate.key)
    execution.journal.put_back(gate)


async def withdraw(execution: Execution, gate: Promise) -> Promise:
    """Close a gate that nobody has decided; return it as it stands, for somebody may be first."""
    await execution.aside.leave(gate.key)
    over = replace(gate, state=PromiseState.CANCELLED, settled_at=execution.now_ms)
    return await execution.recorder.settle_gate(over, GateState.WITHDRAWN, None)


class Mark:
    """How the run stood before a look: `wait_for_news` waits only where nothing came since."""

    __slots__ = ("rung", "wake_version")

    def __init__(self, execution: Execution) -> None:
        self.rung: int = execution.aside.rung
        self.wake_version: int = execution.wakeups.wake_version


async def wait_for_news(execution: Execution, mark: Mark) -> None:
    """Return when a gate is settled, or when anything else has come for the run."""
    wakeups, wait = execution.wakeups, Wait(mark.wake_version)
    if (mark.rung, mark.wake_version) != (execution.aside.rung, wakeups.wake_version):
        return
    alarm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def ring() -> None:
        execution.idle.resume(wait)
        if not alarm.done():
            alarm.set_result(None)

    wakeups.alarms.add(alarm)
    try:
        with execution.aside.bell(ring):
            async with wakeups.waiting(wait):
                await alarm
    finally:
        wakeups.alarms.discard(alarm)
    execution.aside.check()


async def await_signal_beside(
    execution: Execution, recorded: Promise | None, new_promise: Promise, gates: Sequence[Key]
) -> Promise:
    """Return the promise, resolved with a signal, or cancelled where a gate was settled first."""
    waiting = recorded or replace(new_promise, input=_NO_END)
    rung = execution.aside.rung
    if gates and await settled_aside(execution, gates):
        return await _give_up(execution, waiting)
    receiver = receiver_of(execution, waiting.name)
    waiter = OpenWait(waiting, _as_it_is)
    if execution.aside.rung == rung:
        with execution.aside.bell(partial(receiver.release, waiter)), suppress(Released):
            return await receiver.settle(waiter)
        execution.aside.check()
    row = waiter.promise
    return row if row.is_settled else await _give_up(execution, row)


async def _give_up(execution: Execution, waiting: Promise) -> Promise:
    over = replace(waiting, state=PromiseState.CANCELLED, settled_at=execution.now_ms)
    return await execution.recorder.write(over)


def _as_it_is(received: ReceivedSignal) -> Accepted:
    return Accepted(received.value)


def read_signals(promise: Promise) -> list[Any]:
    """Return the value that came; none where a gate was settled first."""
    if promise.state is not PromiseState.RESOLVED:
        return []
    return [decode(promise.value or JsonText("null"))]
