"""A run that uses every primitive, for tests to kill at any of its commits.

What its steps do is noted outside, by name and key, in a file that survives every kill. `drive`
runs it in a process of its own until it has ended, or the process has.
"""

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import (
    Client,
    Context,
    OutcomeUnknown,
    Retry,
    RunFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.crew import Outside, note_reached
from tests.processes import driven
from tests.stores import database

LIMITS = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=40),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)
AGAIN = Retry(max_attempts=3, initial=timedelta(milliseconds=30), jitter=0)


def note(folder: str, what: str) -> None:
    """Note what is done, and beside it when and by which process."""
    Outside(Path(folder)).note(what)
    Outside(Path(folder) / "times").note(f"{time.time_ns() // 1_000_000} {os.getpid()} {what}")


async def look(folder: str, what: str) -> str:
    """Do something pure."""
    note(folder, f"pure look {what}")
    return what


def look_in_a_thread(folder: str, what: str) -> str:
    """Do something pure in a thread."""
    note(folder, f"pure look_in_a_thread {what}")
    return what


async def stumble(folder: str) -> str:
    """Fail once, then succeed."""
    note(folder, "pure stumble")
    if Outside(Path(folder)).notes["pure stumble"] == 1:
        raise OSError("not yet")
    return "stumbled"


async def send(folder: str, what: str) -> str:
    """Do something once."""
    note(folder, f"once send {what}")
    return what


async def charge(folder: str, idempotency_key: str) -> str:
    """Do something under a key."""
    note(folder, f"idempotent charge {idempotency_key}")
    return "charged"


def enter(tx: Any, run_id: str) -> str:
    """Write to the store's own database."""
    tx.execute(f"INSERT INTO entries VALUES ('{run_id}')")
    return "entered"


async def book(folder: str, what: str) -> str:
    """Do something that can be undone."""
    note(folder, f"once book {what}")
    return what


@durable
async def unbook(ctx: Context, folder: str, what: str) -> None:
    await ctx.step(look, folder, f"unbook {what}")


@durable
async def trip(ctx: Context, folder: str) -> None:
    for what in ("a", "b"):
        try:
            await ctx.step(book, folder, what, effect="once", undo=unbook)
        except OutcomeUnknown:
            await ctx.step(look, folder, f"unknown {what}")
    raise ValueError("the trip is off")


@durable
async def echo(ctx: Context, what: str) -> str:
    return what


@durable
async def part(ctx: Context, folder: str, what: str) -> str:
    first = await ctx.step(look, folder, f"{what} first")
    await ctx.sleep(0.005)
    return first + await ctx.step(look_in_a_thread, folder, f" {what} second")


@durable
async def everything(ctx: Context, folder: str, generation: int) -> list[Any]:
    if generation == 0:
        begun = await ctx.step(look, folder, "begin")
        assert begun == "begin"
        return ctx.continue_as(folder, 1)
    found: list[Any] = [await ctx.call(part, folder, "called")]
    found += await ctx.gather(
        ctx.step(charge, folder, effect="idempotent"),
        ctx.spawn(part, folder, "child"),
        ctx.step(stumble, folder, retry=AGAIN),
        ctx.step(enter, ctx.run_id, effect="transactional"),
    )
    found += await ctx.map(echo, ["x", "y", "z"], limit=2)
    try:
        await ctx.step(send, folder, "once", effect="once")
    except OutcomeUnknown:
        await ctx.step(look, folder, "unknown once")
    found.append(list(await ctx.race(ctx.receive("never"), ctx.step(look, folder, "race"))))
    found.append(await ctx.receive("go", str))
    found.append(await ctx.poll("mail"))
    try:
        await ctx.spawn(trip, folder)
    except RunFailed as error:
        found.append(error.failure.message)
    return found + await ctx.hear("word")  # whenever it comes: the run does not end without it


FUNCTIONS = (everything, part, trip, unbook)
RESULT = [
    "called first called second",
    "charged",
    "child first child second",
    "stumbled",
    "entered",
    "x",
    "y",
    "z",
    [1, "race"],
    "go",
    [1, 2],
    "the trip is off",
    "word",
]


SIGNALS = (("go", "go", "1"), ("mail", 1, "1"), ("mail", 2, "2"), ("word", "word", "1"))


