"""One operation that wants signals: what it waits for, and what becomes of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from substrate.engine.run.idle import Wait
from substrate.values.ids import Place, place_of
from substrate.values.records import JsonText, Promise, ReceivedSignal

_NOT_LOOKED = -1
"""The wake version of a wait that has not looked yet: no run has it, so none is suspended by it."""

Refusal = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a wait records of a value that it accepts."""

    #: The value as its type makes it.
    value: JsonText
    #: Whether that is the value as it was sent.
    is_exact: bool = True


Validate = Callable[[ReceivedSignal], Accepted | Refusal]


@dataclass(slots=True, eq=False)
class OpenWait:
    """An operation that wants signals of a name: a wait wants one, a poll all that have come."""

    #: Its row, as it stands.
    promise: Promise
    #: What a wait makes of a value, or why it refuses it; a poll has none.
    judge: Validate | None = None
    #: Until when it waits, in ms.
    due_at: int | None = None
    #: Whether it leaves no row where it finds nothing.
    is_silent: bool = False
    #: Whether its time has come, so that the next pass decides on it.
    is_due: bool = False
    #: Its place in the order of keys.
    place: Place = field(init=False)
    #: What the run's idleness knows of it.
    wait: Wait = field(init=False)
    #: Set when its row is in the database.
    recorded: asyncio.Event = field(init=False)
    #: Its row, when it is settled.
    settled: asyncio.Future[Promise] = field(init=False)

    def __post_init__(self) -> None:
        self.place = place_of(self.promise.key)
        self.wait = Wait(_NOT_LOOKED, self.due_at)
        self.recorded = asyncio.Event()
        self.settled = asyncio.get_running_loop().create_future()
        if self.promise.seq:
            self.recorded.set()
