"""A run that waits holds nothing, and no wake-up is lost: not between a look and the suspend."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from substrate.store.store import Store
from substrate.values.ids import RunId, lane_of
from substrate.values.records import Claim, RunStatus
from tests.stores import (
    LANE,
    LIMIT_S,
    NOW,
    OTHER,
    OWNER,
    Database,
    checkpoint,
    claimed,
    crash,
    database,
    end_child,
    eventually,
    new_run,
    opened,
    received,
    signal,
    spawned,
    waiting,
)

RUN = RunId("run")
PAST, FUTURE = 1_000, 4_000_000_000_000


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


async def suspend(store: Store, claim: Claim, need: int = 1, due_at: int | None = None) -> bool:
    """Suspend a run as it stands."""
    seen = (await store.get(claim.run.id)).wake_version
    return await store.suspend(claim.fence, seen, need=need, due_at=due_at)


async def statuses(store: Store, ids: list[str]) -> list[RunStatus]:
    """Return the status of each of these runs."""
    return [(await store.get(RunId(id_))).status for id_ in ids]


# ---------------------------------------------------------------------------- compare and set


async def test_suspend(store: Store):
    """A suspended run has no owner, is claimed by nobody, and its former claim is void."""
    claim = await claimed(store)

    assert await store.suspend(claim.fence, 0, need=1, due_at=None)

    run = await store.get(RUN)
    assert (run.status, run.lease_owner, run.epoch) == (RunStatus.SUSPENDED, None, 1)
    assert await store.claim(LANE, 1, OTHER) == []
    assert await store.owned_runs(OWNER) == []
    assert await store.release([claim.fence]) == 0


async def test_signal_between_look_and_suspend(store: Store):
    """A signal that comes after the look keeps the run from being suspended."""
    claim = await claimed(store)
    (seen,) = await store.owned_runs(OWNER)
    assert await store.inbox(RUN) == []
    await store.send_signal(signal())

    assert not await store.suspend(claim.fence, seen.wake_version, need=1, due_at=None)

    run = await store.get(RUN)
    assert (run.status, run.lease_owner) == (RunStatus.RUNNING, OWNER)
    assert await suspend(store, claim)


async def test_child_between_look_and_suspend(store: Store):
    """A child that ends after the look keeps its parent from being suspended."""
    parent = await claimed(store)
    child = await spawned(store, parent)
    await store.commit([end_child(child)])

    assert not await store.suspend(parent.fence, 0, need=1, due_at=None)
    assert (await store.get(RUN)).status is RunStatus.RUNNING


async def test_cancel_between_look_and_suspend(store: Store):
    """A cancel is a wake-up like any other: who has not seen it suspends nothing."""
    claim = await claimed(store)
    await store.cancel(RUN)

    assert not await store.suspend(claim.fence, 0, need=1, due_at=None)
    assert (await store.get(RUN)).status is RunStatus.RUNNING


@pytest.mark.parametrize("change", [{"epoch": 0}, {"owner": OTHER}])
async def test_suspend_is_fenced(store: Store, change: dict):
    """Only the claim that owns the run suspends it."""
    claim = await claimed(store)
    stale = replace(claim.fence, **change)

    assert not await store.suspend(stale, 0, need=1, due_at=None)
    assert (await store.get(RUN)).lease_owner == OWNER


async def test_lost_claim_suspends_nothing(store: Store):
    """A run that was taken over is not suspended by the one that had it before."""
    claim = await claimed(store)
    await store.release([claim.fence])
    await store.claim(LANE, 1, OTHER)

    assert not await store.suspend(claim.fence, 0, need=1, due_at=None)
    assert (await store.get(RUN)).status is RunStatus.RUNNING


async def test_suspended_by_one_twice(store: Store):
    """Asked to suspend once more, say after a cut connection, the store says no: it is done."""
    claim = await claimed(store)

    assert await store.suspend(claim.fence, 0, need=1, due_at=None)
    assert not await store.suspend(claim.fence, 0, need=1, due_at=None)
    assert (await store.get(RUN)).status is RunStatus.SUSPENDED


async def test_suspend_is_a_give_back(store: Store):
    """Who suspends a run has not crashed: the count of crashes begins anew."""
    await store.start(new_run())
    await crash(store)
    (claim,) = await store.claim(LANE, 1, OWNER)

    await suspend(store, claim)

    assert (await store.get(RUN)).crashes == 0


# --------------------------------------------------------------------------------- what wakes


async def test_need(store: Store):
    """A run that needs several of its children wakes when so many have ended, and no sooner."""
    parent = await claimed(store)
    children = [await spawned(store, parent, f"child.{i}") for i in range(3)]
    assert await suspend(store, parent, need=2)

    await store.commit([end_child(children[0])])
    asleep = await store.get(RUN)
    await store.commit([end_child(children[1])])

    assert asleep.status is RunStatus.SUSPENDED
    assert (await store.get(RUN)).status is RunStatus.READY


async def test_need_is_counted_anew(store: Store):
    """What a run needed the last time says nothing about this time."""
    parent = await claimed(store)
    children = [await spawned(store, parent, f"child.{i}") for i in range(3)]
    await suspend(store, parent, need=5)
    await store.send_signal(signal())
    (parent,) = await store.claim(LANE, 1, OWNER)

    await suspend(store, parent, need=1)
    await store.commit([end_child(children[0])])

    assert (await store.get(RUN)).status is RunStatus.READY


async def test_rank_of_who_sleeps_on(store: Store, db: Database):
    """A run takes its place in the queue when it becomes ready, not when it is told something."""
    parent = await claimed(store)
    children = [await spawned(store, parent, f"child.{i}") for i in range(2)]
    await suspend(store, parent, need=2)
    db.rows("UPDATE runs SET rank = 5 WHERE id = 'run'")

    await store.commit([end_child(children[0])])
    asleep = db.value("SELECT rank FROM runs WHERE id = 'run'")
    await store.commit([end_child(children[1])])

    assert asleep == 5
    assert db.value("SELECT rank FROM runs WHERE id = 'run'") == NOW + 1


async def test_wake_due(store: Store):
    """Suspended runs whose moment has come are ready, others sleep on; that is no crash."""
    for id_, due_at in (("past", PAST), ("future", FUTURE), ("never", None)):
        await suspend(store, await claimed(store, id_), due_at=due_at)

    assert await store.wake_due() == 1
    assert await store.wake_due() == 0

    run = await store.get(RunId("past"))
    assert (run.status, run.wake_version, run.crashes) == (RunStatus.READY, 1, 0)
    asleep = [RunStatus.SUSPENDED, RunStatus.SUSPENDED]
    assert await statuses(store, ["future", "never"]) == asleep


async def test_wake_due_keeps_crashes(store: Store, db: Database):
    """Being due is no progress: a run that kills its workers does not escape by sleeping."""
    await suspend(store, await claimed(store), due_at=PAST)
    db.rows("UPDATE runs SET crashes = 2")

    await store.wake_due()

    assert (await store.get(RUN)).crashes == 2


async def test_order_of_waking(store: Store):
    """The earliest are woken first, so many at a time as was said."""
    for i in range(6):
        await suspend(store, await claimed(store, f"run-{i}"), due_at=PAST - i)

    assert await store.wake_due(limit=2) == 2
    assert {run.id for run in await store.list(RunStatus.READY)} == {"run-5", "run-4"}
    assert await store.wake_due(limit=10) == 4


async def test_wake_due_of_a_running_run(store: Store):
    """The moment a run waited for before it was woken otherwise says nothing while it runs."""
    await suspend(store, await claimed(store), due_at=PAST)
    await store.send_signal(signal())
    await store.claim(LANE, 1, OWNER)

    assert await store.wake_due() == 0
    assert await store.next_due_at() is None


async def test_next_due_at(store: Store):
    """The store tells the earliest moment at which any suspended run is due."""
    assert await store.next_due_at() is None
    for id_, due_at in (("a", FUTURE + 5), ("b", FUTURE), ("c", None)):
        await suspend(store, await claimed(store, id_), due_at=due_at)

    assert await store.next_due_at() == FUTURE


async def test_two_wake_at_once(store_url: str):
    """However many wake at once, each run is woken by one of them."""
    async with opened(store_url) as one, opened(store_url) as two:
        for i in range(20):
            await suspend(one, await claimed(one, f"run-{i}"), due_at=PAST)

        woken = await asyncio.gather(*(store.wake_due(7) for store in (one, two) * 3))
        woken.append(await one.wake_due())

        assert sum(woken) == 20
        assert {run.wake_version for run in await one.list()} == {1}


async def test_wake_due_waits_for_nobody(postgres_url: str):
    """A due run that somebody has locked is left for the next time; the others are woken."""
    async with opened(postgres_url) as store:
        for id_ in ("free", "locked"):
            await suspend(store, await claimed(store, id_), due_at=PAST)
        with database(postgres_url) as db:
            db.rows("BEGIN")
            db.rows("SELECT id FROM runs WHERE id = 'locked' FOR UPDATE")

            assert await store.wake_due() == 1

            db.rows("COMMIT")
        assert await store.wake_due() == 1


# ------------------------------------------------------------------------------ delayed starts


async def test_delayed_start(store: Store):
    """A run that is to begin later is claimed by nobody until then, not even by its starter."""
    run, claim = await store.start(new_run(due_at=FUTURE), OWNER)
    early, _ = await store.start(new_run("early", due_at=PAST))

    assert claim is None
    assert run == await store.get(RUN)
    assert (run.status, run.epoch, run.lease_owner) == (RunStatus.SUSPENDED, 0, None)
    assert await store.claim(LANE, 5, OTHER) == []
    assert await store.next_due_at() == PAST
    assert await store.wake_due() == 1
    assert [one.run.id for one in await store.claim(LANE, 5, OTHER)] == [early.id]


async def test_delayed_start_is_idempotent(store: Store):
    """Starting a run again that waits for its beginning returns it, and does not start it."""
    first, _ = await store.start(new_run(due_at=FUTURE))

    again, claim = await store.start(new_run(due_at=FUTURE + 1), OWNER)

    assert (again, claim) == (first, None)


async def test_signal_before_the_beginning(store: Store):
    """A signal waits for the run's beginning with the run; it does not bring that forward."""
    await store.start(new_run(due_at=FUTURE))

    await store.send_signal(signal())

    run = await store.get(RUN)
    assert (run.status, run.wake_version) == (RunStatus.SUSPENDED, 1)
    assert len(await store.inbox(RUN)) == 1


