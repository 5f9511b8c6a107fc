"""Both stores keep one contract: what was committed stands, and is read as it was written."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from substrate.store.store import Store
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId
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
    intent,
    opened,
    promise,
)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


# ------------------------------------------------------------------------------------ committing


async def test_written_as_it_is(store: Store):
    """What was committed is read back field for field, with its seq and the epoch that wrote it."""
    claim = await claimed(store)
    full = replace(
        promise("run", "work.0"),
        effect=Effect.IDEMPOTENT,
        fingerprint="abc",
        input=JsonText("[1,2]"),
        error=JsonText('{"type":"E"}'),
        usage=JsonText('{"tokens":3}'),
        attempts=JsonText('[{"type":"E"}]'),
    )

    outcomes = await store.commit([Checkpoint(claim.fence, full)])

    assert outcomes == [Written(2)]
    assert (await store.journal(claim.run.id))[1] == replace(full, seq=2, epoch=1)


async def test_batch_and_single_write_the_same(store: Store):
    """A batch writes of each checkpoint exactly what it would have written of it alone."""
    one, two, three = [await claimed(store, id_) for id_ in ("one", "two", "three")]

    await store.commit([checkpoint(one.fence, "a.0")])
    await store.commit([intent(one.fence, "b.0")])
    await store.commit([checkpoint(one.fence, "b.0")])
    await store.commit([checkpoint(two.fence, "a.0"), checkpoint(three.fence, "a.0")])
    await store.commit([intent(two.fence, "b.0"), intent(three.fence, "b.0")])
    await store.commit([checkpoint(two.fence, "b.0"), checkpoint(three.fence, "b.0")])

    journals = [
        [replace(row, id=None, run_id=None, created_at=0) for row in await store.journal(id_)]
        for id_ in ("one", "two", "three")
    ]
    assert journals[0] == journals[1] == journals[2]
    assert [row.seq for row in journals[0]] == [1, 2, 4]


async def test_first_writer_wins(store: Store):
    """A promise is settled once; whoever comes second adopts the outcome of the first."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0", '"first"')])

    again = checkpoint(claim.fence, "work.0", '"second"')
    alone = await store.commit([again])
    in_batch = await store.commit([again, checkpoint(claim.fence, "work.1")])
    aside = await store.commit([again], wait=True)

    (_, winner, _) = await store.journal(claim.run.id)
    assert winner.value == '"first"'
    assert alone == aside == [Adopted(winner)]
    assert in_batch[0] == Adopted(winner)
    assert isinstance(in_batch[1], Written)


