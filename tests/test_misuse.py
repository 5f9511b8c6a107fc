"""What cannot work as written is refused at once, with an error that names the cure."""

import asyncio
import re
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import pytest

from substrate import (
    Context,
    IdTaken,
    Misuse,
    RunFailed,
    RunNotFound,
    RunPaused,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.values.errors import InvalidId, NotEncodable
from tests.runs import QUICK, keys


async def fetch(page: Any = None) -> Any:
    return page


def plain() -> None:
    return None


@durable
async def inner(ctx: Context) -> str:
    return "inner"


async def failure_of(url: str, work: Any) -> str:
    """Return what a run that does this work fails with."""

    @durable
    async def misuses(ctx: Context) -> None:
        await work(ctx)

    async with connect(url) as client, client.work([misuses], options=QUICK):
        await client.start(misuses, id="run")
        with pytest.raises(RunFailed) as caught:
            await client.result("run")
        assert await keys(client, "run") == ["run"]
    return f"{caught.value.failure.type}: {caught.value.failure.message}"


async def stuck() -> None:
    await asyncio.Event().wait()


async def in_a_task(ctx: Context) -> None:
    await asyncio.create_task(one_step(ctx))


async def one_step(ctx: Context) -> Any:
    return await ctx.step(fetch)


async def asyncio_gather(ctx: Context) -> None:
    await asyncio.gather(ctx.step(fetch), ctx.step(fetch))


async def wait_for(ctx: Context) -> None:
    await asyncio.wait_for(ctx.step(stuck), 0.02)


async def timeout_around(ctx: Context) -> None:
    async with asyncio.timeout(0.02):
        await ctx.gather(ctx.step(stuck), ctx.sleep(60))


async def an_operation_as_a_task(ctx: Context) -> None:
    await asyncio.create_task(ctx.step(fetch))


async def an_operation_in_a_task_group(ctx: Context) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step(stuck))
            group.create_task(ctx.step(fetch))
    except* Misuse as errors:
        raise errors.exceptions[0] from None


async def an_operation_as_a_task_that_is_cancelled(ctx: Context) -> None:
    task = asyncio.create_task(ctx.sleep(60))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def in_a_task_group(ctx: Context) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one_step(ctx))
    except* Misuse as errors:
        raise errors.exceptions[0] from None


async def from_a_thread(ctx: Context) -> None:
    await asyncio.to_thread(lambda: ctx.step(fetch))


async def from_a_thread_that_is_waited_for(ctx: Context) -> None:
    refused: list[Misuse] = []

    def uses() -> None:
        try:
            ctx.step(fetch)
        except Misuse as error:
            refused.append(error)

    thread = Thread(target=uses)
    thread.start()
    thread.join()
    raise refused[0]


async def awaited_twice(ctx: Context) -> None:
    pending = ctx.step(stuck, timeout=0.01)
    try:
        await pending
    except StepFailed:
        await pending


async def given_twice(ctx: Context) -> None:
    pending = ctx.step(fetch)
    await ctx.gather(pending, pending)


async def of_another_ctx(ctx: Context) -> None:
    await ctx.gather(ctx.scope("inside").step(fetch))


async def a_coroutine_in_gather(ctx: Context) -> None:
    await ctx.gather(ctx.step(fetch), one_step(ctx), one_step(ctx))


async def a_task_in_gather(ctx: Context) -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    try:
        await ctx.gather(task)
    finally:
        await task


async def a_map_in_gather(ctx: Context) -> None:
    await ctx.gather(ctx.map(fetch, [1, 2]))


async def a_step_in_a_step(ctx: Context) -> None:
    async def nested() -> Any:
        return await ctx.step(fetch)

    try:
        await ctx.step(nested)
    except StepFailed as error:
        raise Misuse(error.message) from None


NESTED = "this ctx is used inside one of its own operations"

