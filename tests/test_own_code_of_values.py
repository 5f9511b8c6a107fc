"""A value or an error whose own code raises when it is read is an outcome like any other."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from substrate import Context, RunPaused, RunStatus, connect, durable
from tests.runs import QUICK, reached

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


class Boom(RuntimeError):
    """Raised by the code of a value."""


def boom(*_: Any, **__: Any) -> Any:
    """Raise."""
    raise Boom("by the value itself")


class Zone(tzinfo):
    """A time zone that cannot be asked."""

    utcoffset = tzname = dst = boom


def with_own(kind: type, *given: Any, **methods: Any) -> Any:
    """Make a value of a subclass that has these methods."""
    return type(f"Own{kind.__name__}", (kind,), methods)(*given)


VALUES: dict[str, Callable[[], Any]] = {
    "a text": lambda: with_own(str, "x", __str__=boom, encode=boom, __iter__=boom, replace=boom),
    "a dict": lambda: with_own(dict, {"a": 1}, items=boom, __iter__=boom, keys=boom, values=boom),
    "a list": lambda: with_own(list, [1], __iter__=boom),
    "a tuple": lambda: with_own(tuple, [1], __iter__=boom),
    "a set": lambda: with_own(set, [1], __iter__=boom),
    "bytes": lambda: with_own(bytes, b"x", __bytes__=boom, __buffer__=boom),
    "a decimal": lambda: with_own(Decimal, "1.5", __str__=boom),
    "a uuid": lambda: with_own(UUID, "0" * 32, __str__=boom),
    "a moment": lambda: datetime(2026, 1, 1, tzinfo=Zone()),
    "a duration": lambda: with_own(timedelta, 1, total_seconds=boom, __str__=boom),
    "a float": lambda: with_own(float, 1.5, __float__=boom, __repr__=boom, __eq__=boom),
    "its class": lambda: with_own(object, __class__=property(boom)),
    "its attributes": lambda: with_own(object, __dict__=property(boom)),
    "inside a list": lambda: [1, {"a": with_own(dict, {"a": 1}, items=boom, __iter__=boom)}],
}


class Unseen(Exception):
    """An error of which no attribute can be read."""

    __getattribute__ = boom


class Unclassed(Exception):
    """An error that does not tell its class."""

    __class__ = property(boom)  # type: ignore[assignment]


ERRORS: dict[str, Callable[[], Exception]] = {
    "no attribute": Unseen,
    "no class": Unclassed,
    "no text": lambda: with_own(Exception, __str__=boom, __repr__=boom, args=property(boom)),
}


def giving(make: Callable[[], Any], *, in_thread: bool) -> Callable[[], Any]:
    """Return a step that gives what is made, or raises it."""

    def plain() -> Any:
        calls.append("called")
        made = make()
        if issubclass(type(made), Exception):
            raise made
        return made

    async def coroutine() -> Any:
        return plain()

    return plain if in_thread else coroutine


def asking(step: Callable[[], Any], effect: str) -> Any:
    """Return a run that says what came of the step, and says it again after a replay."""

    @durable
    async def run(ctx: Context) -> str:
        try:
            value = await ctx.step(step, name="it", effect=effect)
        except Exception as error:  # noqa: BLE001
            said = type(error).__name__
        else:
            said = f"gave {value!r}"
        calls.append(said)
        await ctx.receive("go")
        return said

    return run


async def said_twice(url: str, run: Any) -> list[str]:
    """Return what the run said live, and what it said when another worker drove it."""
    async with connect(url) as client:
        async with client.work([run], options=QUICK):
            await client.start(run, id="r")
            await reached(client, "r", "go.0")
        async with client.work([run], options=QUICK):
            await client.signal("r", "go")
            said = await client.result("r")
        row = next(each for each in await client.journal("r") if each.key == "it.0")
    assert row.is_settled
    return [*calls, said]


@pytest.mark.parametrize("effect, in_thread", [("pure", False), ("idempotent", True)])
@pytest.mark.parametrize("value", VALUES)
async def test_a_value(store_url, value, in_thread, effect):
    """What it came to is recorded, so a replay comes to the same and calls nothing again."""
    run = asking(giving(VALUES[value], in_thread=in_thread), effect)

    called, *said = await said_twice(store_url, run)

    assert called == "called"
    assert len(said) == 3
    assert len({*said}) == 1
    assert said[0] in ("NotEncodable", "NotKept", "StepFailed") or said[0].startswith("gave")


@pytest.mark.parametrize(
    "effect, in_thread", [("pure", False), ("idempotent", True), ("once", False), ("once", True)]
)
@pytest.mark.parametrize("error", ERRORS)
async def test_an_error(store_url, error, in_thread, effect):
    """An error that cannot be looked at fails its step, live and on every replay."""
    run = asking(giving(ERRORS[error], in_thread=in_thread), effect)

    failed = "OutcomeUnknown" if effect == "once" else "StepFailed"
    assert await said_twice(store_url, run) == ["called", *[failed] * 3]


@pytest.mark.parametrize("value", ["a text", "a list", "its class"])
async def test_a_value_of_a_call_that_happened(store_url, value):
    """A call that is made once, and whose result cannot be read, pauses its run."""
    run = asking(giving(VALUES[value], in_thread=False), "once")

    async with connect(store_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="r")
        with pytest.raises(RunPaused, match="the call was made, and its result cannot be kept"):
            await client.result("r")
        assert (await client.get("r")).status is RunStatus.PAUSED
    assert calls == ["called"]
