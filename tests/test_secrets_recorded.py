"""What a run has revealed is in no row that it writes, whatever holds it, in whatever process."""

import asyncio
import os
import sys
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from textwrap import indent
from typing import Any

import pytest

from substrate import (
    Context,
    Misuse,
    RunFailed,
    Secret,
    StepFailed,
    connect,
    durable,
    recorded_error,
)
from substrate.values.codec import decode
from substrate.values.mask import MASK
from tests.runs import QUICK, reached
from tests.written import dump

VALUE = "FAKE-r3c0rded-b2b2b2"
BYTES = MASK.encode()
KEY = Secret[str]("TEST_RECORDED_KEY")


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv("TEST_RECORDED_KEY", VALUE)


def new_secret() -> str:
    """Return a secret that nobody in this process has revealed yet."""
    return f"FAKE-{token_hex(8)}-1"


async def written(url: str) -> str:
    """Return all that the database holds."""
    return await asyncio.to_thread(dump, url)


def spellings(value: str) -> list[str]:
    """Return what none of it may hold of a secret: itself, or a stretch of it in base64."""
    return [value, *(b64encode(b"x" * n + value.encode()).decode()[4:-4] for n in range(3))]


async def is_clean(url: str, value: str = VALUE) -> bool:
    """Whether the database holds a secret in no spelling."""
    told = await written(url)
    return not any(each in told for each in spellings(value))


# ------------------------------------------------------------------------------------------------
# Undos


async def book(what: Any) -> str:
    return "booked"


async def book_with(key: Secret[str], what: str) -> str:
    return f"booked with {key.reveal()}"


@durable
async def unbook(ctx: Context, what: Any, result: Any) -> None: ...


@durable
async def unbook_with(ctx: Context, key: Secret[str], what: str, result: str) -> None:
    key.reveal()


@pytest.mark.parametrize("form", [str, str.encode, lambda key: {"a": [f"Bearer {key}"]}])
async def test_undo(store_url, form):
    """An undo that would be recorded with a secret is refused before its step is called."""

    @durable
    async def books(ctx: Context, key: Secret[str]) -> str:
        return await ctx.step(book, form(key.reveal()), undo=unbook)

    async with connect(store_url) as client, client.work([books, unbook], options=QUICK):
        await client.start(books, KEY, id="r")
        with pytest.raises(RunFailed, match="an argument of the undo 'unbook' holds a secret"):
            await client.result("r")

    assert await is_clean(store_url)


async def test_undo_of_a_name(store_url):
    """An undo that is given the secret by its name is called with it, and records the name."""

    @durable
    async def books(ctx: Context, key: Secret[str]) -> str:
        await ctx.step(book_with, key, "x", undo=unbook_with)
        raise LookupError("off")

    async with connect(store_url) as client, client.work([books, unbook_with], options=QUICK):
        await client.start(books, KEY, id="r")
        with pytest.raises(RunFailed, match="off"):
            await client.result("r")

    assert await is_clean(store_url)


# ------------------------------------------------------------------------------------------------
# Defaults


async def test_a_default_that_was_revealed(store_url, monkeypatch):
    """A default that holds a secret is in no row: the function is given it by its code."""
    value = new_secret()
    monkeypatch.setenv("TEST_DEFAULT_KEY", value)
    revealed = Secret[str]("TEST_DEFAULT_KEY").reveal()
    given: list[Any] = []

    @durable
    async def child(ctx: Context, key: str = revealed, *, size: int = 3) -> None:
        given.append((key, size))

    @durable
    async def run(ctx: Context, key: str = revealed, *, again: bool = True) -> None:
        given.append((key, again))
        await ctx.spawn(child)
        await ctx.call(child)
        return ctx.continue_as(again=False) if again else None

    async with connect(store_url) as client, client.work([run, child], options=QUICK):
        await client.start(run, id="r")
        await client.result("r")

    once = [(value, 3), (value, 3)]
    assert given == [(value, True), *once, (value, False), *once]
    assert await is_clean(store_url, value)
    assert "size" in await written(store_url)


# ------------------------------------------------------------------------------------------------
# Bytes and numbers


@recorded_error
class Refused(Exception):
    """An error that comes back as itself."""


@dataclass(frozen=True)
class Answer:
    """A result of a type."""

    body: bytes
    text: str


