"""Gates: questions to people that a run waits for.

- A gate is a promise, and a row of `gates` that is written in the same commit. Whoever decides it
  settles both, with a worker or without.
- What was shown, and the policy of that day, are recorded when it is asked. Reminders and the end
  of its time are planned from that record, so new code changes no open gate.
- Silence decides nothing, unless the recorded policy says what it means.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from substrate.engine.run.execution import Execution
from substrate.engine.run.idle import Group, Wait
from substrate.engine.run.unreadable import misformed
from substrate.values.codec import decode, encode
from substrate.values.errors import Interrupt, Paused
from substrate.values.gates import PROMISE_STATES, GateState, NewGate
from substrate.values.records import JsonText, Promise, PromiseState

Tell = Callable[[Promise, int], Awaitable[None]]
"""Tells people of an open gate, for the n-th time, from 0."""


class NoUseLeft(Exception):
    """The rule that was to let a call through has no use left, or is gone. Nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """What is asked."""

    #: The gate's row.
    gate: NewGate
    #: What is shown: the tool and its arguments, or the question. JSON by names.
    shown: Mapping[str, Any]
    #: After how many ms people are told of it: at once, and to remind them.
    tell_after: tuple[int, ...] = (0,)
    #: After how many ms its time is over; None is never.
    timeout: int | None = None
    #: What silence means then: `expired` or `auto_approved`.
    on_timeout: GateState = GateState.EXPIRED


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """What became of a gate."""

    #: `approved`, `edited`, `denied`, `answered`, `expired`, `withdrawn` or `auto_approved`.
    state: GateState
    #: Who decided; None where nobody did.
    by: str | None = None
    #: Over which channel.
    via: str | None = None
    #: Why.
    reason: str | None = None
    #: The rule that decided.
    rule: str | None = None
    #: The arguments that a person has put in the place of the model's.
    arguments: Mapping[str, Any] | None = None
    #: The answer to a question.
    answer: Any = None
    #: What was shown, as it is recorded: not a part of the outcome.
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> JsonText:
        """The outcome as the value of the gate's promise: what is not there is left out."""
        given = {name: getattr(self, name) for name in ("by", "via", "reason", "rule", "arguments")}
        record = {name: value for name, value in given.items() if value is not None}
        if self.state is GateState.ANSWERED:
            record["answer"] = self.answer
        return JsonText(encode({"state": self.state.value, **record}))


async def await_gate(
    execution: Execution,
    recorded: Promise | None,
    new_promise: Promise,
    request: Callable[[], GateRequest],
    tell: Tell,
) -> Promise:
    """Return a gate's settled promise: asked now, or at an earlier claim.

    Raises `NoUseLeft`.
    """
    gate = recorded or await open_gate(execution, new_promise, request(), is_awaited=True)
    return gate if gate.is_settled else await follow_gate(execution, gate, tell)


async def follow_gate(execution: Execution, gate: Promise, tell: Tell) -> Promise:
    """Tell people of an open gate, and return its promise once somebody, or its time, settles it.

    It goes by the plan that the gate's row has, so a later claim goes on with it.
    """
    plan = _plan_of(gate)
    telling = _Telling(execution, partial(tell, gate))
    try:
        for n, moment in enumerate(plan["tell_at"]):
            if n and (settled := await execution.wakeups.wait_for_gate(gate, moment)):
                return settled
            following = plan["tell_at"][n + 1 : n + 2]
            # Of reminders that were missed the last is enough.
            if not following or following[0] > execution.now_ms:
                await telling.begin(n)
        if settled := await execution.wakeups.wait_for_gate(gate, plan["expires_at"]):
            return settled
    finally:
        await telling.end()
    return await _expire(execution, gate, GateState(plan["on_timeout"]))


class _Telling:
    """Tells people beside the wait, so that a decision need not wait for who is slow to be told."""

    def __init__(self, execution: Execution, tell: Callable[[int], Awaitable[None]]) -> None:
        self._execution = execution
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    async def begin(self, n: int) -> None:
        """Begin to tell people for the n-th time, once they have been told before."""
        if self._task is not None:
            await asyncio.wait([self._task])
        # Before the task's first turn: else the run might be let go in between.
        self._execution.idle.begin_work()
        self._task = asyncio.create_task(self._run(n))
        self._task.add_done_callback(lambda task: self._execution.idle.end_work())

    async def _run(self, n: int) -> None:
        with self._execution.lifecycle.tracked(), suppress(Interrupt):
            await self._tell(n)

    async def end(self) -> None:
        """Stop telling: what was decided need not be told any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()  # a fault of the kit's is raised, not lost


async def open_gate(
    execution: Execution, promise: Promise, request: GateRequest, *, is_awaited: bool = False
) -> Promise:
    """Commit a gate; return its promise, which a rule may have settled at once.

    Raises `NoUseLeft`; and `Suspend` where the code waits for it (`is_awaited`), nothing else is at
    work, and the worker keeps no run in memory that only waits: then the same commit lets it go.
    """
    now = promise.created_at
    expires_at = None if request.timeout is None else now + request.timeout
    plan = {
        "tell_at": [now + each for each in request.tell_after],
        "expires_at": expires_at,
        "on_timeout": request.on_timeout.value,
    }
    gate = replace(request.gate, expires_at=expires_at)
    asked = replace(promise, input=JsonText(encode({**request.shown, "plan": plan})))
    if gate.state is not GateState.PENDING:
        outcome = GateOutcome(gate.state, via="rule", rule=gate.rule)
        asked = replace(
            asked, state=PROMISE_STATES[gate.state], value=outcome.value, settled_at=now
        )
    # Who is to be told of it is told before the run is let go.
    only_waits = is_awaited and not asked.is_settled and not request.tell_after
    wait = Wait(child_of=Group(), due_at=expires_at) if only_waits else None
    opened = await execution.recorder.open_gate(asked, gate, wait)
    if opened is None:
        raise NoUseLeft
    return opened


async def _expire(execution: Execution, gate: Promise, state: GateState) -> Promise:
    outcome = GateOutcome(state, via="timeout")
    over = replace(
        gate,
        state=PROMISE_STATES[state],
        value=outcome.value,
        settled_at=execution.now_ms,
    )
    return await execution.recorder.settle_gate(over, state, "timeout")


def _plan_of(gate: Promise) -> Mapping[str, Any]:
    """Return when people are to be told, and when its time is over. Raises `Paused`."""
    plan = decode(gate.input or JsonText("{}")).get("plan")
    if not isinstance(plan, dict) or not {"tell_at", "expires_at", "on_timeout"} <= plan.keys():
        raise Paused(misformed(gate, "input"))
    return plan


def read_gate(promise: Promise) -> GateOutcome:
    """Return the outcome that a settled gate's promise records."""
    if promise.state is PromiseState.CANCELLED or promise.value is None:
        return GateOutcome(GateState.WITHDRAWN)
    record, shown = decode(promise.value), decode(promise.input or JsonText("{}"))
    return GateOutcome(**{**record, "state": GateState(record["state"]), "shown": shown})