@dataclass(frozen=True, slots=True)
class Case:
    """One run of everything: its database, its id, and the folder that stands for the world."""

    url: str
    run_id: str
    folder: Path

    @property
    def outside(self) -> Outside:
        """What its steps have noted."""
        return Outside(self.folder)

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int | None:
        """Drive the run in a process of its own; return the exit code."""
        return driven(_drive, self, boundary, moment)

    def recorded(self) -> Counter[str]:
        """Return how often a step of each name and input has its outcome recorded, in the tree."""
        with database(self.url) as db:
            rows = db.rows(
                "SELECT name, input FROM promises WHERE state <> 'pending' AND kind = 'step'"
                " AND (run_id = :id OR run_id LIKE :below)",
                id=self.run_id,
                below=f"{self.run_id}#%",
            )
        return Counter(f"{name} {input_}" for name, input_ in rows)

    def settled_looks(self) -> dict[str, int]:
        """Return when each `look` has been settled, by what it looked at, in ms."""
        with database(self.url) as db:
            rows = db.rows(
                "SELECT input, settled_at FROM promises WHERE name = 'look' AND kind = 'step'"
                " AND settled_at IS NOT NULL AND (run_id = :id OR run_id LIKE :below)",
                id=self.run_id,
                below=f"{self.run_id}#%",
            )
        return {json.loads(input_)[1]: settled_at for input_, settled_at in rows}

    def entries(self) -> int:
        """Return how many rows its transactional step has written."""
        with database(self.url) as db:
            count: int = db.value("SELECT count(*) FROM entries WHERE run = :id", id=self.run_id)
        return count

    def open_rows(self) -> list[Any]:
        """Return the rows of the tree that are pending."""
        with database(self.url) as db:
            return db.rows(
                "SELECT id FROM promises WHERE state = 'pending' AND id LIKE :below",
                below=f"{self.run_id}%",
            )


async def prepare(case: Case) -> None:
    """Make the table for entries; nothing when it is there."""
    (case.folder / "times").mkdir(exist_ok=True)
    async with connect(case.url):
        with database(case.url) as db:
            db.rows("CREATE TABLE IF NOT EXISTS entries (run text)")


def _drive(case: Case, boundary: int, moment: Side) -> None:
    os.chdir(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = kill_at_commit(await open_store(case.url), boundary, moment)
    client = Client(store)
    async with client.work(FUNCTIONS, options=LIMITS):
        await client.start(everything, str(case.folder), 0, id=case.run_id)
        for name, value, dedup in SIGNALS:
            if not (await client.get(case.run_id)).status.has_ended:
                await client.signal(case.run_id, name, value, dedup)
        assert await client.result(case.run_id) == RESULT, await client.result(case.run_id)
    await store.close()
    note_reached(case.folder, store)


def check_nothing_twice(case: Case, called: Counter[str], recorded: Counter[str]) -> int:
    """Assert what holds of a run that was killed; return how often something pure was repeated.

    `called` and `recorded` are what its steps had noted, and its journals held, at the kill.
    """
    check_effects(case)
    notes = case.outside.notes
    repeated = {what: n - 1 for what, n in notes.items() if what.startswith("pure look") and n > 1}
    for what, n in repeated.items():
        _, name, *about = what.split(" ", 2)
        was_recorded = any(
            key.startswith(f"{name} ") and key.endswith(f',"{" ".join(about)}"]')
            for key in recorded
        )
        assert n == 1, f"{what} was repeated {n} times"
        assert called[what] == 1, f"{what} was repeated, and not by the kill"
        assert not was_recorded, f"{what} was committed, and called again"
    return sum(repeated.values())


def check_effects(case: Case) -> None:
    """Assert what holds of the effects of a run that was killed, however often."""
    notes = case.outside.notes
    assert all(n == 1 for what, n in notes.items() if what.startswith("once"))
    assert len([what for what in notes if what.startswith("idempotent")]) == 1
    assert case.entries() == 1
    assert case.open_rows() == []
    booked = {what.split()[-1] for what in notes if what.startswith("once book")}
    assert {f"pure look unbook {what}" for what in booked} <= notes.keys()