async def as_bytes(key: Secret[str]) -> bytes:
    return b"\0\xff" + key.reveal().encode()


async def in_any(key: Secret[str]) -> Any:
    return [{"a": key.reveal().encode()}, bytearray(b"x:" + key.reveal().encode())]


async def in_type(key: Secret[str]) -> Answer:
    return Answer(b"Bearer " + key.reveal().encode(), key.reveal())


async def in_error(key: Secret[str]) -> None:
    raise Refused({"Authorization": key.reveal().encode()})


async def as_codes(key: Secret[str]) -> list[int]:
    return list(key.reveal().encode())


async def say(what: Any) -> str:
    return "said"


async def test_bytes(store_url):
    """Bytes that hold a secret are recorded without it, as results, arguments and in errors."""

    @durable
    async def tells(ctx: Context, key: Secret[str]) -> Any:
        told: list[Any] = [await ctx.step(each, key) for each in (as_bytes, in_any)]
        answer = await ctx.step(in_type, key)
        told += [answer.body, answer.text, await ctx.step(as_codes, key)]
        await ctx.step(say, key.reveal().encode())
        await ctx.map(say, [key.reveal().encode(), [key.reveal()]])
        with pytest.raises(StepFailed, match=MASK):
            await ctx.step(in_error, key)
        return [*told, key.reveal().encode()]

    async with connect(store_url) as client, client.work([tells], options=QUICK):
        await client.start(tells, KEY, id="r")
        told = await client.result("r")

    assert told[:4] == [b"\0\xff" + BYTES, [{"a": BYTES}, b"x:" + BYTES], b"Bearer " + BYTES, MASK]
    assert told[4:] == [list(BYTES), BYTES]
    assert await is_clean(store_url)


async def as_number(key: Secret[str]) -> Any:
    number = int(key.reveal())
    return [number, Decimal(key.reveal()), float(number), 12345678, Decimal("1E+9000000"), True]


async def test_numbers(store_url, monkeypatch):
    """A secret that is a number is hidden as one, and others stay."""
    monkeypatch.setenv("TEST_RECORDED_KEY", "0070991234567890")

    @durable
    async def tells(ctx: Context, key: Secret[str]) -> Any:
        await ctx.step(say, int(key.reveal()))
        return await ctx.step(as_number, key)

    async with connect(store_url) as client, client.work([tells], options=QUICK):
        await client.start(tells, KEY, id="r")
        told = await client.result("r")

    assert told == [MASK, MASK, MASK, 12345678, Decimal("1E+9000000"), True]
    assert "70991234567890" not in await written(store_url)


PEM = """-----BEGIN FAKE KEY-----
AbcdEfghIjkl0123456789AbcdEfgh+/Ijkl0123456789AbcdEfghIjkl012345
QrstUvwxYz0123456789xxQrstUvwxYz0123456789xxQrstUvwxYz/123456789
EndsWith0Few=
-----END FAKE KEY-----"""


LAYOUTS = {
    "as it is": str,
    "indented": lambda pem: indent(pem, "    | "),
    "with CRLF": lambda pem: pem.replace("\n", "\r\n"),
    "in lines": str.splitlines,
    "joined": lambda pem: pem.replace("\n", ""),
    "on one line": lambda pem: pem.replace("\n", "\\n"),
    "bytes in lines": lambda pem: pem.encode().splitlines(),
    "base64": lambda pem: b64encode(pem.encode()).decode(),
}


