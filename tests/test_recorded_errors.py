"""An exception comes back as what was raised, or as a `StepFailed` that says what it was."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from substrate import Context, RunFailed, StepFailed, connect, durable, recorded_error
from tests.runs import QUICK, taken_over


@recorded_error
class Whole(Exception):
    def __init__(self, order: int, why: str = "sold out") -> None:
        self.order = order
        super().__init__(order, why)


@recorded_error
class Formatted(Exception):
    def __init__(self, order: int) -> None:
        self.order = order
        super().__init__(f"order {order} failed")


@recorded_error
class KeywordOnly(Exception):
    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


@recorded_error
class FromResponse(Exception):
    def __init__(self, response: Any) -> None:
        self.status = response.status
        super().__init__(f"HTTP {response.status}")


@recorded_error
class WithCode(Exception):
    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@recorded_error
class Opaque(Exception):
    pass


@recorded_error
class Timed(Exception):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.raised_at = time.monotonic()


class Response:
    status = 503


ERRORS: dict[str, tuple[Callable[[], Exception], str]] = {
    "whole": (lambda: Whole(7), "Whole: (7, 'sold out')"),
    "code": (lambda: WithCode("m", 5), "StepFailed: step 'boom' failed: WithCode: m"),
    "code of none": (lambda: WithCode("m"), "WithCode: m"),
    "formatted": (
        lambda: Formatted(7),
        "StepFailed: step 'boom' failed: Formatted: order 7 failed",
    ),
    "keyword": (
        lambda: KeywordOnly("m", code=5),
        "StepFailed: step 'boom' failed: KeywordOnly: m",
    ),
    "response": (
        lambda: FromResponse(Response()),
        "StepFailed: step 'boom' failed: FromResponse: HTTP 503",
    ),
    "object": (lambda: Opaque(Response), "StepFailed: step 'boom' failed: Opaque: <class "),
    "bytes": (lambda: Opaque(b"\xff", (1, 2)), "Opaque: (b'\\xff', "),
    "its time": (lambda: Timed("late"), "StepFailed: step 'boom' failed: Timed: late"),
}


@pytest.mark.parametrize("error, expected", ERRORS.values(), ids=ERRORS)
async def test_what_is_caught(sqlite_url, error, expected):
    """Whoever awaits the step catches the same thing, live and on a replay: never another error."""
    seen: list[str] = []

    async def boom() -> None:
        raise error()

    @durable
    async def catches(ctx: Context) -> None:
        try:
            await ctx.step(boom)
        except Exception as caught:  # noqa: BLE001 - the question is what comes
            seen.append(f"{type(caught).__name__}: {caught}")
        await ctx.receive("go")

    async with taken_over(sqlite_url, catches) as client:
        await client.result("run")

    first, second = seen
    assert first == second
    assert first.startswith(expected)


async def test_what_a_class_that_changed_gets(store_url):
    """A recorded error whose class makes another of it in newer code comes as a StepFailed."""
    seen: list[str] = []

    async def boom() -> None:
        raise Whole(7)

    @durable
    async def catches(ctx: Context) -> None:
        try:
            await ctx.step(boom)
        except Exception as caught:  # noqa: BLE001 - the question is what comes
            seen.append(f"{type(caught).__name__}: {caught}")
        await ctx.receive("go")

    before = Whole.__init__
    try:
        async with connect(store_url) as client:
            async with client.work([catches], options=QUICK) as worker:
                await client.start(catches, id="run")
                await worker.run_until_idle()
            Whole.__init__ = lambda self, *args: 1 / 0  # type: ignore[method-assign,assignment]
            async with client.work([catches], options=QUICK):
                await client.signal("run", "go")
                await client.result("run")
    finally:
        Whole.__init__ = before  # type: ignore[method-assign]

    assert seen == [
        "Whole: (7, 'sold out')",
        "StepFailed: step 'boom' failed: Whole: (7, 'sold out')",
    ]


def nested() -> ExceptionGroup[Exception]:
    return ExceptionGroup("both", [ValueError("a"), ExceptionGroup("deep", [KeyError("b")])])


async def test_a_group_names_its_members(store_url):
    """A group's failure tells what each member was, in its message and in its details."""

    @durable
    async def raises(ctx: Context) -> None:
        raise nested()

    async with connect(store_url) as client, client.work([raises], options=QUICK):
        await client.start(raises, id="run")
        with pytest.raises(RunFailed) as caught:
            await client.result("run")

    told = "both (2 sub-exceptions): ValueError: a; ExceptionGroup: deep (1 sub-exception): KeyErr"
    assert caught.value.failure.message.startswith(told)
    assert caught.value.failure.details == [
        {"type": "ValueError", "message": "a"},
        {
            "type": "ExceptionGroup",
            "message": "deep (1 sub-exception): KeyError: 'b'",
            "members": [{"type": "KeyError", "message": "'b'"}],
        },
    ]


async def test_a_step_that_raises_a_group(store_url):
    """A step that fails with a group tells its members, and no more of many than can be read."""

    async def boom() -> None:
        raise ExceptionGroup("many", [ValueError(f"{i} {'x' * 9000}") for i in range(1000)])

    @durable
    async def catches(ctx: Context) -> list[Any]:
        try:
            await ctx.step(boom)
        except StepFailed as error:
            return [error.message, len(error.details)]
        return []

    async with connect(store_url) as client, client.work([catches], options=QUICK):
        await client.start(catches, id="run")
        message, listed = await client.result("run")

    assert message.startswith("many (1000 sub-exceptions): ValueError: 0 xxx")
    assert message.endswith("; and 995 more")
    assert len(message) < 3000
    assert listed == 100


async def test_a_task_group_shows_the_cure(sqlite_url):
    """A run that fails with asyncio's TaskGroup is told what to write in its place."""

    async def fetch() -> int:
        return 1

    async def one(ctx: Context) -> int:
        return await ctx.step(fetch)

    @durable
    async def groups(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(one(ctx))

    async with connect(sqlite_url) as client, client.work([groups], options=QUICK):
        await client.start(groups, id="run")
        with pytest.raises(RunFailed, match=r"Misuse: this ctx is used in a task.* use ctx.gather"):
            await client.result("run")
