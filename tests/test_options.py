"""An option of the wrong type or range is refused where it is given, before anything happens."""

import re
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Misuse,
    Retry,
    RunFailed,
    RunNotFound,
    WorkerOptions,
    connect,
    durable,
)
from substrate.engine.worker.worker import Worker
from substrate.testing import ManualClock
from substrate.values.errors import InvalidId
from tests.runs import QUICK, keys

called: list[Any] = []


@pytest.fixture(autouse=True)
def _afresh():
    called.clear()


async def pay(cents: int = 1) -> int:
    called.append(cents)
    return cents


@durable
async def kid(ctx: Context, cents: int = 1) -> int:
    called.append(cents)
    return cents


def not_durable(ctx: Context) -> None: ...


STEPS: dict[str, tuple[Any, str]] = {
    "retry": (lambda c: c.step(pay, retry=3), r"retry=3 is no Retry; write Retry\(max_attempts=3"),
    "no retry": (lambda c: c.step(pay, retry=None), "retry=None is no Retry"),
    "a retry's class": (lambda c: c.step(pay, retry=Retry), "retry=<class .* is no Retry"),
    "a negative timeout": (lambda c: c.step(pay, timeout=-1), "timeout=-1 leaves no time; give"),
    "no time": (lambda c: c.step(pay, timeout=0), "timeout=0 leaves no time"),
    "a timeout as text": (lambda c: c.step(pay, timeout="5"), "'5' is no duration"),
    "a timeout that is true": (lambda c: c.step(pay, timeout=True), "True is no duration"),
    "a name": (lambda c: c.step(pay, name=5), "5 cannot be a name"),
    "a name that is a list": (lambda c: c.step(pay, name=["a"]), r"\['a'\] cannot be a name"),
    "an empty name": (lambda c: c.step(pay, name=""), "'' cannot be a name"),
    "an effect": (lambda c: c.step(pay, effect=None), "effect=None is none; "),
    "an effect that is a list": (lambda c: c.step(pay, effect=["once"]), r"effect=\['once'\]"),
    "an undo": (lambda c: c.step(pay, undo=pay), "undo=the function pay .* no durable function"),
    "an undo's name": (lambda c: c.step(pay, undo="kid"), "undo='kid' is no durable function"),
    "a bound undo": (
        lambda c: c.step(pay, undo=kid.of()),
        "undo=.* has arguments already; give the durable function alone",
    ),
    "reconcile": (
        lambda c: c.step(pay, effect="once", reconcile=5),
        "reconcile=5 is no function; give one that takes the step's arguments",
    ),
    "a false reconcile": (
        lambda c: c.step(pay, effect="once", reconcile=False),
        "reconcile=False is no function",
    ),
    "a durable reconcile": (
        lambda c: c.step(pay, effect="once", reconcile=kid),
        "reconcile=Durable.* is no function",
    ),
    "limit as text": (lambda c: c.map(pay, [1], limit="3"), "limit='3' is no whole number"),
    "half a limit": (lambda c: c.map(pay, [1], limit=1.5), "limit=1.5 is no whole number"),
    "a true limit": (lambda c: c.map(pay, [1], limit=True), "limit=True is no whole number"),
    "a type as text": (lambda c: c.receive("a", "Nope"), "type='Nope' is text; give the type"),
    "a signal's timeout": (lambda c: c.receive("a", timeout="x"), "'x' is no duration"),
    "sleep": (lambda c: c.sleep("5"), "'5' is no duration"),
    "a child's timeout": (lambda c: c.spawn(kid, timeout=0), "timeout=0 leaves no time"),
    "a child's name": (lambda c: c.spawn(kid, name=5), "5 cannot be a name"),
    "a child's queue": (lambda c: c.spawn(kid, queue=0), "0 cannot be a name"),
    "on_dead": (lambda c: c.spawn(kid, on_dead=["wait"]), r"on_dead=\['wait'\] is neither"),
}


