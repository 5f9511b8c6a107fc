"""What is forgotten is gone for good: from memory, from journals, and from the file."""

import re

import pytest

from substrate import Forgotten, Misuse, NotForgotten, RunNotFound, RunStatus, connect
from substrate.store.memory_rows import DERIVED, TABLES
from substrate.store.sqlite.forget import DELETES
from substrate.values.ids import RunId
from tests.forgetters import (
    FUNCTIONS,
    LONG,
    NS,
    OTHER,
    RUNS,
    WORD,
    compressed,
    confide,
    gossip,
    left_in_files,
    left_in_rows,
    linger,
    live,
)
from tests.fork import Fork
from tests.runs import QUICK, reached
from tests.stores import database


@pytest.fixture
async def lived(store_url) -> str:
    """Provide a database in which Anna's texts are everywhere."""
    await live(store_url)
    return store_url


async def test_no_byte_is_left(lived):
    """No table, no statistic, no blob and no file has a byte of a user's text afterwards."""
    pieces = compressed(lived)
    assert pieces
    before = {"promises", "signals", "gates", "rules", "blobs", "notes", "facts", "links"}
    assert {*left_in_rows(lived)} >= before | {"history", "terms"}

    async with connect(lived) as client:
        told = await client.forget(NS)

    assert left_in_rows(lived) == []
    assert left_in_files(lived, pieces) == []
    assert told.runs == [*RUNS]
    assert told.counts["facts"] in (3, 4)  # in one millisecond Anna lived nowhere else before
    assert told.counts["notes"] >= 5
    assert told.counts["links"] == told.counts["history"] == told.counts["signals"] == 1
    assert told.counts["gates"] == told.counts["rules"] == 1
    assert told.counts["blobs"] == 3
    assert told.counts["promises"] > 15
    assert told.counts["terms"] > 900


async def test_others_are_as_they_were(lived):
    """Other namespaces, and runs that had nothing to do with it, keep all they have."""
    async with connect(lived) as client, client.work(FUNCTIONS, options=QUICK):
        journal = await client.journal("bystand")
        counter = await client.store.memory.counters("acme/")

        await client.forget(NS)

        assert await client.journal("bystand") == journal
        assert await client.result("bystand") == [
            "Bert keeps: a wombat",
            "plan: walk the wombat of Bert",
        ]
        after = {each.space.ns: each for each in await client.store.memory.counters("acme/")}
        was = {each.space.ns: each for each in counter}
        assert (after[NS].docs, after[NS].words, after[NS].last_n) == (0, 0, was[NS].last_n)


async def test_what_stays_of_a_run(lived):
    """Keys, states and times of an emptied run stay; whatever needs its contents says so."""
    async with connect(lived) as client:
        before = await client.journal("confide")
        await client.forget(NS)
        after = await client.journal("confide")

        assert [(p.key, p.state, p.seq, p.settled_at) for p in after] == [
            (p.key, p.state, p.seq, p.settled_at) for p in before
        ]
        assert all(p.fingerprint is None for p in after)
        with pytest.raises(Forgotten, match="forgotten for good"):
            await client.result("confide")
        with pytest.raises(Forgotten, match="under another id"):
            await client.start(confide, f"help my {WORD}", id="confide")
        assert (await client.get("confide")).status is RunStatus.DONE


async def test_no_forgotten_run_is_resumed(store_url):
    """A failed run whose contents are gone is not resumed, and stays as it was."""
    async with connect(store_url) as client:
        async with client.work(FUNCTIONS, options=QUICK):
            await client.start(gossip, "a", id="gossip")
            await client.result("gossip")
        with database(store_url) as db:
            db.rows("UPDATE runs SET status = 'failed' WHERE id = 'gossip'")
        await client.forget(run="gossip")

        with pytest.raises(Forgotten, match="'gossip'"):
            await client.resume("gossip")
        assert (await client.get("gossip")).status is RunStatus.FAILED


