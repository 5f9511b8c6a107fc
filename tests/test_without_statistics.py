"""Memory on Postgres reads as much as it finds, also before its tables have statistics."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from substrate.memory.recall import Recall, find
from substrate.store.memory_rows import Look
from substrate.store.postgres import memory, terms, ways
from substrate.store.store import Store
from substrate.store.term_rows import Query
from substrate.store.way_rows import Ways
from substrate.values.memory import Space
from tests.judged.many import Ask, facts, fill, links, word
from tests.stores import database, opened

COUNT = 4_000
SPACE = Space("", "many/all")
QUERY = Query(SPACE, ["facts"], 2 * COUNT)
DOCS = [*range(1, COUNT, 400)]
FREQUENT = word(0)
READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "ways out": lambda db: ways.read_ways(db, _ways(is_out=True)),
    "ways in": lambda db: ways.read_ways(db, _ways(is_out=False)),
    "counts": lambda db: terms.read_term_counts(db, SPACE, [FREQUENT, word(9_999)]),
    "words of texts": lambda db: terms.read_stood(db, QUERY, {FREQUENT: DOCS}),
    "a rank": lambda db: terms.rank(db, QUERY, {word(3_000): 1.0}, 9.0, 12),
    "rows by text": lambda db: memory.read_rows(db, Look(SPACE, "facts", {}, {"doc": DOCS})),
    "rows by number": lambda db: memory.read_rows(db, Look(SPACE, "facts", {}, {"n": DOCS * 2})),
}


def said() -> list[Ask]:
    """Return what is to be said: what the facts say."""
    return [
        ("say", {"text": ask["object"], "speaker": "anna", "trust": "user"})
        for _, ask in facts(COUNT)
    ]


def _ways(*, is_out: bool) -> Ways:
    return Ways(SPACE, [f"thing {i}" for i in range(10)], is_out, None, 2 * COUNT, None, 500)


class Explained:
    """A cursor that tells how many blocks each of its statements has looked at."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.blocks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def execute(self, statement: str, given: Any = None) -> Any:
        if "FROM" in statement:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            ((found,),) = await (await self._cursor.execute(explain, given)).fetchall()
            plan = json.loads(found)[0]["Plan"]
            self.blocks += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return await self._cursor.execute(statement, given)


class Seen:
    """The memory of a store, which tells how many blocks its rows have cost."""

    def __init__(self, store: Store) -> None:
        self._memory: Any = store.memory
        self.blocks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    async def rows(self, look: Look) -> Any:
        """Read rows, and count what is looked at for them."""
        _, blocks = await self._memory._db.write(explained, lambda db: memory.read_rows(db, look))
        self.blocks += blocks
        return await self._memory.rows(look)


async def explained(db: Any, work: Callable[[Any], Awaitable[Any]]) -> tuple[int, int]:
    """Return how much is found, and how many blocks were looked at for it."""
    cursor = Explained(db)
    return len(await work(cursor)), cursor.blocks


async def test_little_is_read(postgres_url):
    """Ten keys cost some blocks each, in a table of thousands of rows that nobody has analysed."""
    async with opened(postgres_url) as store:
        with database(postgres_url) as db:
            for table in ("links", "facts", "history", "terms", "term_counts"):
                db.rows(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        await fill(store, postgres_url, SPACE, [*facts(COUNT), *links(COUNT), *said()])
        read: dict[str, int] = {}
        inner: Any = store.memory._db
        for name, work in READS.items():
            found, read[name] = await inner.write(explained, work)
            assert 0 < found <= 200, name
        assert max(read.values()) <= 120, read
        seen = Seen(store)
        asked = Recall(SPACE, f"{FREQUENT} {word(1)}", 8, ("said",), None)
        hits = await find(seen, asked, await store.memory.counter(SPACE), 3 * COUNT)  # type: ignore[arg-type]
        assert len(hits) == 8
        assert 0 < seen.blocks <= 60
    with database(postgres_url) as db:
        assert db.value("SELECT count(*) FROM pg_stats WHERE tablename = 'links'") == 0