@pytest.mark.parametrize("work, told", STEPS.values(), ids=STEPS)
async def test_in_a_run(sqlite_url, work, told):
    """Nothing is called and nothing recorded; the run fails with the value and the remedy."""

    @durable
    async def misuses(ctx: Context) -> None:
        await work(ctx)

    async with connect(sqlite_url) as client, client.work([misuses, kid], options=QUICK):
        await client.start(misuses, id="run")
        with pytest.raises(RunFailed) as caught:
            await client.result("run")
        assert await keys(client, "run") == ["run"]

    assert re.search(f"^{told}", caught.value.failure.message)
    assert called == []


async def test_what_is_recorded_is_checked_too(store_url):
    """A step that rests, and whose code has a wrong option now, is not called with it once more."""
    retry: list[Any] = [Retry(max_attempts=2, initial=3600, jitter=0)]
    clock = ManualClock()

    async def refused() -> None:
        called.append("call")
        raise ConnectionRefusedError("away")

    @durable
    async def order(ctx: Context) -> None:
        await ctx.step(refused, effect="once", retry=retry[0])

    async with connect(store_url, clock) as client:
        async with client.work([order], options=QUICK) as worker:
            await client.start(order, id="run")
            await worker.run_until_idle()
        retry[0] = 2
        clock.advance(3600)
        async with client.work([order], options=QUICK):
            with pytest.raises(RunFailed, match="retry=2 is no Retry"):
                await client.result("run")

    assert called == ["call"]


RETRIES: dict[str, tuple[dict[str, Any], str]] = {
    "true attempts": ({"max_attempts": True}, "max_attempts=True is no whole number"),
    "attempts": ({"max_attempts": 1.5}, "max_attempts=1.5 is no whole number"),
    "factor": ({"factor": "2"}, "factor='2' is no number"),
    "NaN": ({"factor": float("nan")}, "factor=nan is no number"),
    "a small factor": ({"factor": 0.5}, "factor=0.5 must be 1 or more"),
    "jitter": ({"jitter": None}, "jitter=None is no number"),
    "a large jitter": ({"jitter": 2}, "jitter=2 must be from 0 to 1"),
    "patience": ({"patience": "5"}, "'5' is no duration"),
    "negative patience": ({"patience": -5}, "patience=.* must not be negative"),
    "max_delay": ({"max_delay": -1}, "max_delay=.* must not be negative"),
    "initial": ({"initial": -1}, "initial=.* must not be negative"),
    "max_paid": ({"max_paid": 1.5}, "max_paid=1.5 is no whole number"),
    "one class": ({"retry_on": OSError}, r"retry_on=<class 'OSError'> .* retry_on=\(OSError,\)"),
    "a list": ({"give_up_on": [OSError]}, "give_up_on=.* is no tuple of error classes"),
    "no classes": ({"safe_on": ("OSError",)}, "safe_on= holds 'OSError', which is no error class"),
}


@pytest.mark.parametrize("fields, told", RETRIES.values(), ids=RETRIES)
def test_retry(fields, told):
    """A policy that would fail at the first error, or never end, cannot be made."""
    with pytest.raises(Misuse, match=told):
        Retry(**fields)


def test_patience_in_seconds():
    """Patience is given in seconds or as a timedelta, as every other duration is."""
    patience = Retry(patience=5).patience

    assert patience is not None
    assert patience.total_seconds() == 5
    assert Retry().patience is None


LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "poll": ({"poll": 0}, "poll=.* must be more than 0"),
    "threads": ({"threads": 1.5}, "threads=1.5 is no whole number"),
    "concurrency": ({"concurrency": "8"}, "concurrency='8' is no whole number"),
    "idle_timeout": ({"idle_timeout": -1}, "idle_timeout=.* must not be negative"),
    "shutdown_grace": ({"shutdown_grace": -1}, "shutdown_grace=.* must not be negative"),
    "lease": ({"lease": None}, "None is no duration"),
}


@pytest.mark.parametrize("fields, told", LIMITS.values(), ids=LIMITS)
def test_limits(fields, told):
    """A worker that could not work cannot be described."""
    with pytest.raises(Misuse, match=told):
        WorkerOptions(**fields)


async def work(client: Client, *args: Any, **options: Any) -> Worker:
    async with client.work(*args, **options) as worker:
        return worker


