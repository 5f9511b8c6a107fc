"""A namespace goes from one database into another, whole, and once."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from substrate import Client, Context, MemoryRefused, Misuse, connect, durable
from substrate.store.connect import open_store
from substrate.store.memory_rows import TABLES as MEMORY
from substrate.testing import Side, kill_at_commit
from substrate.values.memory import Space
from tests.fork import Fork
from tests.memories import SPACE, learner
from tests.processes import driven
from tests.runs import QUICK
from tests.stores import database

BESIDE = {
    "counter": "last_n, last_at, docs, words, declared FROM namespaces WHERE branch = ''",
    "terms": "term, doc, tf, words FROM terms WHERE gone_n IS NULL",
    "counts": "term, docs FROM term_counts WHERE docs > 0",
}


@durable
async def arguing(ctx: Context, namespace: str) -> None:
    """Say what needs a decision, vote, retract, rename, and keep values of all sorts."""
    memory = ctx.memory(namespace, trust="user")
    await memory.declare("is", "sources")
    await memory.remember("Anna", "is", "tall")
    await memory.remember("Anna", "is", {"tall": 2**70, "half": 0.5, "nul": "a\0b", "$x": None})
    await memory.declare("is", "latest", instead_of="sources")
    await memory.propose("Lunch", "pizza", voters=["a", "b"])
    await memory.vote("lunch", "soup", voter="a")
    await memory.remember("Bert", "is", "gone")
    for each in range(300):  # what goes behind these came in an earlier commit of an import
        await memory.say(f"word{each} owl", "user")
    await memory.vote("lunch", "soup", voter="b")
    await memory.unlink("Anna", "works for", "ACME")
    await memory.retract("Bert", "is")
    await memory.append_note("plan", "and\u2028more \x1b[31m")
    await memory.rename_note("plan", "the plan")
    await memory.delete_note("the plan")


async def keep(url: str, ns: str = SPACE) -> None:
    """Let two runs remember in a namespace."""
    async with connect(url) as client, client.work([learner, arguing], options=QUICK):
        for function in (learner, arguing):
            await client.start(function, ns, id=f"{ns}/{function.name}")
            await client.result(f"{ns}/{function.name}")


async def export(url: str, ns: str = SPACE) -> str:
    async with connect(url) as client:
        return "".join([line async for line in client.export_memory(ns)])


def rows_of(url: str, ns: str) -> dict[str, list[str]]:
    """Return all rows of a namespace, its counter, and which words stand in which of its texts."""
    with database(url) as db:
        found = {
            table.name: db.rows(f"SELECT {table.read} FROM {table.name} WHERE ns = :ns", ns=ns)
            for table in MEMORY
        }
        for name, asked in BESIDE.items():
            found[name] = db.rows(f"SELECT {asked} AND ns = :ns", ns=ns)
    where = re.compile(f"'{ns}'")
    return {
        name: sorted(where.sub("here", repr(row)) for row in rows) for name, rows in found.items()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> str:
    """Provide an export of a namespace in which all kinds came and went."""
    url = f"sqlite:///{tmp_path_factory.mktemp('exported')}/from.db"

    async def made() -> str:
        await keep(url)
        return await export(url)

    return asyncio.run(made())


@pytest.fixture
def file(tmp_path, exported) -> Path:
    path = tmp_path / "anna.jsonl"
    path.write_text(exported)
    return path


async def test_round_trip(store_url, tmp_path):
    """Rows, index and counter of another namespace and store are those of the one exported."""
    await keep(store_url)
    text = await export(store_url)
    path, other = tmp_path / "anna.jsonl", f"sqlite:///{tmp_path}/other.db"
    path.write_text(text)

    async with connect(other) as client:
        new = await client.import_memory(path)
    async with connect(store_url) as client:
        assert await client.import_memory(path, into="acme/copy") == new
        assert await client.import_memory(path, into="acme/copy") == 0
        assert await client.import_memory(path) == 0

    mine = rows_of(store_url, SPACE)
    assert all(mine.values())
    assert rows_of(store_url, "acme/copy") == mine
    assert await export(other) == text
    assert rows_of(other, SPACE)["terms"] == mine["terms"]


async def test_what_was_known_then_is_known_there(tmp_path, file):
    """As of each number, another database finds what the first one found, from the same sources."""
    url = f"sqlite:///{tmp_path}/to.db"
    lines = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    async with connect(url) as client:
        seen: list[int] = []
        await client.import_memory(file, on_progress=lambda n, last_n: seen.append(n))
        assert seen == sorted(seen)
        assert len(seen) > 1
        counter = await client.store.memory.counter(Space("", SPACE))
    assert counter.last_n == lines[0]["n"]
    fork = Fork.make(tmp_path, url)
    first = next(each for each in lines if each.get("object") == "Bonn")
    told = fork.do("memory", "why", f"{SPACE}#{first['n']}", "--json").document["rows"][0]
    assert (told["source"], told["recorded_at"]) == (first["source"], first["recorded_at"])
    assert "lives_in: Bonn" in fork.do("memory", "show", SPACE, "--as-of", str(first["n"])).out


@pytest.mark.parametrize("side", list(Side))
def test_killed_at_any_commit(tmp_path, file, side):
    """Killed at a commit, an import leaves the namespace as it once was, and again it ends."""
    whole = f"sqlite:///{tmp_path}/whole.db"
    assert driven(_import, whole, file, 0, side) == 0
    for boundary in (1, 2):
        url = f"sqlite:///{tmp_path}/{boundary}.db"
        assert driven(_import, url, file, boundary, side) not in (0, 1)
        assert driven(_import, url, file, 0, side) == 0
        assert rows_of(url, SPACE) == rows_of(whole, SPACE)


def _import(url: str, file: Path, boundary: int, side: Side) -> None:
    async def work() -> None:
        store = kill_at_commit(await open_store(url), boundary, side)
        await Client(store).import_memory(file)
        await store.close()

    asyncio.run(work())


def _changed(lines: list[str], at: int, **more: Any) -> list[str]:
    said = json.loads(lines[at]) | more
    return [*lines[:at], json.dumps(said), *lines[at + 1 :]]


def _of(lines: list[str], kind: str) -> int:
    return next(i for i, each in enumerate(lines) if f'"kind":"{kind}"' in each and '"doc"' in each)


def _with(kind: str, /, **more: Any) -> Any:
    return lambda lines: _changed(lines, _of(lines, kind), **more)


ODD = {
    "broken": lambda lines: [*lines[:3], lines[3][:-5], *lines[4:]],
    "empty": lambda lines: [],
    "no header": lambda lines: lines[1:],
    "cut off": lambda lines: lines[:-1],
    "a line lost": lambda lines: [*lines[:2], *lines[3:]],
    "a line twice": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "two exports": lambda lines: [*lines, *lines],
    "blank": lambda lines: [*lines[:2], "", *lines[2:]],
    "long": lambda lines: [*lines[:2], f'"{"x" * 2_000_001}"', *lines[2:]],
    "deep": lambda lines: [*lines[:2], "[" * 200_000, *lines[2:]],
    "later version": lambda lines: _changed(lines, 0, ostinato_memory=2),
    "namespace": lambda lines: _changed(lines, 0, namespace="acme/../anna"),
    "tenant": lambda lines: _changed(lines, 0, tenant="another"),
    "row's tenant": _with("facts", tenant="another"),
    "NUL": _with("history", body="a\0b"),
    "surrogate": _with("history", body="\ud800"),
    "object": _with("facts", object=["\udfff"]),
    "NaN": _with("facts", confidence=float("nan")),
    "infinite": lambda lines: [each.replace('"object":"Bonn"', '"object":1e999') for each in lines],
    "forgotten": _with("facts", object={"$forgotten": "x"}),
    "sure": _with("facts", confidence=1.5),
    "true": _with("facts", confidence=True),
    "late": _with("facts", recorded_at=253_402_300_800_000),
    "future": _with("facts", recorded_at=253_402_300_799_999),
    "never": _with("facts", valid_to=-62_135_596_800_000),
    "n is text": _with("facts", n="1"),
    "n is 0": _with("facts", n=0),
    "doc": _with("history", doc=1),
    "subject": _with("facts", subject=" "),
    "predicate": _with("facts", predicate=" "),
    "policy": _with("decisions", policy="many"),
    "trust": _with("links", trust="root"),
    "kind": _with("links", kind="runs"),
    "body": _with("history", body=None),
    "voters": _with("motions", voters="ab"),
    "need": _with("motions", need=0),
    "source": _with("notes", source=""),
    "name twice": lambda lines: [lines[0].replace('"n":', '"n":1,"n":'), *lines[1:]],
    "gone twice": lambda lines: [
        each for line in lines for each in ([line, line] if line.startswith('{"gone"') else [line])
    ],
    "stands twice": lambda lines: [each for each in lines if not each.startswith('{"gone"')],
}


@pytest.mark.parametrize("odd", ODD)
async def test_odd_lines(tmp_path, exported, odd):
    """What no export writes is refused with the number of its line, and nothing is written."""
    lines = ODD[odd](exported.split("\n")[:-1])
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"".join(f"{line}\n".encode() for line in lines))
    async with connect(f"sqlite:///{tmp_path}/to.db") as client:
        with pytest.raises(Misuse, match=r"^line \d+: |^the file ends before"):
            await client.import_memory(path)
        assert not await client.store.memory.counters()


async def test_another_namespace_is_not_changed(tmp_path, file):
    """A namespace that has something else is not imported into."""
    url = f"sqlite:///{tmp_path}/to.db"
    await keep(url, "acme/bert")
    async with connect(url) as client:
        before = rows_of(url, "acme/bert")
        with pytest.raises(MemoryRefused, match="with into"):
            await client.import_memory(file, into="acme/bert")
    assert rows_of(url, "acme/bert") == before


async def test_two_at_once(store_url, tmp_path, exported):
    """Two imports of one file at once leave it there once; who is too late is told to go on."""
    path = tmp_path / "anna.jsonl"
    path.write_text(exported)
    async with connect(store_url) as one, connect(store_url) as two:
        told = await asyncio.gather(
            one.import_memory(path), two.import_memory(path), return_exceptions=True
        )
        errors = [each for each in told if isinstance(each, BaseException)]
        assert [str(each).partition(";")[2] for each in errors] == [
            " import it again: it goes on if that was the same import"
        ] * len(errors)
        assert await two.import_memory(path) == 0
    assert [json.loads(each) for each in (await export(store_url)).split("\n")[:-1]] == [
        json.loads(each) for each in exported.split("\n")[:-1]
    ]


async def test_of_another_tenant(tmp_path, file):
    """Whoever imports writes in his own tenant's namespace, and exports from it alone."""
    url = f"sqlite:///{tmp_path}/to.db"
    async with connect(url, tenant="one") as one, connect(url, tenant="two") as two:
        await one.import_memory(file)
        with pytest.raises(MemoryRefused, match="nothing is remembered"):
            [line async for line in two.export_memory(SPACE)]
        assert [line async for line in one.export_memory(SPACE)]


