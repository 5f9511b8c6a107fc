"""One row that was written by hand stops its own run at most: every other run goes on."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import apsw
import psycopg
import pytest

from substrate import Context, WorkerOptions, connect, durable
from substrate.store.store import Store
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId, part_of
from substrate.values.records import Fence, Owner, Promise
from tests.memories import SPACE, memory_write
from tests.primitives import KEPT, keep
from tests.stores import Database, claimed, database, eventually, new_run, opened

LIMITS = WorkerOptions(
    concurrency=64,
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=20),
    lease=timedelta(seconds=5),
    shutdown_grace=timedelta(seconds=5),
)
GONE = Owner("00000000-0000-0000-0000-00000000dead")
STANDS = ("ready", "due", "lost")
"""How a hostile run stands when a worker comes: claimable, to be woken, or a dead worker's."""

NUMBERS = (-(2**63), -1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1)
TEXTS = ("", "x" * 3000, "a#b~c", "\u202e\U0001f989", "' OR 1=1 --", '{"$int":"1_000"}', "[")
STRANGE = ("1.5", "'abc'", "x'00ff'", "true", "NULL", "1e400")
"""SQL of values that are of another type than most columns."""


async def act(n: int) -> int:
    return n


@durable
async def job(ctx: Context, n: int) -> int:
    return await ctx.step(act, n)


@durable
async def patient(ctx: Context, n: int) -> int:
    return await ctx.receive("go", int)


NEW = {
    "runs": None,
    "promises": None,
    "signals": "INSERT INTO signals (run_id, name, dedup, part, tenant, n, value, sent_at)"
    " VALUES (:id, 'go', 'd', :part, '', 1, '1', 1)",
    "blobs": "INSERT INTO blobs (root_id, hash, part, tenant, data)"
    " VALUES (:id, 'h', :part, '', {bytes})",
    "workers": "INSERT INTO workers (incarnation, tenant, host, backend_pid, beat_at, lease_until)"
    " VALUES (:id, '', 'h', 1, 0, 1)",
    "rate_limits": "INSERT INTO rate_limits (name, tenant, report, reported_at)"
    " VALUES (:id, '', '{{}}', 1)",
    "lanes": "INSERT INTO lanes (incarnation, lane, tenant) VALUES (:id, 'a', '')",
    "fleet": "INSERT INTO fleet (tenant, losses) VALUES (:id, 1)",
}
"""How the row of a hostile run comes to be in each table; `ostinato_migrations` is nobody's."""
OF_RUN = {
    "runs": "id",
    "promises": "id",
    "signals": "run_id",
    "blobs": "root_id",
    "workers": "incarnation",
    "lanes": "incarnation",
    "rate_limits": "name",
    "fleet": "tenant",
}


class Planter:
    """Puts hostile rows into a database, past the store, each with a run of its own."""

    def __init__(self, db: Database) -> None:
        self.tried: list[str] = []
        self.refused = 0
        self._db = db
        self._known: dict[str, list[str]] = {}

    def plant_all(self) -> None:
        """Try each column of each table at its extremes, and with values of other types."""
        for table in NEW:
            for column in self._columns(table):
                for value in NUMBERS:
                    for stands in STANDS if table == "runs" else STANDS[:1]:
                        self._plant(table, column, str(value), stands)
                for value in (*map(_quoted, TEXTS), *STRANGE):
                    self._plant(table, column, value, "ready")
        # The count that all share.
        self._change(f"INSERT INTO fleet (tenant, losses) VALUES ('', {2**63 - 1})", "")

    def add(self, id_: str, stands: str) -> None:
        """Add a run of `job` that has not begun, or was a dead worker's, or is due."""
        part = part_of(RunId(id_))
        for table in ("runs", "promises"):
            names = self._columns(table)
            given = {"id": ":id", "root_id": ":id", "run_id": ":id", "part": ":part"}
            if table == "runs" and stands == "due":
                given |= {"status": "'suspended'", "due_at": "1"}
            elif table == "runs" and stands == "lost":
                given |= {"status": "'running'", "epoch": "1", "lease_owner": f"'{GONE}'"}
            self._db.rows(
                f"INSERT INTO {table} ({', '.join(names)})"
                f" SELECT {', '.join(given.get(name, name) for name in names)}"
                f" FROM {table} WHERE id = 'template'",
                id=id_,
                part=part,
            )

    def _plant(self, table: str, column: str, value: str, stands: str) -> None:
        id_ = f"bad-{len(self.tried)}"
        self.tried.append(f"{table}.{column} = {value} ({stands})")
        self.add(id_, stands)
        if new := NEW[table]:
            blob = r"'\\x00'" if self._db.is_postgres else "x'00'"
            self._db.rows(new.format(bytes=blob), id=id_, part=part_of(RunId(id_)))
        if table == "workers":
            self._db.rows(
                "UPDATE runs SET status = 'running', lease_owner = :id WHERE id = :id", id=id_
            )
        self._change(f"UPDATE {table} SET {column} = {value} WHERE {OF_RUN[table]} = :id", id_)

    def _change(self, statement: str, id_: str) -> None:
        self._db.rows("SAVEPOINT before")
        try:
            self._db.rows(statement, id=id_)
        except (apsw.Error, psycopg.Error):
            self._db.rows("ROLLBACK TO before")
            self.refused += 1
        self._db.rows("RELEASE before")

    def _columns(self, table: str) -> list[str]:
        if table not in self._known:
            self._known[table] = columns(self._db, table)
        return self._known[table]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def columns(db: Database, table: str) -> list[str]:
    """Return the columns of a table."""
    if db.is_postgres:
        found = db.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = :table"
            " AND table_schema = 'public'",
            table=table,
        )
    else:
        found = db.rows("SELECT name FROM pragma_table_info(:table)", table=table)
    return [name for (name,) in found]


