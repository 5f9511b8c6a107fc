"""What PostgreSQL has to say, however much it is, takes little of the worker's memory."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from skills.sql import query_sql
from skills.sql.answer import MAX_ANSWER, MAX_CELL, QueryFailed
from skills.sql.bounded import MAX_BYTES

MB = 1_000_000

ASK = """
import asyncio, json, resource, sys
from skills.sql import query_sql

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

async def main():
    tool = query_sql(sys.argv[1], max_rows=500)
    answers = [await tool.function("SELECT 1")]
    before = peak()
    for sql in json.loads(sys.stdin.read()):
        try:
            answers.append(await tool.function(sql))
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    print(json.dumps({"answers": answers[1:], "grown": peak() - before}))

asyncio.run(main())
"""

# What is told of a first value: how it begins or ends.
LARGE = {
    "a text": (f"SELECT repeat('x', {30 * MB})", f"[cut: {30 * MB} characters in all]"),
    "many of them": (
        f"SELECT repeat('x', {5 * MB}) FROM generate_series(1, 20)",
        f"[cut: {5 * MB} characters in all]",
    ),
    "text of many bytes": (
        f"SELECT repeat('ü€', {2 * MB})",
        f"[cut: {4 * MB} characters in all]",
    ),
    "bytes": (
        f"SELECT convert_to(repeat('x', {30 * MB}), 'UTF8')",
        f"[cut: {30 * MB} bytes]",
    ),
    "an array": ("SELECT array_agg(i) FROM generate_series(1, 600000) AS i", "characters in all]"),
    "an array of bytes": (
        f"SELECT ARRAY[convert_to(repeat('x', {5 * MB}), 'UTF8')]",
        "characters in all]",
    ),
    "json": ("SELECT json_agg(i) FROM generate_series(1, 300000) AS i", "characters in all]"),
    "jsonb": (
        f"SELECT jsonb_build_object('a', repeat('x', {20 * MB}))",
        "characters in all]",
    ),
    "a row": (f"SELECT ROW(1, repeat('x', {20 * MB}))", "characters in all]"),
    "xml": (f"SELECT xmlelement(name a, repeat('x', {20 * MB}))", "characters in all]"),
    "bits": (f"SELECT repeat('1', {20 * MB})::varbit", "characters in all]"),
    "a vector": (
        "SELECT to_tsvector(string_agg(i::text, ' ')) FROM generate_series(1, 90000) AS i",
        "characters in all]",
    ),
    "a number": ("SELECT (10::numeric) ^ 100000", "characters in all]"),
}


@pytest.fixture
def measured(postgres_shop) -> Callable[[list[str]], dict]:
    """Return what asks statements in a worker of its own, and measures that."""

    def ask(statements):
        done = subprocess.run(
            [sys.executable, "-c", ASK, postgres_shop],
            input=json.dumps(statements).encode(),
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    return ask


def test_large_values_are_cut_by_the_server(measured):
    """A value of any type and size is told by its beginning, and does not come to the worker."""
    told = measured([sql for sql, _ in LARGE.values()])

    for (name, (_, end)), answer in zip(LARGE.items(), told["answers"], strict=True):
        cell = answer["rows"][0][0]
        assert cell.endswith(end), (name, cell[-100:])
        assert len(cell) < MAX_CELL + 100
    assert told["grown"] < 20 * MB


WIDE = ", ".join([f"repeat('x', {MAX_BYTES})"] * 1600)
SAID = {
    "an error with the value": f"SELECT repeat('x', {20 * MB})::int",
    "a larger one": f"SELECT repeat('x', {80 * MB})::int",
    "json that is none": f"SELECT (repeat('x', {20 * MB}))::json",
    "many columns": f"SELECT {WIDE} FROM generate_series(1, 100)",
    "many short columns with long names": "SELECT "
    + ", ".join(f"1 AS c{i:060}" for i in range(1600)),
    "an unknown name": f"SELECT {'x' * 50_000}",
    "an unknown table": f'SELECT * FROM "{"x" * 50_000}"',
}


def test_long_messages_are_cut(measured):
    """An error, or a row of too many columns, takes little memory and is told in short."""
    told = measured(list(SAID.values()))

    for name, words in zip(SAID, told["answers"], strict=True):
        assert words.startswith("QueryFailed: "), name
        assert len(words) > 40, (name, words)
        assert len(words) < 5000, name
    assert told["grown"] < 20 * MB


def test_a_notice_is_not_sent(measured, owner):
    """What functions print on the way stays at the server."""
    owner.execute(
        "CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS"
        f" $$BEGIN RAISE NOTICE '%', repeat('x', {20 * MB}); RETURN 1; END$$"
    )

    told = measured(["SELECT loud() FROM generate_series(1, 20)"])

    assert told["answers"][0]["row_count"] == 20
    assert told["grown"] < 20 * MB


def test_many_rows_are_not_fetched(measured):
    """Of rows without end so many are fetched as are told."""
    told = measured(
        [
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            f"SELECT repeat('x', {MAX_CELL})",
            "SELECT repeat('x', 1900) FROM generate_series(1, 1000000)",
        ]
    )

    few, one, long = told["answers"]
    assert (few["row_count"], few["truncated"]) == (500, True)
    assert (one["rows"], one["truncated"]) == ([["x" * MAX_CELL]], False)
    assert 0.9 * MAX_ANSWER < sum(len(cell) for [cell] in long["rows"]) < MAX_ANSWER
    assert told["grown"] < 20 * MB


VALUES = {
    "null": ("NULL::text", None),
    "a row of nulls": ("ROW(NULL, NULL)", [None, None]),
    "empty text": ("''", ""),
    "bool": ("false", False),
    "numbers": ("ARRAY[1.5::float8, 'Infinity']", [1.5, "inf"]),
    "texts": ("ARRAY['a,b', 'c\"d', NULL, '{}', '\\']", ["a,b", 'c"d', None, "{}", "\\"]),
    "arrays of arrays": ("ARRAY[[1,2],[3,4]]", [[1, 2], [3, 4]]),
    "blank-padded": ("'ab'::char(5)", "ab   "),
    "an address": ("'1.2.3.4'::inet", "1.2.3.4"),
    "a network": ("'1.2.3.0/24'::cidr", "1.2.3.0/24"),
    "a type": ("1::regtype", "1"),
    "bytes": ("''::bytea", "base64: [0 bytes]"),
    "bytes of the limit": (
        f"convert_to(repeat('x', {MAX_CELL}), 'UTF8')",
        f"base64:{'eHh4' * (MAX_CELL // 4)} [cut: {MAX_CELL} bytes]",
    ),
    "text of the limit": (f"repeat('€', {MAX_CELL})", "€" * MAX_CELL),
    "one more": (
        f"repeat('€', {MAX_CELL + 1})",
        "€" * MAX_CELL + f"… [cut: {MAX_CELL + 1} characters in all]",
    ),
    "a date beyond Python": ("'294276-01-01'::timestamp", "294276-01-01 00:00:00"),
    "a range of such": ("'[0044-03-15 BC,infinity)'::daterange", "[0044-03-15 BC, infinity)"),
    "deep json": (f"'{'[' * 60}{']' * 60}'::json", "[" * 60 + "]" * 60),
    "very deep json": (
        f"'{'[' * 3000}{']' * 3000}'::json",
        "[" * 2000 + "… [cut: 6000 characters in all]",
    ),
    "a large number in json": ("'1e999'::json", "inf"),
    "uuid": (
        "'00000000-0000-0000-0000-000000000001'::uuid",
        "00000000-0000-0000-0000-000000000001",
    ),
    "money": ("1::money", "$1.00"),
    "void": ("nothing()", ""),
}


@pytest.mark.parametrize("expression, value", VALUES.values(), ids=VALUES)
async def test_values_come_as_the_server_writes_them(postgres_shop, owner, expression, value):
    """A value that is not cut is what it would be without the cutting, whatever its type."""
    owner.execute("CREATE FUNCTION nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'")

    answer = await query_sql(postgres_shop).function(f"SELECT {expression}")

    assert answer["rows"] == [[value]]


FORMS = {
    "semicolons": "SELECT 1;; ;",
    "a comment at the end": "SELECT 1 -- one; two",
    "a comment after the end": "SELECT 1; -- one; two'",
    "nested comments": "SELECT 1 /* a /* b */ ; */ ; /* c /* d */ */",
    "a semicolon in a text": "SELECT 1 WHERE ';--' <> '; '",
    "a semicolon in a name": 'SELECT 1 AS ";"',
    "a text with escapes": r"SELECT 1 WHERE E'\';' <> 'E''; '",
    "dollars": "SELECT 1 WHERE $$;'$$ <> $a$;$$\"$a$",
    "a parenthesis": "(SELECT 1)",
    "values": "VALUES (1)",
    "with": "WITH one AS (SELECT 1 AS x) SELECT x FROM one",
    "union": "SELECT 1 UNION ALL SELECT 2 ORDER BY 1 LIMIT 1",
    "a recursion": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) "
    "SELECT i FROM n LIMIT 1",
    "the same name twice": "SELECT x FROM (SELECT 1 AS x, 2 AS x) AS t (x, y)",
    "a percent sign": "SELECT 1 WHERE 'a%' LIKE '%%'",
    "a window": "SELECT count(*) OVER () FROM (SELECT 1) AS t",
}


@pytest.mark.parametrize("sql", FORMS.values(), ids=FORMS)
async def test_any_form_of_a_select_is_taken(postgres_shop, sql):
    """A SELECT is read whole, whatever stands in and after it."""
    answer = await query_sql(postgres_shop).function(sql)

    assert answer["rows"] == [[1]]


async def test_columns_may_have_one_name_or_be_none(postgres_shop):
    """Columns are told apart by their place, and there may be none."""
    twice = await query_sql(postgres_shop).function("SELECT 1 AS a, 2 AS a, 'x' AS \"c1\"")
    none = await query_sql(postgres_shop).function("SELECT FROM generate_series(1, 2)")

    assert (twice["columns"], twice["rows"]) == (["a", "a", "c1"], [[1, 2, "x"]])
    assert (none["columns"], none["rows"]) == ([], [[], []])


COUNTED = "set_config('my.n', (current_setting('my.n')::int + 1)::text, true)"


async def test_the_order_is_kept_and_each_value_computed_once(postgres_shop, owner):
    """What is put around the statement changes neither its order nor how often it computes."""
    owner.execute(f"CREATE FUNCTION counted() RETURNS text LANGUAGE sql AS $$SELECT {COUNTED}$$")
    tool = query_sql(
        f"{postgres_shop}&options=-cmy.n%3D0"
        if "?" in postgres_shop
        else f"{postgres_shop}?options=-cmy.n%3D0"
    )

    answer = await tool.function(
        "SELECT i, counted(), repeat(counted(), 9000) FROM generate_series(20, 1, -1) AS i"
    )

    assert [row[0] for row in answer["rows"]] == list(range(20, 0, -1))
    assert [row[1] for row in answer["rows"]] == [str(n) for n in range(1, 41, 2)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1) AS x, (SELECT 2",
        "SELECT 1) AS asked OFFSET 0) AS rows (c1)) AS texts; DELETE FROM customers; --",
        "SELECT 1 /*",
        "SELECT 1; SELECT 2",
    ],
)
async def test_what_is_put_around_cannot_be_left(postgres_shop, owner, sql):
    """A statement that is none by itself is none inside of ours."""
    with pytest.raises(QueryFailed):
        await query_sql(postgres_shop).function(sql)

    assert owner.execute("SELECT count(*) FROM customers").fetchone() == (2,)
