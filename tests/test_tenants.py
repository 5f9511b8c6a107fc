"""What a tenant's runs remember is theirs: no run of another tenant, or of none, ever sees it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from substrate import Client, Context, IdTaken, Misuse, connect, durable
from substrate.memory.hashed_ngrams import HashedNgrams
from substrate.memory.recall import Recall, find
from substrate.store.memory_rows import Look
from substrate.values.errors import InvalidId, StoreError
from substrate.values.memory import Space
from tests.fork import Fork
from tests.proxies import proxy_to
from tests.runs import QUICK
from tests.stores import database
from tests.test_rights import Users

NS = "users/anna"
TENANTS = ("", "acme", "globex")
CLOSED = (
    "namespaces",
    "notes",
    "facts",
    "links",
    "history",
    "terms",
    "term_counts",
    "vectors",
    "embedders",
)
DECIDED = {"policies", "decisions", "motions", "ballots"}
"""Closed as well; these runs decide nothing, so they are empty here."""


@durable
async def keep(ctx: Context, word: str) -> None:
    """Keep a word in each way, in a child too."""
    memory = ctx.memory(NS, undo=True)
    await ctx.gather(
        memory.remember("Anna", "says", word, policy="one"),
        memory.link("Anna", "says", word),
        memory.write_note("note", f"note {word}"),
        memory.say(f"said {word}", "user"),
    )
    await ctx.spawn(more, word)


@durable
async def more(ctx: Context, word: str) -> None:
    await ctx.memory(NS).append_note("note", f"more {word}")


@durable
async def tell(ctx: Context) -> list[str]:
    """Tell all that can be found."""
    memory = ctx.memory(NS, embed=HashedNgrams(64))
    hits = await memory.recall("Anna says said note more acme globex none", 50)
    facts = await memory.facts(at="any", as_of=datetime(2999, 1, 1, tzinfo=UTC))
    links = await memory.links(at="any")
    notes = await memory.notes()
    reached = await memory.walk("Anna", 2)
    return [
        *(hit.text for hit in hits),
        *(fact.object for fact in facts),
        *(link.b for link in links),
        *(note.text for note in notes),
        *(each.name for each in reached),
    ]


async def learn(url: str) -> dict[str, list[str]]:
    """Let runs of each tenant keep a word of it, driven by one worker; return what each finds."""
    found = {}
    async with connect(url) as worker, worker.work([keep, more, tell], options=QUICK):
        for tenant in TENANTS:
            async with connect(url, tenant=tenant) as client:
                word = tenant or "none"
                await client.start(keep, word, id=f"keep/{word}")
                await client.result(f"keep/{word}")
        for tenant in TENANTS:
            async with connect(url, tenant=tenant) as client:
                await client.start(tell, id=f"tell/{tenant}")
                found[tenant] = await client.result(f"tell/{tenant}")
    return found


def check(found: dict[str, list[str]]) -> None:
    """Each has found all of its own, and nothing of another's."""
    for tenant, texts in found.items():
        own = tenant or "none"
        assert len(texts) >= 7
        for text in texts:
            assert own in text
            assert not any(other in text for other in ("none", "acme", "globex") if other != own)


async def test_each_sees_its_own(store_url):
    """Of the same names in the same namespace each tenant's runs find their own."""
    check(await learn(store_url))


async def test_one_id_is_one_run(store_url):
    """A run's id is that of one tenant: another one is told that it is taken."""
    async with connect(store_url, tenant="acme") as client:
        await client.start(tell, id="tell")
        assert (await client.start(tell, id="tell")).tenant == "acme"
    async with connect(store_url, tenant="globex") as client:
        with pytest.raises(IdTaken, match="for another tenant"):
            await client.start(tell, id="tell")


@pytest.mark.parametrize("tenant", ["a/b", ".a", "a b", "x" * 101, "a\0", "é", 1, None])
async def test_what_is_no_tenant(sqlite_url, tenant: Any):
    """A tenant of another form is refused, and nothing is opened."""
    with pytest.raises(InvalidId, match="is not a tenant"):
        async with connect(sqlite_url, tenant=tenant):
            pass


async def test_forgetting_is_of_one_tenant(store_url):
    """What one tenant forgets is gone of it alone, in memory and in journals."""
    await learn(store_url)
    async with connect(store_url, tenant="acme") as client:
        told = await client.forget(NS)
        assert told.runs == ["keep/acme", "tell/acme"]
        assert {each.space.ns for each in await client.store.memory.counters(tenant="acme")} == {NS}
        for tenant in TENANTS:
            left = await client.store.memory.rows(Look(Space(tenant, NS), "facts", {}))
            assert len(left) == (0 if tenant == "acme" else 1)
        assert await client.result("tell/globex")
        with pytest.raises(Misuse, match="is of tenant 'globex'"):
            await client.forget(run="keep/globex")