@pytest.mark.parametrize("what", [{}, {"subject": "Anna"}])
async def test_what_was_forgotten_does_not_come_back(store_url, tmp_path, what):
    """What was forgotten since the export is refused, there and under another name."""
    await keep(store_url)
    path = tmp_path / "anna.jsonl"
    path.write_text(await export(store_url))
    async with connect(store_url) as client:
        await client.forget(SPACE, **what)
        with pytest.raises(MemoryRefused, match="forgotten"):
            await client.import_memory(path)
        with pytest.raises(MemoryRefused, match="was forgotten since"):
            await client.import_memory(path, into="acme/again")
        left = "SELECT count(*) FROM facts WHERE subject_key = 'anna'"
    with database(store_url) as db:
        assert db.value(left) == 0


async def test_a_namespace_with_gaps(tmp_path, store_url):
    """What is left after a forgetting goes into another namespace, to the same last number."""
    await keep(store_url)
    path = tmp_path / "anna.jsonl"
    async with connect(store_url) as client:
        await client.forget(SPACE, subject="Anna")
        counter = await client.store.memory.counter(Space("", SPACE))
        await client.forget(f"{SPACE}#{counter.last_n}")
        path.write_text(await export(store_url))
        await client.import_memory(path, into="acme/copy")
        assert await client.import_memory(path, into="acme/copy") == 0
    mine, copy = rows_of(store_url, SPACE), rows_of(store_url, "acme/copy")
    for table in ("notes", "facts", "links", "history", "motions"):
        assert copy[table] == mine[table]


def test_at_a_terminal(tmp_path, file):
    """An export goes through a pipe; a namespace that is not there is told with those there are."""
    fork = Fork.make(tmp_path)
    new = json.loads(file.read_text().partition("\n")[0])["n"]
    assert fork.do("memory", "import", str(file), "--json").document == {"new": new}
    out = fork.do("memory", "export", SPACE).out
    assert "\u2028" not in out
    assert [json.loads(line) for line in out.splitlines()] == [
        json.loads(line) for line in file.read_text().split("\n")[:-1]
    ]
    assert fork.do("memory", "export", SPACE, "--to", "to.jsonl").out == ""
    assert (fork.folder / "to.jsonl").read_text() == file.read_text()
    assert "0 changes were new" in fork.do("memory", "import", str(file)).err
    for command in ("show", "export"):
        done = fork.do("memory", command, "acme/nobody")
        assert done.code == 1
        assert f"there is {SPACE}" in done.err
        assert "memory list" in done.err
    file.write_text("{}\n")
    done = fork.do("memory", "import", str(file))
    assert done.code == 2
    assert "line 1: " in done.err
    assert fork.do("memory", "import", "nowhere.jsonl").code == 2
