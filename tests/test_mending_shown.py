"""`show` says which rules mended what of a model call, from its rows: offline, and of any call."""

import asyncio
import json

import pytest

from substrate import connect
from substrate.agent.history.mending import mending_of, read_last_mending
from substrate.agent.history.rows import input_of
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.cli.show.mending import mending_line
from substrate.models.mending.rules import VERSION, Rule
from substrate.models.model import Model
from substrate.values.codec import decode
from tests.fork import Fork
from tests.llm_providers import SETUPS, complete, said, served
from tests.llm_servers import refusal, stream
from tests.loops import answer_of, make_agent
from tests.stores import database

ENDS = any_of(answered(), max_turns(4))


@tool(effect="pure")
def page(url: str = "") -> str:
    """Read a page that was cut in the middle of a character."""
    return "broken \ud83d text"


@tool(effect="pure")
def search(span: tuple[int, int] = (0, 9)) -> str:
    """Search."""
    return "Two."


async def a_run(monkeypatch, url: str, provider: str = "openai") -> None:
    """Run an agent that reads a broken page, and answers."""
    read = said(provider, "", ("call_1", "page", "{}"))
    answers = stream(*read), stream(*complete(provider, "So."))
    agent = make_agent(Model(SETUPS[provider].model), [page, search], ENDS)
    async with served(monkeypatch, provider, *answers), connect(url) as client:
        await answer_of(client, agent)


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


async def test_show_says_what_was_mended(monkeypatch, fork):
    """The last call has a line in `show`, each call in `show --key`, and both are in the JSON."""
    await a_run(monkeypatch, fork.absolute_url)

    def show(*more: str) -> str:
        return fork.do("show", "a/1", *more).out

    lines, first, last, other = await asyncio.gather(
        *(asyncio.to_thread(show, *each) for each in ([], KEY_0, KEY_1, KEY_TOOL))
    )
    document = json.loads(await asyncio.to_thread(show, "--json"))
    promise = json.loads(await asyncio.to_thread(show, *KEY_1, "--json"))

    line = next(each for each in lines.splitlines() if each.startswith("mended"))
    assert line == (
        "mended in model.1 for openai:gpt-6-luna: half a character (message 3); "
        "a schema that leaves out what is in it (tool search)"
    )
    assert "half a character" not in first
    assert "a schema that leaves out what is in it (tool search)" in first
    assert "arrays have items, and the object its properties" in first
    assert "half a character (message 3): joined with its other half, or U+FFFD" in last
    assert "mended" not in other
    assert document["mended"] == promise["mended"]
    assert promise["mended"] == {
        "key": "model.1",
        "model": "openai:gpt-6-luna",
        "version": VERSION,
        "rules": [
            {"rule": "half a character", "places": ["message 3"]},
            {"rule": "a schema that leaves out what is in it", "places": ["tool search"]},
        ],
    }


KEY_0, KEY_1, KEY_TOOL = ("--key", "model.0"), ("--key", "model.1"), ("--key", "tools.0/page.0")


def test_a_script_is_told_what_was_said(fork):
    """Nothing is mended for a script, and `show` says nothing of it."""
    fork.do("run", "How many owls?", "--id", "first")

    assert "mended" not in fork.do("show", "first").out
    assert json.loads(fork.do("show", "first", "--json").out)["mended"] is None


async def test_for_whom_it_was_mended(monkeypatch, sqlite_url):
    """What is told is what was mended for the model that answered, which may be a fallback."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    away = refusal(402, {"error": {"type": "billing_error", "message": "no credit"}})
    fallback = [SETUPS["openai"].model]
    first = Model(SETUPS["anthropic"].model, fallback=fallback, patience=0)
    async with (
        served(monkeypatch, "anthropic", away, away),
        served(monkeypatch, "openai", stream(*complete("openai", "So."))),
        connect(sqlite_url) as client,
    ):
        await answer_of(client, make_agent(first, [search], ENDS))
        mending = await read_last_mending(client, await client.journal("a/1"))

    assert mending is not None
    assert (mending.model, [each.rule for each in mending.mends]) == (fallback[0], [Rule.UNSAID])


async def test_of_an_older_table(monkeypatch, sqlite_url):
    """A call that was sent under an older table is told by today's, and said to be."""
    await a_run(monkeypatch, sqlite_url)
    async with connect(sqlite_url) as client:
        rows = {row.key: row for row in await client.journal("a/1")}
        asked = input_of(rows["model.1"])
        blob = await client.store.blob(rows["model.1"].run_id, asked["frame"])
    assert blob is not None
    frame = decode(blob)

    today = mending_of(rows, rows["model.1"], frame)
    older = mending_of(rows, rows["model.1"], {**frame, "mending": 1})

    assert frame["mending"] == VERSION
    assert today is not None
    assert older is not None
    assert (today.is_of_today, older.is_of_today) == (True, False)
    assert older.mends == today.mends
    (line,) = mending_line(older)
    assert "by today's table; it was sent under version 1" in line.plain


async def test_rows_that_go_round(monkeypatch, fork):
    """Rows that were edited by hand until nothing can be told of them keep `show` from nothing."""
    await a_run(monkeypatch, fork.absolute_url)
    with database(fork.absolute_url) as db:
        db.rows('UPDATE promises SET input = replace(input, \'"prev":null\', \'"prev":"model.1"\')')

    shown = await asyncio.to_thread(fork.do, "show", "a/1")

    assert "mended" not in shown.out
    assert shown.out.splitlines()[-1] == "So."
