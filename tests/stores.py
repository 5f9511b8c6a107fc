"""What tests of the stores share: open stores, records to write, and a door past the store.

`opened` gives a store for a block, `committing` one with a committer. `checkpoint` makes what an
execution would record. `Database` runs plain SQL, written once for both databases: a parameter is
``:name``.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import psycopg
from psycopg.types.string import TextLoader

from substrate.engine.run.committer import Committer
from substrate.store.backend import HeartbeatConnection
from substrate.store.connect import open_store
from substrate.store.store import Store
from substrate.values.gates import GateKind, NewGate
from substrate.values.ids import Key, PromiseId, RunId, lane_of, part_of, promise_id, root_of
from substrate.values.records import (
    Checkpoint,
    Claim,
    Fence,
    Fenced,
    JsonText,
    Kind,
    NewRun,
    Owner,
    Promise,
    PromiseState,
    RunStatus,
    Signal,
    Written,
)

OWNER = Owner(f"the-worker-{os.getpid()}")
OTHER = Owner(f"another-worker-{os.getpid()}")
"""Names of this process alone: the locks of a host's workers lie in one folder."""
LANE = lane_of("default", "work", 1)
NOW = 1_795_000_000_000
LEASE = timedelta(seconds=60)
LIMIT_S = 20.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.002, 0.025


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Open a store for the block."""
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def committing(url: str) -> AsyncIterator[tuple[Store, Committer]]:
    """Open a store with a committer for the block, as a worker process has."""
    async with opened(url) as store:
        committer = Committer(store)
        try:
            yield store, committer
        finally:
            await committer.close()


@asynccontextmanager
async def beating(
    store: Store, owner: Owner, lease: timedelta = LEASE
) -> AsyncIterator[HeartbeatConnection]:
    """Register a worker for the block. Nothing beats by itself."""
    heartbeat = await asyncio.to_thread(store.heartbeat, owner, lease)
    try:
        yield heartbeat
    finally:
        await asyncio.to_thread(heartbeat.stop)


def new_run(id_: str = "run", **changes: Any) -> NewRun:
    """Return a run to start."""
    run = NewRun(
        id=RunId(id_),
        function="work",
        version=1,
        queue="default",
        input=JsonText('{"n":1}'),
        fingerprint="f-1",
        seed=7,
    )
    return replace(run, **changes)


async def claimed(store: Store, id_: str = "run", owner: Owner = OWNER) -> Claim:
    """Start a run that is claimed at once."""
    _, claim = await store.start(new_run(id_), owner)
    assert claim is not None
    return claim


def promise(run_id: str, key: str, state: PromiseState = PromiseState.RESOLVED) -> Promise:
    """Return a step of a run, settled unless it is to be pending."""
    is_settled = state is not PromiseState.PENDING
    return Promise(
        id=promise_id(RunId(run_id), Key(key)),
        run_id=RunId(run_id),
        key=Key(key),
        kind=Kind.STEP,
        name=key.partition(".")[0],
        state=state,
        created_at=NOW,
        settled_at=NOW + 1 if is_settled else None,
        value=JsonText('"done"') if state is PromiseState.RESOLVED else None,
        error=JsonText('{"type":"Broken"}') if state is PromiseState.REJECTED else None,
    )


def checkpoint(
    fence: Fence, key: str, value: str | None = None, status: RunStatus | None = None
) -> Checkpoint:
    """Return a step's outcome to commit: its value is JSON text."""
    outcome = promise(fence.run_id, key)
    if value is not None:
        outcome = replace(outcome, value=JsonText(value))
    return Checkpoint(fence, outcome, status)


def intent(fence: Fence, key: str) -> Checkpoint:
    """Return a pending step to commit."""
    return Checkpoint(fence, promise(fence.run_id, key, PromiseState.PENDING))


