"""Both stores keep one contract: a run is started once, and one worker at a time has it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import chain

import pytest

from substrate.store.store import Store
from substrate.values.errors import IdTaken
from substrate.values.ids import RunId
from substrate.values.records import (
    OwnedRun,
    RunStatus,
)
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    claimed,
    database,
    new_run,
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


# -------------------------------------------------------------------------------------- starting


async def test_start_is_idempotent_by_id(store: Store, db: Database):
    """Starting a known id with the same function and input returns the run that there is."""
    first, claim = await store.start(new_run())
    again, _ = await store.start(new_run(seed=8))

    assert claim is None
    assert again == first == await store.get(first.id)
    assert (first.status, first.epoch, first.last_seq, first.seed) == (RunStatus.READY, 0, 1, 7)
    assert db.rows("SELECT id, run_id, key, state FROM promises") == [
        ("run", "run", "run", "pending")
    ]


@pytest.mark.parametrize("change", [{"function": "other"}, {"fingerprint": "f-2"}])
async def test_taken_id(store: Store, change: dict[str, str]):
    """Starting a known id with another function or input raises, and leaves that run alone."""
    first, _ = await store.start(new_run())

    with pytest.raises(IdTaken, match="'run' belongs to a run of 'work'"):
        await store.start(new_run(**change))

    assert await store.list() == [first]


async def test_start_claimed(store: Store):
    """A run may be created claimed; one that there is already is never claimed by its start."""
    run, claim = await store.start(new_run(), OWNER)
    _, again = await store.start(new_run(), OTHER)

    assert claim is not None
    assert again is None
    assert claim.run == run == await store.get(run.id)
    assert (run.status, run.epoch, run.lease_owner) == (RunStatus.RUNNING, 1, OWNER)
    assert claim.input == new_run().input
    assert await store.claim(LANE, 10, OTHER) == []


async def test_simultaneous_starts(store_url: str):
    """Many starts of one id at once create one run, and give one claim on it."""
    async with opened(store_url) as one, opened(store_url) as two:
        started = await asyncio.gather(
            *(store.start(new_run(), OWNER) for store in (one, two) for _ in range(10))
        )

        assert sum(claim is not None for _, claim in started) == 1
        assert {run.seed for run, _ in started} == {7}
        assert len(await one.list()) == 1


async def test_unknown_run(store: Store):
    """Of a run that nobody started there is nothing to read."""
    nobody = RunId("nobody")

    assert await store.get(nobody) is None
    assert await store.promise(nobody) is None
    assert await store.journal(nobody) == []
    assert await store.blob(nobody, "0" * 64) is None


async def test_list(store: Store):
    """Runs are listed newest first, all of them or those of one status."""
    for i in range(3):
        await store.start(new_run(f"run-{i}"), OWNER if i == 1 else None)

    every = [run.id for run in await store.list()]

    assert sorted(every) == ["run-0", "run-1", "run-2"]
    assert [run.id for run in await store.list(RunStatus.RUNNING)] == ["run-1"]
    assert len(await store.list(limit=2)) == 2
    created = [run.created_at for run in await store.list()]
    assert created == sorted(created, reverse=True)


# -------------------------------------------------------------------------------------- claiming


async def test_claim_by_lane(store: Store):
    """A claim takes runs of its lane only: queue, function and version."""
    await store.start(new_run("mine"))
    await store.start(new_run("queue", queue="slow"))
    await store.start(new_run("function", function="other"))
    await store.start(new_run("version", version=2))

    assert [claim.run.id for claim in await store.claim(LANE, 10, OWNER)] == ["mine"]
    assert [claim.run.id for claim in await store.claim("slow/work/1", 10, OWNER)] == ["queue"]


async def test_claim_by_rank(store: Store):
    """The lowest rank goes first: the oldest, moved by a minute for each point of priority."""
    for id_, priority in (("late", 5), ("middle", 0), ("early", -5)):
        await store.start(new_run(id_, priority=priority))

    first = await store.claim(LANE, 2, OWNER)
    rest = await store.claim(LANE, 2, OWNER)

    assert [claim.run.id for claim in (*first, *rest)] == ["early", "middle", "late"]


async def test_each_claim_is_an_epoch(store: Store):
    """Each claim on a run has a number of its own, and brings what the run was started with."""
    await store.start(new_run())
    (first,) = await store.claim(LANE, 10, OWNER)
    await store.release([first.fence])
    (second,) = await store.claim(LANE, 10, OTHER)

    assert (first.fence.epoch, second.fence.epoch) == (1, 2)
    assert second.run == await store.get(RunId("run"))
    assert second.run.lease_owner == OTHER
    assert second.input == new_run().input


async def test_claimers_never_share_a_run(store_url: str):
    """Concurrent claimers get every run, and none of them twice."""
    async with opened(store_url) as one, opened(store_url) as two:
        for i in range(60):
            await one.start(new_run(f"run-{i}"))

        async def take_all(store: Store) -> list[str]:
            taken: list[str] = []
            while claims := await store.claim(LANE, 3, OWNER):
                taken += [claim.run.id for claim in claims]
            return taken

        taken = await asyncio.gather(*(take_all(store) for store in (one, two) * 4))

    assert sorted(chain.from_iterable(taken)) == sorted(f"run-{i}" for i in range(60))


async def test_run_without_input_does_not_block_its_lane(store: Store, db: Database):
    """A run whose promise somebody has deleted is left out of a claim, the others are not."""
    await store.start(new_run("broken"))
    await store.start(new_run("whole"))
    db.rows("DELETE FROM promises WHERE id = 'broken'")

    assert [claim.run.id for claim in await store.claim(LANE, 10, OWNER)] == ["whole"]


async def test_inboxes(store: Store):
    """A worker reads how each of its running runs stands, and of no others."""
    for id_ in ("a", "b"):
        await claimed(store, id_)
    await claimed(store, "c", OTHER)

    found = await store.owned_runs(OWNER)

    assert sorted(found, key=lambda inbox: inbox.run_id) == [
        OwnedRun(RunId("a"), 1, 0, cancel_requested=False),
        OwnedRun(RunId("b"), 1, 0, cancel_requested=False),
    ]
