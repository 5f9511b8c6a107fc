"""A run that waits for somebody says how it is answered: the command that it shows is the one."""

import asyncio
import shlex
from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from substrate import Context, connect, durable
from tests.fork import HOOKS, LIMIT_S, Fork, end
from tests.keeper import wait_until
from tests.runs import QUICK
from tests.test_cli_interrupted import read_until
from tests.test_cli_terminal import terminal

ASKING = (
    HOOKS
    + '''
from datetime import timedelta


@tool
async def look(ctx, what: str) -> str:
    """Ask whether to look, then look."""
    allowed = await ctx.receive("approval", bool, timeout=timedelta(days=3))
    return f"{what}: two" if allowed else "nobody may look"


tools = [look]
'''
)


class Charge(BaseModel):
    """What one type of question wants."""

    amount: int
    note: str = ""

    @field_validator("amount")
    @classmethod
    def is_not_odd(cls, amount: int) -> int:
        """Refuse what only this code knows to be wrong."""
        assert amount % 2 == 0, "an odd amount"
        return amount


@durable
async def asks(ctx: Context) -> Any:
    """Ask for values of several types, one after the other."""
    return [
        await ctx.receive("pay", bool, timeout=timedelta(days=2)),
        await ctx.receive("how_many", int),
        await ctx.receive("who", str),
        await ctx.receive("which", Literal["a", "b"]),
        (await ctx.receive("charge", Charge)).model_dump(),
        await ctx.receive("anything"),
    ]


@durable
async def above(ctx: Context) -> Any:
    """Wait for a child that asks."""
    return await ctx.spawn(asks)


@pytest.fixture
def fork(tmp_path, store_url) -> Fork:
    """Provide a fork whose runs live in the store of the test."""
    return Fork.make(tmp_path, store_url, ASKING)


@pytest.fixture
def sqlite_fork(tmp_path) -> Fork:
    """Provide a fork for what is the same on every store."""
    return Fork.make(tmp_path)


def drive(fork: Fork, function: Any = None, run_id: str = "first") -> None:
    """Start a run, if a function is given, and drive all until they wait."""

    async def do() -> None:
        async with connect(fork.absolute_url) as client:
            if function is not None:
                await client.start(function, id=run_id)
            async with client.work([asks, above], options=QUICK) as worker:
                await worker.run_until_idle()

    asyncio.run(do())


def commands_in(text: str) -> list[list[str]]:
    """Return the arguments of the commands to answer that a page shows."""
    lines = (line.strip() for line in text.splitlines())
    shown = (line for line in lines if line.startswith("python -m agent signal"))
    return [shlex.split(line.partition("  (")[0])[3:] for line in shown]


def test_the_command_that_is_shown_answers(fork):
    """At `run`, at Ctrl-C, in `show` and in `runs` stands the command, and it answers as it is."""
    process = fork.open("run", "How many owls?", "--id", "first")
    said = read_until(process, "python -m agent signal first approval true  (or false)")
    process.send_signal(2)
    stopped = end(process)
    shown, listed = fork.do("show", "first").out, fork.do("runs").out
    pages = [said.replace("in another shell: ", ""), stopped.err, shown, listed]

    assert [commands_in(page) for page in pages] == [[["signal", "first", "approval", "true"]]] * 4
    for page in (stopped.err, shown, listed):
        assert "answer approval: true, false, yes or no, until 20" in page

    assert fork.do(*commands_in(shown)[0]).code == 0
    resumed = fork.do("resume", "first")
    assert (resumed.code, resumed.out) == (0, "Two owls.\n")


def test_each_type_by_the_command_that_is_shown(sqlite_fork):
    """Whatever its type, a question is answered by the command that `show` has, filled in."""
    filled = {"TEXT": "it's me", "NUMBER": "7", "VALUE": "[1]"}
    drive(sqlite_fork, above)
    while sqlite_fork.run("first")["status"] != "done":
        (command,) = commands_in(sqlite_fork.do("show", "first").out)
        if command[2] == "charge":
            command[3] = command[3].replace('"NUMBER"', "8")
        command[3] = filled.get(command[3], command[3])
        assert sqlite_fork.do(*command).code == 0, command
        drive(sqlite_fork)

    charge = {"amount": 8, "note": ""}
    assert sqlite_fork.run("first")["answer"] == [True, 7, "it's me", "a", charge, [1]]


