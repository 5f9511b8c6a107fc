"""What a transactional step writes is committed with its promise, or not at all."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import apsw
import psycopg
import pytest

from substrate.store.store import Store
from substrate.store.transaction import TX_LIMIT, Transaction
from substrate.values.errors import CheckpointRefused, Misuse, StoreError, StoreUnreachable
from substrate.values.ids import RunId
from substrate.values.records import (
    Claim,
    Effect,
    Fenced,
    JsonText,
    Promise,
    PromiseState,
    RunStatus,
    Written,
)
from tests.stores import (
    LANE,
    LIMIT_S,
    OTHER,
    Database,
    checkpoint,
    claimed,
    database,
    eventually,
    opened,
    promise,
    signal,
)

RUN = RunId("run")
DONE = replace(promise("run", "pay.0"), effect=Effect.TRANSACTIONAL)
LIMIT = TX_LIMIT.total_seconds()
SLOW = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT count(*) FROM n",
    "postgres": "SELECT pg_sleep(60)",
}


class Broken(Exception):
    """What a step of ours raises."""


def step(work: Callable[[Transaction], Any], outcome: Promise = DONE) -> Callable[..., Any]:
    """Return a call that does the work in a thread, as an execution does, and has this outcome."""

    async def call(tx: Transaction) -> Promise:
        await asyncio.to_thread(work, tx)
        return outcome

    return call


def pay(tx: Transaction) -> None:
    """Write a row of the user's."""
    tx.execute("INSERT INTO payments VALUES (1)")


def refusal(tx: Transaction, statement: str) -> Misuse:
    """Execute a statement that is refused; return the error."""
    with pytest.raises(Misuse) as raised:
        tx.execute(statement)
    return raised.value


async def take_over(store: Store, claim: Claim) -> None:
    """Let another worker have the run."""
    await store.release([claim.fence])
    await store.claim(LANE, 1, OTHER)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        with database(store_url) as db:
            db.rows("CREATE TABLE payments (n INTEGER PRIMARY KEY)")
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


async def nothing_was_written(store: Store, db: Database) -> bool:
    """Whether neither the user's row nor the promise is there, and nobody holds a lock."""
    (other,) = await store.commit([checkpoint((await claimed(store, "other")).fence, "work.0")])
    assert isinstance(other, Written)
    has_promise = await store.promise(DONE.id) is not None
    return not has_promise and db.value("SELECT count(*) FROM payments") == 0


# -------------------------------------------------------------------------- committed together


async def test_commit(store: Store, db: Database):
    """The user's rows and the promise are there after one commit."""
    claim = await claimed(store)

    written = await store.transact(claim.fence, step(pay))

    assert written == (await store.journal(RUN))[-1] == replace(DONE, seq=2, epoch=1)
    assert db.rows("SELECT n FROM payments") == [(1,)]


async def test_nothing_before_the_commit(store: Store, db: Database):
    """Nobody sees what a step has written before its promise is there, too."""
    claim = await claimed(store)
    seen = []

    async def call(tx: Transaction) -> Promise:
        await asyncio.to_thread(pay, tx)
        seen.append(db.value("SELECT count(*) FROM payments"))
        return DONE

    await store.transact(claim.fence, call)

    assert seen == [0]


async def test_rows(store: Store, db: Database):
    """A statement takes parameters, and gives its rows; one without rows gives none."""
    claim = await claimed(store)
    mark = "%s" if db.is_postgres else "?"
    found = []

    def work(tx: Transaction) -> None:
        found.append(tx.execute(f"INSERT INTO payments VALUES ({mark})", (5,)))
        found.append(tx.execute(f"INSERT INTO payments VALUES ({mark}) RETURNING n", (6,)))
        found.append(tx.execute("SELECT n, 'a%' FROM payments ORDER BY n"))
        found.append(tx.execute("SELECT n FROM payments WHERE n > 6"))

    await store.transact(claim.fence, step(work))

    assert found == [[], [(6,)], [(5, "a%"), (6, "a%")], []]


