"""A model can see what is in a database before it writes SQL."""

import pytest

from skills.sql import describe_schema
from skills.sql.answer import MAX_ANSWER, QueryFailed
from skills.sql.schema import Column, Table, describe
from substrate.agent.tool import render


async def test_tables_with_columns_types_and_keys(shop):
    """Tables and views come in order, each column with its type, each key as SQL says it."""
    told = await describe_schema(shop).function()

    integer, blob = ("INTEGER", "BLOB") if shop.startswith("sqlite") else ("integer", "bytea")
    tables = {table["name"]: table for table in told["tables"]}
    lower = [column.lower() for column in tables["customers"]["columns"]]
    assert list(tables) == ["customers", "named", "orders"]
    assert lower[0].startswith("id integer")
    assert lower[1] == "name text not null"
    assert f"customer {integer}" in tables["orders"]["columns"]
    assert f"note {blob}" in tables["orders"]["columns"]
    assert [
        key.replace("(id)", " (id)").replace("  ", " ") for key in tables["orders"]["keys"]
    ] == [
        "PRIMARY KEY (id)",
        "FOREIGN KEY (customer) REFERENCES customers (id)",
    ]
    assert tables["named"]["kind"] == "view"
    assert told["truncated"] is False


async def test_sqlite_counts_small_tables_and_says_when_it_stops(sqlite_shop, add_to_sqlite):
    """A small table's rows are counted; of a large one only its largeness is said."""
    add_to_sqlite(
        "CREATE TABLE large (n);"
        "WITH RECURSIVE q (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q LIMIT 10001)"
        "INSERT INTO large SELECT n FROM q"
    )

    told = await describe_schema(sqlite_shop).function(["customers", "large", "named"])

    assert [table.get("rows") for table in told["tables"]] == ["2", "more than 10000", None]


async def test_postgres_estimates_rows_once_it_has_looked(postgres_shop, owner):
    """The planner's estimate is told after ANALYZE, and nothing before."""
    before = await describe_schema(postgres_shop).function(["customers"])
    owner.execute("ANALYZE customers")

    after = await describe_schema(postgres_shop).function(["customers"])

    assert "rows" not in before["tables"][0]
    assert after["tables"][0]["rows"] == "about 2"


async def test_sqlite_names_are_written_as_sql_needs_them(sqlite_shop, add_to_sqlite):
    """A name that is a keyword, or no word, comes in quotes and is found without."""
    add_to_sqlite('CREATE TABLE "order" (x); CREATE TABLE "two words" (x)')

    told = await describe_schema(sqlite_shop).function(["Order", "two words"])

    assert [table["name"] for table in told["tables"]] == ['"order"', '"two words"']


async def test_sqlite_keys_of_several_columns_keep_their_order(sqlite_shop, add_to_sqlite):
    """A key of several columns names them in the key's order, not the table's."""
    add_to_sqlite(
        "CREATE TABLE pair (b, a, PRIMARY KEY (a, b));"
        "CREATE TABLE child (y, x, FOREIGN KEY (x, y) REFERENCES pair (a, b))"
    )

    told = await describe_schema(sqlite_shop).function(["pair", "child"])

    assert [table["keys"] for table in told["tables"]] == [
        ["PRIMARY KEY (a, b)"],
        ["FOREIGN KEY (x, y) REFERENCES pair (a, b)"],
    ]


async def test_one_broken_view_hides_nothing_else(sqlite_shop, add_to_sqlite):
    """A view of something that is gone, and a table that can't be opened, are marked as such."""
    add_to_sqlite(
        "CREATE VIEW broken AS SELECT * FROM gone; CREATE VIRTUAL TABLE r USING rtree (i, a, b)"
    )

    told = await describe_schema(sqlite_shop).function()

    kinds = {table["name"]: table["kind"] for table in told["tables"]}
    assert kinds["broken"] == "view, unreadable"
    assert kinds["r"] == "virtual, unreadable"
    assert kinds["customers"] == "table"


async def test_a_schema_outside_the_search_path_is_named(postgres_shop, owner):
    """A table that needs its schema's name comes with it; partitions are told as one table."""
    owner.execute(
        'CREATE SCHEMA s; CREATE TABLE s."Odd" (x int) PARTITION BY LIST (x);'
        'CREATE TABLE s.part PARTITION OF s."Odd" FOR VALUES IN (1)'
    )

    told = await describe_schema(postgres_shop).function(['s."Odd"'])
    every = await describe_schema(postgres_shop).function()

    assert told["tables"][0]["columns"] == ["x integer"]
    assert len(every["tables"]) == 4


async def test_a_table_that_is_not_there_is_told(shop):
    """An unknown name is an error with the names that there are."""
    with pytest.raises(QueryFailed, match="'clients'; the tables are: customers"):
        await describe_schema(shop).function(["clients"])


async def test_an_empty_database_is_told(sqlite_shop, tmp_path):
    """A database without tables is described by none."""
    (tmp_path / "empty.db").touch()

    told = await describe_schema(f"sqlite:///{tmp_path / 'empty.db'}").function()

    assert told == {"tables": [], "truncated": False}


def test_a_large_schema_is_cut_and_the_rest_is_named():
    """Tables that do not fit are named, so that they can be asked for."""
    columns = tuple(Column(f"column_{i}", "text") for i in range(100))
    tables = [Table(f"table_{i}", "table", columns) for i in range(100)]

    told = describe(tables, None)

    assert told["truncated"] is True
    assert len(render(told["tables"])) <= MAX_ANSWER * 1.01
    assert len(told["tables"]) + len(told["omitted"]) == 100
    assert told["omitted"][-1] == "table_99"
