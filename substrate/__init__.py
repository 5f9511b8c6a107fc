"""Ostinato's substrate: durable functions over SQLite or Postgres. The public names."""

from typing import TYPE_CHECKING

from substrate.engine.client import Client, connect
from substrate.engine.context.child import Child
from substrate.engine.context.context import Context
from substrate.engine.context.decorator import durable
from substrate.engine.context.memory import Memory
from substrate.engine.context.pending import Pending
from substrate.engine.context.race import Winner
from substrate.engine.function.bound import Bound, bound
from substrate.engine.function.function import Durable
from substrate.engine.step.options import Done, NotDone
from substrate.engine.worker.options import WorkerOptions
from substrate.engine.worker.worker import Worker
from substrate.installed import version as _version
from substrate.store.transaction import Transaction
from substrate.values.errors import (
    Forgotten,
    GateChanged,
    GateClosed,
    GateNotFound,
    IdTaken,
    Interrupt,
    MemoryRefused,
    Misuse,
    ModelError,
    NoAnswer,
    NoteChanged,
    NotForgotten,
    OstinatoError,
    OutcomeUnknown,
    RunCancelled,
    RunDead,
    RunEnded,
    RunFailed,
    RunNotFound,
    RunPaused,
    RunTimedOut,
    SignalExpired,
    StepFailed,
    StoreError,
    recorded_error,
)
from substrate.values.records import Effect, Promise, PromiseState, Run, RunStatus
from substrate.values.retry import Retry
from substrate.values.secret import Secret, SecretMissing, secret_source

__all__ = [
    "Bound",
    "Child",
    "Client",
    "Context",
    "Done",
    "Durable",
    "Effect",
    "Forgotten",
    "GateChanged",
    "GateClosed",
    "GateNotFound",
    "IdTaken",
    "Interrupt",
    "Memory",
    "MemoryRefused",
    "Misuse",
    "ModelError",
    "NoAnswer",
    "NotDone",
    "NotForgotten",
    "NoteChanged",
    "OstinatoError",
    "OutcomeUnknown",
    "Pending",
    "Promise",
    "PromiseState",
    "Retry",
    "Run",
    "RunCancelled",
    "RunDead",
    "RunEnded",
    "RunFailed",
    "RunNotFound",
    "RunPaused",
    "RunStatus",
    "RunTimedOut",
    "Secret",
    "SecretMissing",
    "SignalExpired",
    "StepFailed",
    "StoreError",
    "Transaction",
    "Winner",
    "Worker",
    "WorkerOptions",
    "bound",
    "connect",
    "durable",
    "recorded_error",
    "secret_source",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Look the version up where somebody asks for it: importing reads no files."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _version()