async def test_long_value(store: Store, db: Database):
    """A long outcome is kept whole."""
    claim = await claimed(store)
    long = replace(DONE, value=JsonText(f'"{"x" * 40_000}"'))

    await store.transact(claim.fence, step(pay, long))

    assert (await store.promise(DONE.id)).value == long.value
    assert db.value("SELECT count(*) FROM blobs") == 1


async def test_rejection_commits(store: Store, db: Database):
    """Whether the step succeeded is the caller's to say: a rejected promise commits as well."""
    claim = await claimed(store)
    rejected = replace(promise("run", "pay.0", PromiseState.REJECTED))

    await store.transact(claim.fence, step(pay, rejected))

    assert (await store.promise(DONE.id)).state is PromiseState.REJECTED
    assert db.value("SELECT count(*) FROM payments") == 1


async def test_steps_after_each_other(store: Store, db: Database):
    """A run makes one transactional step after another, and others between them."""
    claim = await claimed(store)
    for i in range(5):
        outcome = replace(promise("run", f"pay.{i}"))
        insert = f"INSERT INTO payments VALUES ({i})"
        await store.transact(claim.fence, step(lambda tx, s=insert: tx.execute(s), outcome))
        await store.commit([checkpoint(claim.fence, f"work.{i}")])

    assert db.value("SELECT count(*) FROM payments") == 5
    assert len(await store.journal(RUN)) == 11


async def test_many_at_once(store_url: str):
    """Transactional steps of many runs, and other commits between them, all get through."""
    async with opened(store_url) as one, opened(store_url) as two:
        with database(store_url) as db:
            db.rows("CREATE TABLE payments (n INTEGER PRIMARY KEY)")

            async def live(store: Store, i: int) -> None:
                claim = await claimed(store, f"run-{i}")
                outcome = promise(f"run-{i}", "pay.0")
                insert = f"INSERT INTO payments VALUES ({i})"
                await store.transact(claim.fence, step(lambda tx: tx.execute(insert), outcome))
                await store.commit([checkpoint(claim.fence, "work.0")], wait=True)

            await asyncio.gather(*(live((one, two)[i % 2], i) for i in range(30)))

            assert db.value("SELECT count(*) FROM payments") == 30
            assert db.value("SELECT count(*) FROM promises WHERE key = 'pay.0'") == 30


# --------------------------------------------------------------------------------- rolled back


async def test_raise(store: Store, db: Database):
    """What the step raises is raised as it is, and what it wrote is gone."""
    claim = await claimed(store)

    def work(tx: Transaction) -> None:
        pay(tx)
        raise Broken("no money")

    with pytest.raises(Broken, match="no money"):
        await store.transact(claim.fence, step(work))
    assert await nothing_was_written(store, db)
    await store.transact(claim.fence, step(pay))
    assert db.value("SELECT count(*) FROM payments") == 1


async def test_fenced(store: Store, db: Database):
    """A step whose claim was lost before leaves nothing behind."""
    claim = await claimed(store)
    await take_over(store, claim)

    assert await store.transact(claim.fence, step(pay)) == Fenced()
    assert (await store.get(RUN)).last_seq == 1
    assert await nothing_was_written(store, db)


async def test_fenced_meanwhile(postgres_url: str):
    """A step whose run is taken over while it works leaves nothing behind, and delays nobody."""
    async with opened(postgres_url) as store:
        with database(postgres_url) as db:
            db.rows("CREATE TABLE payments (n INTEGER PRIMARY KEY)")
            claim = await claimed(store)

            async def call(tx: Transaction) -> Promise:
                await asyncio.to_thread(pay, tx)
                await take_over(store, claim)
                return DONE

            assert await store.transact(claim.fence, call) == Fenced()
            assert (await store.get(RUN)).last_seq == 1
            assert await nothing_was_written(store, db)


