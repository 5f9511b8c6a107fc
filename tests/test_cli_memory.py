"""What agents keep can be looked at from a shell: as it is and was, found, and why it is there."""

import json
from typing import Any

import pytest

from substrate import Context, connect, durable
from tests.fork import Fork
from tests.runs import QUICK
from tests.stores import database

NS = "acme/anna"


@durable
async def yesterday(ctx: Context) -> None:
    memory = ctx.memory(NS, trust="user")
    await memory.remember("Anna", "lives in", "Bonn\x1b[31m", policy="one")
    await memory.write_note("trip", "See the harbour.")
    await memory.link("Anna", "works for", "ACME")
    await memory.say("Where do I live?", "user")
    await memory.facts("Anna")
    await memory.recall("Where does Anna live?")


@durable
async def today(ctx: Context) -> None:
    memory = ctx.memory(NS)
    await memory.remember("Anna", "lives in", "Kiel", policy="one")
    await memory.edit_note("trip", "harbour", "castle")
    await ctx.memory("acme/bert").say("hello")


@pytest.fixture
async def fork(tmp_path, store_url) -> Fork:
    """Provide a fork whose agents have kept something yesterday, and other things today."""
    async with connect(store_url) as client, client.work([yesterday, today], options=QUICK):
        for function in (yesterday, today):
            await client.start(function, id=function.name)
            await client.result(function.name)
    return Fork.make(tmp_path, store_url)


async def test_list(fork):
    """Each namespace with the number of its last change."""
    listed = fork.do("memory", "list", "--json").document["namespaces"]
    assert [each["namespace"] for each in listed] == [NS, "acme/bert"]
    assert fork.do("memory", "list", "acme/b").out.count("acme/") == 1
    assert "nothing is remembered" in fork.do("memory", "list", "nobody").err


async def test_show(fork):
    """A namespace is a page of Markdown, as it is now or was at a number; no text is a control."""
    now = fork.do("memory", "show", NS).out
    then = fork.do("memory", "show", NS, "--as-of", "4").out

    assert "- Anna lives_in: Kiel (`acme/anna#" in now
    assert "## trip\n\n> See the castle.\n" in now
    assert "Bonn" not in now
    assert "Anna → works_for → ACME" in then
    assert "## trip\n\n> See the harbour.\n" in then
    assert "- **user**: Where do I live?" in then
    assert "\x1b" not in then
    document = fork.do("memory", "show", NS, "--as-of", "4", "--json").document
    assert [fact["object"] for fact in document["facts"]] == ["Bonn\x1b[31m"]
    assert fork.do("memory", "show", NS, "--as-of", "7d").out.strip() == f"# {NS}"


@durable
async def forger(ctx: Context) -> None:
    memory = ctx.memory("acme/forged")
    await memory.remember("Anna", "is", ["true", None])
    await memory.remember("Bert", "is", "one\u2028two\r## Facts")
    await memory.write_note(
        "page", "zebra\n\n## Facts\n\n- Anna owes: all\nacme/forged#9  Anna owes: all"
    )
    await memory.say("zebra\n## Said")
    await memory.recall("zebra")


async def test_no_text_is_a_line_of_the_page(fork):
    """What is remembered is no heading and no line of what is printed, however it is written."""
    async with connect(fork.url) as client, client.work([forger], options=QUICK):
        await client.start(forger, id="forger")
        await client.result("forger")
    lines = fork.do("memory", "show", "acme/forged").out.splitlines()
    headings = ["# acme/forged", "## Facts", "## page", "## Said"]
    assert [line for line in lines if line.startswith("#")] == headings
    assert [line for line in lines if "Anna" in line] == [
        '- Anna is: ["true",null] (`acme/forged#1`, agent)',
        "> - Anna owes: all",
        "> acme/forged#9  Anna owes: all",
    ]
    for words in (["search", "acme/forged", "zebra"], ["why", "forger#recall.0"]):
        shown = fork.do("memory", *words).out.splitlines()
        assert not [line for line in shown if line.startswith(("#", "- ", "acme/forged#9"))]


async def test_search(fork):
    """What a question finds, with the words that it is found by, and who said so."""
    found = fork.do("memory", "search", NS, "where does anna live").out
    assert "Anna lives_in: Kiel" in found
    assert "by anna, live · agent · today#remember.0" in found
    assert "Bonn" not in found
    hits = fork.do("memory", "search", NS, "bonn", "--as-of", "1", "--json").document["hits"]
    assert [hit["id"] for hit in hits] == [f"{NS}#1"]
    assert "nothing that is remembered" in fork.do("memory", "search", NS, "zebra").err


KNEW = """
SELECT facts.n, facts.object, facts.source
  FROM promises
  JOIN facts ON facts.ns = {namespace}
   AND facts.n <= {n}
   AND (facts.gone_n IS NULL OR facts.gone_n > {n})
 WHERE promises.id = 'yesterday#facts.0'
"""


async def test_what_a_run_knew_when_it_decided(fork):
    """`memory why` and one SQL query say the same of a run whose facts were superseded since."""
    told = fork.do("memory", "why", "yesterday#facts.0", "--json").document
    with database(fork.url) as db:
        of_input, of_value = ("json_extract({}, '$.{}')",) * 2
        if db.is_postgres:
            of_input, of_value = "({} ->> '{}')", "({} ->> '{}')::bigint"
        query = KNEW.format(
            namespace=of_input.format("promises.input", "namespace"),
            n=of_value.format("promises.value", "n"),
        )
        rows = db.rows(query)
    found = [(each["id"], each["now"]["says"], each["now"]["source"]) for each in told["found"]]
    assert found == [
        (f"{NS}#{n}", f"Anna lives_in: {json.loads(object_)}", source)
        for n, object_, source in rows
    ]
    assert found[0][2] == "yesterday#remember.0"
    assert told["found"][0]["now"]["gone_by"] == "today#remember.0"
    page = fork.do("memory", "why", "yesterday#recall.0").out
    assert f"yesterday#recall.0  knew {NS} as of 4" in page
    assert "gone since, by today#remember.0" in page


async def test_why_something_is_remembered(fork):
    """Who said so and when, since when it is true, and what became of it."""
    page = fork.do("memory", "why", f"{NS}#1").out
    assert "said by yesterday#remember.0 (user)" in page
    assert "this row was written by today#remember.0" in page
    assert "by today#remember.0" in page
    assert "true from" in page
    assert "\x1b" not in page
    rows = fork.do("memory", "why", f"{NS}#2", "--json").document["rows"]
    assert [row["says"] for row in rows] == ["trip: See the harbour.", "trip: See the castle."]


WRONG: list[tuple[list[str], str]] = [
    (["show", "a//b"], "no namespace|is not a namespace"),
    (["show", NS, "--as-of", "soon"], "no moment"),
    (["search", NS, "x", "--as-of", "soon"], "no moment"),
    (["why", "nothing"], "is no id"),
    (["why", f"{NS}#99"], "nothing is remembered"),
    (["why", "yesterday#none.0"], "no step"),
    (["why", "yesterday#remember.0"], "has read no memory"),
]


@pytest.mark.parametrize("words, told", WRONG)
async def test_what_was_typed_wrong(fork, words: list[str], told: Any):
    """What cannot be looked at is a mistake of who typed it, and says what may be typed."""
    done = fork.do("memory", *words)
    assert done.code == 2
    assert any(each in done.err.replace("\n", " ") for each in told.split("|"))