def end(claim: Claim, status: RunStatus = RunStatus.DONE) -> Checkpoint:
    """Return what ends a root run: the outcome of its own promise, and its status."""
    outcome = replace(promise(claim.run.id, "run"), id=PromiseId(claim.run.id), kind=Kind.RUN)
    return Checkpoint(claim.fence, outcome, status)


def end_child(child: Claim, state: PromiseState = PromiseState.RESOLVED) -> Checkpoint:
    """Return what ends a child: its parent's promise settled, in its parent's journal."""
    parent, _, key = child.run.id.rpartition("#")
    return Checkpoint(child.fence, promise(parent, key, state), RunStatus.DONE)


def gate_promise(claim: Claim, key: str = "tools.0/refund.0/gate.0") -> Promise:
    """Return the promise of a gate that is asked."""
    return replace(promise(claim.run.id, key, PromiseState.PENDING), kind=Kind.GATE, name="gate")


def new_gate(**given: Any) -> NewGate:
    """Return what is asked."""
    gate = NewGate(GateKind.APPROVAL, "refund", "d" * 64, "refund(cents=4900)", JsonText("{}"))
    return replace(gate, **given)


def signal(run_id: str = "run", name: str = "go", value: str = "1", dedup: str = "d") -> Signal:
    """Return a signal to send."""
    return Signal(RunId(run_id), name, JsonText(value), dedup)


def waiting(run_id: str = "run", key: str = "go.0") -> Promise:
    """Return the promise of a wait for a signal."""
    return replace(promise(run_id, key, PromiseState.PENDING), kind=Kind.SIGNAL)


async def take(store: Store, fence: Fence, wait: Promise) -> Promise | Fenced | None:
    """Settle a wait with the oldest signal of its name, as an execution does; None: there is none.

    Who finds that somebody else has taken it meanwhile looks again.
    """
    while found := await store.inbox(wait.run_id, wait.name):
        oldest = found[0]
        taken = await store.take_signals(fence, received(wait, oldest.value), [oldest.dedup])
        if isinstance(taken, Fenced) or taken.is_settled:
            return taken
    return None


def received(wait: Promise, value: str = "1") -> Promise:
    """Return a wait as settled with a signal's value."""
    settled = {"state": PromiseState.RESOLVED, "value": JsonText(value), "settled_at": NOW + 2}
    return replace(wait, **settled)


def spawning(fence: Fence, key: str = "child.0", **changes: Any) -> Checkpoint:
    """Return what spawns a child: its pending promise, and its run."""
    id_ = promise_id(fence.run_id, Key(key))
    pending = promise(fence.run_id, key, PromiseState.PENDING)
    asked = replace(pending, kind=Kind.CHILD, input=JsonText('{"n":2}'), fingerprint="f-2")
    return Checkpoint(fence, asked, child=new_run(id_, **changes))


async def spawned(store: Store, parent: Claim, key: str = "child.0", owner: Owner = OWNER) -> Claim:
    """Spawn a child in a lane of its own, and claim it."""
    outcomes = await store.commit([spawning(parent.fence, key, queue=key)], wait=True)
    assert isinstance(outcomes[0], Written)
    (claim,) = await eventually(lambda: store.claim(lane_of(key, "work", 1), 1, owner))
    return claim


async def live(committer: Committer, claim: Claim, steps: int, name: str = "work") -> None:
    """Write one step after another, as a run does, each acknowledged."""
    for i in range(steps):
        outcome = await committer.commit(checkpoint(claim.fence, f"{name}.{i}"))
        assert isinstance(outcome, Written)


async def crash(store: Store, owner: Owner = OWNER, lane: str = LANE) -> Claim:
    """Claim a run as a worker whose lease then lapses, and see it taken back, here or elsewhere."""

    async def is_lost() -> bool:
        await store.recover()
        run = await store.get(claim.run.id)
        return run is not None and run.lease_owner != owner

    async with beating(store, owner):
        (claim,) = await store.claim(lane, 1, owner)
        lapse(store, owner)
        await eventually(is_lost)
    return claim


