"""What a run waits for can be seen and sent; a run can be cancelled and given up: from a shell."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Durable,
    RunFailed,
    RunStatus,
    SignalExpired,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.records import Owner
from tests.fork import HOOKS, Fork
from tests.runs import QUICK
from tests.stores import crash

ANSWER = "python -m agent signal 'first#asks.0' approval true"
DAY = timedelta(days=1)
LANE = "default/asks/1"


@durable
async def asks(ctx: Context) -> Any:
    """Wait for an approval, for some days."""
    try:
        return await ctx.receive("approval", bool, timeout=3 * DAY)
    except SignalExpired:
        return await ctx.receive("later")


@durable
async def parent(ctx: Context) -> Any:
    """Wait for a child and for a moment."""
    return await ctx.gather(ctx.spawn(asks), ctx.sleep(2 * DAY))


async def book(what: str) -> str:
    """Book a place."""
    return what.upper()


@durable
async def release(ctx: Context, what: str) -> str:
    """Give a place back."""
    if what == "stuck":
        raise OSError("the other side is away")
    return await ctx.step(book, f"not {what}")


@durable
async def travels(ctx: Context, places: list[str]) -> None:
    """Book places, and come to nothing."""
    for place in places:
        await ctx.step(book, place, undo=release)
    raise ValueError("the trip is off")


@durable
async def outing(ctx: Context, places: list[str]) -> None:
    """Have somebody travel."""
    await ctx.spawn(travels, places)


FUNCTIONS = (asks, parent, release, travels, outing)


@pytest.fixture
def fork(tmp_path, store_url) -> Fork:
    """Provide a fork whose runs live in the store of the test."""
    return Fork.make(tmp_path, store_url)


def prepare(
    fork: Fork, work: Callable[[Client, ManualClock], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Start a parent with a child that asks, and drive both until they wait; then do more."""

    async def do() -> None:
        clock = ManualClock()
        async with connect(fork.absolute_url, clock) as client:
            async with client.work(FUNCTIONS, options=QUICK) as worker:
                await client.start(parent, id="first", timeout=9 * DAY)
                await worker.run_until_idle()
            if work is not None:
                await work(client, clock)

    asyncio.run(do())


def test_a_suspended_run_says_what_it_waits_for(fork):
    """`show` names each open wait, until when, and the child's run: as text and as JSON."""
    prepare(fork)

    above, below = fork.do("show", "first"), fork.do("show", "first#asks.0")
    document = fork.run("first")

    assert "first  suspended  parent v1" in above.out
    assert "suspended until 2027-01-17" in above.out, "the timer, the nearest of all moments"
    assert re.search(r"asks\.0 +suspended +child", above.out)
    assert "run first#asks.0" in above.out
    assert re.search(r"sleep\.0 +pending +timer *\n +timer, until 2027-01-17", above.out)
    assert "child of first" in below.out
    wanted = "true, false, yes or no, until 2027-01-18"
    assert f"signal 'approval', {wanted}" in below.out
    for shown in (above, below):
        assert f"answer approval: {wanted}" in shown.out
        assert f"  {ANSWER}  (or false)" in shown.out
    assert {wait["key"]: (wait["run"], wait["status"]) for wait in document["waits"]} == {
        "asks.0": ("first#asks.0", "suspended"),
        "sleep.0": (None, None),
    }
    assert fork.run("first#asks.0")["parent"] == "first"


def test_a_signal_that_is_waited_for(fork):
    """`signal` sends JSON without a worker, names the wait, and counts once for each dedup."""
    prepare(fork)

    sent = fork.do("signal", "first#asks.0", "approval", "true", "--dedup", "a")
    again = fork.do("signal", "first#asks.0", "approval", "true", "--dedup", "a", "--json")
    run = fork.run("first#asks.0")

    assert sent.out == (
        "'approval' is sent to run first#asks.0, which waits for it at approval.0\n"
    )
    assert (sent.code, again.code) == (0, 0)
    assert (again.document["counts"], again.document["key"]) == (False, "approval.0")
    assert run["status"] == "ready", "the next worker takes it"
    assert [(each["value"], each["is_late"]) for each in run["inbox"]] == [(True, False)]


