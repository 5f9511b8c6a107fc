"""A worker that is cut off while it opens or closes leaves nothing behind, and strands no run."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import anyio
import apsw
import pytest

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.engine.worker.heartbeat import Heartbeat
from tests.crew import Outside
from tests.processes import Process
from tests.runs import QUICK, reached
from tests.stores import LIMIT_S, Database, database, eventually

EACH_TURN = 20
"""So many turns of the loop are tried one by one, and then every other one that doubles them."""


OPEN = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'ostinato'"
)


async def say(what: str) -> str:
    return what


@durable
async def waits(ctx: Context) -> Any:
    """Wait for a signal, after a step."""
    await ctx.step(say, "begun")
    return await ctx.receive("go")


def helpers() -> set[threading.Thread]:
    """Return the threads of workers. Those of an open SQLite file are its client's."""
    ours = {each for each in threading.enumerate() if each.name.startswith("ostinato-")}
    return {each for each in ours if not each.name.startswith("ostinato-sqlite")}


async def left_nothing(db: Database, before: set[threading.Thread]) -> None:
    """Return when no thread and no registered worker is left, in much less than a lease."""
    await eventually(lambda: not helpers() - before, limit_s=5)
    assert db.value("SELECT count(*) FROM workers") == 0


def turns() -> list[int]:
    """Return after how many turns of the loop something is cut off."""
    return [*range(EACH_TURN), *(EACH_TURN * 2**i for i in range(1, 8))]


async def cut_after(count: int, work: Coroutine[Any, Any, None]) -> bool:
    """Cancel it after so many turns of the loop; return whether it was too late for that."""
    task = asyncio.create_task(work)
    for _ in range(count):
        await asyncio.sleep(0)
    is_late = not task.cancel()
    await asyncio.wait([task], timeout=LIMIT_S)
    assert task.cancelled() or is_late
    return is_late


async def test_cut_off_while_it_opens(store_url):
    """Cancelled at whatever turn of its opening, a worker leaves no thread and no registration."""

    async def works(client: Client) -> None:
        async with client.work([waits], options=WorkerOptions(lease=timedelta(minutes=1))):
            await asyncio.Event().wait()

    async with connect(store_url) as client:
        before = helpers()
        with database(store_url) as db:
            for count in turns():
                await cut_after(count, works(client))
                await left_nothing(db, before)


async def test_cut_off_while_it_connects(store_url):
    """Cancelled at whatever turn of its opening, a client leaves no connection and no thread."""

    async def connects() -> None:
        async with connect(store_url):
            await asyncio.Event().wait()

    async with connect(store_url):  # so that the schema is there, and what follows is quick
        pass
    before = helpers()
    with database(store_url) as db:
        in_files = len(apsw.connections())
        for count in turns():
            await cut_after(count, connects())
        await eventually(lambda: not helpers() - before)
        await eventually(lambda: len(apsw.connections()) == in_files)
        if db.is_postgres:
            await eventually(lambda: db.value(OPEN) == 0)


@asynccontextmanager
async def about_to_close(client: Client, run_id: str) -> AsyncIterator[None]:
    """Have a worker drive a run that waits, and close it with the block."""
    async with client.work([waits], options=QUICK):
        await client.start(waits, id=run_id)
        await reached(client, run_id, "go.0")
        yield