async def test_adopted(store: Store, db: Database):
    """A step whose promise was settled before leaves nothing behind, and returns that outcome."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "pay.0", '"first"')])
    before = await store.get(RUN)

    first = await store.transact(claim.fence, step(pay))

    assert (first.value, first.seq) == ('"first"', 2)
    assert db.value("SELECT count(*) FROM payments") == 0
    assert await store.get(RUN) == before


async def test_refused_promise(store: Store, db: Database):
    """A promise that the database rejects takes the user's rows with it."""
    claim = await claimed(store)
    unsound = replace(DONE, value=JsonText('"\udc80"'))

    with pytest.raises(CheckpointRefused):
        await store.transact(claim.fence, step(pay, unsound))
    assert await nothing_was_written(store, db)


async def test_cancelled_caller(store: Store, db: Database):
    """A caller that is cancelled leaves nothing behind, and its transaction is closed."""
    claim = await claimed(store)
    began, go_on, late = threading.Event(), threading.Event(), []

    def work(tx: Transaction) -> None:
        pay(tx)
        began.set()
        go_on.wait(LIMIT_S)
        late.append(refusal(tx, "SELECT 1"))

    transacting = asyncio.create_task(store.transact(claim.fence, step(work)))
    await asyncio.to_thread(began.wait, LIMIT_S)
    transacting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await transacting

    assert await nothing_was_written(store, db)
    go_on.set()
    assert await eventually(lambda: late)


async def test_cancelled_in_a_statement(store: Store, db: Database):
    """A caller that is cancelled does not wait for the statement that is under way."""
    claim = await claimed(store)
    about_to, late = threading.Event(), []

    def work(tx: Transaction) -> None:
        pay(tx)
        about_to.set()
        late.append(refusal(tx, SLOW["postgres" if db.is_postgres else "sqlite"]))

    async with asyncio.timeout(LIMIT):
        transacting = asyncio.create_task(store.transact(claim.fence, step(work)))
        await asyncio.to_thread(about_to.wait)
        if db.is_postgres:
            asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            await eventually(lambda: db.value(asleep))
        transacting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await transacting
        assert await eventually(lambda: late)

    assert await nothing_was_written(store, db)


async def test_closed_afterwards(store: Store):
    """Who keeps the transaction and uses it later is told that it is closed."""
    claim = await claimed(store)
    kept = []

    await store.transact(claim.fence, step(kept.append))

    with pytest.raises(Misuse, match="closed: its step has ended"):
        await asyncio.to_thread(kept[0].execute, "SELECT 1")


async def test_event_loop(store: Store):
    """A transaction is not used on the event loop, which it would stop."""
    claim = await claimed(store)

    async def call(tx: Transaction) -> Promise:
        tx.execute("SELECT 1")
        return DONE

    with pytest.raises(Misuse, match="would stop the event loop"):
        await store.transact(claim.fence, call)


# ----------------------------------------------------------------------------------- the limit


@pytest.mark.parametrize("kind", ["idle", "busy"])
async def test_too_long(store: Store, db: Database, kind: str):
    """A step that takes too long is rolled back, even in the middle of a statement."""
    claim = await claimed(store)
    go_on, late = threading.Event(), []

    def work(tx: Transaction) -> None:
        pay(tx)
        if kind == "busy":
            late.append(refusal(tx, SLOW["postgres" if db.is_postgres else "sqlite"]))
        else:
            go_on.wait(LIMIT_S)
        late.append(refusal(tx, "INSERT INTO payments VALUES (2)"))

    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"2 s, the limit.* in a step before"):
        await store.transact(claim.fence, step(work))
    took = time.monotonic() - began

    assert LIMIT <= took < LIMIT + 1
    assert await nothing_was_written(store, db)
    go_on.set()
    assert await eventually(lambda: len(late) == (2 if kind == "busy" else 1))
    assert all("closed: its transaction had been open" in str(one) for one in late)
    await store.transact(claim.fence, step(pay))
    assert db.value("SELECT count(*) FROM payments") == 1


