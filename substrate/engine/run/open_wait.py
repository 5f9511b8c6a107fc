"""One operation that wants signals: what it waits for, and what becomes of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from substrate.engine.run.idle import Wait
from substrate.values.ids import Place, place_of
from substrate.values.records import JsonText, Promise, ReceivedSignal

_NOT_LOOKED = -1
"""The wake version of who has not looked yet: no run stands at it, so it is not let go."""

Refusal = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a wait records of a value that fits, and whether it does as it stands."""

    value: JsonText
    is_exact: bool = True


Validate = Callable[[ReceivedSignal], Accepted | Refusal]


@dataclass(slots=True, eq=False)
class OpenWait:
    """Who wants signals of a name: a wait wants one, a poll all that has come.

    `judge` says what a wait makes of a value, or refuses it; a poll has none. A `silent` one
    that finds nothing leaves no row.
    """

    promise: Promise
    judge: Validate | None = None
    due_at: int | None = None
    is_silent: bool = False
    is_due: bool = False
    place: Place = field(init=False)
    wait: Wait = field(init=False)
    recorded: asyncio.Event = field(init=False)
    settled: asyncio.Future[Promise] = field(init=False)

    def __post_init__(self) -> None:
        self.place = place_of(self.promise.key)
        self.wait = Wait(_NOT_LOOKED, self.due_at)
        self.recorded = asyncio.Event()
        self.settled = asyncio.get_running_loop().create_future()
        if self.promise.seq:
            self.recorded.set()
