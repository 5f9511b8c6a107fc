"""No statement on PostgreSQL ends or holds up a session, waits, locks, or writes into the log."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from markdown_it import MarkdownIt
from psycopg.sql import SQL, Identifier

from skills.sql import query_sql
from skills.sql.answer import QueryFailed
from substrate import Context, connect, durable
from tests.postgres import fresh_database

README = Path(__file__).parents[2] / "README.md"

ACTING = {
    "end a session": "SELECT pg_terminate_backend(1)",
    "cancel a statement": "SELECT pg_cancel_backend(1)",
    "a lock": "SELECT pg_advisory_lock(91310704)",
    "a lock until the end": "SELECT pg_advisory_xact_lock(1, 2)",
    "a lock if it is free": "SELECT pg_try_advisory_lock_shared(1)",
    "sleep": "SELECT pg_sleep(1)",
    "sleep for a while": "SELECT pg_sleep_for('1 s')",
    "the log of changes": "SELECT pg_logical_emit_message(false, 'x', repeat('x', 9))",
    "a snapshot": "SELECT pg_export_snapshot()",
    "a transaction's number": "SELECT txid_current()",
    "the same, as it is called now": "SELECT pg_current_xact_id()",
    "a notification": "SELECT pg_notify('a', 'b')",
    "a setting": "SELECT set_config('role', 'none', false)",
    "a large object": "SELECT lo_from_bytea(0, 'x')",
    "a sequence": "SELECT nextval('s')",
    "a statement in a text": "SELECT query_to_xml('SELECT pg_sl' || 'eep(1)', true, true, '')",
    "another one": "SELECT * FROM ts_stat('SELECT pg_sl' || 'eep(1)')",
    "upper case": "SELECT PG_SLEEP(1)",
    "quotes": 'SELECT "pg_sleep"(1)',
    "its schema": 'SELECT pg_catalog."pg_sleep"(1)',
    "a gap": "SELECT pg_sleep /* a */ -- b\n (1)",
    "after a number": "SELECT 1pg_sleep",
    "after a text": "SELECT $$x$$pg_sleep",
    "codes": r'SELECT U&"pg\005fsleep"(1)',
    "codes with a sign of their own": "SELECT u&\"pg!005fsleep\" UESCAPE '!' (1)",
    "a limit": "SELECT 1 LIMIT length(pg_sleep(1)::text)",
    "rows of values": "SELECT * FROM (VALUES (pg_sleep(1)), (pg_sleep(2))) AS v",
    "a condition": "SELECT 1 FROM customers WHERE pg_try_advisory_lock(id)",
    "inside of another": "WITH a AS (SELECT (SELECT pg_cancel_backend(2))) SELECT * FROM a",
    "a letter that some databases read as an i": "SELECT pg_term\u0130nate_backend(1)",
    "as a table": "SELECT * FROM customers, LATERAL pg_sleep(1)",
}

READING = {
    "chance": "SELECT count(random())",
    "time": "SELECT count(clock_timestamp())",
    "size": "SELECT count(pg_size_pretty(pg_total_relation_size('customers')))",
    "a sample": "SELECT count(*) > 9 OR true FROM customers TABLESAMPLE system (50)",
    "a column": "SELECT bool_or(system) FROM (SELECT true AS system) AS t",
    "a longer name": "SELECT pg_sleeping_now FROM (SELECT true AS pg_sleeping_now) AS t",
    "a text with escapes": r"SELECT U&'pg\005fsleep' = 'pg' || '_sleep'",
}


@pytest.mark.parametrize("sql", ACTING.values(), ids=ACTING)
async def test_a_statement_that_names_what_acts_is_refused(postgres_shop, sql):
    """A statement is not begun that names a function which does more than tell something."""
    with pytest.raises(QueryFailed, match=r"only reading is allowed, and .* names|identifier"):
        await query_sql(postgres_shop).function(sql)


@pytest.mark.parametrize("sql", READING.values(), ids=READING)
async def test_what_only_tells_something_is_taken(postgres_shop, sql):
    """Chance, time and sizes are told, and a name that only begins alike is no function's."""
    answer = await query_sql(postgres_shop).function(sql)

    assert answer["row_count"] == 1


async def test_a_text_that_holds_a_name_is_given_as_a_parameter(postgres_shop):
    """Of a mere text the refusal says how it can be asked for all the same."""
    tool = query_sql(postgres_shop)

    with pytest.raises(QueryFailed, match="in `parameters`"):
        await tool.function("SELECT 'call pg_sleep(1)' LIKE '%pg_sleep%'")

    answer = await tool.function("SELECT 'call ' || $1::text LIKE $2", ["pg_sleep", "%pg_sleep"])
    named = await tool.function("SELECT %(word)s::text", {"word": "pg_sleep"})
    assert (answer["rows"], named["rows"]) == ([[True]], [["pg_sleep"]])


