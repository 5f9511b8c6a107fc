"""What is given by name reaches the function or is refused: nothing is swallowed."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    Done,
    Misuse,
    Retry,
    RunFailed,
    RunPaused,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.values.codec import decode, fingerprint
from substrate.values.records import JsonText
from tests.runs import QUICK, keys, taken_over

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def charge(cents: int, currency: str = "EUR", *, idempotency_key: str = "") -> str:
    calls.append((cents, currency))
    return f"{cents} {currency}"


def charge_plainly(cents: int, *, currency: str = "EUR") -> str:
    calls.append((cents, currency))
    return f"{cents} {currency}"


def pay(tx: Any, cents: int, currency: str = "EUR") -> str:
    return f"{cents} {currency}"


async def fetch(url: str, timeout: float = 1.0, name: str = "", **more: Any) -> Any:
    return [url, timeout, name, more]


async def anything(**more: Any) -> Any:
    return more


async def look_at_nothing() -> Done:
    return Done()


async def only_by_name(*, retry: int = 0) -> int:
    return retry


@durable
async def kid(ctx: Context, cents: int, currency: str = "EUR", name: str = "kid") -> list[Any]:
    return [cents, currency, name]


async def result_of(url: str, work: Any) -> Any:
    """Return what a run that does this work comes to, or what it was refused for."""

    @durable
    async def works(ctx: Context) -> Any:
        return await work(ctx)

    async with connect(url) as client, client.work([works, kid], options=QUICK):
        await client.start(works, id="run")
        try:
            return await client.result("run")
        except RunFailed as error:
            return f"{error.failure.type}: {error.failure.message}"


PASSED: dict[str, tuple[Any, Any]] = {
    "step": (lambda ctx: ctx.step(charge, 5, currency="USD"), "5 USD"),
    "all by name": (lambda ctx: ctx.step(charge, currency="USD", cents=5), "5 USD"),
    "with options": (
        lambda ctx: ctx.step(charge, 5, currency="USD", effect="once", timeout=5, name="pay"),
        "5 USD",
    ),
    "a plain function": (lambda ctx: ctx.step(charge_plainly, 5, currency="USD"), "5 USD"),
    "transactional": (
        lambda ctx: ctx.step(pay, 5, currency="USD", effect="transactional"),
        "5 USD",
    ),
    "any keyword": (lambda ctx: ctx.step(anything, efect="once"), {"efect": "once"}),
    "an option's name by position": (
        lambda ctx: ctx.step(fetch, "u", 9.0, timeout=5),
        ["u", 9.0, "", {}],
    ),
    "call": (lambda ctx: ctx.call(kid, 5, currency="USD", name="ann"), [5, "USD", "ann"]),
    "spawn": (lambda ctx: ctx.spawn(kid, 5, currency="USD"), [5, "USD", "kid"]),
    "spawn with options": (
        lambda ctx: ctx.spawn(kid, 5, "USD", "ann", name="child", timeout=9),
        [5, "USD", "ann"],
    ),
}


@pytest.mark.parametrize("work, expected", PASSED.values(), ids=PASSED)
async def test_what_reaches_the_function(store_url, work, expected):
    """Arguments by name are given to the function, whatever options stand beside them."""
    assert await result_of(store_url, work) == expected


REFUSED: dict[str, tuple[Any, str]] = {
    "a near word": (
        lambda ctx: ctx.step(charge, 5, efect="once"),
        r"Misuse: charge\(\) cannot be called so: .* 'efect'; did you mean effect=\?",
    ),
    "a near parameter": (
        lambda ctx: ctx.step(charge, 5, curency="USD"),
        r"Misuse: charge\(\) .* 'curency'; did you mean currency=\?",
    ),
    "a far word": (
        lambda ctx: ctx.step(charge, 5, zzz=3),
        r"Misuse: .* 'zzz'; it takes \(cents: int, .*\), and the options of ctx.step are effect, ",
    ),
    "one too many": (lambda ctx: ctx.step(charge, 1, "USD", 3), r"Misuse: charge\(\) cannot be"),
    "one too few": (lambda ctx: ctx.step(charge), r"Misuse: charge\(\) cannot .* 'cents'"),
    "twice": (lambda ctx: ctx.step(charge, 5, cents=6), r"Misuse: charge\(\) .* multiple values"),
    "the kit's key": (
        lambda ctx: ctx.step(charge, 5, idempotency_key="mine"),
        "Misuse: idempotency_key= is the kit's",
    ),
    "the kit's key by position": (
        lambda ctx: ctx.step(lambda a, idempotency_key: a, 1, "mine", name="f"),
        "Misuse: .* multiple values for argument 'idempotency_key'",
    ),
    "too few of transactional": (
        lambda ctx: ctx.step(pay, effect="transactional"),
        r"Misuse: pay\(\) cannot .* 'cents'",
    ),
    "an option or an argument": (
        lambda ctx: ctx.step(fetch, "u", timeout=5),
        r"Misuse: timeout= may be meant for ctx.step or for fetch\(\), .* by position",
    ),
    "a name or an argument": (lambda ctx: ctx.step(fetch, "u", name="a"), "Misuse: name= may be"),
    "by name only": (lambda ctx: ctx.step(only_by_name, retry=Retry()), "Misuse: retry= may be"),
    "reconcile": (
        lambda ctx: ctx.step(charge, 5, effect="once", reconcile=look_at_nothing),
        r"Misuse: look_at_nothing\(\) cannot be called so: too many positional",
    ),
    "an effect": (
        lambda ctx: ctx.step(charge, 5, effect="idempotant"),
        "Misuse: effect='idempotant' is none; did you mean 'idempotent'",
    ),
    "map": (lambda ctx: ctx.map(anything, [1]), r"Misuse: anything\(\) cannot be called so"),
    "map of a durable": (
        lambda ctx: ctx.map(durable(name="two")(two), [1]),
        r"Misuse: two\(\) cannot be called so: missing a required argument: 'b'",
    ),
    "map's own": (lambda ctx: ctx.map(charge, [1], limt=2), "TypeError: .*'limt'"),
    "call": (
        lambda ctx: ctx.call(kid, 5, timeout=3),
        r"Misuse: kid\(\) cannot .* 'timeout'; it takes \(cents",
    ),
    "spawn": (
        lambda ctx: ctx.spawn(kid, 5, tiemout=3),
        r"Misuse: kid\(\) cannot .* 'tiemout'; did you mean timeout=\?",
    ),
    "spawn, an option or an argument": (
        lambda ctx: ctx.spawn(kid, 5, name="ann"),
        r"Misuse: name= may be meant for ctx.spawn or for kid\(\)",
    ),
}


async def two(ctx: Context, a: int, b: int) -> None: ...


@pytest.mark.parametrize("work, told", REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(sqlite_url, work, told):
    """A call that does not fit is refused with the cure, before it is made or recorded."""
    found = await result_of(sqlite_url, work)

    assert re.match(told, str(found))
    assert calls == []
    async with connect(sqlite_url) as client:
        assert await keys(client, "run") == ["run"]


async def test_a_misfit_in_gather_begins_nothing(sqlite_url):
    """A call that does not fit is refused where it is made, so what stands beside it never runs."""

    async def both(ctx: Context) -> Any:
        return await ctx.gather(ctx.step(charge, 5, effect="once"), ctx.step(charge, 5, efect="x"))

    assert str(await result_of(sqlite_url, both)).startswith("Misuse: charge() cannot be called so")
    assert calls == []


async def test_keywords_are_recorded_and_tell_calls_apart(store_url):
    """Arguments by name stand in the journal, and others under the key pause the run."""

    def pays(currency: str) -> Any:
        @durable(name="pays")
        async def function(ctx: Context) -> str:
            paid = await ctx.step(charge, 5, currency=currency)
            await ctx.receive("go")
            return paid

        return function

    async with taken_over(store_url, pays("USD"), pays("CHF")) as client:
        with pytest.raises(RunPaused) as caught:
            await client.result("run")
        (row,) = [each for each in await client.journal("run") if each.key == "charge.0"]
    async with connect(store_url) as client, client.work([pays("USD")], options=QUICK):
        await client.resume("run")
        assert await client.result("run") == "5 USD"

    assert decode(row.input or "") == {"args": [5], "keywords": {"currency": "USD"}}
    assert '"USD"' in caught.value.failure.message
    assert '"CHF"' in caught.value.failure.message
    assert calls == [(5, "USD")]


async def test_fingerprints_without_keywords_are_as_ever(store_url):
    """What is recorded of a step without arguments by name is what older journals hold."""

    @durable
    async def pays(ctx: Context) -> Any:
        return [await ctx.step(charge, 5, "USD"), await ctx.call(kid, 5)]

    async with connect(store_url) as client, client.work([pays], options=QUICK):
        await client.start(pays, id="run")
        await client.result("run")
        rows = {each.key: each for each in await client.journal("run")}

    assert (rows["charge.0"].input, rows["kid.0"].input) == ('[5,"USD"]', '{"cents":5}')
    assert rows["charge.0"].fingerprint == fingerprint("step", "charge", JsonText('[5,"USD"]'))
    assert rows["kid.0"].fingerprint == fingerprint("step", "kid", JsonText('{"cents":5}'))


async def test_a_recorded_call_needs_no_signature(store_url):
    """A step that is recorded is not refused when its function takes other arguments by now."""

    async def charge_in(cents: int, currency: str, account: str) -> str:
        return "never called"

    @durable(name="pays")
    async def old(ctx: Context) -> Any:
        paid = await ctx.step(charge, 5, name="paid")
        await ctx.receive("go")
        return paid

    @durable(name="pays")
    async def new(ctx: Context) -> Any:
        paid = await ctx.step(charge_in, 5, name="paid")
        await ctx.receive("go")
        return paid

    async with taken_over(store_url, old, new) as client:
        assert await client.result("run") == "5 EUR"


async def test_start_and_continue_as(store_url):
    """start() and continue_as() take arguments by name, and refuse those that nobody takes."""

    @durable
    async def counts(ctx: Context, left: int, step: int = 1, queue: str = "q") -> Any:
        if left > 0:
            return ctx.continue_as(left - step, step=step, queue=queue)
        return [left, step, queue]

    async with connect(store_url) as client, client.work([counts], options=QUICK):
        await client.start(counts, left=4, step=2, id="run")
        assert await client.result("run") == [0, 2, "q"]
        await client.start(counts, 0, 1, "mine", queue="other", id="queued")
        with pytest.raises(Misuse, match=r"counts\(\) .* 'timeuot'; did you mean timeout=\?"):
            await client.start(counts, 1, timeuot=5, id="a")
        with pytest.raises(Misuse, match="queue= may be meant for start or for counts"):
            await client.start(counts, 1, queue="other", id="a")
        with pytest.raises(Misuse, match="is no durable function; put @durable on it"):
            await client.start(charge, 1, id="a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unexpected keyword argument 'dedpu'"):
            await client.signal("run", "go", dedpu="x")  # type: ignore[call-arg]


async def test_what_goes_on_with_the_wrong_arguments(sqlite_url):
    """A generation that its function does not take fails the run with the near word."""

    @durable
    async def renews(ctx: Context, left: int) -> Any:
        return ctx.continue_as(lefft=1)

    async with connect(sqlite_url) as client, client.work([renews], options=QUICK):
        await client.start(renews, 1, id="run")
        with pytest.raises(RunFailed, match=r"'lefft'; did you mean left=\?|missing a required"):
            await client.result("run")


async def test_undo_and_reconcile_get_them(store_url):
    """An undo and a reconcile are given the arguments by name as the step is."""

    @durable
    async def give_back(ctx: Context, cents: int, currency: str, result: Any) -> None:
        calls.append(("back", cents, currency, result))

    async def breaks(cents: int, *, currency: str) -> str:
        raise ConnectionError("gone")

    async def look(cents: int, currency: str) -> Done:
        calls.append(("look", cents, currency))
        return Done("found")

    @durable
    async def pays(ctx: Context) -> Any:
        await ctx.step(charge, 5, currency="USD", undo=give_back)
        found = await ctx.step(breaks, 7, currency="CHF", effect="once", reconcile=look)
        raise RuntimeError(found)

    async with connect(store_url) as client, client.work([pays, give_back], options=QUICK):
        await client.start(pays, id="run")
        with pytest.raises(RunFailed, match="found"):
            await client.result("run")

    assert calls == [(5, "USD"), ("look", 7, "CHF"), ("back", 5, "USD", "5 USD")]


async def test_an_undo_with_defaults(store_url):
    """An undo takes what the step is given, and has its own defaults for the rest."""

    @durable
    async def give_back(ctx: Context, cents: int, currency: str = "EUR") -> None:
        calls.append(("back", cents, currency))

    @durable
    async def other(ctx: Context, cents: int, place: str) -> None: ...

    @durable
    async def pays(ctx: Context) -> Any:
        await ctx.step(charge, 5, undo=give_back)
        try:
            await ctx.step(charge, 5, currency="USD", undo=other)
        except Misuse as error:
            raise RuntimeError(str(error)) from None

    works = [pays, give_back, other]
    async with connect(store_url) as client, client.work(works, options=QUICK):
        await client.start(pays, id="run")
        with pytest.raises(RunFailed, match=r"undo 'other' takes \['cents', 'place'\] .* 'place'"):
            await client.result("run")

    assert calls == [(5, "EUR"), ("back", 5, "EUR")]


def test_options_of_the_rest():
    """Options that are none are refused wherever there are any."""
    for make in (Retry, WorkerOptions):
        with pytest.raises(TypeError, match="unexpected keyword argument 'max_atempts'"):
            make(max_atempts=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nam'"):
        durable(nam="x")  # type: ignore[call-overload]


@durable
async def deep(ctx: Context, left: int) -> int:
    return 0 if left == 0 else 1 + await ctx.call(deep, left - 1)


async def test_calls_that_stand_too_deep(sqlite_url):
    """Calls may stand 64 deep in each other; one more is refused with what to do."""
    async with connect(sqlite_url) as client, client.work([deep], options=QUICK):
        await client.start(deep, 64, id="fits")
        assert await client.result("fits") == 64
        await client.start(deep, 65, id="deeper")
        with pytest.raises(RunFailed, match="more than 64 calls deep; write what calls itself"):
            await client.result("deeper")


async def test_a_step_with_a_timedelta(sqlite_url):
    """Options of a step are given beside arguments by name."""

    async def stuck(cents: int) -> None:
        await asyncio.Event().wait()

    async def work(ctx: Context) -> Any:
        try:
            await ctx.step(stuck, cents=1, timeout=timedelta(milliseconds=20))
        except StepFailed as error:
            return error.type

    assert await result_of(sqlite_url, work) == "TimeoutError"
