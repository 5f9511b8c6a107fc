"""Both stores keep the same contract: what is started, claimed and committed, and what is read."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import chain

import pytest

from substrate.store.protocol import Store
from substrate.values.errors import CheckpointRefused, IdTaken
from substrate.values.ids import RunId
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Effect,
    Fenced,
    Inbox,
    Json,
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
    new_run,
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

    found = await store.inboxes(OWNER)

    assert sorted(found, key=lambda inbox: inbox.run_id) == [
        Inbox(RunId("a"), 1, 0),
        Inbox(RunId("b"), 1, 0),
    ]


# ------------------------------------------------------------------------------------ committing


async def test_written_as_it_is(store: Store):
    """What was committed is read back field for field, with its seq and the epoch that wrote it."""
    claim = await claimed(store)
    full = replace(
        promise("run", "work.0"),
        effect=Effect.IDEMPOTENT,
        fingerprint="abc",
        input=Json("[1,2]"),
        error=Json('{"type":"E"}'),
        usage=Json('{"tokens":3}'),
        attempts=Json('[{"type":"E"}]'),
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
    why = replace(why, error=Json('{"type":"FingerprintMismatch"}'))

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

    found = await store.settled([ours, lost, theirs, meant])

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

    found = await store.settled([intent(claim.fence, "work.0"), intent(successor.fence, "work.0")])

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