@pytest.mark.parametrize("given", [str, lambda pem: pem.replace("\n", "\\n")], ids=["lines", "one"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
async def test_key_of_lines(store_url, monkeypatch, layout, given):
    """A key of several lines is hidden however its lines are laid out; its armour is none of it."""
    monkeypatch.setenv("TEST_RECORDED_KEY", given(PEM))

    async def lay_out(key: Secret[str]) -> Any:
        return layout(key.reveal().replace("\\n", "\n"))

    @durable
    async def lays_out(ctx: Context, key: Secret[str]) -> Any:
        await ctx.step(say, "-----BEGIN FAKE KEY----- is how a key begins")
        return await ctx.step(lay_out, key)

    async with connect(store_url) as client, client.work([lays_out], options=QUICK):
        await client.start(lays_out, KEY, id="r")
        await client.result("r")

    told = await written(store_url)
    lines = PEM.splitlines()
    assert f"{lines[0]} is how a key begins" in told
    assert not any(each in told for line in lines[1:-1] for each in spellings(line))


# ------------------------------------------------------------------------------------------------
# Whoever revealed it


def in_pool(key: Secret[str]) -> str:
    with ThreadPoolExecutor(1) as pool:
        return f"read {pool.submit(key.reveal).result()}"


def in_thread(key: Secret[str]) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(key.reveal()))
    thread.start()
    thread.join()
    return f"read {found[0]}"


async def in_executor(key: Secret[str]) -> str:
    return f"read {await asyncio.get_running_loop().run_in_executor(None, key.reveal)}"


@pytest.mark.parametrize("read", [in_pool, in_thread, in_executor])
async def test_threads(store_url, monkeypatch, read):
    """A secret that is revealed in a thread of the step's own is hidden like any other."""
    value = new_secret()
    monkeypatch.setenv("TEST_RECORDED_KEY", value)

    @durable
    async def reads(ctx: Context) -> str:
        return await ctx.step(read, Secret("TEST_RECORDED_KEY"))

    async with connect(store_url) as client, client.work([reads], options=QUICK):
        await client.start(reads, id="r")
        assert await client.result("r") == f"read {MASK}"

    assert await is_clean(store_url, value)


async def test_another_run(store_url, monkeypatch):
    """What one run has revealed, and an object keeps, is hidden in what the next one records."""
    value = new_secret()
    monkeypatch.setenv("TEST_RECORDED_KEY", value)
    kept: list[str] = []

    async def ask(key: Secret[str]) -> str:
        kept[:] = kept or [key.reveal()]
        return f"asked with {kept[0]}"

    @durable
    async def asks(ctx: Context, key: Secret[str]) -> str:
        return await ctx.step(ask, key)

    async with connect(store_url) as client, client.work([asks], options=QUICK):
        for run_id in ("first", "second"):
            monkeypatch.setenv(
                "TEST_RECORDED_KEY", value if run_id == "first" else "FAKE-rotated-1"
            )
            await client.start(asks, KEY, id=run_id)
            assert await client.result(run_id) == f"asked with {MASK}"

    assert await is_clean(store_url, value)


async def test_next_generation(store_url, monkeypatch):
    """A run's next generation, and its child, hide what the one before has revealed."""
    value = new_secret()
    monkeypatch.setenv("TEST_RECORDED_KEY", value)

    @durable
    async def child(ctx: Context) -> str:
        return f"child of {os.environ['TEST_RECORDED_KEY']}"

    @durable
    async def goes_on(ctx: Context, key: Secret[str], n: int = 0) -> Any:
        if n == 0:
            key.reveal()
            return ctx.continue_as(key, 1)
        return [await ctx.spawn(child), os.environ["TEST_RECORDED_KEY"]]

    async with connect(store_url) as client, client.work([goes_on, child], options=QUICK):
        await client.start(goes_on, KEY, id="r")
        assert await client.result("r") == [f"child of {MASK}", MASK]

    assert await is_clean(store_url, value)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from typing import Any
from datetime import timedelta
from substrate import Context, Secret, WorkerOptions, connect, durable, secret_source

QUICK = WorkerOptions(lease=timedelta(seconds=1), poll=timedelta(milliseconds=20))
FILE = Path(sys.argv[3])

@secret_source("sourced")
def read(name: str) -> str:
    return "FAKE-s0urced-of-" + name

async def log_in(key: Secret[str]) -> str:
    FILE.write_text((FILE.read_text() if FILE.exists() else "") + " " + key.reveal())
    return "in"

async def profile() -> str:
    return FILE.read_text()

async def fails() -> None:
    raise RuntimeError(FILE.read_text())

@durable
async def session(ctx: Context, key: Secret[str]) -> Any:
    await ctx.step(log_in, key)
    await ctx.step(log_in, Secret("TEST_INSIDE_KEY"))
    await ctx.step(log_in, Secret("sourced:inside"))
    await ctx.receive("go", str)
    told = [await ctx.step(profile)]
    try:
        await ctx.step(fails)
    except Exception as error:
        told.append(str(error))
    return told

async def main() -> None:
    async with connect(sys.argv[1]) as client, client.work([session], options=QUICK):
        if sys.argv[2] == "begin":
            await client.start(session, Secret(sys.argv[4]), id="r")
            while "go.0" not in [each.key for each in await client.journal("r")]:
                await asyncio.sleep(0.02)
            return
        await client.signal("r", "go", "on")
        await client.result("r")

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["TEST_RECORDED_KEY", "sourced:given"])
async def test_restart(store_url, tmp_path, monkeypatch, name):
    """A process that goes on with a run hides what an earlier process has revealed in it."""
    monkeypatch.setenv("TEST_INSIDE_KEY", "FAKE-ins1de-the-code")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    session = tmp_path / "session"
    for how in ("begin", "go on"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, program, store_url, how, session, name
        )
        assert await process.wait() == 0

    kept = Path(session).read_text().split()
    assert len(kept) == 3
    for each in kept:
        assert await is_clean(store_url, each)
    assert f" {MASK} {MASK} {MASK}" in await written(store_url)


