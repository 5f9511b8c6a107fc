"""A cancel reaches a run and everything below it; a run given up for good is settled as such."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from substrate.store.crashes import MAX_CRASHES
from substrate.store.store import Store
from substrate.values.codec import decode
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId
from substrate.values.records import Checkpoint, Claim, Fence, PromiseState, RunStatus, Written
from tests.stores import (
    LANE,
    LIMIT_S,
    OTHER,
    OWNER,
    Database,
    beating,
    checkpoint,
    claimed,
    crash,
    database,
    end,
    end_child,
    eventually,
    new_run,
    opened,
    promise,
    spawned,
    spawning,
)

RUN = RunId("run")
FUTURE = 4_000_000_000_000


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


def pause(claim: Claim) -> Checkpoint:
    """Return what pauses a run: its own promise stays open."""
    parent, _, key = claim.run.id.rpartition("#")
    own = promise(parent, key, PromiseState.PENDING) if parent else end(claim).promise
    open_ = {"state": PromiseState.PENDING, "value": None, "settled_at": None}
    return Checkpoint(claim.fence, replace(own, **open_), RunStatus.PAUSED)


async def suspend(store: Store, fence: Fence, need: int = 1) -> None:
    """Suspend a run as it stands."""
    seen = (await store.get(fence.run_id)).wake_version
    assert await store.suspend(fence, seen, need=need, due_at=FUTURE)


# -------------------------------------------------------------------------------------- cancel


async def test_cancel_a_running_run(store: Store):
    """A running run is told; its claim stands, so that it can end as it sees fit."""
    claim = await claimed(store)

    run = await store.cancel(RUN)

    (inbox,) = await store.owned_runs(OWNER)
    assert run == await store.get(RUN)
    assert (run.status, run.cancel_requested, run.wake_version) == (RunStatus.RUNNING, True, 1)
    assert (inbox.cancel_requested, inbox.wake_version) == (True, 1)
    assert isinstance((await store.commit([checkpoint(claim.fence, "work.0")]))[0], Written)


@pytest.mark.parametrize("status", ["ready", "suspended", "paused", "delayed"])
async def test_cancel_a_resting_run(store: Store, status: str):
    """A run that nobody drives becomes ready, so that a worker ends it."""
    if status == "delayed":
        await store.start(new_run(due_at=FUTURE))
    else:
        claim = await claimed(store)
    if status == "ready":
        await store.release([claim.fence])
    if status == "suspended":
        await suspend(store, claim.fence, need=9)
    if status == "paused":
        await store.commit([pause(claim)])

    run = await store.cancel(RUN)

    assert (run.status, run.cancel_requested) == (RunStatus.READY, True)
    (claim,) = await store.claim(LANE, 1, OTHER)
    assert claim.run.cancel_requested


async def test_cancel_a_tree(store: Store):
    """Everything below the run is asked to end; its siblings and its parent are not."""
    root = await claimed(store, "tree")
    a = await spawned(store, root, "a.0")
    b = await spawned(store, root, "b.0")
    below = [await spawned(store, a, "deep.0"), await spawned(store, a, "deep.1")]
    lowest = await spawned(store, below[0], "deepest.0")
    await suspend(store, below[1].fence)
    lookalikes = [await claimed(store, id_) for id_ in ("tree-a", "tree/a", "trees")]

    await store.cancel(a.run.id)

    asked = [await store.get(claim.run.id) for claim in (a, *below, lowest)]
    spared = [await store.get(claim.run.id) for claim in (root, b, *lookalikes)]
    assert [run.cancel_requested for run in asked] == [True] * 4
    assert [run.cancel_requested for run in spared] == [False] * 5
    assert asked[2].status is RunStatus.READY


async def test_cancel_a_root(store: Store):
    """Cancelling a root reaches its tree and no other tree, however alike their names."""
    root = await claimed(store, "tree")
    child = await spawned(store, root)
    lookalikes = [await claimed(store, id_) for id_ in ("tree-a", "tree/a", "trees", "tre")]

    await store.cancel(root.run.id)

    assert (await store.get(child.run.id)).cancel_requested
    for claim in lookalikes:
        assert not (await store.get(claim.run.id)).cancel_requested


async def test_ended_runs_stay(store: Store):
    """What has ended stays as it is; what it left behind is asked to end all the same."""
    parent = await claimed(store)
    child = await spawned(store, parent)
    await store.commit([end(parent)])
    before = await store.get(RUN)

    assert await store.cancel(RUN) == before
    assert (await store.get(child.run.id)).cancel_requested


async def test_cancel_twice(store: Store):
    """Who cancels again changes nothing but the version that tells of it."""
    await claimed(store)
    await store.cancel(RUN)

    run = await store.cancel(RUN)

    assert (run.status, run.cancel_requested) == (RunStatus.RUNNING, True)


async def test_cancel_of_nobody(store: Store):
    """Cancelling a run that nobody started raises."""
    with pytest.raises(RunNotFound, match="'nobody'"):
        await store.cancel(RunId("nobody"))


async def test_completion_that_comes_first(store: Store):
    """A run that was asked to end may still succeed: what commits first wins."""
    claim = await claimed(store)
    await store.cancel(RUN)

    assert isinstance((await store.commit([end(claim)]))[0], Written)
    assert (await store.get(RUN)).status is RunStatus.DONE


async def test_spawns_race_a_cancel(store_url: str):
    """However spawns and a cancel interleave, no child is left that was not asked to end."""
    async with opened(store_url) as one, opened(store_url) as two, asyncio.timeout(3 * LIMIT_S):
        for round_ in range(12):
            parent = await claimed(one, f"run-{round_}")

            async def spawn(parent: Claim = parent) -> None:
                for i in range(8):
                    key = f"child.{i}"
                    child = await spawned(one, parent, key)
                    await one.commit([spawning(child.fence, "grandchild.0")], wait=True)

            async def cancel(after: int = round_, parent: Claim = parent) -> None:
                await eventually(lambda: has_children(two, parent.run.id, after // 2))
                await two.cancel(parent.run.id)

            await asyncio.gather(spawn(), cancel())

            ids = [f"{parent.run.id}#child.{i}" for i in range(8)]
            ids += [f"{id_}#grandchild.0" for id_ in ids]
            runs = [await one.get(RunId(id_)) for id_ in ids]
            assert {run.cancel_requested for run in runs} == {True}


async def has_children(store: Store, run_id: RunId, count: int) -> bool:
    """Whether so many children are there."""
    return len(await store.journal(run_id)) > count


async def test_spawn_while_postgres_waits(postgres_url: str):
    """A child that is spawned while the cancel waits for its parent's lock is asked to end, too."""
    async with opened(postgres_url) as store:
        parent = await claimed(store)
        with database(postgres_url) as db, database(postgres_url) as spawner:
            spawner.rows("BEGIN")
            spawner.rows("SELECT id FROM runs WHERE id = 'run' FOR NO KEY UPDATE")
            cancelling = asyncio.create_task(store.cancel(RUN))
            held = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: db.value(held))
            child = spawner.spawn(parent, "child.0")

            spawner.rows("COMMIT")
            await cancelling

        assert (await store.get(child.run.id)).cancel_requested


