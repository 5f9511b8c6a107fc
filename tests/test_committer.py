"""The committer: everybody is answered, once, in time, and only what was acknowledged counts on."""

import asyncio
import random
import time
from dataclasses import replace
from statistics import median

import pytest

from substrate.engine.run.committer import MAX_ASIDE, Committer
from substrate.values.errors import CheckpointRefused, StoreUnusable
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Claim,
    CommitResult,
    Fenced,
    Written,
)
from tests.stores import (
    LIMIT_S,
    checkpoint,
    claimed,
    committing,
    database,
    end_child,
    eventually,
    intent,
    live,
    opened,
)


def bad(claim: Claim, key: str) -> Checkpoint:
    """Return a checkpoint that no database takes: it was created at no time."""
    good = checkpoint(claim.fence, key)
    return replace(good, promise=replace(good.promise, created_at=None))


# ----------------------------------------------------------------------------------- together


async def test_many_runs(store_url: str):
    """Whatever waits together is committed together: every write once, each run's in its order."""
    async with committing(store_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(40)]

        await asyncio.gather(*(live(committer, claim, 15) for claim in claims))

        for claim in claims:
            rows = await store.journal(claim.run.id, after=1)
            assert [row.key for row in rows] == [f"work.{i}" for i in range(15)]
            assert [row.seq for row in rows] == list(range(2, 17))


async def test_two_writes_of_one_promise(store_url: str):
    """An intent and its outcome, or two outcomes, sent together are written one after the other."""
    async with committing(store_url) as (store, committer):
        claim = await claimed(store)

        outcomes = await asyncio.gather(
            committer.commit(intent(claim.fence, "a.0")),
            committer.commit(checkpoint(claim.fence, "a.0", "1")),
            committer.commit(checkpoint(claim.fence, "a.0", "2")),
            committer.commit(checkpoint(claim.fence, "b.0")),
        )

        row = (await store.journal(claim.run.id))[-1]
        assert [type(outcome) for outcome in outcomes] == [Written, Written, Adopted, Written]
        assert (row.key, row.value) == ("a.0", "1")
        assert outcomes[2] == Adopted(row)


async def test_long_payloads(store_url: str):
    """More bytes than one batch holds are written in several."""
    async with committing(store_url) as (store, committer):
        claim = await claimed(store)
        values = ['"' + f"{i} " * 500_000 + '"' for i in range(8)]

        await asyncio.gather(
            *(committer.commit(checkpoint(claim.fence, f"a.{i}", v)) for i, v in enumerate(values))
        )

        assert [row.value for row in await store.journal(claim.run.id, after=1)] == values


async def test_lost_claim(store_url: str):
    """Whoever has lost the run is told so, among others who have not."""
    async with committing(store_url) as (store, committer):
        lost, kept = await claimed(store, "lost"), await claimed(store, "kept")
        await store.release([lost.fence])

        outcomes = await asyncio.gather(
            *(committer.commit(checkpoint(claim.fence, "a.0")) for claim in (lost, kept))
        )

        assert outcomes == [Fenced(), Written(2)]


# ------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("guilty", [0, 17, 39])
async def test_bad_row_hurts_nobody_else(store_url: str, guilty: int):
    """Of many that are committed together, only the caller of a bad one gets the error."""
    async with committing(store_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(40)]
        batch = [checkpoint(claim.fence, "a.0") for claim in claims]
        batch[guilty] = bad(claims[guilty], "a.0")

        outcomes = await asyncio.gather(
            *(committer.commit(one) for one in batch), return_exceptions=True
        )

        assert isinstance(outcomes.pop(guilty), CheckpointRefused)
        assert outcomes == [Written(2)] * 39
        assert sorted({run.last_seq for run in await store.list()}) == [1, 2]


async def test_cancelled_caller(store_url: str):
    """Who stops waiting costs the others nothing."""
    async with committing(store_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(20)]
        calls = [asyncio.create_task(live(committer, claim, 5)) for claim in claims]
        for i, call in enumerate(calls[:10]):
            await asyncio.sleep(0)
            if i % 2:
                call.cancel()

        await asyncio.wait(calls)

        assert [call.cancelled() for call in calls] == [i < 10 and i % 2 == 1 for i in range(20)]


async def test_closed(store_url: str):
    """Closing cancels whoever waits, in whatever queue, and nobody is taken in afterwards."""
    async with committing(store_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(10)]
        with database(store_url) as db:
            db.rows("BEGIN" if db.is_postgres else "BEGIN IMMEDIATE")
            db.rows("UPDATE runs SET rank = rank")
            calls = [
                asyncio.create_task(committer.commit(checkpoint(claim.fence, "a.0")))
                for claim in claims
            ]
            await asyncio.sleep(0)
            closing = asyncio.create_task(committer.close())
            await asyncio.wait([closing], timeout=0.1)
            db.rows("ROLLBACK")
        await closing

        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        with pytest.raises(StoreUnusable, match="closed"):
            await committer.commit(checkpoint(claims[0].fence, "b.0"))


class Faulty:
    """A store with a fault of its own, which is no error of the database."""

    async def commit(self, batch: list[Checkpoint], *, wait: bool = False) -> list[CommitResult]:
        raise ZeroDivisionError

    async def settled(self, batch: list[Checkpoint]) -> list[CommitResult | None]:
        raise ZeroDivisionError


