"""Hearing: a look into the inbox that leaves a row only when something was there.

So a loop may look at each turn for what is hardly ever sent. A replay tells a look that found
nothing from one that was never made by what was recorded after it: where the scope has later rows
and none of this one, nothing was there.
"""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from substrate.engine.context.pending import Pending
from substrate.engine.context.receive import hear_signals
from substrate.engine.context.scope import Scope
from substrate.engine.run.journal import Expected
from substrate.values.codec import decode
from substrate.values.records import JsonText, Promise, PromiseState

HEARD = "heard"
"""The name in the keys of such looks, whatever signals they look for."""


class Hearing(Pending[list[Any]]):
    """A look for the signals of a name that have come since."""

    __slots__ = ("_promise",)

    leaves_a_row = False

    def __init__(self, scope: Scope, asked: Expected, new_promise: Promise) -> None:
        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return hear_signals(scope.execution, new_promise)

        super().__init__(
            scope, asked, live, lambda promise: list(decode(promise.value or JsonText("[]")))
        )
        self._promise = new_promise

    def take(self, scope: Scope) -> Promise | None:
        """See `Pending.take`. What was recorded after this look says that it found nothing."""
        found = super().take(scope)
        execution, task_state = scope.execution, scope.task_state
        execution.heard.add(self._promise.name)
        if found is not None or task_state.is_live:
            return found
        if execution.journal.newest_in(scope.key) <= task_state.seq:
            return None
        return replace(self._promise, state=PromiseState.RESOLVED, value=JsonText("[]"))