async def test_cancels_do_not_deadlock(store_url: str):
    """Cancels from above and below, children that end, and their parents' steps all get through."""
    async with opened(store_url) as one, opened(store_url) as two, asyncio.timeout(3 * LIMIT_S):
        parent = await claimed(one)
        children = [await spawned(one, parent, f"child.{i}") for i in range(20)]

        async def end_all() -> None:
            for child in children:
                await one.commit([end_child(child)], wait=True)

        async def cancel_all(store: Store) -> None:
            for child in reversed(children):
                await store.cancel(child.run.id)
                await store.cancel(RUN)

        await asyncio.gather(end_all(), cancel_all(one), cancel_all(two))

        assert len(await one.settled_outside(RUN, 0)) == 20
        assert {(await one.get(child.run.id)).status for child in children} == {RunStatus.DONE}


# ------------------------------------------------------------------------------------- discard


@pytest.mark.parametrize("status", ["failed", "paused", "dead"])
async def test_discard(store: Store, db: Database, status: str):
    """A run that waits for a person is given up: cancelled, and its outcome is settled."""
    await store.start(new_run())
    if status == "dead":
        for _ in range(MAX_CRASHES):
            await crash(store)
    else:
        (claim,) = await store.claim(LANE, 1, OWNER)
        await store.commit([pause(claim) if status == "paused" else end(claim, RunStatus.FAILED)])
    before = await store.promise(RUN)

    run = await store.discard(RUN)

    own = await store.promise(RUN)
    assert run == await store.get(RUN)
    assert (run.status, run.cancel_requested) == (RunStatus.CANCELLED, False)
    assert run.ended_at < db.value("SELECT expires_at FROM runs")
    if status == "paused":
        assert (own.state, own.seq) == (PromiseState.CANCELLED, run.last_seq)
        assert decode(own.error)["type"] == "RunCancelled"
    else:
        assert own == before
    assert await store.claim(LANE, 1, OTHER) == []


