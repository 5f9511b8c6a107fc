"""A worker asks its database for what the moment needs, and no more: each transaction counts."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import FrameType
from typing import Any

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.agent import answered
from substrate.models import messages
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.store.store import Store
from substrate.values.ids import RunId
from substrate.values.records import Checkpoint, CommitResult
from tests.bench.conversation import look
from tests.loops import TASK, make_agent
from tests.processes import Process
from tests.stores import LIMIT_S, eventually

QUIET = WorkerOptions(poll=timedelta(minutes=10))
"""No tick comes by itself: each one that is counted was asked for."""

TAKING = ("lanes_with_ready", "claim_runs", "commit")
"""What it takes to drive a run that does nothing."""


class CountingDatabase:
    """A database like another; `asked` names what was run there, a transaction each."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.asked: list[str] = []

    async def read(self, work: Any, /, *args: Any, **named: Any) -> Any:
        self.asked.append(work.__name__)
        return await self._db.read(work, *args, **named)

    async def scan(self, work: Any, /, *args: Any, **named: Any) -> Any:
        self.asked.append(work.__name__)
        return await self._db.scan(work, *args, **named)

    async def write(self, work: Any, /, *args: Any, **named: Any) -> Any:
        self.asked.append(work.__name__)
        return await self._db.write(work, *args, **named)

    async def close(self) -> None:
        await self._db.close()


class CountingBackend:
    """A backend like another, that counts what it is asked."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.db = CountingDatabase(backend.db)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool) -> Sequence[CommitResult]:
        self.db.asked.append("commit")
        return await self._backend.commit(batch, wait=wait)

    async def recover(self, now: int, stuck: Any) -> Any:
        self.db.asked.append("recover")
        return await self._backend.recover(now, stuck)


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """Open a client, and the list of what its database is asked."""
    backend: Any = CountingBackend((await open_store(url)).backend)
    store = Store(backend)
    try:
        yield Client(store), backend.db.asked
    finally:
        await store.close()


async def quiet(asked: list[str]) -> None:
    """Return when nothing has been asked for a moment, and forget what was."""
    await still(asked)
    asked.clear()


async def still(asked: list[str]) -> list[str]:
    """Return what was asked when nothing more is, for a moment."""
    before = -1
    while before != len(asked):
        before = len(asked)
        await asyncio.sleep(0.05)
    return list(asked)


@durable
async def listens(ctx: Context) -> int:
    """Receive two signals."""
    return await ctx.receive("go", int) + await ctx.receive("go", int)


@durable
async def other(ctx: Context) -> None:
    """Make a second lane."""


@durable
async def sleeps(ctx: Context) -> None:
    """Sleep for a moment, in memory."""
    await ctx.sleep(timedelta(milliseconds=30))


@durable
async def parent(ctx: Context) -> None:
    """Wait for a child."""
    await ctx.spawn(other)


ALL = [listens, other, sleeps, parent]


async def test_a_signal(store_url: str):
    """A signal to a run in memory is sent, found and taken; the tick has nothing to do with it."""
    async with counting(store_url) as (client, asked), client.work(ALL, options=QUIET):
        await client.start(listens, id="run")
        await eventually(lambda: asked.count("read_inbox") == 1)
        await quiet(asked)

        await client.signal("run", "go", 1)
        await eventually(lambda: "take_signals" in asked)
        next_wait = ["read_inbox", "commit"]
        await eventually(lambda: asked[-2:] == next_wait)

        assert await still(asked) == ["send_signal", "read_inbox", "take_signals", *next_wait]


async def test_an_empty_run(store_url: str):
    """A run is created claimed and ended: two commits, and one look for what it came to."""
    async with counting(store_url) as (client, asked), client.work(ALL, options=QUIET):
        await quiet(asked)

        await client.start(other, id="run")
        await client.result("run")

        assert await still(asked) == ["insert_run", "commit", "read_run", "read_promise"]


async def test_a_sleep(store_url: str):
    """A sleep in memory is written as it begins and as it ends, and asks for nothing else."""
    async with counting(store_url) as (client, asked), client.work(ALL, options=QUIET):
        await quiet(asked)

        await client.start(sleeps, id="run")
        await client.result("run")

        writes = ["insert_run", "commit", "commit", "commit"]
        assert await still(asked) == [*writes, "read_run", "read_promise"]


async def test_a_child(store_url: str):
    """A child is spawned, claimed and ended, and its parent looks once for what it came to."""
    async with counting(store_url) as (client, asked), client.work(ALL, options=QUIET):
        await quiet(asked)

        await client.start(parent, id="run")
        await client.result("run")

        spawn = ["insert_run", "commit", "lanes_with_ready", "claim_runs"]
        end = ["commit", "read_owned_runs", "read_settled_outside", "commit"]
        assert await still(asked) == [*spawn, *end, "read_run", "read_promise"]


async def test_a_queue(store_url: str):
    """Who takes the next run in its turn asks for one in all lanes at once, and for no more."""
    alone = replace(QUIET, concurrency=1)
    async with counting(store_url) as (client, asked):
        for number in range(4):
            await client.start(other, id=f"run/{number}")
        async with client.work(ALL, options=alone):
            await eventually(lambda: asked.count("commit") == 4)

            taken = [name for name in await still(asked) if name in TAKING]

        # The first claim is that of the first tick. The last look finds nothing.
        assert taken == ["lanes_with_ready", "claim_runs", "commit"] * 4 + ["lanes_with_ready"]


async def test_a_place_that_is_needed(store_url: str):
    """A run that waits again after a signal makes room for one that is ready, without a poll."""
    alone = replace(QUIET, concurrency=1)
    async with counting(store_url) as (client, asked), client.work(ALL, options=alone) as worker:
        await client.start(listens, id="run")
        await eventually(lambda: "read_inbox" in asked)
        await client.signal("run", "go", 1)
        await eventually(lambda: "take_signals" in asked)
        await quiet(asked)
        # On a busy machine nothing may be asked for a moment, and the run still be at work.
        await eventually(lambda: worker.execution_of(RunId("run")).idle.idle_since is not None)

        await client.start(other, id="next")

        async with asyncio.timeout(LIMIT_S):
            await client.result("next")
            await client.signal("run", "go", 2)
            assert await client.result("run") == 3


async def test_an_idle_worker(store_url: str):
    """A worker with nothing to do asks four questions at each poll, however many lanes it has."""
    async with counting(store_url) as (client, asked):
        often = WorkerOptions(poll=timedelta(milliseconds=20))
        async with client.work(ALL, options=often):
            await eventually(lambda: asked.count("lanes_with_ready") > 40)
            polls = asked.count("lanes_with_ready")
            looks_for_the_dead = asked.count("recover")

    assert "claim_runs" not in asked
    assert asked.count("read_owned_runs") <= polls + 2  # one more as it closes
    assert looks_for_the_dead < polls / 4


def work_until_killed(url: str) -> None:
    """Be a worker process until killed."""

    async def forever() -> None:
        async with connect(url) as client, client.work(ALL):
            await asyncio.Event().wait()

    asyncio.run(forever())


async def test_a_takeover(store_url: str, record_property: Callable[[str, object], None]):
    """However rarely the dead are looked for, a killed worker's run goes on within 1.5 seconds."""
    async with connect(store_url) as client:
        await client.start(listens, id="run")
        killed = Process(target=work_until_killed, args=(store_url,))
        killed.start()
        try:
            await eventually(lambda: is_waiting(client))
            async with client.work(ALL):
                before = await client.get("run")
                began = time.monotonic()
                killed.kill()
                await eventually(lambda: is_taken_over(client, before.epoch))
                took = time.monotonic() - began
        finally:
            killed.kill()
            killed.join()

    record_property("takeover after SIGKILL, seconds", round(took, 2))
    assert took < 1.5


