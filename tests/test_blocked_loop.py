"""A step that blocks the event loop is found out, and cannot hold every run of its worker."""

import asyncio
import threading

from substrate import Client, Context, Run, Worker, WorkerOptions, connect, durable
from substrate.engine.worker.watchdog import LoopWatch
from tests.runs import QUICK
from tests.stores import eventually


def block_for(seconds: float) -> None:
    """Keep the loop's own thread busy."""
    threading.Event().wait(seconds)


async def test_the_line_that_blocks_is_logged(caplog):
    """While the loop is blocked, the log shows where, and afterwards for how long."""
    watch = LoopWatch(lambda: None, tell_after=0.05, give_up_after=30)
    try:
        await eventually(watch._answered.is_set)
        block_for(0.4)
        await eventually(lambda: "was blocked for" in caplog.text)
    finally:
        await asyncio.to_thread(watch.stop)

    assert "in block_for" in caplog.text
    assert "make the function that blocks it a plain `def`" in caplog.text


async def test_only_what_is_known_is_logged(caplog):
    """A watch that is stopped while the loop is blocked does not say for how long it was."""
    watch = LoopWatch(lambda: None, tell_after=0.05, give_up_after=30)
    await eventually(watch._answered.is_set)
    threading.Timer(0.2, watch.stop).start()
    block_for(0.4)
    await eventually(lambda: not watch._thread.is_alive())

    assert "has been blocked for more than" in caplog.text
    assert "was blocked for" not in caplog.text


def test_a_closed_loop_is_noticed_soon():
    """A loop that is closed while it is blocked is noticed at once, not when patience is over."""
    given_up = threading.Event()

    async def blocks() -> None:
        LoopWatch(given_up.set, tell_after=0.05, give_up_after=600)
        await asyncio.sleep(0.1)
        block_for(0.3)

    asyncio.run(blocks())

    assert given_up.wait(5)


async def test_a_loop_that_answers_is_left_alone(caplog):
    """A loop that is busy with many short things is not taken for a blocked one."""
    given_up: list[int] = []
    watch = LoopWatch(lambda: given_up.append(1), tell_after=0.5, give_up_after=1)
    try:
        for _ in range(200):
            block_for(0.005)
            await asyncio.sleep(0)
    finally:
        await asyncio.to_thread(watch.stop)

    assert given_up == []
    assert caplog.text == ""


async def test_leases_are_given_up(store_url):
    """A worker whose loop is blocked too long gives its leases up, and comes back as another."""

    @durable
    async def waits(ctx: Context) -> str:
        return await ctx.receive("go")

    slow = WorkerOptions(poll=QUICK.poll)
    async with connect(store_url) as client, client.work([waits], options=slow) as worker:
        await client.start(waits, id="run")
        first = worker.lines[0].owner
        watch = LoopWatch(worker.give_leases_up, tell_after=0.05, give_up_after=0.1)
        await eventually(watch._answered.is_set)
        block_for(0.4)
        await asyncio.to_thread(watch.stop)
        run = await eventually(lambda: taken_anew(client, worker, first))
        await client.signal("run", "go", "still here")
        assert await client.result("run") == "still here"

    assert run.crashes == 0


async def taken_anew(client: Client, worker: Worker, first: str) -> Run | None:
    """Return the run as soon as the worker has it under another name than at first."""
    run = await client.get("run")
    return run if run.lease_owner == worker.lines[0].owner != first else None