@pytest.mark.parametrize(
    "word, means", [("yes", True), ("No", False), ("true", True), ("false", False)]
)
def test_yes_and_no(sqlite_fork, word, means):
    """A bool is answered by true, false, yes and no, and sent as JSON's own."""
    drive(sqlite_fork, asks)

    assert sqlite_fork.do("signal", "first", "pay", word).code == 0
    (letter,) = sqlite_fork.run("first")["inbox"]
    assert letter["value"] is means


@pytest.mark.parametrize("value", [("1",), ("0",), ("on",), ("perhaps",), ('"t"',), ("null",), ()])
def test_what_is_no_answer_is_not_sent(sqlite_fork, value):
    """What a bool does not take is refused where it is typed, and says what it takes."""
    drive(sqlite_fork, asks)

    refused = sqlite_fork.do("signal", "first", "pay", *value)

    assert (refused.code, refused.out) == (2, "")
    assert "nothing was sent, for 'pay' is to be true, false, yes or no: " in refused.err
    assert sqlite_fork.run("first")["inbox"] == []


def test_a_value_that_only_its_type_refuses(sqlite_fork):
    """What the code of a type refuses is told to the sender, while a worker drives the run."""
    hooks = """
from substrate import durable
from tests.test_cli_answers import Charge


@durable
async def pays(ctx):
    return str(await ctx.receive("charge", Charge))
"""
    sqlite_fork.write("agent/hooks.py", HOOKS + hooks)
    worker = sqlite_fork.open("worker")

    async def start() -> None:
        async with connect(sqlite_fork.absolute_url) as client:
            await client.start(pays, id="first")

    try:
        assert wait_until((sqlite_fork.folder / "runs.db").exists, LIMIT_S)
        asyncio.run(start())
        assert wait_until(lambda: len(sqlite_fork.run("first")["waits"]) == 1, LIMIT_S)
        odd = sqlite_fork.do("signal", "first", "charge", '{"amount": 7}')
        even = sqlite_fork.do("signal", "first", "charge", '{"amount": 8}')
    finally:
        worker.terminate()
        end(worker)

    assert (odd.code, odd.out) == (2, "")
    assert "'charge' was sent to run first, which refused it: " in odd.err
    assert "an odd amount" in odd.err
    assert even.code == 0


@durable
async def pays(ctx: Context) -> Any:
    """Stand for the function of the fork's hooks."""
    raise AssertionError("this one is never driven")


def test_a_name_that_nobody_waits_for(sqlite_fork):
    """An unknown name is kept, as it may be early, and what is asked is told with its command."""
    drive(sqlite_fork, above)

    sent = sqlite_fork.do("signal", "first#asks.0", "pai", "true")

    assert sent.code == 0
    assert "no wait of that name is open; it waits for" in sent.out
    assert "signal 'pay', true, false, yes or no, until 20" in sent.out
    assert commands_in(sent.err) == [["signal", "first#asks.0", "pay", "true"]]


@pytest.mark.parametrize("word, means", [("yes", "true"), ("No", "false")])
def test_an_answer_before_it_is_asked(sqlite_fork, word, means):
    """A yes that nobody asks for yet is not sent: it is told what is kept, and how it is read."""
    drive(sqlite_fork, above)

    refused = sqlite_fork.do("signal", "first", "ship-8", word)
    kept = sqlite_fork.do("signal", "first", "ship-8", means)

    assert (refused.code, refused.out) == (2, "")
    assert f"{word!r} is no JSON" in refused.err
    assert "nothing waits for 'ship-8' yet, so nobody knows its type" in refused.err
    assert (
        f"if it is a yes or no that will be asked: python -m agent signal first ship-8 {means}"
        in (refused.err)
    )
    assert f"signal first ship-8 '\"{word}\"'" in refused.err
    assert kept.code == 0
    assert f"'ship-8' is kept in the inbox of run first as {means}" in kept.out