async def is_waiting(client: Client) -> bool:
    """Return whether the run has recorded its first wait."""
    return len(await client.journal("run")) == 2


async def is_taken_over(client: Client, epoch: int) -> bool:
    """Return whether the run is driven under a later claim."""
    run = await client.get("run")
    return run.epoch > epoch and run.status is RunStatus.RUNNING


TURNS = 20


class MadeJson:
    """Counts how often each of a conversation's messages is made JSON, and a frame kept."""

    def __init__(self) -> None:
        self.messages: Counter[int] = Counter()
        self.frames = 0
        self._kept: list[Any] = []  # so that no two of them have one identity

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == "to_json" and code.co_filename == messages.__file__:
            made = frame.f_locals["self"]
            if isinstance(made, messages.Message):
                self._kept.append(made)
                self.messages[id(made)] += 1
        elif code.co_name == "make_blob":
            self.frames += 1


async def test_a_model_call(sqlite_url: str):
    """However long a conversation is, a message is made JSON as it comes, and a frame once a tree.

    A reply for its row, and what is sent for its size, where nobody has counted it: four a turn.
    """
    asked = 0

    def answer(request: Request) -> messages.Reply:
        nonlocal asked
        asked += 1
        return say("done") if asked > TURNS else say("a moment", call("look", n=asked))

    agent = make_agent(Model("scripted:talk", script=answer), [look], answered())
    made = MadeJson()
    async with connect(sqlite_url) as client, client.work([agent]) as worker:
        await client.start(agent, TASK, id="a/1")
        sys.setprofile(made)
        try:
            await worker.run_until_idle()
        finally:
            sys.setprofile(None)

    assert asked == TURNS + 1
    assert made.frames == 1
    assert max(made.messages.values()) == 1
    assert made.messages.total() <= 4 * asked
