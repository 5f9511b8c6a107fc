"""No wait for the database lasts for ever: a connection that does not answer in time is cut.

A peer that has gone is noticed by the kernel. One that is there and never answers is not: a frozen
pooler, a load balancer that lost its state, a backend that hangs. Cancelling the wait would
not do, since the driver first asks that same peer to cancel. So the socket is shut, which ends
every wait on it at once, and needs nobody at the other end.

A lock that somebody holds is no silence: there the server itself answers first, since a direct
connection asks it to give a statement up after `STATEMENT_WAIT` (`open_connection`).
"""

import asyncio
import os
import select
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus

from substrate.values.errors import StoreUnreachable

AnyConnection = psycopg.AsyncConnection[Any]

ANSWER_WAIT = 30.0
"""How many seconds the database may take for one piece of work."""

STATEMENT_WAIT = 20.0
"""After how many seconds the server itself gives a statement up, whatever that waits for."""


class Unanswered(StoreUnreachable):
    """The database has not answered in time."""


def is_usable(connection: AnyConnection) -> bool:
    """Whether the connection is idle, and the server has not closed it meanwhile."""
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)  # nothing was asked, so what there is to read is a farewell


def cut(connection: AnyConnection) -> None:
    """Shut the connection's socket: whoever waits for an answer gets an error now."""
    with (
        suppress(OSError, psycopg.Error),  # it is closed already
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


class Deadline:
    """A block that a connection has so many seconds for; then it is cut.

    The error that the block ends with is then `Unanswered`, whatever the driver made of it.
    """

    __slots__ = ("_connection", "_seconds", "_timer", "has_passed")

    def __init__(self, connection: AnyConnection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self.has_passed: bool = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._pass)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self.has_passed and isinstance(error, psycopg.Error):
            raise Unanswered(
                f"Postgres has not answered for {self._seconds:g} s on a connection that is open;"
                " it was given up. Check the server, and the pooler or proxy before it"
            ) from error

    def _pass(self) -> None:
        self.has_passed = True
        cut(self._connection)
