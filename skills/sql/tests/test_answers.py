"""An answer is JSON, tells what it leaves out, and is never more than a model can read."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from skills.sql import query_sql
from skills.sql.answer import MAX_ANSWER, MAX_CELL, QueryFailed
from substrate.agent.tool import InvalidArguments, Tool, render
from substrate.values.errors import BadDatabaseUrl, Misuse

COUNT_TO = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"


async def ask(tool: Tool, sql: str, parameters: list | dict | None = None) -> dict:
    """Call the tool as a model does."""
    return await tool.function(**tool.check({"sql": sql, "parameters": parameters}))


async def test_rows_come_with_their_columns(shop):
    """A query's rows come back in order, with column names and their number."""
    answer = await ask(query_sql(shop), "SELECT id, name FROM customers ORDER BY id")

    assert answer == {
        "columns": ["id", "name"],
        "rows": [[1, "Ada"], [2, "Bob"]],
        "row_count": 2,
        "truncated": False,
    }


async def test_no_rows_still_have_columns(shop):
    """A query that finds nothing answers with its columns and no rows."""
    answer = await ask(query_sql(shop), "SELECT name FROM customers WHERE id = 99")

    assert answer == {"columns": ["name"], "rows": [], "row_count": 0, "truncated": False}


@pytest.mark.parametrize("limit, truncated", [(2, True), (3, False)])
async def test_rows_beyond_the_limit_are_left_out(shop, limit, truncated):
    """Of three rows a limit of two gives two and says so; a limit of three gives all."""
    answer = await ask(
        query_sql(shop, max_rows=limit), COUNT_TO.format(3) + "SELECT i FROM n ORDER BY i"
    )

    assert answer["rows"] == [[1], [2], [3]][:limit]
    assert answer["truncated"] is truncated
    assert ("note" in answer) is truncated


async def test_the_whole_answer_is_limited(shop):
    """Many long rows stop at the size limit, whatever the row limit says."""
    wide = f"'{'x' * (MAX_CELL - 100)}'"
    sql = COUNT_TO.format(500) + f"SELECT {wide}, {wide} FROM n"

    answer = await ask(query_sql(shop, max_rows=500), sql)

    assert answer["truncated"] is True
    assert MAX_ANSWER * 0.9 < len(render(answer["rows"])) <= MAX_ANSWER * 1.01
    assert "characters" in answer["note"]


async def test_one_row_beyond_the_limit_is_an_error(shop):
    """A first row larger than an answer is refused with what to do, not answered by nothing."""
    wide = ", ".join(f"'{'x' * MAX_CELL}' AS c{i}" for i in range(40))

    with pytest.raises(QueryFailed, match="select fewer columns"):
        await ask(query_sql(shop), f"SELECT {wide}")


async def test_a_long_text_is_cut_with_a_mark(shop):
    """A text beyond the cell limit is cut, and says how long it was."""
    answer = await ask(query_sql(shop), f"SELECT '{'x' * (MAX_CELL + 500)}' AS long")

    [[cell]] = answer["rows"]
    assert cell == "x" * MAX_CELL + "… [cut: 2500 characters in all]"


async def test_bytes_are_base64_with_their_number(shop):
    """Bytes are shown as base64 and say how many they are."""
    answer = await ask(query_sql(shop), "SELECT note FROM orders")

    assert answer["rows"] == [["base64:AP8Q [3 bytes]"]]


async def test_many_bytes_are_cut_with_a_mark(shop, sqlite_shop):
    """Bytes beyond the cell limit are cut, and say so."""
    answer = await ask(query_sql(sqlite_shop), "SELECT zeroblob(100000)")

    [[cell]] = answer["rows"]
    assert cell.startswith("base64:AAAA")
    assert cell.endswith("[cut: 100000 bytes]")
    assert len(cell) < MAX_CELL + 50


async def test_what_json_lacks_becomes_text(postgres_shop):
    """Decimals, dates, infinities and ranges are text; JSON and arrays stay what they are."""
    sql = """
    SELECT 12.50::numeric, 1e30::numeric, 'NaN'::float8, date 'infinity',
        timestamptz '2026-11-20 10:00+00' AT TIME ZONE 'UTC', interval '3 days',
        '[2026-01-01,2026-02-01)'::daterange, '{"a": [1, null]}'::jsonb, ARRAY['a', 'b'], true, NULL
    """

    answer = await ask(query_sql(postgres_shop), sql)

    assert answer["rows"] == [
        [
            "12.50",
            "1000000000000000000000000000000",
            "nan",
            "infinity",
            "2026-11-20 10:00:00",
            "3 days",
            "[2026-01-01, 2026-02-01)",
            {"a": [1, None]},
            ["a", "b"],
            True,
            None,
        ]
    ]


