"""A run begins its next generation in one commit: the same id and inbox, a fresh journal."""

from collections.abc import AsyncIterator, Iterator

import pytest

from substrate.store.store import Store
from substrate.values.ids import Key, RunId
from substrate.values.records import Fenced, JsonText, PromiseState, RunStatus
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    checkpoint,
    claimed,
    crash,
    database,
    end_child,
    new_run,
    opened,
    signal,
    spawned,
)

RUN = RunId("run")
LONG = JsonText(f'"{"x" * 40_000}"')


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


async def test_renew(store: Store):
    """The next claim gets the new input and begins after what the run has done so far."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0")])

    assert await store.continue_as(claim.fence, JsonText('{"n":2}'))

    run = await store.get(RUN)
    assert (run.status, run.lease_owner) == (RunStatus.READY, None)
    assert (run.generation, run.generation_seq, run.last_seq) == (1, 3, 3)
    assert await store.journal(RUN, after=run.generation_seq) == []
    (again,) = await store.claim(LANE, 1, OTHER)
    assert (again.input, again.fence.epoch, again.run.generation) == ('{"n":2}', 2, 1)
    assert len(await store.journal(RUN)) == 3


async def test_each_generation_is_a_row(store: Store):
    """What each generation was begun with, and when, is in the journal; the start stays as it was.

    So every generation can be opened, and who starts the run again gets it.
    """
    claim = await claimed(store)
    await store.continue_as(claim.fence, JsonText('{"n":2}'))
    (again,) = await store.claim(LANE, 1, OTHER)
    await store.continue_as(again.fence, JsonText('{"n":3}'))
    (third,) = await store.claim(LANE, 1, OTHER)

    rows = {each.key: each for each in await store.journal(RUN)}
    assert {key: row.input for key, row in rows.items()} == {
        "run": '{"n":1}',
        "g1": '{"n":2}',
        "g2": '{"n":3}',
    }
    assert {row.state for key, row in rows.items() if key != "run"} == {PromiseState.RESOLVED}
    assert [rows[Key(key)].seq for key in ("run", "g1", "g2")] == [1, 2, 3]
    assert third.input == '{"n":3}'


async def test_inbox_stays(store: Store):
    """What was sent to the run is there for its next generation."""
    claim = await claimed(store)
    await store.send_signal(signal())

    await store.continue_as(claim.fence, JsonText("{}"))

    assert len(await store.inbox(RUN, "go")) == 1
    assert (await store.get(RUN)).wake_version == 1


async def test_own_promise(store: Store):
    """The run's outcome stays open under its fingerprint: its starter still gets this run."""
    claim = await claimed(store)
    await store.continue_as(claim.fence, JsonText('{"n":2}'))

    own = await store.promise(RUN)
    again, _ = await store.start(new_run())

    assert (own.state, own.fingerprint, own.seq) == (PromiseState.PENDING, "f-1", 1)
    assert (again.id, again.generation) == (RUN, 1)


async def test_renew_is_a_give_back(store: Store):
    """Who begins anew has not crashed: the count of crashes begins anew, too."""
    await store.start(new_run())
    await crash(store)
    (claim,) = await store.claim(LANE, 1, OWNER)

    await store.continue_as(claim.fence, JsonText("{}"))

    assert (await store.get(RUN)).crashes == 0


async def test_renew_is_fenced(store: Store):
    """A claim that was lost renews nothing, and one that renewed commits nothing more."""
    claim = await claimed(store)
    await store.release([claim.fence])
    (successor,) = await store.claim(LANE, 1, OTHER)

    assert not await store.continue_as(claim.fence, JsonText("1"))
    assert [each.key for each in await store.journal(RUN)] == ["run"]
    assert (await store.get(RUN)).generation == 0
    assert await store.continue_as(successor.fence, JsonText("2"))
    assert not await store.continue_as(successor.fence, JsonText("3"))
    assert await store.commit([checkpoint(successor.fence, "work.0")]) == [Fenced()]


async def test_long_input(store: Store, db: Database):
    """A long input of a new generation is kept as a blob, and claimed whole."""
    claim = await claimed(store)

    await store.continue_as(claim.fence, LONG)

    (again,) = await store.claim(LANE, 1, OTHER)
    assert again.input == LONG
    assert db.value("SELECT count(*) FROM blobs") == 1


async def test_child_renews(store: Store):
    """A child begins anew under the promise that its parent waits for."""
    parent = await claimed(store)
    child = await spawned(store, parent)

    await store.continue_as(child.fence, JsonText('{"n":3}'))

    (again,) = await store.claim("child.0/work/1", 1, OTHER)
    assert (again.run.id, again.input) == (child.run.id, '{"n":3}')
    await store.commit([end_child(again)])
    assert [row.id for row in await store.settled_outside(RUN, 0)] == [child.run.id]


async def test_cancel_request_stays(store: Store):
    """A run that was asked to end is asked in its next generation as well."""
    claim = await claimed(store)
    await store.cancel(RUN)

    await store.continue_as(claim.fence, JsonText("{}"))

    assert (await store.get(RUN)).cancel_requested
