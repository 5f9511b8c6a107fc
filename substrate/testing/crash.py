"""A process that ends at any commit: `kill_at_commit` wraps a store so that it does.

It ends at a chosen commit boundary, either *before* the COMMIT is sent, or *after* it has returned
and before the caller goes on. Boundaries are the store's writes, counted from 1: all of its methods
but `READS`. Of `Store.memory` it is each transaction, since several writes go into one, and what a
write decides must not be in two. Claims, wake-ups and the taking back of runs are made at each
tick; they are boundaries where they find something.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from functools import partial
from inspect import iscoroutinefunction
from threading import Lock
from typing import Any, TypeVar, cast

from substrate.store.backend import HeartbeatConnection
from substrate.store.ledger import MemoryWrite
from substrate.store.store import Store
from substrate.values.clock import Clock
from substrate.values.ids import RunId
from substrate.values.records import Checkpoint, Claim, Fence, NewRun, Owner, RunStatus

T = TypeVar("T")

READS = frozenset(
    {
        "get",
        "list",
        "sketches",
        "open_promises",
        "open_rows",
        "asked",
        "promise",
        "journal",
        "usages",
        "has_open_runs",
        "blob",
        "inbox",
        "count_ready",
        "count_ready_below",
        "owned_runs",
        "next_due_at",
        "settled_outside",
        "promises",
        "read_back",
        "rate_limits",
        "known_lanes",
        "count_workers",
        "lanes_with_ready",
        "ready_lanes",
        "close",
    }
)
"""The methods of a store that commit nothing. Whatever else there is, or will be, is a boundary."""

PART_READS = {
    "gates": frozenset({"get", "pending", "of_tree", "by_code", "rules"}),
    "forgetting": frozenset({"roots", "open_runs", "promises", "beside", "unfinished"}),
}
"""The same for the parts of a store: `Store.gates` and `Store.forgetting`."""


class Side(StrEnum):
    """On which side of a commit the process ends."""

    #: Before COMMIT is sent: nothing of it is there.
    BEFORE = "before"
    #: After COMMIT has returned, before the caller goes on.
    AFTER = "after"


def kill_this_process() -> None:
    """End this process as a crash does: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_commit(
    store: Store,
    boundary: int,
    side: Side,
    kill: Callable[[], None] = kill_this_process,
    *,
    with_heartbeats: bool = False,
) -> Store:
    """Return the store as one whose process ends at a chosen commit.

    The commits of a run come in one order, so a test can count through them: run your function once
    for each, each time in a process of its own, and count outside what it did.

    Args:
        store: The store, made by `substrate.store.connect.open_store`.
        boundary: The number of the commit, from 1; 0 is never.
        side: On which side of it.
        kill: What happens there: this process is killed, if not told otherwise.
        with_heartbeats: Whether the worker's heartbeats count, which come with time.
    """
    return cast(Store, KillingStore(store, boundary, side, kill, with_heartbeats=with_heartbeats))