async def test_the_command_line(tmp_path, store_url):
    """OSTINATO_TENANT says whose memory is looked at."""
    await learn(store_url)
    fork = Fork.make(tmp_path, store_url)
    shown = fork.do("memory", "show", NS, OSTINATO_TENANT="globex").out
    assert "globex" in shown
    assert "acme" not in shown
    assert "none" in fork.do("memory", "search", NS, "what does Anna say").out
    known = ("memory", "why", "tell/acme#facts.0")
    assert "acme" in fork.do(*known, OSTINATO_TENANT="acme").out
    for tenant in ("", "globex"):  # whose namespace of this name holds other rows
        refused = fork.do(*known, OSTINATO_TENANT=tenant)
        assert (refused.code, refused.out) == (2, "")
        assert "set OSTINATO_TENANT=acme" in refused.err


@pytest.fixture
async def users(postgres_url) -> AsyncIterator[Users]:
    """Provide a database that one role owns, and another one, with the rights of a worker."""
    users = Users(postgres_url)
    users.make()
    try:
        async with connect(users.url(users.owner)):
            pass
        users.grant()
        yield users
    finally:
        users.drop()


async def test_a_worker_of_all_tenants(users):
    """With a role that row-level security binds, one worker drives the runs of all, as before."""
    check(await learn(users.url(users.worker)))


async def test_the_second_wall(users):
    """A worker's role sees only rows of the tenant that its transaction names, whatever it asks."""
    await learn(users.url(users.worker))
    with psycopg.connect(users.url(users.worker), autocommit=True) as db:

        def seen() -> set[tuple[str, str]]:
            return {
                (table, tenant)
                for table in CLOSED
                for (tenant,) in db.execute(f"SELECT tenant FROM {table}".encode()).fetchall()
            }

        assert seen() == {(table, "") for table in CLOSED}
        with db.transaction():
            db.execute("SELECT set_config('ostinato.tenant', 'acme', true)")
            assert seen() == {(table, "acme") for table in CLOSED}
            for table in set(CLOSED) - {"vectors"}:  # in which nothing is changed by a worker
                refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level")
                with refused, db.transaction():
                    db.execute(f"UPDATE {table} SET tenant = 'globex'".encode())
                changed = db.execute(f"UPDATE {table} SET part = part WHERE tenant = ''".encode())
                assert changed.rowcount == 0
        # Said for one transaction, it is not said for the next one of the same connection.
        assert seen() == {(table, "") for table in CLOSED}


async def test_no_connection_keeps_a_tenant(users):
    """After reads and writes of all tenants no pooled connection names one any more."""
    async with connect(users.url(users.worker)) as client:
        for tenant in TENANTS:
            space = Space(tenant, NS)
            await client.store.memory.counter(space)
            await client.store.memory.rows(Look(space, "facts", {}))
            asked = Recall(space, "what anna says", 9, ["fact"], None)
            await find(client.store.memory, asked, await client.store.memory.counter(space), 9)
            await client.store.memory.counters(tenant=tenant)
            with pytest.raises(StoreError):
                await client.store.memory.rows(Look(space, "facts", {"nothing": 1}))
            settings = await client.store.backend.db.read(_setting)
            assert settings == ""


async def _setting(db: Any) -> str:
    cursor = await db.execute("SELECT coalesce(current_setting('ostinato.tenant', true), '')")
    return str((await cursor.fetchone())[0])


async def test_through_a_pooler(users):
    """Behind a transaction pooler, where the next statement meets another backend, it holds too."""
    async with proxy_to(users.url(users.worker), is_pooler=True) as proxy:
        check(await learn(proxy.url))


async def test_an_owner_that_is_forced(users):
    """Where the owner drives runs, too, FORCE binds it as well; then all is as with a worker."""
    for table in CLOSED:
        users.change(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    check(await learn(users.url(users.owner)))
    with psycopg.connect(users.url(users.owner)) as db:
        assert db.execute("SELECT DISTINCT tenant FROM facts").fetchall() == [("",)]


async def test_each_table_has_a_policy(postgres_url):
    """Each table that has a namespace is closed by row-level security."""
    async with connect(postgres_url):
        pass
    with database(postgres_url) as db:
        found = db.rows(
            "SELECT DISTINCT table_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'ns'"
        )
        closed = db.rows("SELECT relname FROM pg_class WHERE relrowsecurity")
        named = db.rows("SELECT tablename FROM pg_policies")
    # Followers are woken by any worker, and have no texts.
    assert {name for (name,) in found} - {"followers"} == {*CLOSED, *DECIDED}
    assert {name for (name,) in closed} == {*CLOSED, *DECIDED}
    assert sorted(closed) == sorted(named)


async def test_calls_of_several_tenants_at_once(users):
    """Writes of many tenants that wait together are each written for its own, none is held up."""
    async with (
        connect(users.url(users.worker)) as worker,
        worker.work([keep, more, tell], options=QUICK),
    ):
        for i in range(20):
            await Client(worker.store, f"t{i % 5}").start(keep, f"word{i}", id=f"keep/{i}")
        for i in range(5):
            await worker.result(f"keep/{i}")
        for i in range(5):
            rows = await worker.store.memory.rows(Look(Space(f"t{i}", NS), "facts", {}))
            assert {row.object for row in rows} <= {f'"word{n}"' for n in range(i, 20, 5)}  # type: ignore[union-attr]
            assert rows
