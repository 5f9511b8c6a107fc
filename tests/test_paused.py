"""Code that asks for something else than was recorded pauses its run, and nothing is lost."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from substrate import (
    Client,
    Context,
    Durable,
    Misuse,
    RunEnded,
    RunPaused,
    RunStatus,
    connect,
    durable,
)
from substrate.values.codec import decode
from substrate.values.ids import Key
from tests.runs import QUICK, keys, reached, taken_over
from tests.stores import eventually

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh_counts():
    calls.clear()


async def fetch(page: Any) -> str:
    calls[f"fetch {page}"] += 1
    return f"page {page}"


@durable(name="report")
async def old(ctx: Context) -> list[Any]:
    found = [await ctx.step(fetch, "old"), await ctx.step(fetch, "same")]
    await ctx.receive("go")
    return [*found, await ctx.step(fetch, "last")]


@durable(name="report")
async def before(ctx: Context) -> Any:
    first = await ctx.step(fetch, "old")
    await ctx.receive("go")
    return [first]


@durable(name="report")
async def new(ctx: Context) -> list[Any]:
    found = [await ctx.step(fetch, "new"), await ctx.step(fetch, "same")]
    await ctx.receive("go")
    return [*found, await ctx.step(fetch, "last")]


async def paused(client: Client) -> RunPaused:
    """Wait until the run is paused; return what it shows."""
    with pytest.raises(RunPaused) as caught:
        await client.result("run")
    return caught.value


async def test_both_sides_are_shown(store_url):
    """Other arguments under a recorded key pause the run: the key and both inputs are shown."""
    async with taken_over(store_url, old, new) as client:
        shown = (await paused(client)).failure

    assert shown.type == "FingerprintMismatch"
    assert shown.details == {
        "key": "fetch.0",
        "recorded": {"kind": "step", "name": "fetch", "input": ["old"]},
        "asked": {
            "kind": "step",
            "name": "fetch",
            "input": ["new"],
            "fingerprint": shown.details["asked"]["fingerprint"],
        },
    }
    assert shown.message == (
        """'fetch.0' was recorded as step 'fetch' with ["old"], and the code now asks for it """
        """with ["new"]; go on under the old code, or accept what was recorded"""
    )


async def test_long_arguments_are_shown_where_they_differ(store_url):
    """Of long arguments the message shows what differs, and how long they are."""

    def reads(page: str) -> Durable[[], None]:
        @durable(name="reads")
        async def asks(ctx: Context) -> None:
            await ctx.step(fetch, page)
            await ctx.receive("go")

        return asks

    one, other = reads("x" * 5000 + "old" + "y" * 5000), reads("x" * 5000 + "new" + "y" * 5000)
    async with taken_over(store_url, one, other) as client:
        told = (await paused(client)).failure.message

    assert "xxoldyy" in told
    assert "xxnewyy" in told
    assert "(10007 characters)" in told
    assert len(told) < 700


async def test_another_kind_is_shown_with_its_arguments(store_url):
    """Another step under a recorded key is shown beside it, with the arguments of both."""

    @durable(name="report")
    async def waits(ctx: Context) -> None:
        await ctx.receive("fetch")

    async with taken_over(store_url, old, waits) as client:
        told = (await paused(client)).failure.message

    assert """recorded as step 'fetch' with ["old"], and the code now asks for signal""" in told


async def test_nothing_is_lost_and_no_crash_counted(store_url):
    """A paused run keeps every row, has no worker and no crash against it, and called nothing."""
    async with taken_over(store_url, old, new) as client:
        await paused(client)
        run = await client.get("run")

        assert (run.status, run.crashes, run.lease_owner, run.ended_at) == (
            RunStatus.PAUSED,
            0,
            None,
            None,
        )
        assert sorted(await keys(client, "run")) == ["fetch.0", "fetch.1", "go.0", "run"]
    assert calls == {"fetch old": 1, "fetch same": 1}


async def test_it_goes_on_under_the_old_code(store_url):
    """Resumed where the old code is, a paused run goes on as if nothing had been."""
    async with taken_over(store_url, old, new) as client:
        await paused(client)
    async with connect(store_url) as client, client.work([old], options=QUICK):
        await client.resume("run")
        assert await client.result("run") == ["page old", "page same", "page last"]

    assert calls == {"fetch old": 1, "fetch same": 1, "fetch last": 1}


async def test_the_recorded_value_is_accepted(store_url):
    """Resumed with accept=key, a run goes on with what was recorded there, now and ever after."""
    async with taken_over(store_url, old, new) as client:
        await paused(client)
        await client.resume("run", accept="fetch.0")
        assert await client.result("run") == ["page old", "page same", "page last"]

    assert calls == {"fetch old": 1, "fetch same": 1, "fetch last": 1}


async def test_requeued_alone_it_pauses_again(store_url):
    """Resumed under code that still asks for something else, a run is paused again."""
    async with taken_over(store_url, old, new) as client:
        first = await paused(client)
        await client.resume("run")
        second = await paused(client)

    assert first.failure == second.failure


async def test_another_kind_under_a_key_is_accepted_too(store_url):
    """A recorded step may stand for the signal that the code asks for now, once accepted."""

    @durable(name="report")
    async def asks(ctx: Context) -> Any:
        return await ctx.receive("fetch")

    async with taken_over(store_url, old, asks) as client:
        shown = await paused(client)
        await client.resume("run", accept="fetch.0")
        assert await client.result("run") == "page old"

    asked = shown.failure.details["asked"]
    assert (asked["kind"], asked["name"], asked["input"]) == ("signal", "fetch", None)


async def test_an_acceptance_is_for_one_call(store_url):
    """What was accepted for one call is no leave for a third: that pauses the run again."""

    @durable(name="report")
    async def waits(ctx: Context) -> Any:
        first = await ctx.step(fetch, "new")
        await ctx.receive("go")
        return [first, await ctx.receive("more")]

    @durable(name="report")
    async def third(ctx: Context) -> Any:
        first = await ctx.step(fetch, "third")
        await ctx.receive("go")
        return [first, await ctx.receive("more")]

    async with taken_over(store_url, before, waits) as client:
        await paused(client)
        await client.resume("run", accept="fetch.0", by="ann")
        await reached(client, "run", "more.0")
    async with connect(store_url) as client:
        await client.signal("run", "more", 1)
        async with client.work([third], options=QUICK):
            shown = await paused(client)
        async with client.work([waits], options=QUICK):
            await client.resume("run")
            assert await client.result("run") == ["page old", 1]

    assert shown.failure.details["asked"]["input"] == ["third"]
    assert calls == {"fetch old": 1}


async def test_an_acceptance_is_a_row_of_its_own(store_url):
    """Who accepted what, and when, is in the journal; the record it is about stays as it was."""
    async with taken_over(store_url, old, new) as client:
        shown = await paused(client)
        then = {each.key: each for each in await client.journal("run")}
        await client.resume("run", accept="fetch.0", by="ann")
        await client.result("run")
        rows = await client.journal("run")

    asked = shown.failure.details["asked"]
    now = {each.key: each for each in rows}
    accepted = now[Key(f"accepted/fetch.0/{asked['fingerprint']}")]
    assert decode(accepted.value) == {"by": "ann", "asked": asked}
    assert accepted.settled_at >= then["fetch.1"].settled_at
    assert now["fetch.0"] == then["fetch.0"]
    assert len({each.seq for each in rows}) == len(rows)


@pytest.mark.parametrize("key", ["fetch.7", "fetch.1"])
async def test_only_what_it_is_paused_about_can_be_accepted(store_url, key):
    """Accepting any other key raises Misuse that says what the pause is about; it stays paused."""
    async with taken_over(store_url, old, new) as client:
        await paused(client)
        with pytest.raises(Misuse, match=rf"not paused about '{key}'.*'fetch\.0' was recorded"):
            await client.resume("run", accept=key)

        assert (await client.get("run")).status is RunStatus.PAUSED


async def test_an_intent_stands_for_its_like_only(store_url):
    """A wait without an outcome cannot be accepted in the place of another kind of operation."""

    @durable(name="report")
    async def asks(ctx: Context) -> Any:
        return await ctx.step(fetch, "other", name="go")

    async with connect(store_url) as client:
        async with client.work([before], options=QUICK):
            await client.start(before, id="run")
            await reached(client, "run", "go.0")
        async with client.work([asks], options=QUICK):
            await client.signal("run", "go")
            await paused(client)
            with pytest.raises(Misuse, match="no outcome that could stand for step 'go'"):
                await client.resume("run", accept="go.0")


async def test_only_a_paused_or_dead_run_is_requeued(store_url):
    """Requeueing a run that has ended raises RunEnded."""
    async with taken_over(store_url, old) as client:
        await client.result("run")
        with pytest.raises(RunEnded, match="done"):
            await client.resume("run")


@durable(name="tree")
async def old_tree(ctx: Context) -> Any:
    await ctx.gather(ctx.step(fetch, 1), ctx.call(old_leaf, 1), ctx.step(fetch, 2))
    await ctx.receive("go")


@durable(name="tree")
async def new_gather(ctx: Context) -> Any:
    await ctx.gather(ctx.step(fetch, 1), ctx.call(old_leaf, 1), ctx.step(fetch, 3))
    await ctx.receive("go")


@durable(name="tree")
async def new_call(ctx: Context) -> Any:
    await ctx.gather(ctx.step(fetch, 1), ctx.call(old_leaf, 2), ctx.step(fetch, 2))
    await ctx.receive("go")


@durable(name="leaf")
async def old_leaf(ctx: Context, page: int) -> str:
    return await ctx.step(fetch, f"leaf {page}")


@pytest.mark.parametrize("code, key", [(new_gather, "fetch.1"), (new_call, "leaf.0")])
async def test_a_branch_that_differs(store_url: str, code: Durable[..., Any], key: str):
    """A mismatch in a branch of gather, be it a step or a call, pauses the run."""
    async with taken_over(store_url, old_tree, code) as client:
        assert (await paused(client)).failure.details["key"] == key


@durable(name="inside")
async def old_inside(ctx: Context) -> Any:
    await ctx.step(fetch, "old")
    await ctx.receive("go")


async def swallow(ctx: Context) -> str:
    await ctx.receive("now")
    try:
        await ctx.step(fetch, "new")
    except BaseException:  # noqa: BLE001 - what user code may do, and must not
        calls["swallowed"] += 1
    return "an outcome that must not be recorded"


@durable(name="inside")
async def returns_at_once(ctx: Context) -> str:
    return await swallow(ctx)


@durable(name="inside")
async def goes_on(ctx: Context) -> str:
    told = await swallow(ctx)
    await ctx.sleep(0)
    return told


@pytest.mark.parametrize("new_inside", [returns_at_once, goes_on])
async def test_a_call_that_has_begun_comes_to_its_end(store_url, new_inside):
    """A mismatch in one branch lets the step in flight in another end, and records that alone."""
    let_go = asyncio.Event()

    async def pay() -> str:
        calls["pay"] += 1
        await let_go.wait()
        return "paid"

    @durable
    async def beside(ctx: Context) -> Any:
        await ctx.receive("begin")
        return await ctx.step(pay, effect="once")

    @durable(name="half")
    async def before(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(beside), ctx.call(old_inside))

    @durable(name="half")
    async def after(ctx: Context) -> Any:
        return await ctx.gather(ctx.call(beside), ctx.call(new_inside))

    async with connect(store_url) as client:
        async with client.work([before], options=QUICK):
            await client.start(before, id="run")
            await reached(client, "run", "inside.0/go.0")
        async with client.work([after], options=QUICK):
            await client.signal("run", "begin")
            await eventually(lambda: calls["pay"])
            await client.signal("run", "now")
            await eventually(lambda: calls["swallowed"])
            assert (await client.get("run")).status is RunStatus.RUNNING
            let_go.set()
            await paused(client)

        values = {promise.key: promise.value for promise in await client.journal("run")}
    assert values["beside.0/pay.0"] == '"paid"'
    assert "inside.0" not in values
    assert "inside.0/sleep.0" not in values


async def test_arguments_that_fit_no_more(store_url):
    """A run whose recorded arguments the code takes no more is paused, not failed."""

    @durable(name="grows")
    async def before(ctx: Context, page: int) -> None:
        await ctx.receive("go")

    @durable(name="grows")
    async def after(ctx: Context, page: int, size: int) -> None:
        await ctx.receive("go")

    async with taken_over(store_url, before, after, 1) as client:
        shown = await paused(client)
    async with connect(store_url) as client, client.work([before], options=QUICK):
        await client.resume("run")
        assert await client.result("run") is None

    assert "grows() cannot be called as recorded" in shown.failure.message


async def test_a_result_that_fits_no_more(store_url):
    """A run is paused where the recorded result of a call is not what its function returns now."""

    @durable(name="count")
    async def text(ctx: Context) -> list[str]:
        return ["many"]

    @durable(name="count")
    async def number(ctx: Context) -> list[int]:
        return [2]

    @durable(name="asks")
    async def before(ctx: Context) -> Any:
        found = await ctx.call(text)
        await ctx.receive("go")
        return found

    @durable(name="asks")
    async def after(ctx: Context) -> Any:
        return await ctx.call(number)

    async with taken_over(store_url, before, after) as client:
        assert "the recorded return no longer fits" in (await paused(client)).failure.message
