"""The analyst's rehearsal: a scripted model that works as a function of what was said.

It reads the schema that came back, asks for revenue by quarter, category and region, goes where
the largest drop is, and writes its answer from the rows. Other data gives another answer.
"""

import asyncio
import json
from typing import Any

from agent.tally import count
from substrate.models.messages import Reply, ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request

THINKING_S = 0.05

REVENUE = "round(sum(order_lines.quantity * order_lines.price))"
JOINED = (
    "FROM orders JOIN order_lines ON order_lines.order_id = orders.id "
    "JOIN products ON products.id = order_lines.product_id "
    "JOIN customers ON customers.id = orders.customer_id"
)
LAST_TWO = "(SELECT DISTINCT quarter FROM orders ORDER BY 1 DESC LIMIT 2)"

Rows = list[list[Any]]


async def rehearse(request: Request) -> Reply:
    """Take the next turn: schema, overview, detail, report, answer."""
    await asyncio.sleep(THINKING_S)
    count("model", "call")
    found = _results(request)
    if not request.may_call_tools:
        return say("I was stopped before I had an answer.")
    if problem := _problem(request):
        return say(f"I cannot answer: {problem}. Has `python -m agent.shop` made the database?")
    if "describe_schema" not in found:
        return say("I look at what there is.", call("describe_schema"))
    missing = {"orders", "order_lines", "products", "customers"} - _tables(found)
    if missing:
        return say(f"I cannot answer: the database has no {', '.join(sorted(missing))}.")
    queries = found.get("query_sql", [])
    if not queries:
        return say("Three views of the revenue, at once.", *map(_query, _overview()))
    if len(queries) == len(_overview()):
        _, category, region = (_drop(_rows(result)) for result in queries)
        return say(
            f"{category[0]} and {region[0]} lost most. I look at where they meet.",
            _query(_detail("region", "category", category[0])),
            _query(_detail("category", "region", region[0])),
        )
    text = _finding(queries)
    if "tell_team" not in found:
        return say(
            "I file this and tell the team.",
            call("file_report", title="Why revenue moved", text=text),
            call("tell_team", message=text.splitlines()[0]),
        )
    return say(text)


def _overview() -> list[str]:
    """One query by quarter, and the last two quarters by category and by region."""
    by_quarter = f"SELECT quarter, {REVENUE} AS revenue {JOINED} GROUP BY 1 ORDER BY 1"
    return [by_quarter, _by("category"), _by("region")]


def _by(column: str, where: str = "1") -> str:
    """Revenue by a column, in the last quarter and in the one before, the first being before."""
    return (
        f"SELECT {column}, quarter, {REVENUE} AS revenue {JOINED} "
        f"WHERE quarter IN {LAST_TWO} AND {where} GROUP BY 1, 2 ORDER BY 1, 2"
    )


def _detail(column: str, within: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return _by(column, f"{within} = '{quoted}'")


def _query(sql: str) -> Any:
    return call("query_sql", sql=sql)


def _problem(request: Request) -> str | None:
    """Return what went wrong with reading, if anything has."""
    for message in request.messages:
        if isinstance(message, ToolMessage):
            for result in message.results:
                if result.is_error and result.name in ("describe_schema", "query_sql"):
                    return result.content.rstrip(".")
    return None


def _results(request: Request) -> dict[str, list[str]]:
    """Return what the tools gave back so far, by tool."""
    found: dict[str, list[str]] = {}
    for message in request.messages:
        if isinstance(message, ToolMessage):
            for result in message.results:
                found.setdefault(result.name, []).append(result.content)
    return found


def _tables(found: dict[str, list[str]]) -> set[str]:
    return {table["name"] for table in json.loads(found["describe_schema"][0])["tables"]}


def _rows(result: str) -> Rows:
    rows: Rows = json.loads(result)["rows"]
    return rows


def _drop(rows: Rows) -> tuple[str, float, float]:
    """Return the name whose revenue fell most, with its revenue before and after."""
    if len(rows[0]) == 2:
        (_, before), (last, after) = rows[-2:]
        return last, before, after
    names = sorted({row[0] for row in rows})
    pairs = {name: [row[2] for row in rows if row[0] == name] for name in names}
    worst = min(names, key=lambda name: pairs[name][-1] - pairs[name][0])
    return worst, pairs[worst][0], pairs[worst][-1]


def _finding(queries: list[str]) -> str:
    quarter, category, region, within, _ = (_drop(_rows(result)) for result in queries)
    return (
        f"Revenue in {quarter[0]} was {_money(quarter[2])}, {_change(quarter)} on the quarter "
        f"before.\n{category[0]} account for most of it ({_change(category)}), and so does the "
        f"region {region[0]} ({_change(region)}).\nThey meet: {category[0]} in {within[0]} went "
        f"from {_money(within[1])} to {_money(within[2])} ({_change(within)})."
    )


def _money(amount: float) -> str:
    return f"${amount:,.0f}"


def _change(drop: tuple[str, float, float]) -> str:
    _, before, after = drop
    return f"{(after - before) / before:+.0%}"
