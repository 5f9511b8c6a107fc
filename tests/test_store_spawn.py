"""A child comes into being with its parent's promise, in one commit, or not at all."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from substrate.engine.run.committer import Committer
from substrate.store.store import Store
from substrate.values.ids import RunId, lane_of, part_of
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Effect,
    Fenced,
    JsonText,
    Kind,
    PromiseState,
    RunStatus,
    Written,
)
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    checkpoint,
    claimed,
    database,
    end,
    end_child,
    intent,
    new_run,
    opened,
    promise,
    spawned,
    spawning,
)

CHILD = RunId("run#child.0")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


@pytest.mark.parametrize("in_batch", [False, True])
async def test_spawn(store: Store, *, in_batch: bool):
    """One commit writes the parent's pending promise and the child, ready with its input."""
    parent = await claimed(store)
    batch = [spawning(parent.fence, version=3, seed=9)]
    batch += [checkpoint(parent.fence, "work.0")] * in_batch

    outcomes = await store.commit(batch)

    child, asked = await store.get(CHILD), await store.promise(CHILD)
    (claim,) = await store.claim(lane_of("default", "work", 3), 5, OTHER)
    assert outcomes[0] == Written(2)
    assert (asked.run_id, asked.kind, asked.state, asked.seq) == ("run", "child", "pending", 2)
    assert (child.root_id, child.parent_id, child.version) == ("run", "run", 3)
    assert (child.status, child.epoch, child.lease_owner) == (RunStatus.READY, 0, None)
    assert (child.seed, child.created_at, child.last_seq) == (9, asked.created_at, 1)
    assert (child.generation, child.generation_seq, child.exited_epoch) == (0, 0, 0)
    assert (claim.run.id, claim.input, claim.fence.part) == (CHILD, '{"n":2}', part_of("run"))


async def test_grandchild(store: Store):
    """A child's child has the same root, and its parent is the child."""
    child = await spawned(store, await claimed(store))

    grandchild = await spawned(store, child, "deeper.0")

    assert grandchild.run.id == "run#child.0#deeper.0"
    assert (grandchild.run.root_id, grandchild.run.parent_id) == ("run", child.run.id)
    assert isinstance((await store.commit([end_child(grandchild)]))[0], Written)
    assert [row.id for row in await store.settled_outside(child.run.id, 0)] == [grandchild.run.id]


async def test_priority(store: Store):
    """A child takes its place in its lane by its priority."""
    parent = await claimed(store)
    late, soon = (spawning(parent.fence, f"child.{i}", priority=1 - i) for i in range(2))

    await store.commit([late, soon])

    claims = await store.claim(LANE, 5, OTHER)
    assert [claim.run.id for claim in claims] == ["run#child.1", "run#child.0"]


@pytest.mark.parametrize(
    "parents, own, expected", [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (7, 5, 5)]
)
async def test_deadline(store: Store, parents: int | None, own: int | None, expected: int | None):
    """A child's deadline is its own or its parent's, whichever comes first."""
    _, parent = await store.start(new_run(deadline_at=parents), OWNER)

    await store.commit([spawning(parent.fence, deadline_at=own)])

    assert parent.run.deadline_at == parents
    assert (await store.get(CHILD)).deadline_at == expected


async def test_tenant(store: Store, db: Database):
    """A child belongs to its parent's tenant, whatever it was asked for."""
    _, parent = await store.start(new_run(tenant="acme"), OWNER)

    await store.commit([spawning(parent.fence, tenant="other")])

    assert db.rows("SELECT DISTINCT tenant FROM runs") == [("acme",)]
    assert db.rows("SELECT DISTINCT tenant FROM promises") == [("acme",)]


async def test_child_of_a_cancelled_run(store: Store):
    """Who spawns after it was asked to end gets a child that is asked to end, too."""
    parent = await claimed(store)
    before = await spawned(store, parent, "before.0")
    await store.cancel(parent.run.id)

    await store.commit([spawning(parent.fence)])

    assert not before.run.cancel_requested
    assert (await store.get(CHILD)).cancel_requested


@pytest.mark.parametrize("in_batch", [False, True])
async def test_fenced_parent_spawns_nothing(store: Store, *, in_batch: bool):
    """A claim that was lost leaves no child behind."""
    parent = await claimed(store)
    other = await claimed(store, "other")
    await store.release([parent.fence])
    batch = [spawning(parent.fence)] + [spawning(other.fence)] * in_batch

    outcomes = await store.commit(batch)

    assert outcomes[0] == Fenced()
    assert await store.get(CHILD) is None
    assert (await store.get(RunId("other#child.0")) is not None) == in_batch


async def test_adopted_promise_spawns_nothing(store: Store):
    """Where the promise was settled before, there is nothing to spawn."""
    parent = await claimed(store)
    cancelled = replace(promise("run", "child.0", PromiseState.CANCELLED), kind=Kind.CHILD)
    await store.commit([replace(spawning(parent.fence), promise=cancelled, child=None)])

    (outcome,) = await store.commit([spawning(parent.fence)])

    assert isinstance(outcome, Adopted)
    assert await store.get(CHILD) is None


