"""`ctx.hear`: reads the inbox without waiting, and writes a row only if a signal was there.

So a loop can ask on each turn for signals that are hardly ever sent, and its journal stays short.

A replay has to know whether a read without a row found nothing, or was never made. Rows are written
in order: if the scope has a row that is newer than all that the task has seen, the code got beyond
this read, which therefore found nothing. Otherwise the read is made now.
"""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from substrate.engine.context.pending import Pending
from substrate.engine.context.receive import hear_signals
from substrate.engine.context.scope import Scope
from substrate.engine.run.mismatch import RequestedCall
from substrate.values.codec import decode
from substrate.values.records import JsonText, Promise, PromiseState

HEARD = "heard"
"""The name in the keys of these reads, whatever the name of the signal is."""


class Hearing(Pending[list[Any]]):
    """One read of the signals of a name that have come since the last one."""

    __slots__ = ("_promise",)

    leaves_a_row = False

    def __init__(self, scope: Scope, asked: RequestedCall, new_promise: Promise) -> None:
        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return hear_signals(scope.execution, new_promise)

        super().__init__(
            scope, asked, live, lambda promise: list(decode(promise.value or JsonText("[]")))
        )
        self._promise = new_promise

    def take(self, scope: Scope) -> Promise | None:
        """See `Pending.take`. Return an empty list if a later row shows that nothing was found."""
        found = super().take(scope)
        execution, task_state = scope.execution, scope.task_state
        execution.heard.add(self._promise.name)
        if found is not None or task_state.is_live:
            return found
        if execution.journal.newest_in(scope.key) <= task_state.seq:
            return None
        return replace(self._promise, state=PromiseState.RESOLVED, value=JsonText("[]"))
