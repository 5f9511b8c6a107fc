"""One open operation that wants signals: a wait or a poll, its row, its time and its outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from substrate.engine.run.idle import Wait
from substrate.values.ids import Place, place_of
from substrate.values.records import JsonText, Promise, ReceivedSignal

_NOT_LOOKED = -1
"""The wake version of a wait that has not looked yet: no run has it, so no suspend matches."""

Refusal = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A value that a wait accepts, as it is recorded."""

    #: The value, converted to the type of the wait.
    value: JsonText
    #: Whether the conversion left the value as it was sent.
    is_exact: bool = True


Validate = Callable[[ReceivedSignal], Accepted | Refusal]


@dataclass(slots=True, eq=False)
class OpenWait:
    """An operation that wants signals of one name: a wait takes one, a poll takes all there are."""

    #: Its row, as last written or read.
    promise: Promise
    #: Converts or refuses a value; None for a poll.
    validate: Validate | None = None
    #: When its time is over, in ms.
    due_at: int | None = None
    #: Whether it writes no row if it finds nothing.
    is_silent: bool = False
    #: Whether its time is over, so that the next pass expires it.
    is_due: bool = False
    #: Its place in the order of keys.
    place: Place = field(init=False)
    #: Its entry in the run's `IdleTracker`.
    wait: Wait = field(init=False)
    #: Set when its row is in the database.
    recorded: asyncio.Event = field(init=False)
    #: Done with its row when that is settled.
    settled: asyncio.Future[Promise] = field(init=False)

    def __post_init__(self) -> None:
        self.place = place_of(self.promise.key)
        self.wait = Wait(_NOT_LOOKED, self.due_at)
        self.recorded = asyncio.Event()
        self.settled = asyncio.get_running_loop().create_future()
        if self.promise.seq:
            self.recorded.set()