async def test_discard_of_others(store: Store):
    """A run that is unknown, at work, done or discarded already is not discarded."""
    with pytest.raises(RunNotFound, match="'run'"):
        await store.discard(RUN)
    claim = await claimed(store)
    with pytest.raises(RunEnded, match="'run' is running; only a dead, failed or paused"):
        await store.discard(RUN)
    await store.commit([end(claim)])
    with pytest.raises(RunEnded, match="'run' is done"):
        await store.discard(RUN)
    other = await claimed(store, "other")
    await store.commit([pause(other)])
    await store.discard(other.run.id)
    with pytest.raises(RunEnded, match="'other' is cancelled"):
        await store.discard(other.run.id)


@pytest.mark.parametrize("in_batch", [False, True])
async def test_paused_child_wakes_nobody(store: Store, *, in_batch: bool):
    """A child that is paused has not ended: its parent sleeps on, and needs as many as before."""
    parent = await claimed(store)
    child = await spawned(store, parent)
    await suspend(store, parent.fence)
    other = await claimed(store, "other")

    await store.commit([pause(child)] + [checkpoint(other.fence, "work.0")] * in_batch)

    run, own = await store.get(RUN), await store.promise(child.run.id)
    assert (run.status, run.wake_version) == (RunStatus.SUSPENDED, 0)
    assert (own.state, own.seq) == (PromiseState.PENDING, run.last_seq)
    await store.cancel(child.run.id)
    (again,) = await store.claim("child.0/work/1", 1, OTHER)
    await store.commit([end_child(again)])
    assert (await store.get(RUN)).status is RunStatus.READY


@pytest.mark.parametrize("need", [1, 2])
async def test_discard_a_child(store: Store, need: int):
    """A child that is given up while its parent waits for it settles that promise and wakes it."""
    parent = await claimed(store)
    child = await spawned(store, parent)
    await store.commit([pause(child)])
    before = await store.get(RUN)
    await suspend(store, parent.fence, need)

    discarded = await store.discard(child.run.id)

    run, own = await store.get(RUN), await store.promise(child.run.id)
    assert discarded.status is RunStatus.CANCELLED
    assert (own.state, own.seq) == (PromiseState.CANCELLED, run.last_seq)
    assert (run.last_seq, run.wake_version) == (before.last_seq + 1, before.wake_version + 1)
    assert run.status is (RunStatus.READY if need == 1 else RunStatus.SUSPENDED)
    assert [row.id for row in await store.settled_outside(RUN, before.last_seq)] == [child.run.id]


async def test_discard_a_dead_child(store: Store, db: Database):
    """A dead child has told its parent already: discarding it tells nobody."""
    async with beating(store, OWNER), beating(store, OTHER, timedelta(milliseconds=1)):
        parent = await claimed(store)
        child = await spawned(store, parent, owner=OTHER)
        db.rows("UPDATE runs SET crashes = 2 WHERE id = :id", id=child.run.id)
        assert await eventually(store.recover) == [child.run.id]
    before, own = await store.get(RUN), await store.promise(child.run.id)

    await store.discard(child.run.id)

    assert await store.get(RUN) == before
    assert await store.promise(child.run.id) == own
    assert own.state is PromiseState.REJECTED