def test_sixty_columns(sqlite_fork):
    """In a narrow terminal `runs` drops columns, and cuts neither an id nor a status."""
    sqlite_fork.write("agent/hooks.py", HOOKS.replace("script=script", "script=TURNS[:1]"))
    id_ = "a-run-with-an-id-of-some-length/2026"
    assert sqlite_fork.do("run", "How many owls are there?", "--id", id_).code == 4
    drive(sqlite_fork, asks, "asking")
    pages = {}
    for columns in ("40", "60", "80", "200"):
        with terminal(sqlite_fork, "runs", columns=columns) as window:
            window.read_until("(or false)")
            pages[columns] = window.plain

    for columns, page in pages.items():
        words = page.split()
        assert id_ in words or columns == "40"
        assert {"paused", "suspended", "asking"} <= set(words)
    assert "age" in pages["60"].split()
    assert {"question", "cost", "age"} <= set(pages["80"].split())
    assert {"turns", "steps", "duration", "started"} <= set(pages["200"].split())
    assert "How many owls are there?" in pages["200"]


TWICE = ASKING.replace(
    'call("look", what="owls")', 'call("look", what="a"), call("look", what="b")'
)


def test_several_questions_of_one_name(sqlite_fork):
    """Questions of one name are one line, which says how many are open, and which comes first."""
    sqlite_fork.write("agent/hooks.py", TWICE)
    process = sqlite_fork.open("run", "How many owls?", "--id", "first")
    read_until(process, "tools.0/look.1/approval.0  waits for")
    process.send_signal(2)
    end(process)

    shown = sqlite_fork.do("show", "first").out
    answered = [sqlite_fork.do("signal", "first", "approval", word) for word in ("no", "yes")]
    done = sqlite_fork.do("resume", "first")
    results = [
        each["value"] for each in sqlite_fork.run("first")["journal"] if each["name"] == "look"
    ]

    assert commands_in(shown) == [["signal", "first", "approval", "true"]]
    assert "; 2 are open, and the first is answered first" in shown
    assert [each.code for each in answered] == [0, 0]
    assert done.code == 0
    assert results == ["nobody may look", "b: two"]


CHILD = (
    HOOKS
    + '''
from substrate import durable


@durable
async def asks(ctx):
    return await ctx.receive("pay", bool)


@tool
async def look(ctx, what: str) -> str:
    """Have another run ask."""
    return str(await ctx.spawn(asks))


tools = [look]
'''
)


def test_what_a_run_below_asks(sqlite_fork):
    """`run` tells what a run below it asks, with the command that answers it there."""
    sqlite_fork.write("agent/hooks.py", CHILD)
    process = sqlite_fork.open("run", "How many owls?", "--id", "first")
    said = read_until(process, "in another shell: ")
    (command,) = commands_in(said.replace("in another shell: ", ""))
    answered = sqlite_fork.do(*command)
    done = end(process)

    assert command == ["signal", "first#tools.0/look.0/asks.0", "pay", "true"]
    assert answered.code == 0
    assert (done.code, done.out) == (0, "Two owls.\n")


def test_each_key_stands_once(sqlite_fork):
    """`show` has each key once, also one that is open, and where another claim went on in it."""
    sqlite_fork.write("agent/hooks.py", TWICE)
    process = sqlite_fork.open("run", "How many owls?", "--id", "first")
    read_until(process, "tools.0/look.1/approval.0  waits for")
    process.kill()
    end(process)
    sqlite_fork.do("signal", "first", "approval", "yes")
    again = sqlite_fork.open("resume", "first")
    read_until(again, "look(")
    again.send_signal(2)
    end(again)

    lines = sqlite_fork.do("show", "first").out.splitlines()
    names = [line.replace("│", "").strip("├└─ ").partition(" ")[0] for line in lines]

    assert [
        names.count(each) for each in ("prompt.0", "model.0", "tools.0", "look.0", "look.1")
    ] == [1] * 5
    assert names.count("approval.0") == 2, "one of each call"
    assert sum("another process went on from here" in line for line in lines) == 1