def url_of(store: Store) -> str:
    """Return where a store is: as it says itself, or as a test has set it to go past it."""
    if (past := getattr(store, "url", None)) is not None:
        return str(past)
    backend: Any = store.backend
    return str(backend.url) if hasattr(backend, "url") else f"sqlite:///{backend.path}"


def lapse(store: Store, owner: Owner) -> None:
    """Let a worker's lease lapse."""
    with database(url_of(store)) as db:
        db.rows("UPDATE workers SET lease_until = 1 WHERE incarnation = :owner", owner=owner)


async def eventually(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Return what the condition, or the coroutine it makes, comes to as soon as that is true.

    What has taken long is looked at less often: each look costs what is waited for its time.
    """
    pause = FIRST_PAUSE_S
    async with asyncio.timeout(limit_s):
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_PAUSE_S)


class Database:
    """A store's database, past the store."""

    def __init__(self, url: str, connection: Any) -> None:
        self.is_postgres = url.startswith("postgres")
        self._connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        if not self.is_postgres:
            return self._connection.execute(sql, parameters).fetchall()
        cursor = self._connection.execute(re.sub(r"(?<!:):(\w+)", r"%(\1)s", sql), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, **parameters: Any) -> Any:
        """Run one statement and return the first column of its only row."""
        ((found, *_),) = self.rows(sql, **parameters)
        return found

    def deadlocks(self) -> int:
        """Count what Postgres has broken off here, ever: also for tests that were here before."""
        counted: int = self.value(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return counted

    def suspend(self, run_id: str, need: int) -> None:
        """Lay a run to rest until so many of its promises have been settled."""
        self.rows(
            "UPDATE runs SET status = 'suspended', lease_owner = NULL, need = :need WHERE id = :id",
            id=run_id,
            need=need,
        )

    def spawn(self, parent: Claim, key: str, owner: Owner = OWNER) -> Claim:
        """Write a child that is already claimed, and its promise in the parent's journal."""
        id_ = promise_id(parent.run.id, Key(key))
        row = {"id": id_, "part": part_of(id_), "root": root_of(id_), "parent": parent.run.id}
        self.rows(
            "INSERT INTO runs (id, part, tenant, root_id, parent_id, function, version, queue,"
            " lane, rank, status, epoch, lease_owner, wake_version, need, crashes,"
            " cancel_requested, last_seq, seed, generation, generation_seq, exited_epoch,"
            " created_at, generation_at)"
            " VALUES (:id, :part, '', :root, :parent, 'work', 1, 'default', 'default/work/1', 1,"
            f" 'running', 1, :owner, 0, 0, 0, {'false' if self.is_postgres else 0}, 1, 7, 0, 0, 0,"
            " 1, 1)",
            **row,
            owner=owner,
        )
        self.rows("UPDATE runs SET last_seq = last_seq + 1 WHERE id = :id", id=parent.run.id)
        self.rows(
            "INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, input,"
            " epoch, created_at) SELECT :id, :part, '', id, :key, last_seq, 'child', 'child',"
            " 'pending', '{}', 1, 1 FROM runs WHERE id = :parent",
            id=id_,
            part=row["part"],
            key=key,
            parent=parent.run.id,
        )
        run = replace(
            parent.run, id=RunId(id_), parent_id=parent.run.id, epoch=1, lease_owner=owner
        )
        return Claim(run, Fence(run.id, row["part"], 1, owner), JsonText("{}"))


@contextmanager
def database(url: str) -> Iterator[Database]:
    """Open the database behind a store's URL for the block."""
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.adapters.register_loader("json", TextLoader)
            yield Database(url, connection)
        return
    connection = apsw.Connection(str(sqlite_path(url)))
    connection.set_busy_timeout(int(LIMIT_S * 1000))
    try:
        yield Database(url, connection)
    finally:
        connection.close()


def sqlite_path(url: str) -> Path:
    """Return the file behind a SQLite URL."""
    return Path(url.removeprefix("sqlite:///"))