async def test_what_an_extension_brings_is_asked_as_well(postgres_shop, owner):
    """A function of an extension that acts, or runs a text, is refused; one of the owner's acts."""
    owner.execute(
        "CREATE FUNCTION ping() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION crosstab(text) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    owner.execute(
        "SET allow_system_table_mods = on;"
        "INSERT INTO pg_extension SELECT 99998 + place, name, extowner, extnamespace,"
        " extrelocatable, extversion FROM pg_extension,"
        " unnest(ARRAY['tablefunc', 'pings']) WITH ORDINALITY AS made (name, place)"
        " WHERE extname = 'plpgsql';"
        "RESET allow_system_table_mods"
    )
    owner.execute("ALTER EXTENSION pings ADD FUNCTION ping()")
    owner.execute("ALTER EXTENSION tablefunc ADD FUNCTION crosstab(text)")
    tool = query_sql(postgres_shop)

    assert (await tool.function("SELECT mine()"))["rows"] == [[1]]
    for call in ("ping()", "crosstab('SELECT 1')"):
        with pytest.raises(QueryFailed, match="only reading"):
            await tool.function(f"SELECT {call}")


def advice(postgres: str) -> str:
    """Return the statements of a README that begin so."""
    tokens = MarkdownIt().parse(README.read_text(encoding="utf-8"))
    blocks = (token.content for token in tokens if token.type == "fence" and token.info == "sql")
    [found] = [block for block in blocks if block.startswith(postgres)]
    return found


@pytest.fixture
def advised(owner: psycopg.Connection, postgres_url: str) -> Iterator[str]:
    """Return the URL of the role that the README makes, where it has been followed to its end."""
    name = f"reader_{uuid4().hex[:8]}"
    for block in ("CREATE ROLE reader", "DO"):
        owner.execute(advice(block).replace("reader", name).encode())
    host = urlsplit(postgres_url).netloc.rpartition("@")[2]
    yield urlsplit(postgres_url)._replace(netloc=f"{name}:secret@{host}").geturl()
    owner.execute(SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=Identifier(name)))


TAKEN = [
    *("pg_terminate_backend(1)", "pg_cancel_backend(1)", "pg_sleep(0)", "pg_sleep_for('0 s')"),
    *("pg_advisory_lock(1)", "pg_try_advisory_xact_lock(1, 2)", "pg_advisory_unlock_all()"),
    *("pg_logical_emit_message(false, 'x', 'x')", "pg_export_snapshot()"),
]


async def test_the_server_itself_refuses_what_was_taken_away(advised, owner):
    """With what the README revokes, not even a function of the owner's acts for the tool."""
    tool = query_sql(advised)
    assert (await tool.function("SELECT count(*) FROM customers"))["rows"] == [[2]]

    for i, call in enumerate(TAKEN):
        body = f"$$SELECT ({call})::text$$"
        owner.execute(f"CREATE FUNCTION f{i}() RETURNS text LANGUAGE sql AS {body}".encode())
        with pytest.raises(QueryFailed, match="permission denied for function"):
            await tool.function(f"SELECT f{i}()")


@durable
async def job(ctx: Context) -> str:
    """End at once."""
    return "done"


async def test_the_kit_needs_nothing_of_what_was_taken_away(advised, owner, make_role):
    """In a database in which these are revoked, the kit makes its tables and drives runs."""
    url = make_role(
        "CREATE SCHEMA runs AUTHORIZATION {role}", "ALTER ROLE {role} SET search_path = runs"
    )

    async with connect(url) as client, client.work([job]):
        await client.start(job, id="run")
        assert await client.result("run") == "done"


async def test_the_role_of_the_kit_is_refused(owner, make_role, postgres_dsn, postgres_url):
    """A role that owns something elsewhere on the server, as that of the runs may, is not used."""
    url = make_role("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    role = urlsplit(url).username
    with fresh_database(postgres_dsn) as elsewhere:
        with psycopg.connect(elsewhere, autocommit=True) as admin:
            admin.execute(f"CREATE SCHEMA runs AUTHORIZATION {role}".encode())
        with pytest.raises(
            QueryFailed, match="owns something in the database ostinato_test_"
        ) as told:
            await query_sql(url).function("SELECT 1")
        with psycopg.connect(elsewhere, autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {role}".encode())

    assert "a role of its own" in str(told.value)
    assert (await query_sql(url).function("SELECT 1"))["rows"] == [[1]]


async def test_the_role_of_a_worker_is_refused(make_reader):
    """A role as which the kit is connected at the moment, to any database, is not used."""
    url = make_reader()
    named = f"{url}{'&' if '?' in url else '?'}application_name=ostinato"
    with psycopg.connect(named), pytest.raises(QueryFailed, match="a worker of the kit"):
        await query_sql(url).function("SELECT 1")

    assert (await query_sql(url).function("SELECT 1"))["rows"] == [[1]]
