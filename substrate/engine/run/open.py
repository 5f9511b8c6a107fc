"""The open promises of one claim: those without an outcome, those with an undo, and their calls.

Each promise is kept as the database has it, except after a write that was cut off: see
`Recorder.reread_open`. The function and the unwinding of a claim share this object, since the
unwinding closes what the function began.
"""

from typing import Any, Protocol

from substrate.values.ids import Key
from substrate.values.records import Blob, Promise


class OpenCall(Protocol):
    """One call of a step's function, as the execution sees it."""

    is_first: bool
    """Whether no earlier call for the same promise may have happened."""

    def withdraw(self) -> bool:
        """Prevent the call from beginning; return False if it has begun already."""

    async def over(self) -> Any:
        """Wait until the call has ended; return its outcome if it was cut off in a thread."""


class OpenPromises:
    """The promises of one claim that may have to be closed or undone."""

    def __init__(self, epoch: int, calls: dict[Key, list[OpenCall]] | None = None) -> None:
        self._epoch = epoch
        self.pending: dict[Key, Promise] = {}
        """Promises without an outcome."""
        self.undoable: dict[Key, Promise] = {}
        """Steps with an `undo`, settled or not."""
        self.calls: dict[Key, list[OpenCall]] = {} if calls is None else calls
        """This claim's calls for steps with an intent, while the step may be closed or undone."""
        self.cut_off: list[tuple[Promise, tuple[Blob, ...]]] = []
        """Steps that a cancel has cut off, with what they had used: written when all is closed."""

    def track(self, promise: Promise) -> None:
        """Register a promise: its row as it is now, or as a pending write may make it."""
        if not promise.is_settled:
            self.pending[promise.key] = promise
        elif self.pending:
            self.pending.pop(promise.key, None)
        if promise.undo is not None:
            self.undoable[promise.key] = promise
        elif self.undoable:
            self.undoable.pop(promise.key, None)

    def closed(self, key: Key) -> None:
        """Remove a promise that has an outcome now."""
        self.pending.pop(key, None)

    def forget(self, key: Key) -> None:
        """Remove a promise that has no row: the write that would create it was never committed."""
        self.pending.pop(key, None)
        self.undoable.pop(key, None)

    def never_began(self, promise: Promise) -> bool:
        """Whether the call of an intent certainly never began; if so, prevent it for good."""
        calls = self.calls.get(promise.key, [])
        # Only a first call of this claim proves that: an earlier claim, or an earlier call, may
        # have called without a trace in `calls`.
        is_ours = bool(calls) and promise.epoch == self._epoch and calls[-1].is_first
        return is_ours and calls[-1].withdraw()