class KillingStore:
    """A store like another, until it strikes.

    `reached` names the methods of its commits so far, and `written` the promises of each, where
    the method says which it writes.
    """

    def __init__(
        self,
        store: Store,
        boundary: int,
        side: Side,
        kill: Callable[[], None],
        *,
        with_heartbeats: bool,
    ) -> None:
        self.clock: Clock = store.clock
        self.reached: list[str] = []
        self.written: list[tuple[str, ...]] = []
        self._store = store
        self._boundary = boundary
        self._side = side
        self._strike = kill
        self._with_heartbeats = with_heartbeats
        self._lock = Lock()
        self._own: set[Owner] = set()
        self._seen: set[tuple[RunId, int]] = set()
        memory: Any = store.memory
        database = _KillingTransactions(self, memory._db)  # noqa: SLF001 - no call is one commit
        memory._db = database  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in PART_READS:
            return _KillingPart(self, name)
        is_write = iscoroutinefunction(method) and name not in READS
        return partial(self._write, name, method) if is_write else method

    def method_of(self, part: str, name: str) -> Any:
        """Return a method of a part of the store; a commit is a boundary."""
        method = getattr(getattr(self._store, part), name)
        is_read = name in PART_READS[part]
        return method if is_read else partial(self._write, f"{part}.{name}", method)

    async def claim(self, lane: str, limit: int, owner: Owner) -> Sequence[Claim]:
        """See `Store.claim`. A boundary when something is claimed."""
        if self._side is Side.BEFORE and await self._store.count_ready([lane], 1):
            self._before("claim")
        claimed = await self._store.claim(lane, limit, owner)
        self._found("claim", len(claimed))
        return claimed

    async def claim_below(
        self, run_id: RunId, lane: str, limit: int, owner: Owner
    ) -> Sequence[Claim]:
        """See `Store.claim_below`. A boundary when something is claimed."""
        is_before = self._side is Side.BEFORE
        if is_before and await self._store.count_ready_below(run_id, [lane], 1):
            self._before("claim_below")
        claimed = await self._store.claim_below(run_id, lane, limit, owner)
        self._found("claim_below", len(claimed))
        return claimed

    async def wake_due(self, limit: int = 1000) -> int:
        """See `Store.wake_due`. A boundary when something is woken."""
        due_at = await self._store.next_due_at() if self._side is Side.BEFORE else None
        if due_at is not None and due_at <= self.clock.now_ms():
            self._before("wake_due")
        woken = await self._store.wake_due(limit)
        self._found("wake_due", woken)
        return woken

    async def wake_followers(self, limit: int = 1000) -> int:
        """See `Store.wake_followers`. A boundary when something is woken."""
        if self._side is Side.BEFORE and await self._store.memory.due_followers(1):
            self._before("wake_followers")
        woken = await self._store.wake_followers(limit)
        self._found("wake_followers", woken)
        return woken

    async def recover(self) -> Sequence[RunId]:
        """See `Store.recover`. A boundary when something is taken back.

        Before it: when there are runs of another worker that were not there at an earlier look.
        """
        if self._side is Side.BEFORE:
            running = await self._store.list(RunStatus.RUNNING)
            others = {(run.id, run.epoch) for run in running if run.lease_owner not in self._own}
            is_new, self._seen = bool(others - self._seen), self._seen | others
            if is_new:
                self._before("recover")
        recovered = await self._store.recover()
        self._found("recover", len(recovered))
        return recovered

    def heartbeat(self, owner: Owner, lease: timedelta) -> HeartbeatConnection:
        """See `Store.heartbeat`. A boundary with heartbeats, as each beat and the last sign are."""
        self._own.add(owner)
        if not self._with_heartbeats:
            return self._store.heartbeat(owner, lease)
        beating = self.kill_around("heartbeat", lambda: self._store.heartbeat(owner, lease))
        return KillingHeartbeat(self, beating)

    def kill_around(self, name: str, call: Callable[[], T]) -> T:
        """Make a blocking call that is a boundary."""
        number = self._before(name)
        result = call()
        self._reach(number, Side.AFTER)
        return result

    async def commit_around(
        self, name: str, commit: Callable[..., Awaitable[Any]], *given: Any
    ) -> Any:
        """Do what is one commit, and so a boundary."""
        return await self._write(name, commit, *given)

    async def _write(
        self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any
    ) -> Any:
        number = self._before(name, _ids_in(args[0]) if args else ())
        result = await method(*args, **named)
        self._reach(number, Side.AFTER)
        return result

    def _before(self, name: str, written: tuple[str, ...] = ()) -> int:
        """Count a commit that is about to be made; return its number."""
        with self._lock:  # the heartbeat has a thread of its own
            self.reached.append(name)
            self.written.append(written)
            number = len(self.reached)
        self._reach(number, Side.BEFORE)
        return number

    def _found(self, name: str, count: int) -> None:
        """Count what is known as a commit only when it has been made."""
        if count and self._side is Side.AFTER:
            self._reach(self._before(name), Side.AFTER)

    def _reach(self, number: int, side: Side) -> None:
        """Strike when this is the commit, and its side."""
        if number == self._boundary and side is self._side:
            self._strike()


def _ids_in(given: object) -> tuple[str, ...]:
    """Return which promises a method of the store writes, by its first argument."""
    match given:
        case Checkpoint() | MemoryWrite():
            return (given.promise.id,)
        case NewRun() | Fence():
            return (given.id if isinstance(given, NewRun) else given.run_id,)
        case list() | tuple():
            return tuple(id_ for each in given for id_ in _ids_in(each))
    return ()


class _KillingTransactions:
    """A database of which each transaction that writes is a boundary of a `KillingStore`."""

    def __init__(self, store: KillingStore, database: Any) -> None:
        self._store = store
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, work: Callable[..., Any], *given: Any) -> Any:
        """Do the work in a transaction, which is a boundary."""
        commit = partial(self._database.write, work)
        return await self._store.commit_around(f"memory.{work.__name__}", commit, *given)


class KillingHeartbeat:
    """The heartbeat of a worker over a fatal store."""

    def __init__(self, store: KillingStore, heartbeat: HeartbeatConnection) -> None:
        self._store = store
        self._pulse = heartbeat

    def beat(self) -> int | None:
        """See `HeartbeatConnection.beat`."""
        return self._store.kill_around("beat", self._pulse.beat)

    def stop(self) -> None:
        """See `HeartbeatConnection.stop`."""
        self._store.kill_around("stop", self._pulse.stop)


class _KillingPart:
    """A part of a `KillingStore`: its gates, its memory."""

    def __init__(self, store: KillingStore, part: str) -> None:
        self._killing = store
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return self._killing.method_of(self._part, name)