async def test_late_intent_adopts(store: Store):
    """An intent that comes when its promise is settled changes nothing."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0")])

    (outcome,) = await store.commit([intent(claim.fence, "work.0")])

    assert isinstance(outcome, Adopted)
    assert outcome.promise.state is PromiseState.RESOLVED


async def test_lost_claim_is_fenced(store: Store):
    """A claim that was taken over, or never was, writes nothing."""
    claim = await claimed(store)
    await store.release([claim.fence])
    (successor,) = await store.claim(LANE, 1, OTHER)
    impostor = replace(successor.fence, owner=OWNER)
    unknown = replace(claim.fence, run_id=RunId("nobody"))
    before = await store.get(claim.run.id)

    for fence in (claim.fence, impostor, unknown):
        (aside,) = await store.commit([checkpoint(fence, "work.0")], wait=True)
        assert aside == Fenced()
    in_batch = await store.commit(
        [checkpoint(claim.fence, "work.0"), checkpoint(impostor, "work.1")]
    )

    assert await store.commit([checkpoint(claim.fence, "work.0")]) == [Fenced()]
    assert in_batch == [Fenced(), Fenced()]
    assert await store.get(claim.run.id) == before
    assert len(await store.journal(claim.run.id)) == 1


async def test_mixed_batch(store: Store):
    """The outcomes of a batch come in its order, whatever each of them is."""
    one, two = await claimed(store, "one"), await claimed(store, "two")
    lost = await claimed(store, "lost")
    await store.release([lost.fence])
    await store.commit([checkpoint(two.fence, "a.0", "0")])

    outcomes = await store.commit(
        [
            checkpoint(one.fence, "a.0"),
            checkpoint(two.fence, "a.0"),
            checkpoint(lost.fence, "a.0"),
            checkpoint(one.fence, "a.1"),
            intent(two.fence, "a.1"),
        ]
    )

    assert [type(outcome) for outcome in outcomes] == [Written, Adopted, Fenced, Written, Written]
    assert [outcomes[0].seq, outcomes[3].seq] == [2, 3]


async def test_end_of_a_run(store: Store, db: Database):
    """Ending a run settles its promise and gives the claim up, in one commit."""
    claim = await claimed(store)

    (outcome,) = await store.commit([end(claim)])

    run, own = await store.get(claim.run.id), await store.promise(claim.run.id)
    assert outcome == Written(2)
    assert (run.status, run.lease_owner, run.ended_at) == (RunStatus.DONE, None, own.settled_at)
    assert (own.state, own.value, own.seq) == (PromiseState.RESOLVED, '"done"', 2)
    kept = db.value("SELECT expires_at - ended_at FROM runs")
    assert kept == 30 * 24 * 3600 * 1000
    assert await store.commit([checkpoint(claim.fence, "late.0")]) == [Fenced()]


async def test_pause_keeps_the_outcome_open(store: Store):
    """Pausing a run gives the claim up, and leaves its outcome to be settled later."""
    claim = await claimed(store)
    why = replace(end(claim).promise, state=PromiseState.PENDING, settled_at=None, value=None)
    why = replace(why, error=JsonText('{"type":"FingerprintMismatch"}'))

    await store.commit([Checkpoint(claim.fence, why, RunStatus.PAUSED)])

    run, own = await store.get(claim.run.id), await store.promise(claim.run.id)
    assert (run.status, run.lease_owner, run.ended_at) == (RunStatus.PAUSED, None, None)
    assert (own.state, own.error) == (PromiseState.PENDING, '{"type":"FingerprintMismatch"}')


async def test_refused_batch_writes_nothing(store: Store):
    """A batch with a row that the database refuses raises, and nothing of it is written."""
    claim = await claimed(store)
    bad = checkpoint(claim.fence, "bad.0")
    bad = replace(bad, promise=replace(bad.promise, name="x" * 10, created_at=None))

    with pytest.raises(CheckpointRefused):
        await store.commit([checkpoint(claim.fence, "good.0"), bad])
    with pytest.raises(CheckpointRefused):
        await store.commit([bad])

    assert len(await store.journal(claim.run.id)) == 1
    assert await store.commit([checkpoint(claim.fence, "good.0")]) == [Written(2)]


async def test_settled_reads_back(store: Store):
    """After a commit was cut off, reading back says of each checkpoint what became of it."""
    claim, rival = await claimed(store), await claimed(store, "rival")
    ours, lost = checkpoint(claim.fence, "ours.0"), checkpoint(claim.fence, "lost.0")
    theirs = checkpoint(rival.fence, "theirs.0", '"ours"')
    meant = intent(claim.fence, "meant.0")
    await store.commit([ours, meant, checkpoint(rival.fence, "theirs.0", '"theirs"')])

    found = await store.read_back([ours, lost, theirs, meant])

    assert found[:2] == [Written(2), None]
    assert isinstance(found[2], Adopted)
    assert found[2].promise.value == '"theirs"'
    assert found[3] == Written(3)


async def test_settled_knows_whose_intent_it_is(store: Store):
    """An intent of an earlier claim is not taken for one that this claim has sent."""
    claim = await claimed(store)
    await store.commit([intent(claim.fence, "work.0")])
    await store.release([claim.fence])
    (successor,) = await store.claim(LANE, 1, OWNER)

    found = await store.read_back(
        [intent(claim.fence, "work.0"), intent(successor.fence, "work.0")]
    )

    assert found == [Written(2), None]


# --------------------------------------------------------------------------------------- reading


async def test_feed_shows_each_change(store: Store):
    """Reading on from the last seq shows each change once, also of a row seen before."""
    claim = await claimed(store)
    await store.commit([intent(claim.fence, "a.0")])
    await store.commit([checkpoint(claim.fence, "b.0")])
    seen = await store.journal(claim.run.id)
    await store.commit([checkpoint(claim.fence, "a.0")])
    await store.commit([end(claim)])

    new = await store.journal(claim.run.id, after=seen[-1].seq)

    assert [(row.key, row.state.value) for row in seen] == [
        ("run", "pending"),
        ("a.0", "pending"),
        ("b.0", "resolved"),
    ]
    assert [(row.key, row.state.value) for row in new] == [("a.0", "resolved"), ("run", "resolved")]
    assert [row.seq for row in (*seen, *new)] == [1, 2, 3, 4, 5]


async def test_feed_misses_nothing_under_writers(store_url: str):
    """A reader that goes on from its last seq, while others write, sees every change in order."""
    async with opened(store_url) as one, opened(store_url) as two, opened(store_url) as reader:
        claim = await claimed(one)
        writers = [(one, "a"), (one, "b"), (two, "c"), (two, "d")]

        async def write(store: Store, name: str) -> None:
            for i in range(25):
                key = f"{name}.{i}"
                await store.commit([intent(claim.fence, key)], wait=True)
                await store.commit([checkpoint(claim.fence, key)], wait=True)
                await asyncio.sleep(0)  # a commit to SQLite need not yield to the reader

        writing = asyncio.gather(*(write(store, name) for store, name in writers))
        seen: list[tuple[int, str, bool]] = []
        while not writing.done() or not seen or seen[-1][0] < 201:
            after = seen[-1][0] if seen else 0
            rows = await reader.journal(claim.run.id, after)
            seen += [(row.seq, row.key, row.is_settled) for row in rows]
            await asyncio.sleep(0)
        await writing

    assert [seq for seq, _, _ in seen] == sorted({seq for seq, _, _ in seen})
    settled = [key for _, key, is_settled in seen if is_settled]
    assert sorted(settled) == sorted(f"{name}.{i}" for _, name in writers for i in range(25))


async def test_plain_sql(store: Store, db: Database):
    """The journal of a run is rows that plain SQL reads, with payloads as JSON text."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0", '{"answer":42}')])
    await store.commit([intent(claim.fence, "work.1")])

    found = db.rows("SELECT key, state FROM promises WHERE run_id = 'run' ORDER BY seq")
    value = db.value("SELECT value ->> 'answer' FROM promises WHERE key = 'work.0'")

    assert found == [("run", "pending"), ("work.0", "resolved"), ("work.1", "pending")]
    assert str(value) == "42"


