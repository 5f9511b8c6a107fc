"""`run_until_idle` returns only when nothing is ready, also when runs come and go as it asks."""

import asyncio
from datetime import timedelta

from substrate import WorkerOptions, connect, durable


@durable
async def waits(ctx):
    await ctx.sleep(timedelta(hours=1))


@durable
async def quick(ctx):
    return "done"


async def test_a_run_that_comes_and_goes_between_two_questions(store_url, monkeypatch):
    """It is claimed after the first one and let go before the second: what it left is driven."""
    options = WorkerOptions(poll=timedelta(seconds=60), idle_timeout=timedelta(0))
    async with (
        connect(store_url) as client,
        connect(store_url) as other,
        client.work([waits, quick], options=options) as worker,
    ):
        [line] = worker.lines.values()
        count_ready, asked = line.lanes.count_ready, []

        async def with_a_guest(limit: int) -> int:
            found = await count_ready(limit)
            if not asked:
                asked.append(found)
                await client.start(waits, id="guest")
                while (await client.get("guest")).status != "suspended" or worker.running:
                    for execution in worker._places.executions:
                        await execution.wakeups.suspend()
                    await asyncio.sleep(0.01)
                await other.start(quick, id="left")
            return found

        monkeypatch.setattr(line.lanes, "count_ready", with_a_guest)
        await worker.run_until_idle()

        assert asked == [0]
        assert (await client.get("left")).status == "done"