MISUSES = {
    "asyncio.gather": (asyncio_gather, "Misuse: this ctx is used in a task .* use ctx.gather"),
    "create_task": (in_a_task, "Misuse: this ctx is used in a task .* ctx.call for a branch"),
    "create_task of an operation": (
        an_operation_as_a_task,
        "Misuse: this ctx is used in a task .* use ctx.gather",
    ),
    "TaskGroup of operations": (
        an_operation_in_a_task_group,
        "Misuse: this ctx is used in a task .* use ctx.gather",
    ),
    "TaskGroup": (in_a_task_group, "Misuse: this ctx is used in a task .* use ctx.gather"),
    "a thread": (from_a_thread, "Misuse: this ctx is used in a task or thread"),
    "a thread that the task waits for": (
        from_a_thread_that_is_waited_for,
        "Misuse: this ctx is used in a task or thread",
    ),
    "awaited twice": (given_twice, "Misuse: <Pending run#fetch.0> was awaited before; make a new"),
    "another ctx": (
        of_another_ctx,
        "Misuse: <Pending run#inside.0/fetch.0> belongs to another ctx",
    ),
    "a coroutine": (a_coroutine_in_gather, "Misuse: .* not coroutine; .* ctx.call"),
    "a task": (a_task_in_gather, "Misuse: .* not Task; .* ctx.call"),
    "a map in gather": (a_map_in_gather, "Misuse: .* not coroutine"),
    "a lambda": (lambda ctx: ctx.step(lambda: 1), "InvalidId: '<lambda>' .* needs name="),
    "a lambda in map": (lambda ctx: ctx.map(lambda x: x, [1]), "InvalidId: '<lambda>' .* name="),
    "a bad name": (lambda ctx: ctx.step(fetch, name="a.b"), "InvalidId: 'a.b' cannot be a name"),
    "a bad signal": (lambda ctx: ctx.receive("go on"), "InvalidId: 'go on' cannot be a name"),
    "an argument": (
        lambda ctx: ctx.step(fetch, {"it": object()}),
        r"NotEncodable: value\[0\]\['it'\] is object .* return None, bool",
    ),
    "an argument of a call": (
        lambda ctx: ctx.call(inner, 1),
        r"Misuse: inner\(\) cannot be called so: too many positional arguments",
    ),
    "a plain function in call": (
        lambda ctx: ctx.call(fetch),
        r"Misuse: the function fetch \(.*\.py:\d+\) is no durable function; put @durable on it",
    ),
    "a durable function in step": (
        lambda ctx: ctx.step(inner),
        "Misuse: 'inner' is a durable function; use ctx.call",
    ),
    "a coroutine in step": (
        lambda ctx: ctx.step(fetch()),
        r"Misuse: a step takes a function and its arguments, .* ctx.step\(fetch, url\)",
    ),
    "a value in step": (
        lambda ctx: ctx.step(5, name="five"),
        "Misuse: a step takes a function and its arguments, not 5",
    ),
    "an effect": (
        lambda ctx: ctx.step(fetch, effect="twice"),
        "Misuse: effect='twice' is none; use 'pure', 'idempotent', 'once' or 'trans",
    ),
    "transactional": (
        lambda ctx: ctx.step(fetch, effect="transactional"),
        "Misuse: 'fetch' is async; a transactional step is a plain `def fetch.tx, ",
    ),
    "a limit of none": (lambda ctx: ctx.map(fetch, [1], limit=0), "Misuse: limit=0 must be 1"),
    "no end": (lambda ctx: ctx.sleep(float("inf")), "Misuse: inf is no duration to wait for"),
    "NaN": (lambda ctx: ctx.step(fetch, timeout=float("nan")), "Misuse: nan is no duration"),
    "a time as text": (lambda ctx: ctx.receive("go", timeout="5"), "Misuse: '5' is no duration"),
    "a naive time": (
        lambda ctx: ctx.sleep_until(datetime(2026, 1, 1)),  # noqa: DTZ001 - that is the misuse
        "Misuse: .* has no time zone; use",
    ),
}