async def test_signal_after_the_beginning(store: Store):
    """Once a run has begun late, signals wake it as any other."""
    await store.start(new_run(due_at=PAST))
    await store.wake_due()
    (claim,) = await store.claim(LANE, 1, OWNER)
    await suspend(store, claim, due_at=FUTURE)

    await store.send_signal(signal())

    assert (await store.get(RUN)).status is RunStatus.READY


# ------------------------------------------------------------------------------------- backlog


async def test_backlog(store: Store):
    """The backlog counts the ready runs of some lanes, up to a limit."""
    lanes = [lane_of(queue, "work", 1) for queue in ("a", "b")]
    for i in range(3):
        await store.start(new_run(f"a-{i}", queue="a"))
        await store.start(new_run(f"b-{i}", queue="b"))
        await store.start(new_run(f"c-{i}", queue="c"))
    await store.start(new_run("later", queue="a", due_at=FUTURE))
    await store.claim(lanes[0], 1, OWNER)

    assert await store.count_ready(lanes, 100) == 5
    assert await store.count_ready(lanes, 4) == 4
    assert await store.count_ready(lanes[:1], 100) == 2
    assert await store.count_ready([], 100) == 0


# -------------------------------------------------------------------------- no wake-up is lost


async def test_no_wake_up_is_lost(store_url: str):
    """A run that suspends when it finds nothing gets every signal that is sent meanwhile."""
    senders, each = 4, 40
    total = (senders + 1) * each
    async with opened(store_url) as one, opened(store_url) as two, asyncio.timeout(3 * LIMIT_S):
        claim = await claimed(one)
        taken: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

        async def send(store: Store, sender: int) -> None:
            for i in range(each):
                if i % 10 == 9:
                    await eventually(lambda: is_suspended(store))
                await store.send_signal(signal(dedup=f"{sender}/{i}"))
                await taken[f"{sender}/{i}"].wait()

        async def take_all(claim: Claim, key: str) -> int:
            (seen,) = await one.owned_runs(OWNER)
            found = [row.dedup for row in await one.inbox(RUN, "go")]
            if not found:
                return -await one.suspend(claim.fence, seen.wake_version, need=1, due_at=None)
            await one.take_signals(claim.fence, received(waiting(key=key)), found)
            for dedup in found:
                taken[dedup].set()
            return len(found)

        async def live(claim: Claim) -> tuple[int, int]:
            count = suspends = 0
            while count < total:
                came = await take_all(claim, f"go.{count}")
                count += max(came, 0)
                if came < 0:
                    suspends += 1
                    (claim,) = await eventually(lambda: one.claim(LANE, 1, OWNER))
            return count, suspends

        async def send_all() -> None:
            await asyncio.gather(*(send((one, two)[i % 2], i) for i in range(senders)))
            # One alone: nobody else's signal wakes the run when its own has not.
            await send(two, senders)

        _, (count, suspends) = await asyncio.gather(send_all(), live(claim))

        assert count == total
        assert suspends >= 5
        assert await one.inbox(RUN) == []


