"""What holds of the Postgres store alone: its plans, its connections, and the company it keeps."""

import asyncio
import re
from typing import Any

import pytest

from substrate.engine.run.committer import Committer
from substrate.store.postgres import dead_workers, ending, promises, recovery, runs, sketches
from substrate.store.postgres import fenced_commit as journal
from substrate.store.postgres import signals as inbox
from substrate.store.postgres import suspend as waiting
from substrate.store.postgres.connections import Connections, open_connection, prepare
from substrate.store.postgres.pool import MAX_POOLED
from substrate.store.postgres.session import Cursor
from substrate.values.records import Fenced, Written
from tests.stores import (
    LANE,
    LIMIT_S,
    OTHER,
    OWNER,
    checkpoint,
    claimed,
    database,
    end,
    end_child,
    eventually,
    new_run,
    opened,
    signal,
    take,
)
from tests.stores import waiting as a_wait

NAMED = {
    "batch": "[]",
    "ids": ["run"],
    "epochs": [1],
    "owners": ["w"],
    "owner": "w",
    "lane": LANE,
    "limit": 1,
    "crash": 0,
    "crashes": 1,
    "losses_seen": 1,
    "status": "ready",
    "is_gone": True,
    "now": 1,
    "run_id": "run",
    "name": "go",
    "dedup": "d",
    "part": 1,
    "parts": [1],
    "value": "1",
    "id": "run",
    "epoch": 1,
    "dedups": ["d"],
    "taken_by": "run#go.0",
    "untaken": True,
    "after": 0,
    "names": ["go"],
    "wake_version": 0,
    "need": 1,
    "due_at": 1,
    "again": True,
    "expires_at": 1,
}
LISTED = NAMED | {
    "status": "done",
    "function": "work",
    "since": 1,
    "until": 2,
    "first": "run",
    "end": "runo",
}
FREQUENT = {
    "write": (journal._WRITE_SKIPPING, NAMED),
    "write, waiting": (journal._WRITE_WAITING, NAMED),
    "journal": (promises._SELECT_JOURNAL, ("run", 1, 0)),
    "promise": (promises._SELECT_PROMISE, ("run", 1)),
    "promises": (promises._SELECT_PROMISES, (["run"], [1])),
    "claim": (runs._CLAIM_NEXT, NAMED),
    "owned_runs": (runs._SELECT_OWNED_RUNS, ("w",)),
    "release": (runs._RELEASE, NAMED),
    **{
        f"runs by {each}": (sketches._SELECT_RUNS.format(conditions=condition), LISTED)
        for each, condition in sketches._CONDITIONS.items()
    },
    "owners": (dead_workers._SELECT_OWNERS, NAMED),
    "lost": (recovery._SELECT_LOST, NAMED),
    "lock lost": (recovery._LOCK_LOST, NAMED),
    "take back": (recovery._TAKE_BACK, NAMED),
    "send": (inbox._SEND, NAMED),
    "inbox": (inbox._SELECT_RECEIVED, NAMED),
    "untaken": (inbox._SELECT_UNTAKEN, NAMED),
    "unread": (ending._ANY_UNREAD, NAMED),
    "hold": (ending._LOCK_FENCED, NAMED),
    "free signals": (inbox._COUNT_UNTAKEN, NAMED),
    "suspend": (waiting._SUSPEND, NAMED),
    "next due": (waiting._NEXT_DUE, ()),
    "wake due": (waiting._WAKE_NEXT, NAMED),
    "count_ready": (waiting._COUNT_READY, ([LANE], 10)),
    "settled_outside": (waiting._SELECT_SETTLED_OUTSIDE, ("run", 1, 0)),
    "cancel": (ending._CANCEL_TREE, NAMED),
    "discard": (ending._DISCARD, NAMED),
    "continue_as": (ending._CONTINUE, NAMED),
}


async def plan_of(db: Cursor, statement: str, parameters: Any) -> str:
    """Return how the server would run a statement."""
    cursor = await db.execute("EXPLAIN " + statement, parameters)
    return "\n".join(line for (line,) in await cursor.fetchall())


@pytest.mark.parametrize("statement", FREQUENT)
async def test_no_statement_scans_a_table(postgres_url: str, statement: str):
    """What runs at every step or tick goes by an index, even when planned for a tiny table.

    A prepared statement keeps its plan while the table grows, until statistics catch up.
    """
    async with opened(postgres_url) as store:
        await claimed(store)
        with database(postgres_url) as db:
            db.rows("VACUUM ANALYZE")
        connection = await open_connection(prepare(postgres_url))
        try:
            plan = await plan_of(connection.cursor(), *FREQUENT[statement])
        finally:
            await connection.close()

    scanned = set(re.findall(r"Seq Scan on (\w+)", plan))
    assert scanned <= {"workers"}  # of which there are as many as there are processes
    assert "JIT" not in plan


