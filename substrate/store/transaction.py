"""A transactional step: the user's own statements and their promise, in one transaction.

What is the same for every store stands here; each store opens, checks and commits in its own way.

- The user's function runs in a thread of its own, so that the event loop goes on, and may be left
  behind there: once its transaction is closed, it is told so and reaches the database no more.
- The transaction is the store's to end. What would end or nest it is refused, and then nothing of
  the step is kept, whatever the function makes of the refusal.
- What the function raises, driver's errors included, is its own affair and is passed on as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from substrate.values.errors import Misuse
from substrate.values.records import Promise

TX_LIMIT = timedelta(seconds=2)
"""How long a transactional step may hold its locks."""


class Transaction(Protocol):
    """What a transactional step is given: the store's own database, inside one transaction."""

    def execute(self, statement: str, parameters: Any = ()) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows.

        Args:
            statement: SQL, with the database's own placeholders: ``?`` on SQLite, ``%s`` on
                Postgres.
            parameters: Their values.
        """
        ...


Call = Callable[[Transaction], Awaitable[Promise]]
"""What a transactional step does: it returns its promise as that is to be written."""


class OpenTransaction(Transaction, Protocol):
    """A transaction as the store sees it."""

    async def close(self, why: str) -> None:
        """Let nobody use it any more, and wait until no statement of it is under way."""
        ...


@dataclass(frozen=True, slots=True)
class Longest:
    """For how long a transaction may be open, in seconds, and why no longer."""

    seconds: float = TX_LIMIT.total_seconds()
    because: str = "the limit"

    @property
    def passed(self) -> str:
        """What is said of a transaction that was open for so long."""
        return (
            f"its transaction had been open for {self.seconds:g} s, {self.because}, and was rolled "
            "back; do the slow part in a step before"
        )


LIMIT = Longest()


async def answer(transaction: OpenTransaction, call: Call, longest: Longest = LIMIT) -> Promise:
    """Return what the call comes to; the transaction is closed when it ends, however it does.

    Raises what the call raises, and `TimeoutError` when it is open for `longest`: who is left
    behind then has no hold on the transaction any more, so nobody waits for it.
    """
    calling = asyncio.ensure_future(call(transaction))
    why = "its step was broken off"
    try:
        await asyncio.wait([calling], timeout=longest.seconds)
        why = "its step has ended" if calling.done() else longest.passed
    finally:
        if not calling.done():
            calling.cancel()
            calling.add_done_callback(_forget)
        await transaction.close(why)
    if why == longest.passed:
        raise TimeoutError(f"a transactional step took too long: {why}")
    return calling.result()


def closed(why: str) -> Misuse:
    """Return the error for who uses a transaction that is closed."""
    return Misuse(f"this transaction is closed: {why}")


def refused(statement: str, cure: str) -> Misuse:
    """Return the error for a statement that a transactional step must not contain."""
    return Misuse(f"a transactional step refuses {statement.strip()[:80]!r}; {cure}")


LEAVE_OUT = "its transaction begins and ends with the step, so leave the statement out"


def check_call(statement: object) -> None:
    """Raise `Misuse` for what is no SQL text, or is executed on the event loop."""
    if not isinstance(statement, str):
        raise Misuse(f"{statement!r} is no SQL text; pass a str, and its values as parameters")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise Misuse(
        "execute blocks, and so would stop the event loop; use a transaction in a plain `def`, "
        "which runs in a thread"
    )


def _forget(calling: asyncio.Future[Promise]) -> None:
    if not calling.cancelled():
        calling.exception()  # nobody is left to hear of it
