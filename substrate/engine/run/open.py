"""What a run has begun and not closed: its pending promises, what could be undone, its calls.

It stands as the database has it, but for writes that were cut off: see `Recorder.reread_open`. The
function and the unwinding of one claim share it, since the second closes what the first has begun.
"""

from typing import Any, Protocol

from substrate.values.ids import Key
from substrate.values.records import Promise


class OpenCall(Protocol):
    """A call of a step's function, as far as the execution knows one."""

    is_first: bool
    """Whether nothing was called for its promise before that may have happened."""

    def withdraw(self) -> bool:
        """Keep the call from beginning, and return whether it never began."""

    async def over(self) -> Any:
        """Return when it is over, with its own outcome where it was cut off in a thread."""


class OpenPromises:
    """The promises of one claim on a run that somebody may have to close, or to undo."""

    def __init__(self, epoch: int, calls: dict[Key, list[OpenCall]] | None = None) -> None:
        self._epoch = epoch
        self.pending: dict[Key, Promise] = {}
        """What was begun and has no outcome yet."""
        self.undoable: dict[Key, Promise] = {}
        """What could be undone: steps with an `undo`, settled or not."""
        self.calls: dict[Key, list[OpenCall]] = {} if calls is None else calls
        """The calls made here for steps with an intent, as long as that matters."""

    def track(self, promise: Promise) -> None:
        """Take note of a promise as it stands now, or may stand any moment."""
        if not promise.is_settled:
            self.pending[promise.key] = promise
        elif self.pending:
            self.pending.pop(promise.key, None)
        if promise.undo is not None:
            self.undoable[promise.key] = promise
        elif self.undoable:
            self.undoable.pop(promise.key, None)

    def closed(self, key: Key) -> None:
        """Take note that a promise is open no more."""
        self.pending.pop(key, None)

    def forget(self, key: Key) -> None:
        """Take note that there is no such row: the write that was to make it never came."""
        self.pending.pop(key, None)
        self.undoable.pop(key, None)

    def never_began(self, promise: Promise) -> bool:
        """Whether it is known of an intent that nothing was called, and see that nothing is."""
        calls = self.calls.get(promise.key, [])
        # Of an intent of an earlier claim, or of a second call, the calls at hand tell nothing.
        is_ours = bool(calls) and promise.epoch == self._epoch and calls[-1].is_first
        return is_ours and calls[-1].withdraw()