async def test_a_run_that_goes_on(lived):
    """Where a run that goes on has read it, nothing is changed; it is named, with the remedy."""
    async with connect(lived) as client:
        async with client.work(FUNCTIONS, options=QUICK):
            await client.start(linger, id="linger")
            await reached(client, "linger", "go.0")
        look = await client.forget(NS, look=True)
        assert look.living == ["linger"]
        with pytest.raises(NotForgotten, match=re.escape("nothing was changed: 'linger' may go")):
            await client.forget(NS)
        assert "facts" in left_in_rows(lived)

        async with client.work(FUNCTIONS, options=QUICK):
            await client.signal("linger", "go", "on")
            await client.result("linger")
        told = await client.forget(NS)
        assert told.runs == ["confide", "linger", "overhear"]
        assert left_in_rows(lived) == []


async def test_what_lives_is_not_emptied(store_url):
    """A run that goes on is not emptied, whenever it has come to be known."""
    async with connect(store_url) as client:
        await client.start(gossip, "a", id="gossip")
        assert await client.store.forgetting.empty("x", RunId("gossip")) is None
        assert (await client.journal("gossip"))[0].fingerprint is not None


async def test_other_runs_that_say_the_same(lived):
    """A run that has it from elsewhere is named, and emptied only where that is asked for."""
    async with connect(lived) as client:
        async with client.work(FUNCTIONS, options=QUICK):
            await client.start(gossip, f'she said "{LONG[:300]}"\n', id="gossip")
            await client.result("gossip")

        assert (await client.forget(NS, look=True)).elsewhere == ["gossip"]
        told = await client.forget(NS, everywhere=True)

    assert told.elsewhere == []
    assert told.runs == ["confide", "gossip", "overhear"]
    assert left_in_rows(lived) == []


@pytest.mark.parametrize(
    "what, left",
    [
        ({"subject": "ANNA"}, [0, 0, 1, 2]),
        ({"note": "longer"}, [2, 1, 1, 1]),
        ({"note": "long"}, [2, 1, 1, 1]),
        ({"run": "confide"}, [0, 0, 0, 0]),
    ],
)
async def test_a_part(lived, what, left):
    """A subject, a note with all names it had, or what came from a run: the rest stays."""
    async with connect(lived) as client:
        told = await client.forget(None if "run" in what else NS, **what)

        assert told.id is not None
        assert "confide" in told.runs
    with database(lived) as db:
        stands = "WHERE ns = :ns AND gone_n IS NULL"
        counted = [
            db.value(f"SELECT count(DISTINCT {each} {stands}", ns=NS)
            for each in ("predicate) FROM facts", "n) FROM links", "n) FROM history")
        ]
        names = db.rows(f"SELECT name FROM notes {stands} AND body IS NOT NULL", ns=NS)
    assert [*counted, len(names)] == left


async def test_one_id(lived):
    """What an id stands for goes with each of its rows, and what mentions it is told."""
    async with connect(lived) as client:
        with database(lived) as db:
            n = db.value("SELECT min(n) FROM facts WHERE ns = :ns", ns=NS)
        told = await client.forget(f"{NS}#{n}")
        assert told.counts["facts"] == 1
        told = await client.forget(NS, subject="Bob", look=True)
        with database(lived) as db:
            n = db.value("SELECT n FROM links WHERE ns = :ns", ns=NS)
        assert told.mentions == [f"{NS}#{n}"]


async def test_statistics_stay_right(lived):
    """What is left of a namespace is found with the very scores it has where the rest never was."""
    async with connect(lived) as client, client.work(FUNCTIONS, options=QUICK):
        await client.forget(NS, note="longer")
        counter = await client.store.memory.counters(NS)
    with database(lived) as db:
        docs = db.rows(
            "SELECT doc, max(words) FROM terms WHERE ns = :ns AND gone_n IS NULL GROUP BY doc",
            ns=NS,
        )
        left = db.rows(
            "SELECT doc FROM facts WHERE ns = :ns AND gone_n IS NULL UNION"
            " SELECT doc FROM history WHERE ns = :ns AND gone_n IS NULL UNION"
            " SELECT doc FROM notes WHERE ns = :ns AND gone_n IS NULL AND body IS NOT NULL",
            ns=NS,
        )
    assert {doc for doc, _ in docs} == {doc for (doc,) in left}
    assert counter[0].docs == len(docs)
    assert counter[0].words == sum(words for _, words in docs)