async def test_fault_leaves_nobody_waiting(sqlite_url: str, caplog: pytest.LogCaptureFixture):
    """A fault in the kit itself is told to whoever waits, and logged, instead of a silence."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)
        committer = Committer(Faulty())

        outcomes = await asyncio.gather(
            *(committer.commit(checkpoint(claim.fence, f"a.{i}")) for i in range(3)),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [StoreUnusable] * 3
        assert "ZeroDivisionError" in str(outcomes[0])
        assert "has stopped" in caplog.text
        await committer.close()


# ---------------------------------------------------------------------------- between processes


async def test_cross_wakes(postgres_url: str, record_property):
    """Children of shared parents that end in opposite orders, in many processes, all get through.

    Nothing deadlocks, and nobody waits long.
    """
    committers, parents_count, children_count = 6, 8, 60
    async with opened(postgres_url) as store:
        parents = [await claimed(store, f"parent-{i}") for i in range(parents_count)]
        with database(postgres_url) as db:
            before = db.deadlocks()
            db.rows("BEGIN")
            children = [
                [db.spawn(parent, f"child.{i}") for i in range(children_count)]
                for parent in parents
            ]
            db.rows("COMMIT")
        waits: list[float] = []

        async def drive(committer: Committer, child: Claim) -> None:
            for i in range(3):
                await timed(waits, committer.commit(checkpoint(child.fence, f"work.{i}")))
            outcome = await timed(waits, committer.commit(end_child(child)))
            assert isinstance(outcome, Written)

        async def process(number: int) -> None:
            ours = [child for family in children for child in family[number::committers]]
            random.Random(number).shuffle(ours)
            async with committing(postgres_url) as (_, committer):
                await asyncio.gather(*(drive(committer, child) for child in ours))

        began = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(process(number) for number in range(committers)))
        seconds = time.monotonic() - began

        writes = parents_count * children_count * 4
        for parent in parents:
            run = await store.get(parent.run.id)
            assert run.wake_version == children_count
            ended = [row for row in await store.journal(parent.run.id) if row.settled_at]
            assert len(ended) == children_count
            assert len({row.seq for row in ended}) == children_count
        with database(postgres_url) as db:
            assert db.deadlocks() == before
    assert max(waits) < seconds
    record_property("cross-wakes, writes a second", round(writes / seconds))


async def timed(waits: list[float], call):
    """Note how long a call takes."""
    began = time.monotonic()
    try:
        return await call
    finally:
        waits.append(time.monotonic() - began)


async def test_locked_run_holds_nobody_up(postgres_url: str):
    """A run that somebody keeps locked waits alone, and is written when it is free again."""
    async with committing(postgres_url) as (store, committer):
        locked, *free = [await claimed(store, f"run-{i}") for i in range(9)]
        with database(postgres_url) as rival:
            rival.rows("BEGIN")
            rival.rows("SELECT id FROM runs WHERE id = 'run-0' FOR UPDATE")
            held = [
                asyncio.create_task(committer.commit(checkpoint(locked.fence, f"a.{i}")))
                for i in range(3)
            ]

            waits: list[float] = []
            for i in range(20):
                await asyncio.gather(
                    *(timed(waits, committer.commit(checkpoint(c.fence, f"a.{i}"))) for c in free)
                )

            assert not any(call.done() for call in held)
            assert median(waits) < 0.1
            rival.rows("COMMIT")

        async with asyncio.timeout(LIMIT_S):
            outcomes = await asyncio.gather(*held)
        assert sorted(outcome.seq for outcome in outcomes) == [2, 3, 4]


async def test_many_locked_runs_hold_nobody_up(postgres_url: str):
    """When more runs are locked than can be waited for, one that is freed is written at once."""
    async with committing(postgres_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(MAX_ASIDE + 3)]
        with database(postgres_url) as rival, database(postgres_url) as friend:
            rival.rows("BEGIN")
            rival.rows("SELECT id FROM runs WHERE id <> 'run-6' FOR UPDATE")
            friend.rows("BEGIN")
            friend.rows("SELECT id FROM runs WHERE id = 'run-6' FOR UPDATE")
            calls = [
                asyncio.create_task(committer.commit(checkpoint(claim.fence, "a.0")))
                for claim in claims
            ]
            await eventually(lambda: len(committer._aside) == MAX_ASIDE)

            friend.rows("COMMIT")

            async with asyncio.timeout(LIMIT_S):
                assert await calls[6] == Written(2)
            assert [call.done() for call in calls] == [False] * 6 + [True]
            rival.rows("COMMIT")
        assert await asyncio.gather(*calls) == [Written(2)] * len(claims)


async def test_same_content_behind_a_lock(postgres_url: str):
    """A write that waits for a lock holds up nobody who keeps the same long content."""
    async with committing(postgres_url) as (store, committer):
        locked = await claimed(store)
        with database(postgres_url) as rival:
            free = rival.spawn(locked, "child.0")
            long = '"' + "x" * 20_000 + '"'
            rival.rows("BEGIN")
            rival.rows("SELECT id FROM runs WHERE id = 'run' FOR UPDATE")
            held = asyncio.create_task(committer.commit(checkpoint(locked.fence, "a.0", long)))
            await eventually(lambda: committer._aside)

            async with asyncio.timeout(LIMIT_S):
                outcome = await committer.commit(checkpoint(free.fence, "a.0", long))

            assert isinstance(outcome, Written)
            assert not held.done()
            rival.rows("COMMIT")
        assert isinstance(await held, Written)


async def test_two_processes_write_one_file(sqlite_url: str):
    """Two processes' committers on one SQLite file take turns, and both get on."""
    async with committing(sqlite_url) as (one, here), committing(sqlite_url) as (two, there):
        claims = [await claimed((one, two)[i % 2], f"run-{i}") for i in range(20)]

        await asyncio.gather(
            *(live((here, there)[i % 2], claim, 20) for i, claim in enumerate(claims))
        )

        assert {run.last_seq for run in await one.list()} == {21}
