"""What a helper was to do and nobody awaits is not silently undone: the run is paused by it."""

import asyncio
from typing import Any

import pytest

from substrate import Context, Misuse, RunPaused, connect, durable
from tests.runs import QUICK, keys

calls: list[int] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def charge(cents: int) -> int:
    calls.append(cents)
    return cents


async def helper(ctx: Context, cents: int) -> None:
    await ctx.step(charge, cents)


async def middle(ctx: Context) -> None:
    helper(ctx, 1)  # type: ignore[unused-coroutine]


@durable
async def other(ctx: Context, cents: int) -> None:
    await ctx.step(charge, cents)


async def of_the_module(ctx: Context) -> int:
    helper(ctx, 1)  # type: ignore[unused-coroutine]
    return 1


async def of_its_own(ctx: Context) -> int:
    async def inside() -> None:
        await ctx.step(charge, 1)

    inside()  # type: ignore[unused-coroutine]
    return 1


async def in_a_helper(ctx: Context) -> int:
    await middle(ctx)
    return 1


async def of_a_durable(ctx: Context) -> int:
    other(ctx, 1)  # type: ignore[unused-coroutine]
    return 1


async def of_its_function(ctx: Context) -> int:
    other.function(ctx, 1)
    return 1


def closing_over() -> Any:
    async def outside(ctx: Context) -> None:
        await ctx.step(charge, 1)

    async def of_what_it_closes_over(ctx: Context) -> int:
        outside(ctx)  # type: ignore[unused-coroutine]
        return 1

    return of_what_it_closes_over


async def in_a_comprehension(ctx: Context) -> int:
    [helper(ctx, each) for each in range(2)]
    return 1


async def in_a_condition(ctx: Context) -> int:
    _ = ctx.now_ms and 0
    helper(ctx, 1) if ctx else {"a": helper(ctx, 2)}
    return 1


READ = [
    in_a_comprehension,
    in_a_condition,
    of_the_module,
    of_its_own,
    in_a_helper,
    of_a_durable,
    of_its_function,
    closing_over(),
]


@pytest.mark.parametrize("function", READ, ids=lambda each: each.__name__)
async def test_what_the_source_tells(store_url, function):
    """A helper that is called and not awaited pauses the run at its line, before anything else."""
    run = durable(name="run")(function)
    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        with pytest.raises(RunPaused, match=r"test_left_tasks\.py:\d+: .* write `await ") as caught:
            await client.result("run")
        assert await keys(client, "run") == ["run"]

    assert caught.value.failure.type == "NeverAwaited"
    assert calls == []


async def left(ctx: Context) -> None:
    task = asyncio.create_task(helper(ctx, 1))
    await asyncio.wait([task])


async def gathered_and_left(ctx: Context) -> None:
    both = asyncio.gather(helper(ctx, 1), helper(ctx, 2))
    await asyncio.wait([both])


async def swallowed(ctx: Context) -> None:
    async def tries() -> None:
        try:
            await helper(ctx, 1)
        except Misuse:
            await asyncio.Event().wait()

    task = asyncio.create_task(tries())
    await asyncio.wait([task], timeout=0.01)
    task.cancel()


async def kept_as_a_value(ctx: Context) -> None:
    await asyncio.gather(helper(ctx, 1), return_exceptions=True)


async def all_in_a_task(ctx: Context) -> None:
    async def both() -> None:
        await ctx.gather(ctx.step(charge, 1), ctx.step(charge, 2))

    task = asyncio.create_task(both())
    await asyncio.wait([task])


async def just_begun(ctx: Context) -> None:
    asyncio.create_task(helper(ctx, 1))  # noqa: RUF006


LEFT = [just_begun, left, gathered_and_left, swallowed, kept_as_a_value, all_in_a_task]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("helps", LEFT, ids=lambda each: each.__name__)
async def test_what_was_refused_in_a_task(store_url, helps):
    """An operation that was refused in a task that nobody asks pauses the run, and says why."""

    @durable
    async def run(ctx: Context) -> int:
        await ctx.step(charge, 5)
        await helps(ctx)
        return 1

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        told = r"never awaited charge\.1.* it was refused, .*in a task or thread that is not its"
        with pytest.raises(RunPaused, match=told):
            await client.result("run")

    assert calls == [5]


async def test_who_was_told_goes_on(store_url):
    """Code that was told of the refusal, by awaiting the task in any way, may go on after it."""

    async def asks(ctx: Context) -> None:
        try:
            await asyncio.create_task(helper(ctx, 1))
        except Misuse:
            return

    @durable
    async def run(ctx: Context) -> str:
        await asks(ctx)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(helper(ctx, 2))
        except* Misuse:
            pass
        return "it went on"

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        assert await client.result("run") == "it went on"


async def makes(ctx: Context) -> Any:
    return helper(ctx, 4)


async def test_what_is_no_such_call(store_url):
    """A helper that is awaited, given to a task, or means something else here, is let through."""

    @durable
    async def run(ctx: Context) -> list[int]:
        async def waits() -> int:
            return 1

        async def decides() -> int:
            return 3

        def decides_not() -> int:
            return 3

        helper = decides_not
        helper()
        await (await makes(ctx))
        task = asyncio.create_task(waits())
        return [await waits(), await task, await decides(), await ctx.step(charge, 5)]

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        assert await client.result("run", run) == [1, 1, 3, 5]