async def test_no_such_run(lived, tmp_path):
    """An id that was mistyped is no run that was forgotten; to forget one again is no mistake."""
    async with connect(lived) as client:
        for look in (True, False):
            with pytest.raises(RunNotFound, match="no run 'confide/nothing'"):
                await client.forget(run="confide/nothing", look=look)
        await client.forget(run=RUNS[0])
        assert (await client.forget(run=RUNS[0])).counts == {}
    told = Fork.make(tmp_path, lived).do("memory", "forget", "--run", "nothing", "--yes")
    assert (told.code, told.out) == (1, "")
    assert "there is no run 'nothing'" in told.err


async def test_below(lived):
    """Namespaces below go along only where that is said."""
    async with connect(lived) as client:
        kept = await client.forget("acme/users", look=True)
        assert kept.counts == {}
        told = await client.forget("acme/users", below=True)
    assert told.runs == ["bystand", *RUNS]
    with database(lived) as db:
        assert db.value("SELECT count(*) FROM facts WHERE ns = :ns", ns=OTHER) == 0


async def test_a_tombstone_has_no_content(lived):
    """It says when, of which kind and how many; and nothing of what it was."""
    async with connect(lived) as client:
        told = await client.forget(NS, subject="Anna")
    with database(lived) as db:
        ((kind, left, counts, ended_at),) = db.rows(
            "SELECT kind, left_to_do, counts, ended_at FROM tombstones"
        )
    assert (kind, left) == ("subject", None)
    assert ended_at is not None
    assert "Anna" not in counts
    assert f'"facts":{told.counts["facts"]}' in counts


async def test_twice(lived):
    """Forgotten again, nothing is found, and nothing is counted twice."""
    async with connect(lived) as client:
        await client.forget(NS)
        told = await client.forget(NS)
    assert told.counts == {}
    assert told.runs == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"namespace": NS, "run": "confide"},
        {"namespace": NS, "subject": "a", "note": "b"},
        {"namespace": NS, "subject": " "},
        {"namespace": NS, "subject": "Anna", "below": True},
        {"namespace": f"{NS}#x"},
        {"namespace": f"{NS}#1", "note": "a"},
        {"namespace": f"{NS}#1", "below": True},
        {"namespace": NS, "look": "no"},
        {"namespace": "../a"},
        {"run": "-x"},
        {"run": "confide", "below": True},
    ],
)
async def test_what_is_no_one_thing(sqlite_url, given):
    """What is not one thing that can be forgotten is refused, and nothing is looked for."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse):
            await client.forget(**given)


async def test_each_table_is_thought_of(store_url):
    """Each table of the schema is emptied, deleted from, or known to hold no text of anybody."""
    textless = {
        "runs": "ids, names, states and times",
        "workers": "ids and hosts",
        "lanes": "names of functions",
        "fleet": "a count",
        "rate_limits": "what providers reported of their limits",
        "namespaces": "names of namespaces, and counters",
        "followers": "ids of runs, and names of namespaces",
        "tombstones": "what went, and how many rows",
        "ostinato_migrations": "the names of files",
        "sqlite_sequence": "counters",
    }
    emptied = {"promises", *DELETES, *(table.name for table in TABLES), *DERIVED}
    async with connect(store_url):
        pass
    with database(store_url) as db:
        if db.is_postgres:
            found = db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        else:
            found = db.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
    assert {name for (name,) in found} - set(textless) == emptied


async def test_a_person_is_told_first(lived, tmp_path):
    """The command tells what would go, and goes on where somebody says so, or said it before."""
    fork = Fork.make(tmp_path, lived)
    for sure in ((), ("--yes",)):
        looked = fork.do("memory", "forget", NS, "--look", *sure)
        assert looked.code == 0
        assert "facts" in left_in_rows(lived), "to look changes nothing"
    assert "2 history" not in looked.out
    assert "run confide loses all contents" in looked.out
    assert "not reached: backups" in looked.out
    refused = fork.do("memory", "forget", NS)
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert "facts" in left_in_rows(lived)

    done = fork.do("memory", "forget", NS, "--yes", "--json").document
    assert done["runs"] == [*RUNS]
    assert left_in_rows(lived) == []
    assert WORD not in fork.do("memory", "show", NS).out
    assert "forgotten for good" in fork.do("show", "confide").out
    assert "confide" in fork.do("runs").out
    again = fork.do("memory", "forget", NS, "--yes")
    assert (again.code, "nothing was there" in again.out) == (1, True)
    assert "say what to do" in fork.do("memory").err
    assert "one thing" in fork.do("memory", "forget").err
