"""A step costs its commit and little more: counted, since times are another's on each machine."""

import inspect
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import ref

import apsw
import pytest

from substrate import Context, connect, durable
from substrate.engine.function.signature import is_async, shape_of
from substrate.values.ids import Key, RunId, promise_id
from substrate.values.records import Effect, JsonText, Kind, Promise, PromiseState

STEPS = 20

AUDITED = """
import asyncio, sys
from substrate import Context, connect, durable

counts = []
hears = False

def hook(event, arguments):
    if hears and event == "object.__getattr__":
        counts.append(arguments[1])

sys.addaudithook(hook)

async def look(n: int) -> int:
    return n

def look_plainly(n: int) -> int:
    return n

@durable
async def steps(ctx: Context) -> int:
    global hears
    for i in range(10):
        await ctx.step(look, i)
        await ctx.step(look_plainly, i)
        hears = i >= 2
    hears = False
    return 0

async def main(url):
    async with connect(url) as client, client.work([steps]) as worker:
        await client.start(steps, id="run")
        await worker.run_until_idle()

asyncio.run(main(sys.argv[1]))
print(len(counts))
"""


async def look(n: int) -> int:
    """Give back what was given."""
    return n


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement that SQLite is given from now on."""
    heard: list[str] = []

    def trace(cursor: object, sql: str, bindings: object) -> bool:
        heard.append(sql)
        return True

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace = trace

    apsw.connection_hooks.append(hook)
    yield heard
    apsw.connection_hooks.remove(hook)


async def test_a_step_is_two_statements(sqlite_url: str, statements: list[str]):
    """A step in a file is one transaction: the run's change number, and the row."""
    taken: list[str] = []

    @durable
    async def steps(ctx: Context) -> int:
        await ctx.step(look, 0)
        statements.clear()
        for i in range(STEPS):
            await ctx.step(look, i)
        taken.extend(statements)
        return 0

    async with connect(sqlite_url) as client, client.work([steps]) as worker:
        await client.start(steps, id="run")
        await worker.run_until_idle()

    begun = Counter(" ".join(sql.split()[:2]) for sql in taken if "SELECT" not in sql)
    assert begun == {
        "BEGIN IMMEDIATE": STEPS,
        "UPDATE runs": STEPS,
        "INSERT INTO": STEPS,
        "COMMIT": STEPS,
    }


def test_the_code_of_a_step_is_looked_at_once(sqlite_url: str):
    """A step of a function that was called before makes Python audit nothing of its code."""
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, sqlite_url], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "0"


def test_a_function_is_forgotten():
    """What is known of a function keeps neither it nor what it encloses."""

    class Large:
        """What a function may enclose."""

    def make(large: Large) -> Callable[[], Coroutine[Any, Any, Large]]:
        async def made(idempotency_key: str = "") -> Large:
            return large

        return made

    made = make(large := Large())
    shape, kept = shape_of(made), ref(large)
    assert shape is not None
    assert shape.names == ("idempotency_key",)
    del made, large

    assert kept() is None


@pytest.mark.parametrize(
    "fn", [look, partial(partial(look, 1)), partial(len), len, Promise, Promise.written]
)
def test_async_is_what_python_says(fn):
    """Whether a function is async is what `inspect` says, of functions and of other callables."""
    assert is_async(fn) == inspect.iscoroutinefunction(fn)


def test_written_is_the_same_row():
    """A promise that was written differs from the one that was sent in its seq and epoch only."""
    full = Promise(
        id=promise_id(RunId("run"), Key("look.0")),
        run_id=RunId("run"),
        key=Key("look.0"),
        kind=Kind.STEP,
        name="look",
        state=PromiseState.RESOLVED,
        created_at=1,
        settled_at=2,
        effect=Effect.ONCE,
        fingerprint="f",
        input=JsonText("[1]"),
        value=JsonText("2"),
        error=JsonText("3"),
        usage=JsonText("4"),
        attempts=JsonText("5"),
        undo=JsonText("6"),
    )

    assert full.written(7, 8) == replace(full, seq=7, epoch=8)
