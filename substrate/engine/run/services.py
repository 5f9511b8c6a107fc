"""What all executions of a worker share: database, clock, threads, functions and callbacks."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from substrate.engine.function.function import Durable
from substrate.engine.function.registry import Registry
from substrate.engine.run.committer import Committer
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.run.threads import Threads
from substrate.store.store import Store
from substrate.values.clock import Clock
from substrate.values.ids import DEFAULT_QUEUE, PromiseId, RunId
from substrate.values.records import Effect

Listener = Callable[[str, dict[str, Any]], None]
"""Called with each live event: the run's id, and the event. May be called in a step's thread."""


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A call of a step's function that is about to be made."""

    #: The step's promise.
    promise: PromiseId
    #: The step's name.
    name: str
    #: What a crash in its middle means.
    effect: Effect
    #: The key that the function is given, if it takes one.
    idempotency_key: str | None


Witness = Callable[[CallBegins], None]
"""Called right before each call, on the loop or in the call's own thread."""

STEP_RETRY = "retry"
"""The engine's own live event: ``{"event": "retry", "key": …, "attempt": …}``."""

log = logging.getLogger("ostinato")


def ignore_event(run_id: str, event: dict[str, Any]) -> None:
    """Do nothing with a live event: the default listener."""


def _ignore(*arguments: object) -> None:
    """Do nothing: a single run, driven alone, has no worker to notify."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every execution of a worker shares."""

    #: The open store.
    store: Store
    #: Combines the writes of all runs into group commits.
    committer: Committer
    #: The database's time, or a test's own clock.
    clock: Clock
    #: Threads for steps that are plain functions.
    threads: Threads
    #: Receives live events.
    on_event: Listener
    #: Returns whether the worker's lease holds; called in any thread.
    lease_holds: Callable[[], bool]
    #: How long a lease is, in seconds.
    lease_s: float
    #: After how many seconds an idle run is suspended; a longer wait for an attempt is recorded.
    warm_s: float
    #: Whether a run that only waits is suspended without a pause.
    lets_go_at_once: bool = False
    #: The functions that the worker knows, by name and version.
    functions: Registry | None = None
    #: The queue whose runs the worker claims.
    queue: str = DEFAULT_QUEUE
    #: Called when there may be work for a run that this worker may drive.
    on_wake: Callable[[RunId], None] = _ignore
    #: Called when a run has become idle.
    on_idle: Callable[[], None] = _ignore
    #: Told of each call of a step right before it is made; None: nobody counts.
    on_call: Witness | None = None
    #: Functions of the kit's own, which need no lane: undos of what it writes itself.
    own: Mapping[tuple[str, int], Durable[..., Any]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    #: The log for trouble with the database.
    troubles: TroubleLog = field(default_factory=TroubleLog)

    def recognise(self, function: Durable[..., Any]) -> None:
        """Let a new definition replace the known function of its name; see `Registry`."""
        if self.functions is not None and self.functions.recognise(function):
            log.info("%r is defined anew, and so driven from here on", function.name)

    def function(self, name: str, version: int) -> Durable[..., Any] | None:
        """Return the function of this name and version, if the worker knows it."""
        key = (name, version)
        if key in self.own:
            return self.own[key]
        return None if self.functions is None else self.functions.get(key)

    def is_strange(self, function: Durable[..., Any], queue: str) -> bool:
        """Whether a function of this worker's own queue is unknown to this worker.

        Always False for another queue: this worker cannot know what workers that one will have.
        """
        if self.functions is None or queue != self.queue:
            return False
        return self.function(function.name, function.version) is None