async def cut_once(count: int, closing: asyncio.Task[None]) -> None:
    """Cancel it after so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)
    closing.cancel()


async def cut_again_and_again(count: int, closing: asyncio.Task[None]) -> None:
    """Cancel it after so many turns, and then at each turn, as a cancel scope does."""
    for _ in range(count):
        await asyncio.sleep(0)
    while not closing.done():
        closing.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("cut", [cut_once, cut_again_and_again])
async def test_cut_off_while_it_closes(store_url, cut):
    """Cancelled at whatever turn of its closing, once or for ever, a worker gives its runs back."""
    async with connect(store_url) as client:
        before = helpers()
        with database(store_url) as db:
            for count in turns():
                run_id = f"run-{count}"
                is_closing = asyncio.Event()

                async def works(run_id: str = run_id, is_closing: Any = is_closing) -> None:
                    async with about_to_close(client, run_id):
                        is_closing.set()

                closing = asyncio.create_task(works())
                await is_closing.wait()
                await cut(count, closing)
                await asyncio.wait([closing], timeout=LIMIT_S)
                assert closing.done()
                await left_nothing(db, before)
                run = await client.get(run_id)
                assert run.status in (RunStatus.SUSPENDED, RunStatus.READY)
                assert (run.lease_owner, run.crashes) == (None, 0)
            async with client.work([waits], options=QUICK):
                for count in turns():
                    await client.signal(f"run-{count}", "go", count)
                    assert await client.result(f"run-{count}") == count


async def test_a_cancel_scope_ends_in_the_middle_of_a_step(store_url):
    """A worker in a cancel scope lets its step end, gives its run back, and the scope gets its cut.

    The run goes on elsewhere at once, with what the step came to.
    """
    begun = asyncio.Event()
    calls: list[str] = []

    async def slow() -> str:
        calls.append("slow")
        begun.set()
        await asyncio.sleep(0.2)
        return "ok"

    @durable
    async def job(ctx: Context) -> str:
        await ctx.step(slow)
        return await ctx.step(say, "went on")

    patient = WorkerOptions(lease=timedelta(minutes=1))
    async with connect(store_url) as client:
        before = helpers()
        with anyio.CancelScope() as scope:
            async with client.work([job], options=patient):
                await client.start(job, id="run")
                await begun.wait()
                scope.cancel()
                await asyncio.Event().wait()
        given_back = await client.get("run")
        with database(store_url) as db:
            await left_nothing(db, before)
        async with asyncio.timeout(LIMIT_S), client.work([job], options=patient):
            assert await client.result("run") == "went on"

    assert scope.cancelled_caught
    assert (given_back.status, given_back.crashes) == (RunStatus.READY, 0)
    assert calls == ["slow"]


def in_a_loop_of_its_own(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something in an event loop that ends with it, whatever it leaves open."""
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


async def test_the_loop_is_closed_under_it(store_url):
    """A worker that nobody closed before its event loop ended lets go of its lease by itself."""
    kept: list[Any] = []

    async def forgets() -> None:
        async with connect(store_url) as client:
            kept.append(client.work([waits], options=WorkerOptions(lease=timedelta(minutes=1))))
            await kept[0].__aenter__()
            await client.start(waits, id="run")
            await reached(client, "run", "go.0")
        # What the loop would close by itself at its end is out of its sight.
        asyncio.get_running_loop()._asyncgens.clear()  # type: ignore[attr-defined]

    async with connect(store_url) as client:
        before = helpers()
        await asyncio.to_thread(in_a_loop_of_its_own, forgets)
        with database(store_url) as db:
            await left_nothing(db, before)
        async with client.work([waits], options=QUICK):
            await client.signal("run", "go", "done")
            assert await client.result("run") == "done"


async def test_a_heartbeat_ends_with_its_event_loop(store_url):
    """Nobody tells a heartbeat to stop, and its loop is closed: it ends, long before the lease."""
    begun: list[threading.Thread] = []
    before = helpers()

    async def forgets() -> None:
        async with connect(store_url) as client:
            heartbeat = Heartbeat(client.store, "forgotten", timedelta(minutes=10))
            await heartbeat.born()
            begun.extend(helpers() - before)

    await asyncio.to_thread(in_a_loop_of_its_own, forgets)
    assert begun
    with database(store_url) as db:
        await left_nothing(db, before)


def threads_of_files() -> set[threading.Thread]:
    """Return the threads of open SQLite files."""
    return {each for each in threading.enumerate() if each.name.startswith("ostinato-sqlite")}


async def test_no_thread_of_a_file_is_started_where_ctrl_c_arrives(tmp_path):
    """An open SQLite file has all its threads: Python loses one whose start is interrupted."""
    before = threads_of_files()
    async with connect(f"sqlite:///{tmp_path}/runs.db") as client:
        opened = threads_of_files()
        assert len(opened - before) == 2
        await asyncio.gather(*(client.list() for _ in range(20)))
        assert threads_of_files() == opened


async def _interrupted(url: str, folder: str) -> None:
    async with connect(url) as client, client.work([waits], options=WorkerOptions()):
        await client.start(waits, id="run")
        await reached(client, "run", "go.0")
        Outside(folder).note("ready")  # type: ignore[arg-type]
        await asyncio.Event().wait()


def _interrupted_process(url: str, folder: str) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(_interrupted(url, folder))


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_interrupted_from_the_keyboard(store_url, tmp_path, times):
    """Ctrl-C, also pressed three times 30 ms apart, ends the process, and its runs are free."""
    process = Process(target=_interrupted_process, args=(store_url, tmp_path))
    process.start()
    try:
        await Outside(tmp_path).noted("ready")
        for _ in range(times):
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(process.pid or 0, signal.SIGINT)
            time.sleep(0.03)  # as fast as a person can
        await eventually(lambda: not process.is_alive())
    finally:
        process.kill()
        process.join()
    async with connect(store_url) as client, client.work([waits], options=QUICK):
        await client.signal("run", "go", "done")
        assert await client.result("run") == "done"
