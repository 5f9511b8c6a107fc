"""The questions of docs/how-to/remember.md have their answers on both stores, by the same SQL."""

import re
from pathlib import Path

from substrate import Context, connect, durable
from tests.runs import QUICK
from tests.stores import database

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "remember.md"
QUESTION = re.compile(r"```sql\n(.*?);?\n```", re.DOTALL)
NS = "acme/users/anna"
NAMESPACE, NUMBER = "promises.input ->> 'namespace'", "(promises.value ->> 'n')::bigint"


@durable
async def anna(ctx: Context) -> None:
    """Keep something of each kind, and ask for it."""
    memory = ctx.memory(NS)
    await memory.remember("Anna", "lives in", "Kiel")
    await memory.remember("Anna", "lives in", "Bonn")
    await memory.write_note("trip", "harbour")
    await memory.link("Anna", "works for", "ACME")
    await memory.link("Bert", "works for", "ACME")
    await memory.recall("Where does Anna live?")


@durable
async def other(ctx: Context) -> None:
    """Say the same, so that it has two sources."""
    await ctx.memory(NS).remember("Anna", "lives in", "Kiel")


async def test_all_ten(store_url: str) -> None:
    """Each question finds rows; where JSON is read, in the form that the page has for Postgres."""
    async with connect(store_url) as client, client.work([anna, other], options=QUICK):
        for function in (anna, other):
            await client.start(function, id=function.name)
            await client.result(function.name)
    page = PAGE.read_text(encoding="utf-8")
    assert NAMESPACE in page
    assert NUMBER in page
    questions = QUESTION.findall(page)
    assert len(questions) == 10
    with database(store_url) as db:
        for question in questions:
            # As the page says that it is on Postgres.
            number = question.replace("json_extract(promises.value, '$.n')", NUMBER)
            there = number.replace("json_extract(promises.input, '$.namespace')", NAMESPACE)
            assert db.rows(there if db.is_postgres else question), question
