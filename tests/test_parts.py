"""A tree of runs lies in one part, and what is asked of it is asked of that part alone.

So the tables can be partitioned by `part`, or divided among servers, and each statement about a run
still goes to one place.
"""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import ModuleType

import pytest

from substrate.store import postgres, sqlite
from substrate.store.store import Store
from substrate.values.errors import InvalidId
from substrate.values.ids import PARTS, RunId, check_root_id, part_of
from substrate.values.records import Claim, JsonText, Kind, RunStatus
from tests.stores import (
    LANE,
    OWNER,
    checkpoint,
    claimed,
    database,
    end,
    end_child,
    eventually,
    intent,
    new_run,
    opened,
    promise,
    signal,
    spawned,
    take,
    waiting,
)

TABLES = (
    "runs",
    "promises",
    "signals",
    "blobs",
    "namespaces",
    "notes",
    "facts",
    "links",
    "history",
    "terms",
    "term_counts",
    "embedders",
    "vectors",
    "policies",
    "decisions",
    "motions",
    "ballots",
    "followers",
)

#: What is asked of all parts, by a worker's tick or a list; each is one question a line.
OF_ALL_PARTS = {
    "_AMONG",  # which lanes have a run that is ready
    "_CLAIM",
    "_CLAIM_NEXT",
    "_COUNT_READY",
    "_DELETE_FOLLOWERS",  # those that a tick has found due
    "_DUE",
    "_DUE_FOLLOWERS",
    "_NEXT_DUE",
    "_READY",
    "_SELECT_NAMESPACES",  # a list
    "_SELECT_LOST",  # the runs of a dead worker
    "_SELECT_OWNED_RUNS",
    "_SELECT_OWNERS",
    "_SELECT_READY",
    "_SELECT_ROOTS",  # what is forgotten is looked for in all trees
    "_SELECT_RUNS",  # the newest runs
    "_WAKE_DUE",
    "_WAKE_FOLLOWERS",
    "_WAKE_NEXT",
}

_REFERENCE = re.compile(rf"\b(?:FROM|JOIN|UPDATE)\s+({'|'.join(TABLES)})\b")
_OF_A_PART = re.compile(r"\b(?:part|rowid)\s*(?:=|IN\b)")  # a rowid was found with its part