CLIENTS: dict[str, tuple[Any, str]] = {
    "one function": (lambda c: work(c, kid), r"work\(\) is given Durable.* give it a list"),
    "no list": (lambda c: work(c, 5), r"work\(\) is given 5; give it a list"),
    "a plain function": (lambda c: work(c, [not_durable]), "<function not_durable .* put @durable"),
    "text": (lambda c: work(c, "kid"), r"work\(\) is given 'k', which is no durable function"),
    "options": (lambda c: work(c, [kid], options=5), "options=5 is no WorkerOptions; write Work"),
    "a queue": (lambda c: work(c, [kid], queue="a b"), "'a b' cannot be a name"),
    "a listener": (lambda c: work(c, [kid], on_event=5), "on_event=5 is no function"),
    "priority": (lambda c: c.start(kid, id="a", priority="x"), "priority='x' is none; give whole"),
    "half": (lambda c: c.start(kid, id="a", priority=1.5), "priority=1.5 is none"),
    "ages": (lambda c: c.start(kid, id="a", priority=10**12), "priority=1000000000000 is none"),
    "timeout": (lambda c: c.start(kid, id="a", timeout=-1), "timeout=-1 leaves no time"),
    "no time": (lambda c: c.start(kid, id="a", timeout=0), "timeout=0 leaves no time"),
    "a start's queue": (lambda c: c.start(kid, id="a", queue=5), "5 cannot be a name"),
    "status": (lambda c: c.list(status="dne"), "status='dne' is none; there are .*'dead'"),
    "limit": (lambda c: c.list(limit=0), "limit=0 must be 1 or more"),
    "an id": (lambda c: c.get(5), "5 is no run id, which is text"),
    "dedup": (lambda c: c.signal("a", "go", dedup=5), "dedup=5 is none; use 1 to 200 letters"),
    "NUL": (lambda c: c.signal("a", "go", dedup="a\0"), r"dedup='a\\x00' is none"),
    "a surrogate": (lambda c: c.signal("a", "go", dedup="\ud800"), r"dedup='\\ud800' is none"),
}


@pytest.mark.parametrize("use, told", CLIENTS.values(), ids=CLIENTS)
async def test_outside_of_runs(store_url, use, told):
    """A client refuses the same on both stores, names the value, and writes nothing."""
    async with connect(store_url) as client:
        with pytest.raises(Misuse, match=told):
            await use(client)
        with pytest.raises(RunNotFound):
            await client.get("a")


async def test_a_status_as_text(store_url):
    """A status may be given by its word."""
    async with connect(store_url) as client, client.work([kid], options=QUICK):
        await client.start(kid, id="run")
        await client.result("run")
        assert [run.id for run in await client.list("done")] == ["run"]  # type: ignore[arg-type]


class Part:
    """A part of a context, as somebody may describe it."""

    async def step(self) -> None: ...


def test_a_first_parameter_that_is_no_context():
    """@durable refuses a function whose first parameter says that it is something else."""

    async def number(x: int) -> None: ...
    async def as_text(x: "list[int]") -> None: ...
    async def either(x: int | None) -> None: ...
    async def known(ctx: Context) -> None: ...
    async def part(ctx: Part) -> None: ...
    async def anything(ctx: object) -> None: ...
    async def perhaps(ctx: "Context | None") -> None: ...
    async def unknown(ctx: "Elsewhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    async def bare(ctx) -> None: ...  # type: ignore[no-untyped-def]

    for wrong in (number, as_text, either):
        with pytest.raises(Misuse, match=rf"write `async def {wrong.__name__}\(ctx: Context"):
            durable(wrong)
    for right in (known, part, anything, perhaps, unknown, bare):
        assert durable(right).name == right.__name__


def test_what_durable_refuses():
    """A name or a version that no journal could keep is refused where it is given."""
    with pytest.raises(InvalidId, match="5 cannot be a name"):
        durable(name=5)(kid.function)  # type: ignore[call-overload]
    with pytest.raises(Misuse, match=r"version='2' of 'kid' is no whole number"):
        durable(version="2")(kid.function)  # type: ignore[call-overload]