async def test_loop_goes_on(store: Store):
    """While a step waits, and while it is rolled back, the event loop does other things."""
    claim = await claimed(store)
    gaps = [0.0]

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - began)

    watching = asyncio.create_task(watch())
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        await store.transact(claim.fence, step(lambda _: go_on.wait(LIMIT_S)))
    go_on.set()
    watching.cancel()

    assert len(gaps) > 100
    assert max(gaps) < LIMIT / 2


async def test_others_commit_meanwhile(postgres_url: str):
    """On Postgres other runs commit while a step takes its time, and its own run is not locked."""
    async with opened(postgres_url) as store:
        claim, other = await claimed(store), await claimed(store, "other")
        began, go_on = threading.Event(), threading.Event()

        def work(tx: Transaction) -> None:
            tx.execute("SELECT 1")
            began.set()
            go_on.wait(LIMIT_S)

        transacting = asyncio.create_task(store.transact(claim.fence, step(work)))
        await asyncio.to_thread(began.wait, LIMIT_S)
        batch = [checkpoint(claim.fence, "work.0"), checkpoint(other.fence, "work.0")]

        assert await store.commit(batch) == [Written(2), Written(2)]
        assert await store.send_signal(signal())
        go_on.set()
        assert (await transacting).seq == 4


# ------------------------------------------------------------------------- statements of others


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        " commit ;",
        "-- note\nCOMMIT",
        "/* a /* nested */ note */ COMMIT",
        ";COMMIT",
        "END",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT a",
        "RELEASE a",
        "INSERT INTO payments VALUES (2); COMMIT",
        "SELECT 1; SELECT 2; COMMIT; BEGIN",
    ],
)
@pytest.mark.parametrize("is_caught", [False, True])
async def test_refused_statement(store: Store, db: Database, statement: str, *, is_caught: bool):
    """A statement that would end or nest the transaction is refused, and nothing is committed."""
    if "/* nested */" in statement and not db.is_postgres:
        statement = "/* note */ COMMIT"
    claim = await claimed(store)

    def work(tx: Transaction) -> None:
        pay(tx)
        try:
            tx.execute(statement)
        except Misuse:
            if not is_caught:
                raise

    with pytest.raises(Misuse, match="transactional step refuses"):
        await store.transact(claim.fence, step(work))
    assert await nothing_was_written(store, db)


@pytest.mark.parametrize(
    "statement", ["PRAGMA user_version = 5", "ATTACH 'other.db' AS other", "DETACH main"]
)
async def test_refused_by_sqlite(sqlite_url: str, statement: str):
    """SQLite's settings and other files are no part of a transaction."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)
        with pytest.raises(Misuse, match="transactional step refuses"):
            await store.transact(claim.fence, step(lambda tx: tx.execute(statement)))
        assert (await store.get(RUN)).last_seq == 1


async def test_statement_that_rolls_back(sqlite_url: str):
    """A conflict that rolls all back ends the step, whatever the function makes of it."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)

        def work(tx: Transaction) -> None:
            tx.execute("CREATE TABLE payments (n INTEGER PRIMARY KEY)")
            pay(tx)
            with pytest.raises(apsw.ConstraintError):
                tx.execute("INSERT OR ROLLBACK INTO payments VALUES (1)")
            with pytest.raises(Misuse):
                tx.execute("SELECT 1")

        with pytest.raises(Misuse, match="rolled its transaction back"):
            await store.transact(claim.fence, step(work))
        assert await store.promise(DONE.id) is None
        await store.commit([checkpoint(claim.fence, "work.0")])


