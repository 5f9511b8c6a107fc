"""What a model did wrong comes back in the database's words, with what there is instead."""

import subprocess
import sys

import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed


async def test_an_unknown_table_lists_the_tables(shop):
    """An error about a table names the tables that there are."""
    with pytest.raises(QueryFailed, match=r"ordrs.*the tables are: customers, named, orders"):
        await query_sql(shop).function("SELECT * FROM ordrs")


async def test_an_unknown_column_lists_the_columns(shop):
    """An error about a column names the columns of the tables in the statement, and no others."""
    with pytest.raises(QueryFailed, match=r"nam.*the columns are: customers \(id, name\)$"):
        await query_sql(shop).function("SELECT nam FROM Customers")


async def test_an_unknown_column_without_a_table_lists_the_tables(shop):
    """Where the statement names no table, the tables are listed."""
    with pytest.raises(QueryFailed, match=r"nam.*the tables are: customers"):
        await query_sql(shop).function("SELECT nam")


async def test_a_syntax_error_is_told_in_the_databases_words(shop):
    """A syntax error says near what."""
    with pytest.raises(QueryFailed, match='near "SELEC"'):
        await query_sql(shop).function("SELEC 1")


async def test_an_empty_statement_is_told(shop):
    """No statement at all is an error, not an empty answer."""
    with pytest.raises(QueryFailed, match="SELECT"):
        await query_sql(shop).function("  -- nothing\n")


@pytest.mark.parametrize(
    "sql, parameters, said",
    [
        ("SELECT ?", None, "bindings"),
        ("SELECT ?", [1, 2], "bindings"),
        ("SELECT :a", {"b": 1}, "parameter is wrong: 'a'"),
        ("SELECT ?", [[1]], "parameter is wrong.*text, numbers"),
        ("SELECT CAST(x'ff' AS TEXT)", None, "not UTF-8: read it with hex"),
        ("SELECT 1\0", None, "null character"),
    ],
)
async def test_sqlite_mistakes_with_values(sqlite_shop, sql, parameters, said):
    """A wrong parameter or an unreadable value says what is wrong with it."""
    with pytest.raises(QueryFailed, match=said):
        await query_sql(sqlite_shop).function(sql, parameters)


@pytest.mark.parametrize(
    "sql, parameters, said",
    [
        ("SELECT $1::int", None, "requires 1"),
        ("SELECT $1::int", ["x"], "invalid input syntax for type integer"),
        ("SELECT %(a)s", {"b": 1}, "parameter missing: a"),
        ("SELECT 1 / 0", None, "division by zero"),
        ("SELECT foo(1)", None, "foo.*does not exist.*type casts"),
    ],
)
async def test_postgres_mistakes_with_values(postgres_shop, sql, parameters, said):
    """PostgreSQL's message comes with its hint, and without the statement around it."""
    with pytest.raises(QueryFailed, match=said) as caught:
        await query_sql(postgres_shop).function(sql, parameters)

    assert "DECLARE" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/d",
        "postgresql://u:se%zzcret@127.0.0.1/d",
    ],
)
async def test_an_unreachable_server_is_told_without_the_password(url):
    """A connection that fails says so; the password stays out of the message."""
    with pytest.raises(QueryFailed, match="database") as caught:
        await query_sql(url).function("SELECT 1")

    assert "secret" not in str(caught.value)
    assert "zz" not in str(caught.value)


async def test_a_file_that_is_no_database_is_told(tmp_path):
    """A file of another kind is named as what it is not."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)

    with pytest.raises(QueryFailed, match="not a database"):
        await query_sql(f"sqlite:///{path}").function("SELECT * FROM t")
    with pytest.raises(QueryFailed, match="not a database"):
        await describe_schema(f"sqlite:///{path}").function()


def test_importing_the_skill_loads_no_postgres_driver():
    """The package psycopg is loaded for a PostgreSQL call only."""
    program = (
        "import sys; from skills.sql import query_sql; query_sql('postgresql://host/name');"
        "print('psycopg' in sys.modules)"
    )

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert printed.stdout.split() == [b"False"]
