"""What every execution of a worker shares: its ways to the database, to time, to threads."""

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

log = logging.getLogger("ostinato")


def tell_nobody(run_id: str, event: dict[str, Any]) -> None:
    """Do nothing with a live event: the listener of who has none."""


def _nobody_else(*who: object) -> None:
    """Do nothing: who drives one run alone has nobody to tell."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every execution of a worker shares.

    `functions` are those that the worker knows, by name and version. A run that waits is let go
    after `warm_s` seconds, and a wait between two attempts that is longer is recorded. `on_wake` is
    called when something was done for a run, `on_idle` when one only waits. Trouble with the
    database goes to `troubles`.
    """

    store: Store
    committer: Committer
    clock: Clock
    threads: Threads
    on_event: Listener
    lease_holds: Callable[[], bool]
    lease_s: float = 10.0
    warm_s: float = 20.0
    functions: Registry | None = None
    queue: str = "default"
    on_wake: Callable[[RunId], None] = _nobody_else
    on_idle: Callable[[], None] = _nobody_else
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
