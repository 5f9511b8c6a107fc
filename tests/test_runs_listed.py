"""`runs` finds the runs that are meant, with question, cost and what they ask; and reads little."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from substrate import Client, Context, connect, durable
from substrate.agent.ask_human import ask_person
from substrate.agent.history.listed import read_listed
from substrate.agent.history.questions import read_asked
from substrate.agent.history.run import history_of, question_of
from substrate.agent.task import Answer, Task
from substrate.cli.errors import UsageError
from substrate.cli.moments import Moment
from substrate.engine.function.returns import Measured
from substrate.values.records import RunFilter, RunStatus
from tests.fork import Fork
from tests.runs import QUICK
from tests.stores import database

LONG = "owls " * 20_000
USED = {"input_tokens": 10, "output_tokens": 5, "cost_usd": "0.25"}


async def model(words: str) -> Any:
    return Measured(words, USED)


async def free() -> str:
    return "x" * 9000


@durable
async def below(ctx: Context, what: str) -> str:
    await ctx.step(model, "y" * 5000, name="model")
    return await ctx.receive("which", str)


@durable
async def asks(ctx: Context, task: Task) -> str:
    await ctx.step(model, "z" * 40_000, name="model")
    await ctx.step(free)
    child = await ctx.spawn(below, task.text[:5]).start()
    await ctx.receive("go", bool)
    return await child


@durable
async def answers(ctx: Context, task: Task) -> Answer:
    for _ in range(3):
        await ctx.step(model, "w" * 3000, name="model")
    return Answer(task.text[:10], "answered", turns=3)


@durable
async def fails(ctx: Context, task: Task) -> str:
    raise ValueError("no owls" + "!" * 30_000)


FUNCTIONS = (asks, below, answers, fails)


async def populate(client: Client) -> None:
    """Have runs of each kind, in this order."""
    for function, id_, words in (
        (answers, "report/1", "How many owls?"),
        (asks, "ask/1", "Which owls?"),
        (asks, "ask/2", "Which others?"),
        (fails, "report/2", LONG),
    ):
        await client.start(function, Task(words), id=id_)
        await asyncio.sleep(0.002)  # of two moments: they are listed by these
    async with client.work(FUNCTIONS, options=QUICK) as worker:
        await worker.run_until_idle()
    await client.cancel("ask/2")


async def listed(client: Client, status: RunStatus | None = None, **also: Any) -> Sequence[str]:
    return [run.id for run in await client.store.list(status, 100, RunFilter(**also))]


async def test_filters(store_url: str) -> None:
    """Each filter leaves in what it names, newest first, alone and with others."""
    async with connect(store_url) as client:
        await populate(client)
        child, other = "ask/1#below.0", "ask/2#below.0"
        everything = await listed(client)
        assert everything == ["report/2", "ask/2", "ask/1", "report/1"]
        assert await listed(client, prefix="report/") == ["report/2", "report/1"]
        assert await listed(client, prefix="ask/1#") == [child]
        assert await listed(client, prefix="ask/1") == ["ask/1"]
        assert set(await listed(client, function="below")) == {other, child}
        assert set(await listed(client, RunStatus.SUSPENDED)) == {child, "ask/1"}
        assert await listed(client, RunStatus.SUSPENDED, function="asks") == ["ask/1"]
        assert await listed(client, is_asking=True) == ["ask/1"]
        assert await listed(client, is_asking=True, function="below") == [child]
        assert await listed(client, RunStatus.DONE, is_asking=True) == []
        first = (await client.get("ask/1")).created_at
        last = (await client.get("report/2")).created_at
        assert await listed(client, since=first) == ["report/2", "ask/2", "ask/1"]
        assert await listed(client, since=first, until=last) == ["ask/2", "ask/1"]
        assert await listed(client, until=first) == ["report/1"]
        found = await client.store.list(None, 2, RunFilter(since=first))
        assert [run.id for run in found] == ["report/2", "ask/2"]


async def test_the_same_as_whole(store_url: str) -> None:
    """What a list tells of a run is what its whole journal does: sums, cost, waits, failure."""
    async with connect(store_url) as client:
        await populate(client)
        runs = [*await client.list(), *await client.list(RunStatus.SUSPENDED)]
        for sketch in await read_listed(client, runs):
            whole = await history_of(client, sketch.run)
            assert sketch.totals == whole.totals, sketch.run.id
            assert sketch.tree_usage == whole.tree_usage
            assert sketch.failure == whole.failure
            is_open = {row.key for row in whole.journal if not row.is_settled and row.key != "run"}
            assert {row.key for row in sketch.journal} == is_open
            asked, told = question_of(whole.own), question_of(sketch.own)
            assert told == asked or (asked == LONG and LONG.startswith((told or "")[:-1]))
        asked_of = await read_asked(client, runs)
        assert {id_: [each.run_id for each in asked] for id_, asked in asked_of.items()} == {
            "ask/1": ["ask/1", "ask/1#below.0"],
            "ask/1#below.0": ["ask/1#below.0"],
        }
        await client.cancel("ask/1#below.0")  # which asks nothing any more
        asked_of = await read_asked(client, runs)
        assert {id_: [each.run_id for each in asked] for id_, asked in asked_of.items()} == {
            "ask/1": ["ask/1"]
        }


async def test_payloads_are_not_read(store_url: str) -> None:
    """A list reads no input, value or attempts of what is settled, however broken they are."""
    async with connect(store_url) as client:
        await populate(client)
        with database(store_url) as db:
            db.rows(
                "UPDATE promises SET input = :no, value = :no, attempts = :no, undo = :no"
                " WHERE state <> 'pending' AND kind <> 'run'",
                no='{"$blob":"gone"}',
            )
        runs = await client.list()
        lines = await read_listed(client, runs)
        assert len((await history_of(client, runs[-1])).unreadable) == 3 * 4  # where it is read
        assert [line.unreadable for line in lines] == [()] * 4
        assert [line.totals.turns for line in lines] == [0, 1, 1, 3]


async def test_questions_do_not_grow(store_url: str, record_property: Any) -> None:
    """A page of runs with long journals is read in a bounded time, whatever was said in them."""

    async def heavy(client: Client, id_: str) -> None:
        await client.start(answers, Task(id_), id=id_)

    async with connect(store_url) as client:
        for number in range(20):
            await heavy(client, f"run/{number}")
        async with client.work(FUNCTIONS, options=QUICK) as worker:
            await worker.run_until_idle()
        with database(store_url) as db:
            if db.is_postgres:
                numbers = "generate_series(10, 209) AS n"
            else:
                numbers = "(SELECT key + 10 AS n FROM json_each(:many)) AS c"
            db.rows(
                "INSERT INTO promises (id, part, tenant, run_id, key, seq, kind, name, state,"
                " epoch, created_at, settled_at, value)"
                " SELECT runs.id || '#more.' || n, part, tenant, runs.id, 'more.' || n, 100 + n,"
                f" 'step', 'more', 'resolved', 1, 1, 2, :value FROM runs, {numbers}",
                value=json.dumps("v" * 8000),
                **({} if db.is_postgres else {"many": json.dumps([0] * 200)}),
            )
        runs = await client.list()
        began = time.perf_counter()
        lines = await read_listed(client, runs)
        took = time.perf_counter() - began
        whole = await history_of(client, runs[0])
        assert {line.totals.steps for line in lines} == {203} == {whole.totals.steps}
        record_property("a page of 20 runs of 200 steps of 8 KB", f"{took * 1000:.0f} ms")


@pytest.fixture
def fork(tmp_path: Any) -> Fork:
    """Provide a fork with runs in its database."""
    fork = Fork.make(tmp_path / "fork")

    async def fill() -> None:
        async with connect(fork.absolute_url) as client:
            await populate(client)

    asyncio.run(fill())
    return fork


def test_typed(fork: Fork) -> None:
    """The options say the same, and the table has what is asked, the question, cost and age."""
    ids = [each["id"] for each in fork.do("runs", "--json", "--asking").document["runs"]]
    assert ids == ["ask/1"]
    for options, found in (
        (("--function", "below", "--asking"), ["ask/1#below.0"]),
        (("--id", "report"), ["report/2", "report/1"]),
        (("--since", "1h", "--limit", "1"), ["report/2"]),
        (("--since", "2001-02-03", "--state", "done"), ["report/1"]),
        (("--until", "1d"), []),
        (("--status", "failed"), ["report/2"]),
    ):
        done = fork.do("runs", "--json", *options)
        assert [each["id"] for each in done.document["runs"]] == found, options

    table = fork.do("runs", "--asking", COLUMNS="200").out.splitlines()
    asks = fork.do("runs", "--json", "--asking").document["runs"][0]["asks"]

    assert table[0].split()[:5] == ["id", "status", "asks", "question", "age"]
    assert table[1].startswith("ask/1  suspended  go +1  Which owls?  ")
    assert "  $0.5000  " in table[1]
    assert "signal ask/1 go true" in "\n".join(table)
    assert "signal 'ask/1#below.0' which " in "\n".join(table)
    assert [(each["run"], each["name"]) for each in asks] == [
        ("ask/1", "go"),
        ("ask/1#below.0", "which"),
    ]
    assert fork.do("runs", "--state", "paused").out.startswith("no paused runs in ")
    assert fork.do("runs", "--until", "1d").out.startswith("no such runs in ")


@durable
async def asks_somebody(ctx: Context, task: Task) -> str:
    return await ask_person(ctx, "Which owl?", choices=["barn", "snowy"])


@durable
async def hands_over(ctx: Context, task: Task) -> str:
    return await ctx.spawn(asks_somebody, task)


def test_what_a_child_asks_a_person(fork: Fork) -> None:
    """A question to a person, asked by a child, stands in the line of its parent."""

    async def ask() -> None:
        async with connect(fork.absolute_url) as client:
            await client.start(hands_over, Task("Owls"), id="over")
            async with client.work([hands_over, asks_somebody], options=QUICK) as worker:
                await worker.run_until_idle()

    asyncio.run(ask())

    lines = fork.do("runs", "--asking", "--id", "over", COLUMNS="200").out.splitlines()
    [run] = fork.do("runs", "--json", "--asking", "--id", "over").document["runs"]

    assert lines[1].startswith("over  suspended  Which owl?  Owls ")
    assert [each["summary"] for each in run["asks"]] == ["Which owl?"]
    assert run["asks"][0]["run"] == "over#asks_somebody.0"


@pytest.mark.parametrize(
    "options, said",
    [
        (("--since", "soon"), "--since 'soon' is no moment; write how long ago (30m, 12h, 7d, 2w)"),
        (("--until", "2026-13-01"), "--until '2026-13-01' is no moment"),
        (("--state", "don"), "did you mean 'done'"),
        (("--id", "a b"), "--id 'a b' begins no run's id"),
        (("--since", "999999999w"), "is no moment"),
    ],
)
def test_typed_wrong(fork: Fork, options: tuple[str, ...], said: str) -> None:
    """A moment, a state and an id that are none are told with what may be, and exit code 2."""
    done = fork.do("runs", *options)

    assert done.code == 2, done.out
    assert said in done.err


def test_moments() -> None:
    """A moment is so long ago, or a date or time of day here, or with its own offset."""
    now = 1_800_000_000_000
    for text, ago_s in (("90s", 90), ("5m", 300), ("5min", 300), ("2 h", 7200), ("1w", 604_800)):
        assert Moment.read("--since", text).at(now) == now - ago_s * 1000
    utc = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
    fixed = Moment.read("--since", "2026-11-21T09:30+01:00")
    assert fixed.at(now) == round(utc.timestamp() * 1000)
    here = datetime(2026, 11, 21).astimezone()
    assert Moment.read("--since", "2026-11-21").at(now) == round(here.timestamp() * 1000)
    with pytest.raises(UsageError):
        Moment.read("--since", "")