async def is_suspended(store: Store) -> bool:
    """Whether the run is suspended just now."""
    return (await store.get(RUN)).status is RunStatus.SUSPENDED


async def test_no_child_is_lost(store_url: str):
    """A parent that suspends while its children end wakes for the last of them."""
    count = 60
    async with opened(store_url) as one, opened(store_url) as two, asyncio.timeout(3 * LIMIT_S):
        parent = await claimed(one)
        children = [await spawned(one, parent, f"child.{i}") for i in range(count)]

        async def end(store: Store, ended: list[Claim]) -> None:
            for child in ended:
                await store.commit([end_child(child)], wait=True)

        async def live(claim: Claim) -> None:
            while True:
                seen = (await one.get(RUN)).wake_version
                left = count - len(await one.settled_outside(RUN, 0))
                if not left:
                    return
                need = max(left // 2, 1)
                if await one.suspend(claim.fence, seen, need=need, due_at=None):
                    (claim,) = await eventually(lambda: one.claim(LANE, 1, OWNER))

        await asyncio.gather(end(one, children[::2]), end(two, children[1::2]), live(parent))

        assert (await one.get(RUN)).wake_version == count


async def test_step_after_waking(store: Store):
    """A woken run is claimed anew and goes on where it was."""
    claim = await claimed(store)
    await suspend(store, claim, due_at=PAST)
    await store.wake_due()
    (again,) = await store.claim(LANE, 1, OTHER)

    await store.commit([checkpoint(again.fence, "work.0")])

    assert again.fence.epoch == 2
    assert [row.key for row in await store.journal(RUN)] == ["run", "work.0"]