@pytest.mark.parametrize(
    "statement", ["SET search_path = other", "LISTEN x", "DISCARD ALL", "RESET ALL"]
)
async def test_refused_by_postgres(postgres_url: str, statement: str):
    """What would outlive the transaction in a connection that others use is refused."""
    async with opened(postgres_url) as store:
        claim = await claimed(store)
        with pytest.raises(Misuse, match="transactional step refuses"):
            await store.transact(claim.fence, step(lambda tx: tx.execute(statement)))
        await store.transact(
            claim.fence, step(lambda tx: tx.execute("SET LOCAL lock_timeout = '1s'"))
        )
        assert (await store.get(RUN)).last_seq == 2


async def test_not_sql(store: Store):
    """What is no SQL text is refused before it goes anywhere."""
    claim = await claimed(store)
    with pytest.raises(Misuse, match="7 is no SQL text"):
        await store.transact(claim.fence, step(lambda tx: tx.execute(7)))


# --------------------------------------------------------------------------------- user errors


@pytest.mark.parametrize("statement", ["INSERT INTO payments VALUES (1)", "SELEC 1", "SELECT nope"])
async def test_users_error(store: Store, db: Database, statement: str):
    """An error of the user's own statement reaches the function, and its caller, as it is."""
    claim = await claimed(store)
    seen = []

    def work(tx: Transaction) -> None:
        pay(tx)
        try:
            tx.execute(statement)
        except (apsw.Error, psycopg.Error) as error:
            seen.append(error)
            raise

    with pytest.raises((apsw.Error, psycopg.Error)) as raised:
        await store.transact(claim.fence, step(work))

    assert raised.value is seen[0]
    assert not isinstance(raised.value, StoreError)
    assert isinstance(raised.value, psycopg.Error) == db.is_postgres
    assert await nothing_was_written(store, db)


async def test_users_error_that_is_caught(store: Store, db: Database):
    """A failed statement may be caught on SQLite; on Postgres it has spoilt the transaction."""
    claim = await claimed(store)

    def work(tx: Transaction) -> None:
        pay(tx)
        with pytest.raises((apsw.Error, psycopg.Error)):
            pay(tx)

    if db.is_postgres:
        with pytest.raises(psycopg.errors.UniqueViolation):
            await store.transact(claim.fence, step(work))
        assert await nothing_was_written(store, db)
    else:
        assert (await store.transact(claim.fence, step(work))).seq == 2
        assert db.value("SELECT count(*) FROM payments") == 1


async def test_lost_connection(postgres_url: str):
    """A step whose connection is cut is told what the store tells whoever loses one."""
    async with opened(postgres_url) as store:
        claim = await claimed(store)

        def work(tx: Transaction) -> None:
            ((pid,),) = tx.execute("SELECT pg_backend_pid()")
            with database(postgres_url) as db:
                db.value("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            tx.execute("SELECT 1")

        with pytest.raises(StoreUnreachable):
            await store.transact(claim.fence, step(work))
        with pytest.raises(StoreUnreachable):
            await store.transact(claim.fence, step(lambda tx: cut_off(tx, postgres_url)))
        assert (await store.get(RUN)).status is RunStatus.RUNNING
        await store.transact(claim.fence, step(lambda tx: tx.execute("SELECT 1")))


def cut_off(tx: Transaction, url: str) -> None:
    """Cut the transaction's connection, and say nothing."""
    ((pid,),) = tx.execute("SELECT pg_backend_pid()")
    with database(url) as db:
        db.value("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)


async def test_integers_of_users_are_as_psycopg_sends_them(postgres_url: str):
    """An integer that a step gives to Postgres has the type that psycopg gives it."""
    values = [5, 70_000, 2**40, 2**70]
    theirs: list[str] = []

    def work(tx: Transaction) -> None:
        for value in values:
            theirs.extend(tx.execute("SELECT pg_typeof(%s)::text", (value,))[0])

    async with opened(postgres_url) as store:
        claim = await claimed(store)
        await store.transact(claim.fence, step(work))

    assert theirs == ["smallint", "integer", "bigint", "numeric"]
