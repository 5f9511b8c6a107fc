"""What every execution of a worker shares: its ways to the database, to time, to threads."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from substrate.engine.committer import Committer
from substrate.engine.function import Durable
from substrate.engine.threads import Threads
from substrate.store.protocol import Store
from substrate.values.clock import Clock
from substrate.values.ids import RunId

if TYPE_CHECKING:
    from substrate.engine.execution import Execution

Listener = Callable[[str, dict[str, Any]], None]
"""Is told live events: the run's id, and the event. A step's thread may tell it, too."""

log = logging.getLogger("ostinato")


def tell_nobody(run_id: str, event: dict[str, Any]) -> None:
    """Do nothing with a live event: the listener of who has none."""


def _nobody_else(*who: object) -> None:
    """Do nothing: who drives one run alone has nobody to tell."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every execution of a worker shares.

    `functions` are those that the worker knows, by name and version. A run that waits is let go
    after `warm_s` seconds, and a wait between two attempts that is longer is recorded. `woken` is
    told that something was done for a run, `rests` that one waits, `succeeded` that an execution
    has another in its place.
    """

    store: Store
    committer: Committer
    clock: Clock
    threads: Threads
    listener: Listener
    lease_holds: Callable[[], bool]
    lease_s: float = 10.0
    warm_s: float = 20.0
    functions: Mapping[tuple[str, int], Durable[..., Any]] | None = None
    woken: Callable[[RunId], None] = _nobody_else
    rests: Callable[[], None] = _nobody_else
    succeeded: "Callable[[Execution, Execution], None]" = _nobody_else

    def function(self, name: str, version: int) -> Durable[..., Any] | None:
        """Return the function of this name and version, if the worker knows it."""
        return (self.functions or {}).get((name, version))
