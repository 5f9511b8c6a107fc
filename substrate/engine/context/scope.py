"""A scope: hands out the keys of one context's operations, and knows the task that may use it.

An operation takes its key when it is called, not when it runs. The key is the scope's own key, the
operation's name, and how often this scope has used that name. So a replay gives the same keys, in
whatever order the operations run.
"""

from substrate.engine.context.task_state import TaskState
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import RequestedCall
from substrate.values.ids import Key, RunId, check_name, promise_id
from substrate.values.records import Promise, PromiseState


class Scope:
    """The part of a context that its operations use."""

    __slots__ = ("_ordinals", "execution", "key", "task_state")

    def __init__(self, execution: Execution, task_state: TaskState, key: str = "") -> None:
        self.execution: Execution = execution
        self.task_state: TaskState = task_state
        self.key: str = key
        """What all keys in it begin with, before a ``/``; ``""`` for that of a first generation."""
        self._ordinals: dict[str, int] = {}

    @property
    def run_id(self) -> RunId:
        """The id of the run."""
        return self.execution.fence.run_id

    def key_ahead(self, name: str) -> Key:
        """Return the key that the next operation of this name will have."""
        ordinal = self._ordinals.get(name, 0)
        return Key(f"{self.key}/{name}.{ordinal}" if self.key else f"{name}.{ordinal}")

    def next_key(self, name: str) -> Key:
        """Take the key of the next operation of this name."""
        key = self.key_ahead(name)
        self.task_state.check_use(key)
        if name not in self._ordinals:  # checked on first use only: loops repeat a name
            check_name(name)
        self._ordinals[name] = self._ordinals.get(name, 0) + 1
        return key

    def return_key(self, name: str) -> None:
        """Give back the last key taken under a name: the next operation of that name gets it."""
        self._ordinals[name] -= 1

    def new_promise(self, expected: RequestedCall) -> Promise:
        """Return a new pending promise for the operation that the code asks for."""
        return Promise(
            id=promise_id(self.run_id, expected.key),
            run_id=self.run_id,
            key=expected.key,
            kind=expected.kind,
            name=expected.name,
            state=PromiseState.PENDING,
            created_at=self.execution.now_ms,
            began=self.execution.recorder.known_seq,
            fingerprint=expected.fingerprint,
            input=expected.input,
        )
