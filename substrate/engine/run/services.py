"""What every execution of a worker shares: the database, the time, threads, and who is told."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from substrate.engine.function.function import Durable
from substrate.engine.function.registry import Registry
from substrate.engine.run.committer import Committer
from substrate.engine.run.log_once import TroubleLog
from substrate.engine.run.threads import Threads
from substrate.store.store import Store
from substrate.values.clock import Clock
from substrate.values.ids import RunId

Listener = Callable[[str, dict[str, Any]], None]
"""Is told live events: the run's id, and the event. A step's thread may tell it, too."""

STEP_RETRY = "retry"
"""The engine's own live event: ``{"event": "retry", "key": …, "attempt": …}``."""

log = logging.getLogger("ostinato")


def tell_nobody(run_id: str, event: dict[str, Any]) -> None:
    """Do nothing with a live event: the listener of who has none."""


def _nobody_else(*who: object) -> None:
    """Do nothing: who drives one run alone has nobody to tell."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every execution of a worker shares."""

    #: The open store.
    store: Store
    #: What turns the writes of all runs into group commits.
    committer: Committer
    #: The time of the database, or a test's own.
    clock: Clock
    #: Threads for steps that are plain functions.
    threads: Threads
    #: Is given live events.
    on_event: Listener
    #: Whether the worker's lease holds; asked in any thread.
    lease_holds: Callable[[], bool]
    #: How long a lease is, in seconds.
    lease_s: float = 10.0
    #: After how many seconds an idle run is suspended; a longer wait for an attempt is recorded.
    warm_s: float = 20.0
    #: The functions that the worker knows, by name and version.
    functions: Registry | None = None
    #: Whose runs the worker claims.
    queue: str = "default"
    #: Is called when something was done for a run, which may be driven here.
    on_wake: Callable[[RunId], None] = _nobody_else
    #: Is called when a run has become idle.
    on_idle: Callable[[], None] = _nobody_else
    #: Where trouble with the database is told.
    troubles: TroubleLog = field(default_factory=TroubleLog)

    def recognise(self, function: Durable[..., Any]) -> None:
        """See that a function is the one that is known here, or takes its place; see `Registry`."""
        if self.functions is not None and self.functions.recognise(function):
            log.info("%r is defined anew, and so driven from here on", function.name)

    def function(self, name: str, version: int) -> Durable[..., Any] | None:
        """Return the function of this name and version, if the worker knows it."""
        return None if self.functions is None else self.functions.get((name, version))

    def is_strange(self, function: Durable[..., Any], queue: str) -> bool:
        """Whether this worker's queue is to drive a function, and the worker does not know it.

        Of other queues it is not for this worker to say: theirs may come later.
        """
        if self.functions is None or queue != self.queue:
            return False
        return self.function(function.name, function.version) is None
