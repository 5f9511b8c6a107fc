"""Nothing that a model sends changes the database, makes a file, or reaches beyond the database."""

from pathlib import Path

import psycopg
import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed

SQLITE_REFUSED = {
    "delete": "DELETE FROM customers",
    "insert in a CTE's place": "INSERT INTO customers SELECT 3, 'Cyd'",
    "create": "CREATE TABLE t (x)",
    "temporary table": "CREATE TEMP TABLE t (x)",
    "drop": "DROP TABLE customers",
    "attach": "ATTACH '{folder}/new.db' AS other",
    "vacuum into": "VACUUM INTO '{folder}/new.db'",
    "pragma": "PRAGMA journal_mode = DELETE",
    "pragma that is a setting": "PRAGMA page_size = 512",
    "pragma as a table": "SELECT * FROM pragma_writable_schema",
    "load_extension": "SELECT load_extension('{folder}/x')",
    "begin": "BEGIN IMMEDIATE",
    "savepoint": "SAVEPOINT s",
}

POSTGRES_REFUSED = {
    "delete": "DELETE FROM customers",
    "data-modifying with": "WITH d AS (DELETE FROM customers RETURNING *) SELECT * FROM d",
    "select into": "SELECT * INTO t FROM customers",
    "create": "CREATE TABLE t (x int)",
    "temporary table": "CREATE TEMP TABLE t (x int)",
    "do": "DO $$ BEGIN END $$",
    "copy": "COPY customers TO STDOUT",
    "copy to a program": "COPY customers TO PROGRAM 'touch {folder}/new.db'",
    "read a file": "SELECT pg_read_file('/etc/hostname')",
    "commit": "COMMIT",
    "end of read-only": "SET TRANSACTION READ WRITE",
    "end of read-only in a function": "SELECT set_config('transaction_read_only', 'off', false)",
    "lock": "SELECT * FROM customers FOR UPDATE",
    "two selects": "SELECT 1; SELECT 2",
    "two statements": "SELECT 1; DELETE FROM customers",
    "another transaction first": "COMMIT; BEGIN READ WRITE; SELECT 1",
    "two statements past the cursor": "SELECT 1; COMMIT; DROP TABLE customers; SELECT 1",
}


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("sql", SQLITE_REFUSED.values(), ids=SQLITE_REFUSED)
async def test_sqlite_takes_nothing_but_reading(sqlite_shop, tmp_path: Path, sql):
    """A statement that does anything but read is refused, and leaves database and folder alone."""
    before = contents(tmp_path)

    with pytest.raises(QueryFailed, match=r"only reading|no such table"):
        await query_sql(sqlite_shop).function(sql.format(folder=tmp_path))

    assert before == contents(tmp_path)


@pytest.mark.parametrize(
    "sql", ["SELECT 1; DELETE FROM customers", "SELECT 1; SELECT 2", "/**/;SELECT 1;/*;*/SELECT 2"]
)
async def test_sqlite_takes_one_statement(sqlite_shop, sql):
    """A second statement is refused before the first has run."""
    with pytest.raises(QueryFailed, match="more than one statement"):
        await query_sql(sqlite_shop).function(sql)


@pytest.mark.parametrize("sql", ["SELECT 1;", "SELECT 1; -- done", "/* first */ SELECT 1 /* ; */"])
async def test_a_comment_is_no_statement(shop, sql):
    """A semicolon at the end and comments around are part of the one statement."""
    answer = await query_sql(shop).function(sql)

    assert answer["rows"] == [[1]]
    assert len(answer["columns"]) == 1


async def test_sqlite_reads_full_text(sqlite_shop, add_to_sqlite):
    """Full-text tables are read, though they prepare statements of their own."""
    add_to_sqlite(
        "CREATE VIRTUAL TABLE five USING fts5 (body); INSERT INTO five VALUES ('red apple');"
        "CREATE VIRTUAL TABLE four USING fts4 (body); INSERT INTO four VALUES ('red pear')"
    )
    tool = query_sql(sqlite_shop)

    five = await tool.function("SELECT body FROM five WHERE five MATCH 'red'")
    four = await tool.function("SELECT body FROM four WHERE four MATCH 'red'")

    assert (five["rows"], four["rows"]) == ([["red apple"]], [["red pear"]])


async def test_sqlite_explains_a_plan(sqlite_shop):
    """A model may look at a query's plan."""
    answer = await query_sql(sqlite_shop).function(
        "EXPLAIN QUERY PLAN SELECT name FROM customers WHERE id = 1"
    )

    assert "PRIMARY KEY" in answer["rows"][0][-1]


async def test_sqlite_makes_no_file(tmp_path: Path):
    """A database that does not exist is an error, not a new empty file."""
    with pytest.raises(QueryFailed, match="must exist"):
        await query_sql(f"sqlite:///{tmp_path / 'none.db'}").function("SELECT 1")

    assert contents(tmp_path) == {}


async def test_sqlite_refuses_long_values(sqlite_shop):
    """A value beyond the length limit is an error before it takes memory."""
    with pytest.raises(QueryFailed, match="1000000 bytes"):
        await query_sql(sqlite_shop).function("SELECT length(zeroblob(1000001))")


@pytest.mark.parametrize("sql", POSTGRES_REFUSED.values(), ids=POSTGRES_REFUSED)
async def test_postgres_takes_nothing_but_one_select(
    postgres_shop, owner: psycopg.Connection, tmp_path: Path, sql
):
    """A statement that does anything but read is refused, and changes nothing."""
    with pytest.raises(QueryFailed):
        await query_sql(postgres_shop).function(sql.format(folder=tmp_path))

    [customers] = owner.execute("SELECT count(*) FROM customers").fetchone()
    tables = owner.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert (customers, len(tables)) == (2, 2)
    assert contents(tmp_path) == {}


async def test_postgres_never_commits(postgres_shop, owner: psycopg.Connection):
    """What a SELECT may do in spite of a read-only transaction is rolled back."""
    owner.execute("LISTEN news")
    owner.execute(
        "CREATE FUNCTION tell(text) RETURNS void LANGUAGE sql AS $$SELECT pg_notify('news', $1)$$"
    )

    await query_sql(postgres_shop).function("SELECT tell('from the model')")

    # Notifications arrive in the order of commits, so the model's would be before this one.
    owner.execute("NOTIFY news, 'from the owner'")
    heard = next(owner.notifies(timeout=5, stop_after=1))
    assert heard.payload == "from the owner"


async def test_postgres_is_asked_in_a_read_only_transaction(postgres_shop):
    """The transaction itself is read-only, beside all other guards."""
    answer = await query_sql(postgres_shop).function(
        "SELECT current_setting('transaction_read_only')"
    )

    assert answer["rows"] == [["on"]]


async def test_postgres_reads_only_what_the_role_may(make_role):
    """The role's own rights decide what can be read."""
    url = make_role("GRANT SELECT ON customers TO {role}")

    allowed = await query_sql(url).function("SELECT count(*) FROM customers")
    described = await describe_schema(url).function()

    assert allowed["rows"] == [[2]]
    assert [table["name"] for table in described["tables"]] == ["customers"]
    with pytest.raises(QueryFailed, match="permission denied"):
        await query_sql(url).function("SELECT * FROM orders")
