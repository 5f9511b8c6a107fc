"""A worker needs the rights that are written down, no more; it says which one is missing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from markdown_it import MarkdownIt

from substrate import Client, Context, connect, durable
from substrate.store.connect import open_store
from substrate.store.memory_rows import Look
from substrate.store.postgres.rights import FORGETTING, RIGHTS
from substrate.store.store import Store
from substrate.values.errors import StoreUnusable
from substrate.values.ids import RunId
from substrate.values.memory import Space
from substrate.values.records import JsonText
from tests.everything import FUNCTIONS, LIMITS
from tests.memories import SPACE
from tests.primitives import ask, end_some, every_primitive, keep
from tests.stores import LANE, OTHER, eventually, new_run, opened
from tests.troubled import TroubledStore

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "many-workers.md"
NEEDED = [(table, right) for table, rights in RIGHTS.items() for right in rights.split(", ")]


def blocks(language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language of the page that speak of rights."""
    for token in MarkdownIt().parse(PAGE.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info == language and "runs_worker" in token.content:
            yield token.content


class Users:
    """The owner and the worker of the page, under names of this test alone."""

    def __init__(self, url: str) -> None:
        self.admin = url
        self.owner, self.worker = (f"{who}_{uuid4().hex[:8]}" for who in ("owner", "worker"))
        (self._make,) = blocks("sql")
        (self._grant,) = blocks("text")

    def make(self) -> None:
        """Do what the page says is done first."""
        self._do(self._make)

    def grant(self) -> None:
        """Do what the page says is done when the owner has migrated."""
        self._do(f"SET ROLE {self.owner}; SET search_path = runs; {self._grant}")

    def url(self, who: str) -> str:
        """Return the URL of the database for one of them."""
        parts = urlsplit(self.admin)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{who}@{host}").geturl()

    def change(self, statement: str) -> None:
        """Change something as the administrator, in the schema of the tables."""
        self._do(f"SET search_path = runs; {statement}")

    def drop(self) -> None:
        """Drop both."""
        for who in (self.owner, self.worker):
            self._do(f"DROP OWNED BY {who} CASCADE; DROP ROLE {who}")

    def _do(self, statements: str) -> None:
        named = statements.replace("runs_owner", self.owner).replace("runs_worker", self.worker)
        with psycopg.connect(self.admin, autocommit=True) as admin:
            admin.execute(named.encode())


@pytest.fixture
async def users(postgres_url: str) -> Any:
    """Provide a database that its owner has migrated, and a worker with what the page grants."""
    users = Users(postgres_url)
    users.make()
    try:
        async with opened(users.url(users.owner)):
            pass
        users.grant()
        yield users
    finally:
        users.drop()


async def test_the_rights_are_enough(users, tmp_path):
    """With no more than the page grants every primitive works, also takeovers and commands."""
    users.change("CREATE TABLE entries (run text); GRANT INSERT ON entries TO runs_worker")

    async with opened(users.url(users.worker)) as store:
        await every_primitive(store, tmp_path)


def test_the_rights_that_are_written_down_are_those_that_are_asked_for():
    """The page grants exactly what a worker asks for at its birth."""
    (grants,) = blocks("text")
    written = [
        (table, right)
        for rights, tables in re.findall(r"GRANT ([A-Z, ]+) ON ([a-z_, ]+) TO", grants)
        for table in tables.split(", ")
        for right in rights.split(", ")
    ]

    assert sorted(written) == sorted(NEEDED)


@pytest.mark.parametrize("table, right", NEEDED)
async def test_each_right_is_needed(users, table, right, caplog):
    """Without one of them no worker begins, and some call does not work; the GRANT is said."""
    url = users.url(users.worker)
    async with opened(users.url(users.owner)) as store:  # a run that a dead worker has left
        await store.start(new_run("lost"), OTHER)
        await store.write_rate_limit("a-model", JsonText("{}"))
    users.change(f"INSERT INTO workers VALUES ('{OTHER}', '', 'h', 1, 1, 0, 1)")
    users.change(f"REVOKE {right} ON {table} FROM runs_worker")

    told = rf"GRANT {right} ON {table} TO|GRANT [A-Z, ]*{right}[A-Z, ]* ON {table} TO"
    if table == "ostinato_migrations":
        with pytest.raises(StoreUnusable, match=told):
            await open_store(url)
        return
    async with connect(url) as client:
        with pytest.raises(StoreUnusable, match=told):
            async with client.work(FUNCTIONS, options=LIMITS):
                pass
        if not (table == "workers" and right in ("INSERT", "UPDATE")):
            with pytest.raises(StoreUnusable, match=told):
                await use(client.store)
    assert caplog.messages == []


async def use(store: Store) -> None:
    """Do all that needs no heartbeat."""
    await store.recover()
    await end_some(store)
    await ask(store)
    await keep(store)
    await store.blob(RunId("ended"), "0" * 64)
    await store.write_rate_limit("a-model", JsonText("{}"))
    await store.rate_limits(0)
    await store.write_lanes(OTHER, [LANE])
    await store.known_lanes()


async def test_who_forgets(users):
    """A worker may not forget: it is told what that needs, and nothing was changed; then it may."""
    async with opened(users.url(users.worker)) as store:
        await keep(store)
        with pytest.raises(StoreUnusable, match="GRANT DELETE ON"):
            await Client(store).forget(SPACE)
        assert await store.memory.rows(Look(Space("", SPACE), "notes", {}))
        for table, granted in FORGETTING.items():
            users.change(f"GRANT {granted} ON {table} TO runs_worker")
        told = await Client(store).forget(SPACE)
        assert told.counts["notes"]
        assert told.left[0].startswith("dead rows, and statistics: as the owner of the tables, run")
    async with opened(users.url(users.owner)) as store:
        assert len((await Client(store).forget(SPACE)).left) == 2


@durable
async def patient(ctx: Context) -> str:
    return await ctx.receive("go", str)


async def test_a_right_that_is_taken_away(users, caplog):
    """A worker that loses a right says so once, not at each tick, and goes on when it is back."""
    async with opened(users.url(users.worker)) as opened_store:
        store = TroubledStore(opened_store)
        client = Client(store)
        async with client.work([patient], options=LIMITS):
            await client.start(patient, id="run")
            users.change("REVOKE UPDATE ON runs FROM runs_worker")
            with pytest.raises(StoreUnusable, match="GRANT SELECT, INSERT, UPDATE ON runs TO"):
                await client.signal("run", "go", "on")
            await eventually(lambda: "does not allow it" in caplog.text)
            ticks = store.calls["wake_due"]
            await eventually(lambda: store.calls["wake_due"] > ticks + 50)
            users.grant()
            await client.signal("run", "go", "on")
            assert await client.result("run") == "on"

    told = [line for line in caplog.messages if "does not allow it" in line]
    assert len(told) == len(set(told)) <= 3
