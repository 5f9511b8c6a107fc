"""`runs` and `show` draw what they can read of rows that were edited by hand, and name the rest."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import apsw
import psycopg
import pytest

from substrate import Context, connect, durable
from substrate.cli.invocation import Invocation
from substrate.cli.show.runs import Wanted, runs
from substrate.cli.show.show import draw, read_state, show
from substrate.values.errors import StoreUnusable
from substrate.values.ids import RunId, part_of
from substrate.values.records import RunStatus
from tests.postgres import fresh_database
from tests.stores import Database, database

AS_TEXT = Invocation("tests", "ostinato", ("runs",))
AS_JSON = Invocation("tests", "ostinato", ("runs",), is_json=True)

TEXTS = (
    "null", "7", "1.5", "true", '"V"', "[]", "[1,2]", "[[]]", "[{}]", '[{"type":1}]', "{}",
    '[{"type":"E","at":"x","message":1,"waited_ms":"x"}]', '{"x":"other"}', '{"type":1}',
    '{"$secret":"PATH"}', '{"$bytes":5}', '{"$blob":"x"}', '{"$decimal":"sNaN"}',
    '{"$blob":"' + "a" * 64 + '","bytes":-1,"preview":5}', '{"$float":"nan"}',
    '{"cost_usd":"x","input_tokens":"x"}', '{"cost_usd":null,"input_tokens":[]}',
    '{"due_at":"x","wants":7}', '{"due_at":9223372036854775807}', '{"due_at":1.5}',
    '{"task":{"text":7}}', '{"task":7}', '{"text":7,"reason":{}}', '{"text":null,"reason":"done"}',
    '{"parts":[7]}', '{"parts":[{"type":"text"}]}', '{"parts":[{"type":"tool_call"}],"invalid":{}}',
    '{"add":7,"prev":[],"prompt":{}}', '{"tool":7,"arguments":7}', '{"passed_over":[7]}',
    '{"type":"E","message":"m","traceback":7,"details":7}',
    '{"type":"E","message":"m","details":{"key":1,"recorded":2,"asked":3}}',
    '{"keys":7}', '{"asked":7}', '{"system":[],"prompt":{}}', '"x\\u202e\\u001b[31m"',
)  # fmt: skip
NO_JSON = ("", "{", '{"a":', "\x00\x01", "NaN", "[" * 3000 + "]" * 3000, "9" * 5000)
"""What only SQLite takes: PostgreSQL knows JSON itself."""
MANY = {"sqlite": 1000, "postgresql": 600}
"""How many rows there are at least."""
NUMBERS = (-(2**63), -1, 0, 2_000_000_000, 2**53 - 1, -62135596800000, 253402300799999)
WORDS = ("", "x\u202e\x1b[31m", "null", "run", "child", "pending", "rejected", "ready", "dead")

PAYLOADS = ("input", "value", "error", "usage", "attempts", "undo", "granted")
OTHERS = {
    "promises": "key kind name state effect seq epoch created_at settled_at fingerprint began",
    "runs": "parent_id root_id function version queue lane rank status epoch lease_owner"
    " wake_version need due_at deadline_at crashes last_seq seed generation generation_seq"
    " exited_epoch generation_at created_at ended_at expires_at losses_seen on_dead tenant",
    "signals": "name dedup n sent_at taken_by",
}
"""The other columns of each table that are read."""

KEYS = {
    "prompt.0": ("step", "resolved"),
    "model.0": ("step", "resolved"),
    "tools.0/look.0": ("step", "resolved"),
    "tries.0": ("step", "pending"),
    "fails.0": ("step", "rejected"),
    "go.0": ("signal", "pending"),
    "took.0": ("signal", "resolved"),
    "sleep.0": ("timer", "pending"),
    "kid.0": ("child", "pending"),
    "unwind": ("step", "resolved"),
    "accepted/x.0": ("run", "resolved"),
}
"""A row of each kind that a page reads in its own way."""


@durable
async def job(ctx: Context, n: int) -> int:
    return n


Planted = dict[str, tuple[str, str, str]]
"""The row, the column and the value that each run has."""


class Planter:
    """Plants runs whose rows are whole, save one value, past the store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._columns = {
            table: [column for (column,) in db.rows(self._COLUMNS[db.is_postgres], table=table)]
            for table in ("runs", "promises")
        }
        self.planted: Planted = {}

    _COLUMNS: Mapping[bool, str] = {
        True: "SELECT column_name FROM information_schema.columns WHERE table_name = :table"
        " AND table_schema = 'public'",
        False: "SELECT name FROM pragma_table_info(:table)",
    }

    def plant_all(self) -> None:
        # What is made of a text is decided above the stores, and PostgreSQL takes twice as long.
        texts = TEXTS[::3] if self._db.is_postgres else (*TEXTS, *NO_JSON)
        for status in ("paused", "done"):
            for column in PAYLOADS:
                for text in texts:
                    self._plant(status, "promises", "", column, text)
        # Each text in each column, but for the rows of a run's journal in turn: all would be 5,000.
        for turn, key in enumerate(KEYS):
            for column in PAYLOADS if key == "model.0" else ("input", "value", "error", "attempts"):
                for text in texts[turn % 4 :: 4]:
                    self._plant("suspended", "promises", key, column, text)
        for text in texts:
            self._plant("suspended", "signals", "", "value", text)
        for table, columns in OTHERS.items():
            rows = ("", "model.0", "go.0", "kid.0") if table == "promises" else ("",)
            for turn, key in enumerate(rows):
                values = (*NUMBERS, *WORDS, None)
                for column in columns.split():
                    for value in values[turn % 2 :: 2] if key else values:
                        self._plant("suspended", table, key, column, value)

    def _plant(self, status: str, table: str, key: str, column: str, value: object) -> None:
        id_ = f"bad-{len(self.planted)}"
        where = {"runs": "id", "promises": "id", "signals": "run_id"}[table]
        row = f"{id_}#{key}" if key else id_
        self._db.rows("SAVEPOINT before")
        try:
            self._add(id_, status, "" if table != "promises" else key)
            self._db.rows(
                f"UPDATE {table} SET {column} = :value WHERE {where} = :id", value=value, id=row
            )
            self.planted[id_] = (
                row,
                f"{table}.{column}" if table != "promises" else column,
                str(value),
            )
        except (apsw.Error, psycopg.Error):
            self._db.rows("ROLLBACK TO before")
        self._db.rows("RELEASE before")

    def _add(self, id_: str, status: str, key: str) -> None:
        part = part_of(RunId(id_))
        self._copy("runs", id=id_, root_id=id_, part=part, status=status)
        self._copy("promises", id=id_, run_id=id_, part=part)
        if key:
            kind, state = KEYS[key]
            name = key.rpartition("/")[2].rpartition(".")[0] or key
            where = {"id": f"{id_}#{key}", "run_id": id_, "key": key, "part": part, "seq": 2}
            settled = None if state == "pending" else 1
            self._copy("promises", **where, kind=kind, state=state, name=name, settled_at=settled)
        self._db.rows(
            "INSERT INTO signals (run_id, name, dedup, part, tenant, n, value, sent_at)"
            " VALUES (:id, 'go', 'd', :part, '', 1, '1', 1)",
            id=id_,
            part=part,
        )

    def _copy(self, table: str, **given: object) -> None:
        names = self._columns[table]
        values = [f":{name}" if name in given else name for name in names]
        self._db.rows(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {table}"
            " WHERE id = 'template'",
            **given,
        )


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def planted_url(request, tmp_path_factory) -> Iterator[str]:
    """Provide a database for all tests, to be left as it is: to plant takes as long as to look."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path_factory.mktemp('planted') / 'ostinato.db'}"
        else:
            server = request.getfixturevalue("postgres_dsn")
            yield stack.enter_context(fresh_database(server))


@pytest.fixture(scope="module")
def planted(planted_url) -> Planted:
    """Have a whole run in it, and one for each odd value of each column."""

    async def start() -> None:
        async with connect(planted_url) as client:
            await client.start(job, 7, id="template")

    asyncio.run(start())
    with database(planted_url) as db:
        planter = Planter(db)
        db.rows("BEGIN")
        planter.plant_all()
        db.rows("COMMIT")
    return planter.planted


@pytest.fixture(autouse=True)
def settings(planted_url, monkeypatch) -> None:
    """Have the commands ask this database."""
    monkeypatch.setenv("DATABASE_URL", planted_url)


def _hidden(text: str) -> Iterator[str]:
    yield from re.findall("[\x1b\u202e]", text)


async def test_runs_lists_every_run(planted, planted_url, capsys):
    """A list shows every run, as a table and as JSON, and names what of its reading is broken.

    That is what a run was begun with, why it failed, and what it has open.
    """
    assert await runs(AS_JSON, Wanted(limit=100_000)) == 0
    listed = {each["id"]: each for each in json.loads(capsys.readouterr().out)["runs"]}
    for status in RunStatus:
        assert await runs(AS_JSON, Wanted(status, 100_000)) == 0
        found = json.loads(capsys.readouterr().out)["runs"]
        listed |= {each["id"]: each for each in found}
    assert planted.keys() <= listed.keys()

    assert await runs(AS_TEXT, Wanted(limit=100_000)) == 0
    page = capsys.readouterr().out
    assert not list(_hidden(page))
    for id_, (row, column, value) in planted.items():
        is_own, key = row == id_, row.removeprefix(f"{id_}#")
        is_read = column in ("input", "error") if is_own else KEYS[key][1] == "pending"
        is_blob = is_own and '"$blob":"aaaa' in value  # where that is gone, `show` says so
        # No JSON of the kit's, wherever it stands.
        if "$b" in value and column in PAYLOADS and is_read and not is_blob:
            told = [(each["row"], each["column"]) for each in listed[id_].get("unreadable", ())]
            assert (row, column) in told, (row, column, value)
            if row == id_ or listed[id_]["parent"] is None:
                assert f"the row {row!r} of promises cannot be read: its {column} is" in page
        elif value == "null" and column == "value" and row == id_:
            assert "unreadable" not in listed[id_]
    assert len(planted) > MANY[planted_url.partition(":")[0]]


async def test_show_draws_every_run(planted, planted_url, capsys):
    """`show` draws a run with any value in any column, and names the row and column it cannot."""
    async with connect(planted_url) as client:
        states = {id_: await read_state(client, id_) for id_ in planted}
    for id_, (row, column, value) in planted.items():
        where = f"{row} {column} = {value[:60]!r}"
        draw(states[id_], AS_TEXT)
        page = capsys.readouterr().out
        assert id_ in page, where
        assert not list(_hidden(page)), where
        if "$b" in value and column in PAYLOADS:
            assert f"the row {row!r} of promises cannot be read: its {column} is" in page
        elif "$b" in value and column == "signals.value":
            assert "its value cannot be read: put that row of `signals` right" in page
        draw(states[id_], AS_JSON)
        assert json.loads(capsys.readouterr().out)["id"] == id_
    assert await show(AS_TEXT, "bad-0", None) == 0
    assert "the row 'bad-0' of promises" in capsys.readouterr().out


@contextmanager
def resolved(db: Database, id_: str) -> Iterator[None]:
    """Have a run that is done be so in its own row, too."""
    db.rows("UPDATE promises SET state = 'resolved' WHERE id = :id", id=id_)
    try:
        yield
    finally:
        db.rows("UPDATE promises SET state = 'pending' WHERE id = :id", id=id_)


async def test_clients_ask_every_run(planted, planted_url):
    """A client reads every such run, its journal and its inbox; a result says what it cannot."""
    async with connect(planted_url) as client:
        assert len(await client.list(limit=100_000)) > MANY[planted_url.partition(":")[0]]
        for id_, (row, column, value) in planted.items():
            run = await client.get(id_)
            assert run.id == id_
            await client.journal(id_)
            await client.store.inbox(RunId(id_))
            if run.status is RunStatus.PAUSED and column in PAYLOADS:
                assert [each.id async for each in client.follow(id_)] == [row]
            if run.status is RunStatus.DONE and column == "value" and "$b" in value:
                told = f"the row '{id_}' of promises cannot be"
                with (
                    database(planted_url) as db,
                    resolved(db, id_),
                    pytest.raises(StoreUnusable, match=told),
                ):
                    await client.result(id_)