# ------------------------------------------------------------------------------------------------
# Names and signals


NAMING = {
    "step": lambda ctx, key: ctx.step(say, 1, name=f"pay_{key}"),
    "spawn": lambda ctx, key: ctx.spawn(unbook, 1, 1, name=key),
    "receive": lambda ctx, key: ctx.receive(key, str),
    "poll": lambda ctx, key: ctx.poll(key),
    "hex": lambda ctx, key: ctx.receive("a" + key.encode().hex()),
}


@pytest.mark.parametrize("naming", NAMING.values(), ids=NAMING)
async def test_names(store_url, naming):
    """A name that holds a secret is refused, and not repeated."""

    @durable
    async def names(ctx: Context, key: Secret[str]) -> None:
        await naming(ctx, key.reveal())

    async with connect(store_url) as client, client.work([names, unbook], options=QUICK):
        await client.start(names, KEY, id="r")
        with pytest.raises(RunFailed, match="a name holds a secret that was revealed") as caught:
            await client.result("r")

    told = f"{caught.value!r} {await written(store_url)}"
    assert VALUE not in told
    assert VALUE.encode().hex() not in told


async def test_signals(store_url):
    """The row of who has received a secret in a signal does not repeat it, waited for or polled."""

    @durable
    async def listens(ctx: Context, key: Secret[str]) -> Any:
        key.reveal()
        told: list[Any] = [await ctx.receive("any"), await ctx.receive("bytes", bytes)]
        return [*told, await ctx.poll("polled")]

    async with connect(store_url) as client, client.work([listens], options=QUICK):
        await client.start(listens, KEY, id="r")
        await client.signal("r", "polled", VALUE.encode())
        await client.signal("r", "any", {VALUE: VALUE})
        await client.signal("r", "bytes", VALUE.encode())
        assert await client.result("r") == [{MASK: MASK}, BYTES, [BYTES]]
        journal = await client.journal("r")

    values = [decode(each.value) for each in journal if each.value]
    assert all(VALUE not in repr(each) for each in values)


# ------------------------------------------------------------------------------------------------
# The record stands


async def test_known_later(store_url, monkeypatch):
    """What was recorded before it was known for a secret is no other call once it is known."""
    value = new_secret()
    monkeypatch.setenv("TEST_RECORDED_KEY", value)

    @durable
    async def waits(ctx: Context) -> str:
        await ctx.step(say, f"with {os.environ['TEST_RECORDED_KEY']}")
        await ctx.call(unbook, os.environ["TEST_RECORDED_KEY"], None)
        await ctx.step(book_with, Secret("TEST_RECORDED_KEY"), "x")
        await ctx.receive("go")
        return "went on"

    @durable
    async def reveals(ctx: Context) -> None:
        KEY.reveal()

    async with connect(store_url) as client:
        async with client.work([waits, unbook], options=QUICK):
            await client.start(waits, id="r")
            await reached(client, "r", "go.0")
        async with client.work([waits, unbook, reveals], options=QUICK):
            await client.start(reveals, id="other")
            await client.result("other")
            await client.signal("r", "go", None)
            assert await client.result("r") == "went on"


async def test_start_with_it(store_url):
    """A run is not started with what was revealed: its row would tell it."""
    KEY.reveal()
    async with connect(store_url) as client:
        with pytest.raises(Misuse, match="give it the Secret itself"):
            await client.start(unbook, KEY.reveal(), None, id="r")

    assert await is_clean(store_url)