async def test_long_json_is_cut_like_text(postgres_shop):
    """A JSON value beyond the cell limit is shown as the beginning of its text."""
    answer = await ask(
        query_sql(postgres_shop), "SELECT json_agg(i) FROM generate_series(1, 5000) AS i"
    )

    [[cell]] = answer["rows"]
    assert cell.startswith("[1, 2, 3, ")
    assert cell.endswith("characters in all]")


async def test_an_integer_beyond_64_bits_is_text(postgres_shop):
    """An integer inside a JSON value that not every reader can hold is text."""
    answer = await ask(query_sql(postgres_shop), f"SELECT json '[{10**20}, 1]'")

    assert answer["rows"] == [[[str(10**20), 1]]]


@pytest.mark.parametrize(
    "url, sql, parameters",
    [
        ("sqlite_shop", "SELECT name FROM customers WHERE id = ?", [2]),
        ("sqlite_shop", "SELECT name FROM customers WHERE id = :id", {"id": 2}),
        ("postgres_shop", "SELECT name FROM customers WHERE name LIKE '%o%' AND id = $1", [2]),
        (
            "postgres_shop",
            "SELECT name FROM customers WHERE name LIKE '%%o%%' AND id = %(id)s",
            {"id": 2},
        ),
    ],
)
async def test_parameters_by_place_and_by_name(request, url, sql, parameters):
    """Values are given in a list or by name, apart from the SQL."""
    tool = query_sql(request.getfixturevalue(url))

    answer = await ask(tool, sql, parameters)

    assert answer["rows"] == [["Bob"]]


async def test_a_parameter_is_never_sql(shop):
    """A value that looks like SQL is compared, not run."""
    placeholder = "?" if shop.startswith("sqlite") else "$1"

    answer = await ask(
        query_sql(shop), f"SELECT name FROM customers WHERE name = {placeholder}", ["' OR 1=1 --"]
    )

    assert answer["rows"] == []


def test_the_model_sees_sql_and_parameters_only(sqlite_url):
    """The tool's schema holds neither the URL nor the limits, and its effect is pure."""
    tool = query_sql(sqlite_url, name="ask_shop", timeout=timedelta(seconds=3))

    assert list(tool.spec.parameters["properties"]) == ["sql", "parameters"]
    assert tool.spec.parameters["required"] == ["sql"]
    assert tool.name == "ask_shop"
    assert tool.effect == "pure"
    assert sqlite_url not in render(tool.spec.parameters) + tool.spec.description
    with pytest.raises(InvalidArguments):
        tool.check({"sql": "SELECT 1", "parameters": 1})


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@h/d", "shop.db", "sqlite://shop.db", "sqlite:///", "sqlite:///:memory:"],
)
def test_a_url_that_names_no_database_is_refused(url):
    """A wrong URL fails where the tool is made, and the message keeps a password to itself."""
    with pytest.raises(BadDatabaseUrl) as caught:
        query_sql(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"max_rows": 0}, {"timeout": timedelta(0)}])
def test_limits_that_let_nothing_through_are_refused(sqlite_url, wrong):
    """A limit of nothing fails where the tool is made."""
    with pytest.raises(Misuse):
        query_sql(sqlite_url, **wrong)


async def test_values_of_sqlite_that_json_lacks(sqlite_shop):
    """SQLite's infinities are text."""
    answer = await ask(query_sql(sqlite_shop), "SELECT 9e999, -9e999")

    assert answer["rows"] == [["inf", "-inf"]]


async def test_reading_sees_what_another_connection_wrote(
    shop, request, add_to_sqlite: Callable[[str], None]
):
    """Every call reads the database as it is then."""
    tool = query_sql(shop)
    before = await ask(tool, "SELECT count(*) FROM customers")
    if shop.startswith("sqlite"):
        add_to_sqlite("INSERT INTO customers VALUES (3, 'Cyd')")
    else:
        owner: psycopg.Connection = request.getfixturevalue("owner")
        owner.execute("INSERT INTO customers VALUES (3, 'Cyd')")

    after = await ask(tool, "SELECT count(*) FROM customers")

    assert (before["rows"], after["rows"]) == ([[2]], [[3]])