def test_a_signal_that_nobody_waits_for(fork):
    """A signal of another name is kept, and what the run does wait for is said."""
    prepare(fork)

    sent = fork.do("signal", "first", "aproval", "true")

    assert sent.code == 0
    kept = "'aproval' is kept in the inbox of run first as true: no wait of that name is open"
    assert kept in sent.out
    assert "asks.0  child first#asks.0 (suspended)" in sent.out
    assert "answer approval: true, false, yes or no, until 2027" in sent.err
    assert ANSWER in sent.err
    assert "aproval  kept" in fork.do("show", "first").out


@pytest.mark.parametrize(
    "value, remedy",
    [
        ("yes", """python -m agent signal first note '"yes"'"""),
        ("it's", """python -m agent signal first note '"it'"'"'s"'"""),
        ("NaN", """python -m agent signal first note '"NaN"'"""),
    ],
)
def test_a_value_that_is_no_json(sqlite_fork, value, remedy):
    """The error shows how to quote it, and nothing is sent."""
    prepare(sqlite_fork)

    refused = sqlite_fork.do("signal", "first", "note", value)

    assert refused.code == 2
    assert f"{value!r} is no JSON" in refused.err
    assert remedy in refused.err
    assert sqlite_fork.run("first")["inbox"] == []


@pytest.fixture
def sqlite_fork(tmp_path) -> Fork:
    """Provide a fork for what is the same on every store."""
    return Fork.make(tmp_path)


def test_values(sqlite_fork):
    """Any JSON is a value, a negative number too; without one it is null."""
    prepare(sqlite_fork)

    for value in (("-5",), ('{"a": [1]}',), ('"text"',), ()):
        assert sqlite_fork.do("signal", "first", "note", *value).code == 0

    sent = [each["value"] for each in sqlite_fork.run("first")["inbox"]]
    assert sent == [-5, {"a": [1]}, "text", None]


def test_refused_and_late(fork):
    """`show` tells refused values, that nobody answered in time, and what came too late."""

    async def go_on(client: Client, clock: ManualClock) -> None:
        await client.signal("first#asks.0", "approval", "perhaps")
        async with client.work([asks], options=QUICK) as worker:
            await worker.run_until_idle()
            clock.advance(3 * DAY.total_seconds())
            await worker.run_until_idle()
        await client.signal("first#asks.0", "approval", True)

    prepare(fork, go_on)

    shown = fork.do("show", "first#asks.0").out
    (letter,) = fork.run("first#asks.0")["inbox"]

    assert "approval.0  expired" in shown
    assert "refused: the value sent is not a bool" in shown
    assert "→ none came in time" in shown
    assert "approval  late" in shown
    assert (letter["name"], letter["is_late"]) == ("approval", True)


def test_cancel(fork):
    """A cancelled run shows that it is asked to end, and is ended by the next who drives it."""
    prepare(fork)

    asked = fork.do("cancel", "first")
    shown, listed = fork.do("show", "first"), fork.do("runs")
    document = fork.run("first#asks.0")

    async def end_it() -> None:
        async with (
            connect(fork.absolute_url) as client,
            client.work(FUNCTIONS, options=QUICK),
        ):
            with pytest.raises(RunFailed):
                await client.result("first")

    asyncio.run(end_it())
    again = fork.do("cancel", "first")
    over = fork.do("show", "first")
    late = fork.do("signal", "first", "go")

    assert asked.code == 0
    assert "run first is asked to end, and everything below it; the next worker" in asked.out
    assert "python -m agent resume first" in asked.err
    assert "cancel requested" in shown.out
    assert "it is asked to end; to end it here: python -m agent resume first" in shown.out
    assert re.search(r"^first +cancelling", listed.out, re.MULTILINE)
    assert "is asked to end; python -m agent resume first" in listed.out
    assert document["cancel_requested"] is True
    assert (again.code, again.out) == (0, "run first is cancelled already\n")
    assert "sleep.0  cancelled" in over.out
    assert "It does not go on." in over.out
    assert (late.code, late.err) == (
        1,
        "error: run 'first' is cancelled; it takes no signal 'go'\n",
    )


def test_what_has_ended_is_not_cancelled(sqlite_fork):
    """A run that is done stays so, and `cancel` says it with a code of its own."""
    sqlite_fork.do("run", "How many owls?", "--id", "first")

    cancelled = sqlite_fork.do("cancel", "first")
    discarded = sqlite_fork.do("discard", "first", "--json")
    unknown = sqlite_fork.do("cancel", "nobody")

    assert (cancelled.code, discarded.code, unknown.code) == (1, 1, 1)
    assert "run 'first' is done already, and stays so" in cancelled.err
    assert discarded.document["error"]["type"] == "RunEnded"
    assert "there is no run 'nobody'" in unknown.err


