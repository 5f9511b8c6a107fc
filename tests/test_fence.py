"""Whoever has lost a run writes nothing to it any more, in whatever order things happen.

The stale writer and the takeover meet at the run's row. Either the takeover comes first, and the
writer finds that the run is not its own; or the writer does, and the takeover waits for it. What
may not be is a takeover that has returned, and a stale write that is committed after it. The last
test takes the lock out and sees that happen.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.file import transact
from substrate.store.sqlite.opening import open_file
from substrate.store.store import Store
from substrate.values.records import Checkpoint, Claim, CommitResult, Fenced, Locked, Written
from tests.mutants import Mutant, failures
from tests.stores import (
    LANE,
    LIMIT_S,
    OTHER,
    Database,
    checkpoint,
    claimed,
    database,
    eventually,
    opened,
    sqlite_path,
)

TAKE_OVER = f"UPDATE runs SET epoch = epoch + 1, lease_owner = '{OTHER}' WHERE id = 'run'"


def lone(claim: Claim, other: Claim) -> Sequence[Checkpoint]:
    """Return what takes the single-row statement."""
    return [checkpoint(claim.fence, "stale.0")]


def batch(claim: Claim, other: Claim) -> Sequence[Checkpoint]:
    """Return what takes the batch statement."""
    return [checkpoint(claim.fence, "stale.0"), checkpoint(other.fence, "fine.0")]


def at_the_end(claim: Claim, other: Claim) -> Sequence[Checkpoint]:
    """Return a batch in which the stale row is not the first."""
    return [checkpoint(other.fence, "fine.0"), checkpoint(claim.fence, "stale.0")]


T = TypeVar("T")
shapes = pytest.mark.parametrize("shape", [lone, batch, at_the_end])


async def stale_rows(store: Store) -> list[str]:
    """Return the keys of what a stale writer has written."""
    return [row.key for row in await store.journal("run") if row.name == "stale"]


def of_stale(checkpoints: Sequence[Checkpoint], outcomes: Sequence[CommitResult]) -> CommitResult:
    """Return the outcome of the stale checkpoint."""
    (found,) = [o for c, o in zip(checkpoints, outcomes, strict=True) if c.promise.name == "stale"]
    return found


# ------------------------------------------------------------------------------------ Postgres


def blocked(db: Database) -> int:
    """Return how many statements wait for a lock."""
    return db.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def without_waiting(db: Database, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work comes to; fail when one more statement waits for a lock."""
    before = blocked(db)
    task = asyncio.create_task(work)
    await eventually(lambda: task.done() or blocked(db) > before)
    assert task.done()
    return await task


@contextmanager
def in_the_way(url: str) -> Iterator[None]:
    """Hold up whoever writes the stale promise, in the middle of its statement."""
    with database(url) as rival:
        rival.rows("BEGIN")
        rival.rows(
            "INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state, epoch,"
            " created_at) SELECT 'run#stale.0', part, '', id, 'stale.0', 0, 'step', 'rival',"
            " 'pending', 0, 0 FROM runs WHERE id = 'run'"
        )
        try:
            yield
        finally:
            rival.rows("ROLLBACK")


@shapes
async def test_takeover_first(postgres_url: str, shape):
    """A takeover under way leaves the stale writer out, and once committed fences it."""
    async with opened(postgres_url) as store:
        stale = shape(await claimed(store), await claimed(store, "other"))
        with database(postgres_url) as takeover, database(postgres_url) as looking:
            takeover.rows("BEGIN")
            takeover.rows(TAKE_OVER)

            outcomes = await without_waiting(looking, store.commit(stale))
            assert of_stale(stale, outcomes) == Locked()
            waiting = asyncio.create_task(store.commit(stale, wait=True))
            await eventually(lambda: waiting.done() or blocked(looking))
            takeover.rows("COMMIT")

        assert of_stale(stale, await waiting) == Fenced()
        assert of_stale(stale, await store.commit(stale)) == Fenced()
        assert await stale_rows(store) == []


@shapes
async def test_writer_first(postgres_url: str, shape):
    """A takeover waits for a write that began before it, and finds it in the journal."""
    async with opened(postgres_url) as store:
        stale = shape(await claimed(store), await claimed(store, "other"))
        with database(postgres_url) as takeover, database(postgres_url) as looking:
            with in_the_way(postgres_url):
                writing = asyncio.create_task(store.commit(stale))
                await eventually(lambda: blocked(looking) == 1)
                taking = asyncio.create_task(asyncio.to_thread(takeover.rows, TAKE_OVER))
                await eventually(lambda: blocked(looking) == 2 or taking.done())
                assert not taking.done()
            await taking

            assert await stale_rows(store) == ["stale.0"]
            assert isinstance(of_stale(stale, await writing), Written)


@shapes
async def test_nothing_is_taken_from_under_a_write(postgres_url: str, shape):
    """The run of a dead worker is not taken back while a write of that worker is under way."""
    async with opened(postgres_url) as store:
        stale = shape(await claimed(store), await claimed(store, "other"))
        with database(postgres_url) as looking:
            with in_the_way(postgres_url):
                writing = asyncio.create_task(store.commit(stale))
                await eventually(lambda: blocked(looking) == 1)

                assert "run" not in await without_waiting(looking, store.recover())

            assert isinstance(of_stale(stale, await writing), Written)
        assert "run" in await store.recover()
        assert of_stale(stale, await store.commit(stale)) == Fenced()