@pytest.mark.parametrize("has_ended", [False, True])
async def test_spawn_again(store: Store, *, has_ended: bool):
    """Who spawns again, not knowing whether it has, finds the one child as it is by now."""
    parent = await claimed(store)
    wanted = spawning(parent.fence)
    await store.commit([wanted])
    (child,) = await store.claim(LANE, 1, OTHER)
    if has_ended:
        await store.commit([end_child(child)])
    before = await store.get(CHILD)

    (read_back,) = await store.read_back([wanted])
    (outcome,) = await store.commit([wanted])

    assert type(read_back) is type(outcome) is (Adopted if has_ended else Written)
    assert await store.get(CHILD) == before


async def test_settled_before_the_commit(store: Store):
    """Read back after a cut connection, a spawn that was not written is not there."""
    parent = await claimed(store)

    assert await store.read_back([spawning(parent.fence)]) == [None]


async def test_child_of_an_old_intent(store: Store):
    """A pending promise whose child is missing gets its child when it is spawned again."""
    parent = await claimed(store)
    await store.commit([replace(spawning(parent.fence), child=None)])
    assert await store.get(CHILD) is None

    assert isinstance((await store.commit([spawning(parent.fence)]))[0], Written)
    assert (await store.get(CHILD)).status is RunStatus.READY


async def test_thousand_children(store_url: str):
    """A thousand children spawned at once are there, each once, in the order of their spawning."""
    count = 1_000
    async with opened(store_url) as store:
        parent = await claimed(store)
        for start in range(0, count, 200):
            keys = [f"child.{i}" for i in range(start, start + 200)]
            outcomes = await store.commit([spawning(parent.fence, key) for key in keys])
            assert [outcome.seq for outcome in outcomes] == list(range(start + 2, start + 202))

        assert await store.count_ready([LANE], 2 * count) == count
        children = await store.claim(LANE, count, OTHER)
        assert len({child.run.id for child in children}) == count
        assert await store.suspend(parent.fence, 0, need=count, due_at=None)
        for start in range(0, count, 250):
            await store.commit([end_child(child) for child in children[start : start + 250]])

        assert (await store.get(parent.run.id)).status is RunStatus.READY
        arrived = await store.settled_outside(parent.run.id, 0)
        assert [row.seq for row in arrived] == list(range(count + 2, 2 * count + 2))
        assert len(await store.promises([child.run.id for child in children])) == count


async def test_committer_spawns(store: Store):
    """The committer takes children as anything else."""
    parent = await claimed(store)
    committer = Committer(store)

    assert await committer.commit(spawning(parent.fence)) == Written(2)

    await committer.close()
    assert (await store.get(CHILD)).status is RunStatus.READY


# ------------------------------------------------------------------------------------ arrivals


async def test_arrivals(store: Store):
    """A parent reads which of its children have ended since it last looked, in that order."""
    parent = await claimed(store)
    children = [await spawned(store, parent, f"child.{i}") for i in range(3)]
    await store.commit([checkpoint(parent.fence, "work.0")])
    for child in (children[2], children[0]):
        await store.commit([end_child(child)])

    both = await store.settled_outside(parent.run.id, 0)

    assert [row.key for row in both] == ["child.2", "child.0"]
    assert [row.key for row in await store.settled_outside(parent.run.id, both[0].seq)] == [
        "child.0"
    ]
    assert await store.settled_outside(parent.run.id, both[1].seq) == []


async def test_promises(store: Store):
    """Promises are read by their ids, whoever's they are; those that there are not are left out."""
    claim = await claimed(store)
    other = await claimed(store, "other")
    await store.commit([checkpoint(claim.fence, "work.0"), intent(other.fence, "work.0")])

    found = await store.promises(["run#work.0", "other#work.0", "other", "nobody"])

    assert found.keys() == {"run#work.0", "other#work.0", "other"}
    assert found["run#work.0"].value == '"done"'
    assert await store.promises([]) == {}


# ----------------------------------------------------------------------------------- who is who


async def test_list_shows_roots(store: Store):
    """Without a status only roots are listed; with one, the children that have it, too."""
    parent = await claimed(store)
    await store.commit([spawning(parent.fence)])

    assert [run.id for run in await store.list()] == ["run"]
    assert [run.id for run in await store.list(RunStatus.READY)] == [CHILD]
    await store.commit([end(parent)])
    assert [run.id for run in await store.list(RunStatus.DONE)] == ["run"]


@pytest.mark.parametrize("in_batch", [False, True])
async def test_undo(store: Store, *, in_batch: bool):
    """What makes up for a step is kept with its intent, and with its outcome."""
    claim = await claimed(store)
    asked = replace(
        intent(claim.fence, "a.0").promise, effect=Effect.ONCE, undo=JsonText('{"f":"x"}')
    )
    done = replace(promise("run", "a.0"), effect=Effect.ONCE, undo=JsonText('{"f":"y"}'))
    others = [[checkpoint(claim.fence, f"b.{i}")] * in_batch for i in range(2)]

    await store.commit([Checkpoint(claim.fence, asked), *others[0]])
    before = await store.promise("run#a.0")
    await store.commit([Checkpoint(claim.fence, done), *others[1]])

    assert (before.undo, (await store.promise("run#a.0")).undo) == ('{"f":"x"}', '{"f":"y"}')