def test_undone(fork):
    """`show` reads the decision to undo, and each undo, as what they are."""
    asyncio.run(travel(fork, ["a", "b"]))

    shown = fork.do("show", "trip").out

    assert "the run will be failed: ValueError: the trip is off" in shown
    assert "undone before that: book.1, book.0" in shown
    assert shown.index("makes up for book.1") < shown.index("makes up for book.0")
    assert re.search(r"book\.1\n.* 0 +undone +undo", shown)
    assert "What it did is undone: start another run." in shown


def test_dead_letters(fork):
    """`runs --status dead` lists them with their reasons and what to type; so it goes on."""

    async def crash_it(client: Client, clock: ManualClock) -> None:
        await client.signal("first#asks.0", "wake_up")
        for number in range(3):
            await crash(client.store, Owner(f"doomed-{number}"), LANE)

    prepare(fork, crash_it)
    asyncio.run(travel(fork, ["a", "stuck"]))

    listed = fork.do("runs", "--status", "dead")
    documents = fork.do("runs", "--status", "dead", "--json").document["runs"]
    child = fork.do("resume", "first#asks.0")
    given_up = fork.do("discard", "first#asks.0")
    left = fork.do("runs", "--status", "dead", "--json").document["runs"]
    fork.do("discard", "trip")

    assert "first#asks.0  dead  since" in listed.out
    assert "its workers ended 3 times in a row" in listed.out
    assert "A child does not go on; its parent was told, and decides:" in listed.out
    assert "'book.1' could not be undone: OSError: the other side is away" in listed.out
    assert "it goes on with that undo: python -m agent resume trip" in listed.out
    assert "python -m agent discard 'first#asks.0'" in listed.out
    assert {run["id"]: run["error"]["type"] for run in documents} == {
        "first#asks.0": "RunDead",
        "trip": "RunDead",
    }
    assert (child.code, given_up.code) == (1, 0)
    assert "A child does not go on; its parent was told" in child.err
    assert given_up.out.startswith("run first#asks.0 is given up: cancelled.")
    assert [run["id"] for run in left] == ["trip"]
    assert fork.do("runs", "--status", "dead").out.startswith("no dead runs in ")


HOOKS_THAT_TRAVEL = (
    HOOKS
    + """
from substrate import durable


async def book(what):
    return what.upper()


@durable
async def release(ctx, what):
    return await ctx.step(book, f"not {what}")


@durable
async def travels(ctx, places):
    raise AssertionError("this one is never called again")
"""
)


def test_a_dead_run_is_resumed(fork):
    """`resume` goes on with the undo that failed; the fork's hooks bring the function for it."""
    asyncio.run(travel(fork, ["a", "stuck"]))
    fork.write("agent/hooks.py", HOOKS_THAT_TRAVEL)

    resumed = fork.do("resume", "trip")

    assert resumed.code == 1
    assert "failed: ValueError: the trip is off" in resumed.err
    assert "book.1  undone  by release" in resumed.err
    assert "What it did is undone: start another run." in resumed.err
    assert fork.run("trip")["status"] == "failed"


def test_a_dead_child_is_resumed(fork):
    """`show` offers to go on with its undos, and `resume` does, though its parent has gone on."""
    asyncio.run(travel(fork, ["a", "stuck"], outing))
    fork.write("agent/hooks.py", HOOKS_THAT_TRAVEL)

    child = "trip#travels.0"
    before = fork.do("show", child).out
    resumed = fork.do("resume", child)
    again = fork.do("resume", child)

    assert "A child does not go on; its parent was told, and decides:" in before
    assert f"it goes on with that undo: python -m agent resume '{child}'" in before
    assert "book.1  undone  by release" in resumed.err
    assert "What it did is undone by now:" in resumed.err
    assert (resumed.code, again.code) == (1, 1)
    assert "goes on with that undo: python -m" not in again.err
    assert (fork.run(child)["status"], fork.run("trip")["status"]) == ("failed", "failed")


async def travel(
    fork: Fork, places: list[str], function: Durable[[list[str]], None] = travels
) -> None:
    """Let a trip come to nothing."""
    async with connect(fork.absolute_url) as client:
        async with client.work(FUNCTIONS, options=QUICK) as worker:
            await client.start(function, places, id="trip")
            await worker.run_until_idle()
        assert (await client.get("trip")).status in (RunStatus.FAILED, RunStatus.DEAD)
