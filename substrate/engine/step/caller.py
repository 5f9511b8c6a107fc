"""Makes the calls of one step, in this order: a thread, the intent, the call.

A call never queues for a thread after its intent is committed, so a crash leaves no more calls in
doubt than there are threads. A call that was too late to begin does not count as an attempt: it
gets a new intent.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from substrate.engine.failure import Raised
from substrate.engine.function.signature import is_async
from substrate.engine.run.execution import Execution
from substrate.engine.run.user_code import capture
from substrate.engine.step.invoke import Call, CallDeadline, NotBegun, free_slot
from substrate.engine.step.row import StepRow
from substrate.engine.step.step import LONGEST_CALL, Step
from substrate.values.records import Effect, Promise

_CHANCES = 3
"""How many calls in a row may be too late to begin before their step is rejected."""


class Caller:
    """Calls a step's function, or its `reconcile`, for one execution of the step."""

    __slots__ = ("_execution", "_is_recorded", "_row", "_step", "call")

    def __init__(
        self, execution: Execution, step: Step, row: StepRow, *, is_recorded: bool
    ) -> None:
        self._execution = execution
        self._step = step
        self._row = row
        self._is_recorded = is_recorded
        self.call: Call | None = None
        """The last call of the function."""

    @property
    def longest_s(self) -> float:
        """How many seconds a call with an intent may last."""
        return LONGEST_CALL if self._step.limit is None else self._step.limit

    async def attempt(self) -> Any:
        """Call the function once; return its result, or `Raised`.

        Returns the settled promise instead if somebody else settled the step meanwhile.
        """
        step, check_holds = self._step, self._execution.lifecycle.check_holds
        for _ in range(_CHANCES):
            call = self.call = await self._next_call(
                step.call, wants_key=step.wants_key, is_told=True
            )
            try:
                if step.has_intent and (intent := await self._announce(call)).is_settled:
                    return intent
                outcome = await capture(call.make(step.limit, self._row.running), check_holds)
            finally:
                call.leave()
            if not is_not_begun(outcome):
                return outcome
            check_holds()  # if the lease is the reason, the run continues elsewhere
        message = f"{step.name!r} could not begin before its timeout was over, {_CHANCES} times"
        return Raised(NotBegun(f"{message}; nothing was called. Give it a longer one"))

    async def ask(self, reconcile: Callable[..., Any], *, wants_key: bool) -> Any:
        """Call `reconcile`, which needs no intent; return its answer, or `Raised`."""
        call = await self._next_call(reconcile, wants_key=wants_key)
        try:
            check_holds = self._execution.lifecycle.check_holds
            answer = await capture(call.make(self._step.limit), check_holds)
        finally:
            call.leave()
        if is_not_begun(answer):
            self._execution.lifecycle.check_holds()
            return await self.ask(reconcile, wants_key=wants_key)
        return answer

    async def _announce(self, call: Call) -> Promise:
        """Commit the intent of a call, and register the call for closing and undoing the step."""
        call.deadline = CallDeadline(self._execution, self.longest_s)
        calls = self._execution.open.calls.setdefault(self._row.asked.key, [])
        if self._step.undo is None:
            calls.clear()  # the earlier calls certainly did not happen
        calls.append(call)
        return await self._row.write_intent(call.under_way)

    async def _next_call(
        self, function: Callable[..., Any], *, wants_key: bool, is_told: bool = False
    ) -> Call:
        """Prepare a call of a function, with a thread if the function is not async."""
        step = self._step
        slot = None if is_async(function) else await free_slot(self._execution)
        if wants_key:
            function = partial(function, idempotency_key=self._row.idempotency_key)
        if is_told:
            function = self._row.told(function)
        is_first = step.effect is Effect.ONCE or not (self._is_recorded or self._row.is_in_doubt)
        return Call(self._execution, step.name, function, slot, is_first=is_first)


def is_not_begun(outcome: object) -> bool:
    """Whether a call was too late to begin, so that it certainly did not happen."""
    return isinstance(outcome, Raised) and isinstance(outcome.error, NotBegun)