async def test_cancelled_in_the_middle(store: Store):
    """A call that is cancelled at any moment leaves the store whole, and usable."""
    claim = await claimed(store)
    big = '"' + "x" * 40_000 + '"'

    for i in range(40):
        call = asyncio.create_task(store.commit([checkpoint(claim.fence, f"work.{i}", big)]))
        for _ in range(i // 4):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])

    assert isinstance((await store.commit([checkpoint(claim.fence, "last.0")]))[0], Written)
    journal = await store.journal(claim.run.id)
    assert all(row.value == big for row in journal if row.key.startswith("work"))
    assert [row.seq for row in journal] == sorted({row.seq for row in journal})


async def test_one_store_serves_many_at_once(store: Store):
    """Calls that overlap on one store do not disturb each other, transactions included."""
    claims = [await claimed(store, f"run-{i}") for i in range(12)]
    big = '"' + "x" * 20_000 + '"'

    async def live(i: int) -> None:
        for step in range(5):
            value = big if step % 2 else str(i)
            outcomes = await store.commit([checkpoint(claims[i].fence, f"s.{step}", value)])
            assert [type(outcome) for outcome in outcomes] == [Written]
            assert (await store.journal(claims[i].run.id))[-1].value == value

    await asyncio.gather(*(live(i) for i in range(12)))

    assert {run.last_seq for run in await store.list()} == {6}


def test_kinds_are_the_schemas(db: Database):
    """The words that a column takes are those of Python, and no others."""
    sql = "SELECT sql FROM sqlite_schema WHERE name = 'promises'"
    if db.is_postgres:
        sql = (
            "SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint"
            " WHERE conrelid = 'promises'::regclass"
        )
    definition = db.value(sql)

    for word in (*Kind, *PromiseState):
        assert f"'{word}'" in definition