async def test_waiting_write_comes_after_what_it_waited_for(postgres_url: str):
    """A write that waited for a change of its run which fences nothing is numbered after it."""
    async with opened(postgres_url) as store:
        claim, other = await claimed(store), await claimed(store, "other")
        with database(postgres_url) as rival, database(postgres_url) as looking:
            rival.rows("BEGIN")
            rival.rows("UPDATE runs SET last_seq = last_seq + 5, wake_version = 9 WHERE id = 'run'")
            waiting = asyncio.create_task(store.commit(batch(claim, other), wait=True))
            await eventually(lambda: blocked(looking) == 1)
            rival.rows("COMMIT")

        assert await waiting == [Written(7), Written(2)]
        run = await store.get(claim.run.id)
        assert (run.last_seq, run.wake_version) == (7, 9)


# -------------------------------------------------------------------------------------- SQLite


@shapes
async def test_takeover_first_sqlite(sqlite_url: str, shape):
    """A write that comes while a takeover is under way waits for it, and is fenced."""
    async with opened(sqlite_url) as store:
        stale = shape(await claimed(store), await claimed(store, "other"))
        with database(sqlite_url) as takeover:
            takeover.rows("BEGIN IMMEDIATE")
            takeover.rows(TAKE_OVER)
            writing = asyncio.create_task(store.commit(stale))
            await asyncio.wait([writing], timeout=0.05)
            assert not writing.done()
            takeover.rows("COMMIT")

        assert of_stale(stale, await writing) == Fenced()
        assert await stale_rows(store) == []


async def test_writer_first_sqlite(sqlite_url: str):
    """A takeover waits for a write that began before it, and finds it in the journal."""
    async with opened(sqlite_url) as store, opened(sqlite_url) as rescuer:
        stale = checkpoint((await claimed(store)).fence, "stale.0")
        has_written, may_commit = threading.Event(), threading.Event()

        def write() -> CommitResult:
            connection = open_file(sqlite_path(sqlite_url))

            def work(db: apsw.Connection) -> CommitResult:
                outcome = write_checkpoint(db, stale)
                has_written.set()
                may_commit.wait(LIMIT_S)
                return outcome

            try:
                return transact(connection, work, wait=LIMIT_S)
            finally:
                connection.close()

        writing = asyncio.create_task(asyncio.to_thread(write))
        await asyncio.to_thread(has_written.wait, LIMIT_S)
        taking = asyncio.create_task(rescuer.recover())
        await asyncio.wait([taking], timeout=0.05)
        assert not taking.done()
        may_commit.set()

        assert await taking == ["run"]
        assert await stale_rows(rescuer) == ["stale.0"]
        assert await writing == Written(2)
        assert await store.commit([stale]) == [Fenced()]


# ------------------------------------------------------------------------------- both, at large


async def test_struggle_for_one_run(store_url: str):
    """However often a run changes hands under its writers, no claim writes after the next began."""
    async with opened(store_url) as one, opened(store_url) as two, opened(store_url) as three:
        first = await claimed(one)
        claims = [first]
        written: list[tuple[int, int]] = []

        async def write(store: Store, name: str) -> None:
            for i in range(60):
                claim = claims[-1]
                lone_or_two = [checkpoint(claim.fence, f"{name}.{i}")]
                if i % 2:
                    lone_or_two.append(checkpoint(claim.fence, f"{name}.{i}x"))
                outcomes = await store.commit(lone_or_two, wait=i % 3 == 0)
                seqs = [outcome.seq for outcome in outcomes if isinstance(outcome, Written)]
                written.extend((seq, claim.fence.epoch) for seq in seqs)
                await asyncio.sleep(0)

        async def take_over() -> None:
            while not writing.done():
                await three.release([claims[-1].fence])
                claims.extend(await three.claim(LANE, 1, OTHER))
                await asyncio.sleep(0)

        writing = asyncio.gather(*(write(s, f"{n}") for n, s in enumerate((one, one, two, two))))
        await asyncio.gather(writing, take_over())

        rows = (await one.journal(first.run.id))[1:]
    assert len(claims) > 3
    assert sorted(written) == [(row.seq, row.epoch) for row in rows]
    assert [row.epoch for row in rows] == sorted(row.epoch for row in rows)


# ------------------------------------------------------------------------------------- mutants

JOURNAL = "substrate/store/{}/fenced_commit.py"

BREACHES = {"test_takeover_first[lone]", "test_takeover_first[batch]", "test_writer_first[batch]"}
MUTANTS = [
    (Mutant("whole", JOURNAL.format("postgres")), set()),
    (
        Mutant(
            "without the lock",
            JOURNAL.format("postgres"),
            [(" FOR NO KEY UPDATE SKIP LOCKED", ""), (" FOR NO KEY UPDATE", "")],
        ),
        BREACHES,
    ),
    (
        Mutant(
            "with a weaker lock",
            JOURNAL.format("postgres"),
            [("FOR NO KEY UPDATE", "FOR KEY SHARE")],
        ),
        BREACHES,
    ),
    (
        Mutant(
            "without the fence",
            JOURNAL.format("sqlite"),
            [("epoch = ? AND lease_owner = ?", "? > 0 AND ? > ''")],
        ),
        {"test_takeover_first_sqlite[lone]", "test_writer_first_sqlite"},
    ),
]


@pytest.mark.parametrize("mutant, breaches", MUTANTS, ids=lambda one: getattr(one, "name", ""))
def test_mutants(mutant: Mutant, breaches: set[str], tmp_path: Path, postgres_dsn: str):
    """These tests pass on the kit as it is, and fail when the lock or the fence is taken out."""
    # None of them hangs; a slow machine is left the time for all of these tests.
    all_of_them = ("tests/test_fence.py", "not mutants")
    failed = failures(mutant, tmp_path, *all_of_them, postgres_dsn, limit_s=120)

    assert breaches <= failed
    assert bool(breaches) == bool(failed)
