"""A child's outcome is its parent's promise: one commit settles it and wakes the parent."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from substrate.store.store import Store
from substrate.values.records import Adopted, Fenced, PromiseState, RunStatus, Written
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    checkpoint,
    claimed,
    database,
    end_child,
    opened,
)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


@pytest.mark.parametrize("in_batch", [False, True])
async def test_child_settles_its_parents_promise(store: Store, db: Database, *, in_batch: bool):
    """A child's end is a change of its parent's journal, with the next seq there."""
    parent = await claimed(store)
    child = db.spawn(parent, "child.0")
    aside = await claimed(store, "other")
    batch = [end_child(child)] + [checkpoint(aside.fence, "work.0")] * in_batch

    outcomes = await store.commit(batch)

    (row,) = await store.journal(parent.run.id, after=2)
    assert outcomes[0] == Written(3)
    assert (row.id, row.seq, row.state) == (child.run.id, 3, PromiseState.RESOLVED)
    run = await store.get(child.run.id)
    assert (run.status, run.lease_owner) == (RunStatus.DONE, None)
    assert (run.last_seq, run.ended_at is not None) == (1, True)


async def test_running_parent_is_told(store: Store, db: Database):
    """A parent that runs sees by its version that a child has ended; its claim stands."""
    parent = await claimed(store)
    child = db.spawn(parent, "child.0")

    await store.commit([end_child(child)])

    (inbox,) = [i for i in await store.owned_runs(OWNER) if i.run_id == parent.run.id]
    assert (inbox.epoch, inbox.wake_version) == (1, 1)
    assert isinstance((await store.commit([checkpoint(parent.fence, "next.0")]))[0], Written)


@pytest.mark.parametrize("together", [False, True])
async def test_parent_wakes_when_served(store: Store, db: Database, *, together: bool):
    """A suspended parent sleeps until as many promises are settled as it needs, then is ready."""
    parent = await claimed(store)
    children = [db.spawn(parent, f"child.{i}") for i in range(4)]
    db.suspend(parent.run.id, need=3)

    await store.commit([end_child(child) for child in children[:2]])
    asleep = await store.get(parent.run.id)
    if together:
        await store.commit([end_child(child) for child in children[2:]])
    else:
        await store.commit([end_child(children[2])])
    awake = await store.get(parent.run.id)

    assert (asleep.status, asleep.wake_version) == (RunStatus.SUSPENDED, 2)
    assert (awake.status, awake.wake_version) == (RunStatus.READY, 3 + together)
    assert db.value("SELECT need FROM runs WHERE id = 'run'") == 0
    assert [claim.run.id for claim in await store.claim(LANE, 5, OTHER)] == [parent.run.id]


async def test_failed_child_wakes_too(store: Store, db: Database):
    """A child's failure settles its parent's promise as a success does."""
    parent = await claimed(store)
    child = db.spawn(parent, "child.0")
    db.suspend(parent.run.id, need=1)

    await store.commit([end_child(child, PromiseState.REJECTED)])

    (row,) = await store.journal(parent.run.id, after=2)
    assert row.state is PromiseState.REJECTED
    assert (await store.get(parent.run.id)).status is RunStatus.READY


async def test_fenced_child_wakes_nobody(store: Store, db: Database):
    """A child whose claim was lost settles nothing of its parent's."""
    parent = await claimed(store)
    child = db.spawn(parent, "child.0")
    stale = replace(child, fence=replace(child.fence, epoch=0))

    assert await store.commit([end_child(stale)]) == [Fenced()]
    assert (await store.get(parent.run.id)).wake_version == 0


async def test_cancelled_promise_stands(store: Store, db: Database):
    """A child that ends when its promise was settled otherwise ends all the same, and adopts."""
    parent = await claimed(store)
    child = db.spawn(parent, "child.0")
    await store.commit([replace(end_child(child, PromiseState.CANCELLED), status=None)])

    (outcome,) = await store.commit([end_child(child)])

    assert isinstance(outcome, Adopted)
    assert outcome.promise.state is PromiseState.CANCELLED
    assert (await store.get(child.run.id)).status is RunStatus.DONE


async def test_many_children(store_url: str):
    """However many children end at once, through several processes' stores, none is lost."""
    async with opened(store_url) as one, opened(store_url) as two:
        parent = await claimed(one)
        with database(store_url) as db:
            db.rows("BEGIN")
            children = [db.spawn(parent, f"child.{i}") for i in range(200)]
            db.suspend(parent.run.id, need=200)
            db.rows("COMMIT")
        batches = [children[i : i + 10] for i in range(0, 200, 10)]

        async def end(store: Store, ended: list) -> None:
            await store.commit([end_child(child) for child in ended[:9]], wait=True)
            await store.commit([end_child(ended[9])], wait=True)

        await asyncio.gather(*(end((one, two)[i % 2], b) for i, b in enumerate(batches)))

        run = await one.get(parent.run.id)
        assert (run.status, run.wake_version, run.last_seq) == (RunStatus.READY, 200, 401)
        seqs = [row.seq for row in await one.journal(parent.run.id, after=201)]
        assert seqs == list(range(202, 402))