@pytest.mark.parametrize("work, told", MISUSES.values(), ids=MISUSES)
async def test_what_is_refused_before_anything_happens(sqlite_url, work, told):
    """Nothing is recorded, and the run fails with an error that says what to write instead."""
    assert re.match(told, await failure_of(sqlite_url, work))


async def refusal(url: str, work: Any) -> str:
    """Return the Misuse that the work raises inside a run."""

    @durable
    async def misuses(ctx: Context) -> str:
        try:
            await work(ctx)
        except Misuse as error:
            return str(error)
        return "not refused"

    async with connect(url) as client, client.work([misuses], options=QUICK):
        await client.start(misuses, id="run")
        return await client.result("run")


async def test_an_operation_that_is_ended_by_hand(sqlite_url):
    """A task of an operation that is cancelled before it begins leaves it undone, which is told."""

    @durable
    async def misuses(ctx: Context) -> None:
        await an_operation_as_a_task_that_is_cancelled(ctx)

    async with connect(sqlite_url) as client, client.work([misuses], options=QUICK):
        await client.start(misuses, id="run")
        with pytest.raises(RunPaused, match=r"has returned and never awaited sleep\.0"):
            await client.result("run")


@pytest.mark.parametrize("work", [wait_for, timeout_around])
async def test_a_timeout_from_outside(store_url, work):
    """asyncio.wait_for and asyncio.timeout around an operation of ctx are refused with the cure."""
    told = await refusal(store_url, work)

    assert "give the step timeout=" in told or "use ctx.gather" in told
    assert "ctx.call" in told


async def test_a_branch_that_is_cut_off_goes_on_with_nothing(store_url):
    """Code in a branch that is cut off by a timeout from outside begins no other operation."""
    begun: list[str] = []

    async def waits() -> None:
        begun.append("first")
        await stuck()

    async def second() -> None:
        begun.append("second")

    @durable
    async def stubborn(ctx: Context) -> None:
        try:
            await ctx.step(waits)
        except Exception:  # noqa: BLE001 - what careless code does
            begun.append("swallowed")
        await ctx.step(second)

    async def around(ctx: Context) -> None:
        async with asyncio.timeout(0.05):
            await ctx.gather(ctx.call(stubborn))

    told = await refusal(store_url, around)

    assert "give the step timeout=" in told
    assert begun == ["first"]


async def test_awaited_twice(store_url):
    """A Pending that was awaited gives its result once; the second await is refused."""
    told = await refusal(store_url, awaited_twice)

    assert told == "<Pending run#stuck.0> was awaited before; make a new one, or keep its result"


async def test_a_step_inside_a_step(store_url):
    """A step that uses the ctx of its run is refused, since a replay would not see what it did."""
    told = await refusal(store_url, a_step_in_a_step)

    assert told.startswith("this ctx is used inside one of its own operations")
    assert "ctx.call it" in told


async def test_the_outer_ctx_in_a_call(store_url):
    """A called function that uses its caller's ctx, directly or in a branch, is refused."""

    @durable
    async def calls(ctx: Context) -> list[str]:
        @durable
        async def borrows(own: Context) -> str:
            try:
                await ctx.step(fetch)
            except Misuse as error:
                return str(error)
            return "not refused"

        return [await ctx.call(borrows), *await ctx.gather(ctx.call(borrows))]

    async with connect(store_url) as client, client.work([calls], options=QUICK):
        await client.start(calls, id="run")
        directly, in_a_branch = await client.result("run")

    assert directly.startswith("this ctx is used inside one of its own operations")
    assert in_a_branch.startswith("this ctx is used in a task or thread that is not its own")