def statements(dialect: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each statement about the tables of runs that a dialect has, with its name."""
    for module in pkgutil.iter_modules(dialect.__path__, f"{dialect.__name__}."):
        for name, text in vars(importlib.import_module(module.name)).items():
            if name.isupper() and isinstance(text, str):
                code = re.sub(r"--.*", "", text)
                if _REFERENCE.search(code) and "part" not in name.lower():
                    yield name, code


@pytest.mark.parametrize("dialect", [postgres, sqlite])
def test_each_statement_names_the_part(dialect: ModuleType) -> None:
    """Whatever names a run, a promise, a signal or a blob names its part, at each place."""
    found = dict(statements(dialect))
    assert len(found) > 40
    missing = {
        name
        for name, code in found.items()
        if len(_OF_A_PART.findall(code)) < len(_REFERENCE.findall(code))
    }
    assert missing - OF_ALL_PARTS == set()


def test_a_tree_has_one_part() -> None:
    """A run, its promises, children and branches are of one part; ids spread over all parts."""
    tree = ["a/1", "a/1#work.0", "a/1#child.0#work.3/x.1", "a/1~b", "a/1~b#child.0", "a/1#c.0~b"]
    assert len({part_of(each) for each in tree}) == 1
    assert PARTS == 4096
    for ours in ("a/1~b", "a/1#work.0"):
        with pytest.raises(InvalidId):
            check_root_id(ours)
    spread = Counter(part_of(f"run/{i}") % 32 for i in range(32_000))
    assert len(spread) == 32
    assert max(spread.values()) < 1.25 * min(spread.values())


PARTITIONS = 4


@pytest.fixture
async def partitioned_url(postgres_url: str) -> str:
    """Give a database whose tables are partitioned by `part`, as its owner may have them."""
    async with opened(postgres_url):
        pass
    with database(postgres_url) as db:
        for table in TABLES:
            db.rows(
                f"CREATE TABLE {table}_all (LIKE {table} INCLUDING ALL) PARTITION BY HASH (part)"
            )
            db.rows(f"DROP TABLE {table}")
            db.rows(f"ALTER TABLE {table}_all RENAME TO {table}")
            for i in range(PARTITIONS):
                db.rows(
                    f"CREATE TABLE {table}_{i} PARTITION OF {table}"
                    f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {i})"
                )
    return postgres_url


def scans(url: str) -> Counter[str]:
    """Return how often each partition was scanned, by sessions that have ended."""
    with database(url) as db:
        found = db.rows(
            "SELECT relname, seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables"
            " WHERE relname ~ '_[0-9]$'"
        )
    return Counter(dict(found))


def sessions(url: str) -> int:
    """Return how many sessions the database has beside this one."""
    with database(url) as db:
        return int(
            db.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@asynccontextmanager
async def scanning(url: str, places: Counter[str]) -> AsyncIterator[Store]:
    """Open a store for the block, and count in which partitions it has looked."""
    before = scans(url)
    async with opened(url) as store:
        yield store
    await eventually(lambda: sessions(url) == 0)  # what a session has done is counted by its end
    places.update(scans(url) - before)


async def ordinary_life(store: Store, claim: Claim) -> None:
    """Do with a run what its worker and others do, as far as it is about this run."""
    run_id, fence = claim.run.id, claim.fence
    await store.commit([checkpoint(fence, "a.0")])
    await store.commit([intent(fence, "b.0")])
    await store.commit([checkpoint(fence, "b.0")], wait=True)
    await store.send_signal(signal(run_id))
    await store.send_signal(signal(run_id))
    await take(store, fence, waiting(run_id))
    assert not await store.inbox(run_id, "go")
    await store.return_signals(fence, promise(run_id, "go.0").id)
    await store.journal(run_id)
    await store.promise(run_id)
    await store.promises([run_id, promise(run_id, "a.0").id])
    await store.usages(run_id)
    await store.settled_outside(run_id, 0)
    await store.has_open_runs(run_id)
    await store.open_promises(run_id, Kind.SIGNAL)
    await store.count_ready_below(run_id, [LANE], 1)
    await store.suspend(fence, 0, need=1, due_at=None)
    await store.release([fence])
    await store.cancel(run_id)
    await store.get(run_id)


async def test_a_partition_for_a_run(partitioned_url: str) -> None:
    """On partitioned tables, what is asked of a run is looked for in its own partition only."""
    place: Counter[str] = Counter()
    for i in range(3):
        async with opened(partitioned_url) as store:
            claim = await claimed(store, f"run/{i}")
        looked: Counter[str] = Counter()
        async with scanning(partitioned_url, looked) as store:
            await ordinary_life(store, claim)
        partitions = {name.rpartition("_")[2] for name, count in looked.items() if count}
        assert len(partitions) == 1, looked
        assert looked["runs_" + min(partitions)] > 5
        place += Counter(partitions)
    assert len(place) > 1  # these runs do not lie in one by chance


async def test_a_whole_life_on_partitions(partitioned_url: str) -> None:
    """All of it works there: children, big values, continuing, taking over, giving up."""
    async with opened(partitioned_url) as store:
        big = JsonText(f'"{"x" * 50_000}"')
        await store.start(replace(new_run("big"), input=big))
        (claim,) = await store.claim(LANE, 5, OWNER)
        assert claim.input == big
        child = await spawned(store, claim)
        await store.commit([end_child(child)], wait=True)
        assert await store.continue_as(claim.fence, big)
        (again,) = await store.claim(LANE, 5, OWNER)
        assert (again.run.generation, again.input) == (1, big)
        await store.commit([end(again)], wait=True)
        paused = await claimed(store, "paused")
        await store.commit([end(paused, RunStatus.FAILED)], wait=True)
        await store.discard(RunId("paused"))
        assert [(run.id, run.status) for run in await store.list()] == [
            ("paused", RunStatus.CANCELLED),
            ("big", RunStatus.DONE),
        ]
