"""A business analyst: answers questions about a shop from its database, with SQL.

It looks at the schema, asks several queries at once, follows the biggest change, files a report
and tells the team. `python -m agent.shop` makes the shop's database.
"""

from pathlib import Path
from typing import Any

from agent.rehearsal import rehearse
from agent.shop import SHOP
from agent.tally import count
from skills.sql import describe_schema, query_sql
from substrate.agent import Model, Task, Tool, answered, any_of, budget, max_turns, tool

REPORTS = Path("reports")
OUTBOX = Path("outbox.txt")


def prompt(task: Task) -> str:
    """Return the system prompt."""
    return (
        "You are a business analyst with read-only SQL access to a shop's database. Look at the "
        "schema first. Ask several queries at once where they don't depend on each other. Follow "
        "the largest change down to where it comes from. Then file a report, tell the team in one "
        "line, and answer with the figures you found, no others."
    )


model = Model(
    "anthropic:claude-sonnet-5-5",
    offline=Model("scripted:analyst", script=rehearse),
)


def counted(reading: Tool) -> Tool:
    """Return the tool with its calls counted."""

    async def function(**arguments: Any) -> Any:
        count("pure", f"{reading.name} {sorted(arguments.items())}")
        return await reading.function(**arguments)

    return reading.with_function(function)


@tool(effect="idempotent")
def file_report(title: str, text: str, idempotency_key: str) -> str:
    """File a report. The same report filed again replaces itself."""
    count("idempotent", idempotency_key)
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / f"{idempotency_key}.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    return "Filed."


@tool(effect="once")
def tell_team(message: str) -> str:
    """Tell the team in one line. It goes out at once and cannot be taken back."""
    count("once", message)
    with OUTBOX.open("a", encoding="utf-8") as outbox:
        outbox.write(message + "\n")
    return "Sent."


tools = [
    counted(describe_schema(f"sqlite:///{SHOP}")),
    counted(query_sql(f"sqlite:///{SHOP}", max_rows=50)),
    file_report,
    tell_team,
]

stop = any_of(answered(), max_turns(12), budget(usd=1.00))