@pytest.mark.parametrize("combinator", ["map", "gather", "race"])
async def test_a_combinator_in_a_combinator(sqlite_url, combinator):
    """A combinator that is given to another is refused by its name, with what to write instead."""

    @durable
    async def nests(ctx: Context) -> str:
        inside = {
            "map": lambda: ctx.map(fetch, [1]),
            "gather": lambda: ctx.gather(ctx.step(fetch)),
            "race": lambda: ctx.race(ctx.step(fetch)),
        }
        try:
            await ctx.gather(inside[combinator](), ctx.step(fetch))
        except Misuse as error:
            raise ValueError(str(error)) from None
        return "not refused"

    async with connect(sqlite_url) as client, client.work([nests], options=QUICK):
        await client.start(nests, id="run")
        with pytest.raises(
            RunFailed, match=rf"not coroutine of ctx\.{combinator}\(…\), which is several; put"
        ):
            await client.result("run")


@pytest.mark.parametrize("bad", ["", "a b", "run#1", "x" * 201, "ü", "a\n"])
async def test_bad_run_ids(sqlite_url, bad):
    """An id that the grammar does not allow is refused when a run is started, with the grammar."""
    async with connect(sqlite_url) as client:
        with pytest.raises(InvalidId, match="use 1 to 200 letters, digits and any of"):
            await client.start(inner, id=bad)


@pytest.mark.parametrize("bad", ["-x", "--id", "-"])
async def test_ids_that_look_like_options(sqlite_url, bad):
    """An id that no command could be given is refused when a run is started, with the cure."""
    async with connect(sqlite_url) as client:
        with pytest.raises(InvalidId, match="begins with '-' as an option does; give an id that"):
            await client.start(inner, id=bad)


async def test_an_id_that_is_taken(store_url):
    """The same id with another input or function is refused; with the same it is the same run."""

    @durable
    async def doubles(ctx: Context, number: int) -> int:
        return 2 * number

    async with connect(store_url) as client, client.work([doubles], options=QUICK):
        first = await client.start(doubles, 1, id="run")
        await client.result("run")
        again = await client.start(doubles, 1, id="run")
        with pytest.raises(IdTaken, match="'run' belongs to a run of 'doubles'"):
            await client.start(doubles, 2, id="run")
        with pytest.raises(IdTaken, match="choose another id"):
            await client.start(inner, id="run")

    assert (again.id, again.created_at, again.status) == (first.id, first.created_at, "done")


async def test_arguments_of_start(sqlite_url):
    """Arguments that do not fit the function, or JSON, are refused before anything is written."""

    @durable
    async def typed(ctx: Context, numbers: list[int]) -> None: ...

    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"typed\(\) cannot be called so: missing a required"):
            await client.start(typed, id="run")
        with pytest.raises(NotEncodable, match=r"typed\(\): numbers is not of the annotated type"):
            await client.start(typed, ["one"], id="run")
        with pytest.raises(RunNotFound):
            await client.get("run")


def test_what_durable_refuses():
    """@durable refuses what has no context, is not async, or takes arguments without a name."""

    def not_async(ctx: Context) -> None: ...
    async def no_context() -> None: ...
    async def nameless(ctx: Context, *pages: int) -> None: ...

    with pytest.raises(Misuse, match="write `async def not_async"):
        durable(not_async)  # type: ignore[type-var]
    with pytest.raises(Misuse, match="takes no context"):
        durable(no_context)  # type: ignore[arg-type]
    with pytest.raises(Misuse, match="name each argument"):
        durable(nameless)
    with pytest.raises(InvalidId, match="cannot be a name"):
        durable(name="a/b")(inner.function)


async def test_types_that_cannot_be_read(sqlite_url):
    """A parameter of a type that has no JSON form is refused by the name of its function."""

    class Opaque: ...

    @durable
    async def takes(ctx: Context, it: Opaque) -> None: ...

    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"the types of takes\(\) cannot be read"):
            await client.start(takes, Opaque(), id="run")


def test_limits_that_cannot_work():
    """Limits under which nothing would run are refused."""
    with pytest.raises(Misuse, match="concurrency=0 must be 1 or more"):
        WorkerOptions(concurrency=0)
    with pytest.raises(Misuse, match="is too short"):
        WorkerOptions(lease=timedelta(milliseconds=100))