@contextmanager
def without_bounds(db: Database) -> Iterator[None]:
    """Let the block write what is beyond the bounds, as who may change the tables can."""
    if not db.is_postgres:
        db.rows("PRAGMA ignore_check_constraints = ON")
        yield
        return
    bounds = db.rows(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'c' AND conname ~ '_(counters|moments)$'"
    )
    for table, name, _ in bounds:
        db.rows(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield
    for table, name, definition in bounds:  # which hold for what is written from now on
        db.rows(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")


async def plant(url: str, *, is_old: bool) -> Planter:
    """Fill a database with good runs and hostile ones, in all ways to stand."""
    async with connect(url) as client:
        await client.start(job, 7, id="template")
        await client.start(patient, 7, id="patient")
    with database(url) as db, without_bounds(db) if is_old else nullcontext():
        planter = Planter(db)
        db.rows("BEGIN")
        db.rows("UPDATE runs SET rank = 0")
        for i in range(4):
            for stands in STANDS:
                planter.add(f"good-{stands}-{i}", stands)
        planter.plant_all()
        db.rows("COMMIT")
    return planter


@pytest.mark.parametrize("is_old", [False, True], ids=["new rows", "rows beyond the bounds"])
async def test_each_column_of_each_table(store_url, is_old, caplog, record_property):
    """Whatever stands in whatever column, the runs beside it are claimed, woken, taken back."""
    planter = await plant(store_url, is_old=is_old)
    good = [f"good-{stands}-{i}" for stands in STANDS for i in range(4)]
    async with (
        asyncio.timeout(60),
        connect(store_url) as client,
        client.work([job, patient], options=LIMITS),
    ):
        assert [await client.result(id_) for id_ in good] == [7] * len(good)
        await client.signal("patient", "go", 8)
        assert await client.result("patient") == 8
        for i in range(5):
            await client.start(job, i, id=f"new-{i}")
            assert await client.result(f"new-{i}") == i
        assert len(await client.list(limit=10_000)) > len(good)

    kind = store_url.partition(":")[0]
    tried = f"{len(planter.tried)} rows, {planter.refused} refused by the database"
    record_property(f"hostile rows, {kind}, {'old' if is_old else 'new'}", tried)
    assert len(planter.tried) > 1000
    assert "stumbled" not in caplog.text
    # A crash is told each time, and twelve are the most that a run is allowed.
    often = [each for each in Counter(caplog.messages).most_common(3) if each[1] > 12]
    assert often == []


async def test_an_owner_that_is_a_path(store_url, tmp_path):
    """A worker's name from a row leads to no file: its run is taken back, and nothing removed."""
    victim = tmp_path / "victim"
    victim.touch()
    owners = {"absolute": str(victim), "relative": "../victim"}
    async with opened(store_url) as store:
        for id_, owner in owners.items():
            await store.start(new_run(id_), Owner(owner))
        (tmp_path / "ostinato.db-workers").mkdir(exist_ok=True)

        recovered: list[str] = []

        async def all_recovered() -> bool:
            recovered.extend(await store.recover())
            return len(recovered) == len(owners)

        await eventually(all_recovered)

    assert sorted(recovered) == sorted(owners)
    assert victim.exists()


async def test_each_column_of_memory(store_url, record_property):
    """Whatever stands in a namespace, the writes beside it in the same batch are made."""
    tried = refused = stopped = 0
    async with opened(store_url) as store:
        await keep(store)
        claim = await claimed(store, "hostile")
        with database(store_url) as db:
            for table in MEMORY:
                db.rows(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
            found = [(table, column) for table in MEMORY for column in columns(db, table)]
            for table, column in found:
                for value in (*map(str, NUMBERS[::2]), *map(_quoted, TEXTS[::3]), *STRANGE[::2]):
                    tried += 1
                    with changed(db, table, column, value) as is_accepted:
                        if not is_accepted:
                            refused += 1
                            continue
                        stopped += await beside(store, claim.fence, tried)
    kind = store_url.partition(":")[0]
    told = f"{tried} rows, {refused} refused by the database, {stopped} refused to be written over"
    record_property(f"hostile rows of memory, {kind}", told)
    assert tried > 900


MEMORY = (
    "namespaces",
    "notes",
    "facts",
    "links",
    "history",
    "terms",
    "term_counts",
    "policies",
    "decisions",
    "motions",
    "ballots",
)


@contextmanager
def changed(db: Database, table: str, column: str, value: str) -> Iterator[bool]:
    """Change a column of a namespace's rows for the block; say whether the database takes that."""
    try:
        db.rows(f"UPDATE {table} SET {column} = {value} WHERE ns = '{SPACE}'")
    except (apsw.Error, psycopg.Error):
        yield False
        return
    yield True
    for each in MEMORY:
        db.rows(f"DELETE FROM {each} WHERE ns <> 'other'")
        db.rows(f"INSERT INTO {each} SELECT * FROM kept_{each}")


async def beside(store: Store, fence: Fence, number: int) -> int:
    """Write over the hostile rows, and beside them; return how much of the former was refused."""
    over = [
        memory_write(fence, f"over.{number}.{i}", name, **ask) for i, (name, ask) in enumerate(KEPT)
    ]
    good = memory_write(
        fence, f"good.{number}", "say", ns="other", text="a", speaker="b", trust="user"
    )
    *ends, end = await asyncio.gather(
        *(store.memory.write(write) for write in (*over, good)), return_exceptions=True
    )
    assert isinstance(end, Promise), end
    assert all(isinstance(each, Promise | CheckpointRefused | AssertionError) for each in ends)
    return sum(not isinstance(each, Promise) for each in ends)
