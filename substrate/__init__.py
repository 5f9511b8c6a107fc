"""Ostinato's substrate: durable functions over SQLite or Postgres. The public names."""

from substrate.engine.client import Client, connect
from substrate.engine.context import Context
from substrate.engine.function import Durable, durable
from substrate.engine.pending import Pending
from substrate.engine.worker import Limits, Worker
from substrate.values.errors import (
    IdTaken,
    Interrupt,
    Misuse,
    ModelError,
    OstinatoError,
    OutcomeUnknown,
    RunDead,
    RunEnded,
    RunFailed,
    RunNotFound,
    RunPaused,
    SignalExpired,
    StepFailed,
    StoreError,
    recorded_error,
)
from substrate.values.records import Effect, Promise, PromiseState, Run, RunStatus
from substrate.values.retry import Retry

__all__ = [
    "Client",
    "Context",
    "Durable",
    "Effect",
    "IdTaken",
    "Interrupt",
    "Limits",
    "Misuse",
    "ModelError",
    "OstinatoError",
    "OutcomeUnknown",
    "Pending",
    "Promise",
    "PromiseState",
    "Retry",
    "Run",
    "RunDead",
    "RunEnded",
    "RunFailed",
    "RunNotFound",
    "RunPaused",
    "RunStatus",
    "SignalExpired",
    "StepFailed",
    "StoreError",
    "Worker",
    "connect",
    "durable",
    "recorded_error",
]
