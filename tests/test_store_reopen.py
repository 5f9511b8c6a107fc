"""A run that stopped and waits for a person goes on when that person says so."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from substrate.store.crashes import MAX_CRASHES
from substrate.store.store import Store
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import Key, RunId, promise_id
from substrate.values.records import (
    Checkpoint,
    JsonText,
    Kind,
    Promise,
    PromiseState,
    RunStatus,
    Written,
)
from tests.stores import (
    LANE,
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
)

RUN = RunId("run")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


async def test_reopen_paused(store: Store):
    """A paused run that is reopened is ready again, and its outcome is open."""
    claim = await claimed(store)
    paused = end(claim, RunStatus.PAUSED)
    paused = replace(paused.promise, state=PromiseState.PENDING, settled_at=None)
    await store.commit([Checkpoint(claim.fence, paused, RunStatus.PAUSED)])

    run = await store.resume(RUN)

    own = await store.promise(RUN)
    assert run == await store.get(RUN)
    assert run.status is RunStatus.READY
    assert (own.state, own.error, own.seq) == (PromiseState.PENDING, None, run.last_seq)
    assert [again.fence.epoch for again in await store.claim(LANE, 1, OTHER)] == [2]


async def test_reopen_dead(store: Store):
    """A dead run that is reopened starts with a clean slate, and can still succeed."""
    await store.start(new_run())
    for _ in range(MAX_CRASHES):
        await crash(store)

    run = await store.resume(RUN)
    (claim,) = await store.claim(LANE, 1, OTHER)

    assert (run.crashes, run.ended_at) == (0, None)
    assert isinstance((await store.commit([end(claim)]))[0], Written)
    assert (await store.promise(RUN)).state is PromiseState.RESOLVED


async def test_reopen_and_accept(store: Store, db: Database):
    """What a person lets stand joins the journal in the same commit; the record stays as it was."""
    claim = await claimed(store)
    step = checkpoint(claim.fence, "work.0")
    await store.commit([replace(step, promise=replace(step.promise, fingerprint="old"))])
    db.rows("UPDATE runs SET status = 'paused', lease_owner = NULL")
    (recorded,) = [each for each in await store.journal(RUN) if each.key == "work.0"]
    accepted = settled("accepted/work.0/new")

    await store.resume(RUN, accepted)

    rows = {each.key: each for each in await store.journal(RUN)}
    assert rows[Key("work.0")] == recorded
    assert rows[accepted.key].value == accepted.value
    assert {each.seq for each in rows.values()} == {2, 3, 4}
    assert (await store.get(RUN)).last_seq == 4


async def test_accepted_twice(store: Store, db: Database):
    """The same acceptance of a second pause changes nothing of the first."""
    await claimed(store)
    accepted = settled("accepted/work.0/new")
    for value in ("1", "2"):
        db.rows("UPDATE runs SET status = 'paused', lease_owner = NULL")
        await store.resume(RUN, replace(accepted, value=JsonText(value)))

    (kept,) = [each for each in await store.journal(RUN) if each.key == accepted.key]
    assert kept.value == "1"


def settled(key: str) -> Promise:
    """Return a row about the run itself, as a person's acceptance is one."""
    return Promise(
        id=promise_id(RUN, Key(key)),
        run_id=RUN,
        key=Key(key),
        kind=Kind.RUN,
        name="work.0",
        state=PromiseState.RESOLVED,
        created_at=5,
        settled_at=5,
        fingerprint="new",
        value=JsonText('{"by":"ann"}'),
    )


async def test_reopen_failed(store: Store, db: Database):
    """A failed run that is reopened goes on, and is not swept when its failure would have been."""
    claim = await claimed(store)
    await store.commit([end(claim, RunStatus.FAILED)])

    run = await store.resume(RUN)

    assert (run.status, run.ended_at) == (RunStatus.READY, None)
    assert db.value("SELECT expires_at FROM runs") is None
    assert (await store.promise(RUN)).state is PromiseState.PENDING


async def test_reopen_of_others(store: Store):
    """A run that is unknown, at work or done is not reopened."""
    with pytest.raises(RunNotFound, match="'run'"):
        await store.resume(RUN)
    claim = await claimed(store)
    with pytest.raises(RunEnded, match="'run' is running; only a paused"):
        await store.resume(RUN)
    await store.commit([end(claim)])
    with pytest.raises(RunEnded, match="'run' is done; only a paused"):
        await store.resume(RUN)


async def test_reopen_paused_child(store: Store):
    """A paused child goes on when it is reopened; its promise, settled meanwhile, stays settled."""
    parent = await claimed(store)
    child = await spawned(store, parent)
    open_ = {"state": PromiseState.PENDING, "value": None, "settled_at": None}
    paused = replace(end_child(child).promise, **open_)
    await store.commit([Checkpoint(child.fence, paused, RunStatus.PAUSED)])
    given_up = replace(promise("run", "child.0", PromiseState.CANCELLED), kind=Kind.CHILD)
    await store.commit([Checkpoint(parent.fence, given_up)])
    before = await store.promise(child.run.id)

    run = await store.resume(child.run.id)

    assert run.status is RunStatus.READY
    assert await store.promise(child.run.id) == before


async def test_dead_child_stays(store: Store, db: Database):
    """A dead child is not reopened: its parent has been told, and a promise is settled once."""
    async with beating(store, OWNER, timedelta(milliseconds=1)):
        child = db.spawn(await claimed(store, "run", OTHER), "child.0")
        db.rows("UPDATE runs SET crashes = 2 WHERE id = :id", id=child.run.id)

        async def is_told() -> bool:
            await store.recover()
            told = await store.promise(child.run.id)
            return told is not None and told.is_settled

        await eventually(is_told)

    with pytest.raises(RunEnded, match=r"is dead, and its parent 'run' was told so .* on_dead='wa"):
        await store.resume(child.run.id)
    assert (await store.promise(child.run.id)).state is PromiseState.REJECTED