async def test_schema_changes_under_a_running_process(postgres_url: str):
    """A process goes on when a newer one has added columns to its tables."""
    async with opened(postgres_url) as store:

        async def whole_life(id_: str) -> None:
            await store.start(new_run(id_))
            await store.send_signal(signal(id_))
            (claim,) = await store.claim(LANE, 1, OWNER)
            assert await take(store, claim.fence, a_wait(id_)) is not None
            batch = [checkpoint(claim.fence, "a.0"), checkpoint(claim.fence, "b.0")]
            assert await store.commit([checkpoint(claim.fence, "c.0")]) == [Written(4)]
            assert await store.commit(batch) == [Written(5), Written(6)]
            assert await store.owned_runs(OWNER)
            await store.release([claim.fence])
            (again,) = await store.claim(LANE, 1, OTHER)
            assert await store.commit([end(again)]) == [Written(7)]
            assert len(await store.journal(again.run.id)) == 5
            assert await store.recover() == []

        await whole_life("before")
        with database(postgres_url) as db:
            for table in ("runs", "promises", "signals", "blobs", "workers"):
                db.rows(f"ALTER TABLE {table} ADD COLUMN novelty text")
        await whole_life("after")


async def test_deadlock_with_a_stranger(postgres_url: str):
    """Should somebody else's transaction deadlock with a write, the write is tried again."""
    async with opened(postgres_url) as store:
        committer = Committer(store)
        parent = await claimed(store)
        with database(postgres_url) as db, database(postgres_url) as stranger:
            before = db.deadlocks()
            child = db.spawn(parent, "child.0")
            stranger.rows("SET deadlock_timeout = '1min'")  # it is not the one to give up
            stranger.rows("BEGIN")
            stranger.rows("SELECT id FROM runs WHERE id = 'run#child.0' FOR UPDATE")
            writing = asyncio.create_task(committer.commit(end_child(child)))
            held = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            await eventually(lambda: db.value(held))

            await asyncio.to_thread(
                stranger.rows, "SELECT id FROM runs WHERE id = 'run' FOR UPDATE"
            )

            stranger.rows("COMMIT")
            async with asyncio.timeout(LIMIT_S):
                assert await writing == Written(3)
            await eventually(lambda: db.deadlocks() > before)  # a backend tells when it is idle
        await committer.close()


async def test_deleted_run(postgres_url: str):
    """A run that somebody has deleted fences its writer, instead of keeping it waiting."""
    async with opened(postgres_url) as store:
        committer = Committer(store)
        claim = await claimed(store)
        with database(postgres_url) as db:
            db.rows("DELETE FROM runs")

        async with asyncio.timeout(LIMIT_S):
            assert await committer.commit(checkpoint(claim.fence, "a.0")) == Fenced()
        await committer.close()


async def backend(db: Cursor) -> int:
    """Return the process behind a connection, after it has been busy for a moment."""
    cursor = await db.execute("SELECT pg_backend_pid(), pg_sleep(0.005)")
    return int((await cursor.fetchone() or (0,))[0])


OPEN = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'ostinato'"
)


async def test_connections_are_kept(postgres_url: str):
    """Calls that overlap share a few connections, burst after burst; none is opened anew."""
    connections = Connections(postgres_url)
    used = set()
    for _ in range(10):
        used.update(await asyncio.gather(*(connections.on_pool(backend) for _ in range(30))))
    await connections.close()

    assert 2 <= len(used) <= MAX_POOLED


async def test_idle_connections_are_closed(postgres_url: str):
    """Of connections that have long been idle one stays open, and in the end none."""
    connections = Connections(postgres_url, idle_for=0.05)
    await asyncio.gather(*(connections.on_pool(backend) for _ in range(30)))
    with database(postgres_url) as db:
        await eventually(lambda: db.value(OPEN) == 1)
        first = await connections.on_pool(backend)
        assert await connections.on_pool(backend) == first
        await connections.close()
        await eventually(lambda: db.value(OPEN) == 0)


async def test_who_waits_for_a_connection_may_leave(postgres_url: str):
    """Those who are cancelled while they wait in line for a connection take none along."""
    connections = Connections(postgres_url)
    for patience in (0.0, 0.001, 0.002, 0.004, 0.008):
        asking = [asyncio.create_task(connections.on_pool(backend)) for _ in range(40)]
        await asyncio.sleep(patience)
        for task in asking[::2]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(answer, int) for answer in answers[1::2])
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(connections.on_pool(backend) for _ in range(40)))
    await connections.close()
