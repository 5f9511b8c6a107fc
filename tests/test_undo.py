"""When a run comes to nothing, what it did is undone: newest first, each once, whatever crashes."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import (
    Context,
    RunCancelled,
    RunDead,
    RunFailed,
    RunPaused,
    RunStatus,
    StepFailed,
    WorkerOptions,
    connect,
    durable,
)
from substrate.testing import ManualClock
from substrate.values.ids import RunId
from tests.crew import Outside, regrets, worker_process
from tests.runs import QUICK, keys, reached
from tests.stores import eventually

did: list[str] = []
troubles: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _afresh():
    did.clear()
    troubles.clear()


async def book(what: str) -> dict[str, str]:
    did.append(f"book {what}")
    if what == "unsure":
        raise ConnectionResetError("no answer")
    if what == "refused":
        raise ConnectionRefusedError("nobody is there")
    if what == "endless":
        await asyncio.Event().wait()
    return {"ticket": what.upper()}


async def note(what: str) -> None:
    did.append(what)


@durable
async def release(ctx: Context, what: str, result: Any, idempotency_key: str) -> None:
    if troubles[what] > 0:
        troubles[what] -= 1
        raise OSError("the other side is away")
    ticket = result["ticket"] if result else None
    await ctx.step(note, f"release {what} {ticket} {len(idempotency_key)}")


@durable
async def travels(ctx: Context, places: list[str], end: str) -> str:
    for place in places:
        try:
            await ctx.step(book, place, undo=release, effect="once")
        except StepFailed:
            did.append(f"{place} failed")
    if end == "waits":
        await ctx.receive("go")
    if end == "fails":
        raise ValueError("the trip is off")
    return "there"


@durable(name="travels")
async def only_travels(ctx: Context, places: list[str], end: str) -> str:
    return "there"


FUNCTIONS = [travels, release]
CALM = WorkerOptions(poll=QUICK.poll)


async def test_newest_first(store_url):
    """A run that fails undoes its steps in reverse, with their results, and then has failed."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(travels, ["a", "b", "c"], "fails", id="run")
        with pytest.raises(RunFailed, match="ValueError: the trip is off"):
            await client.result("run")
        recorded = await keys(client, "run")
        run = await client.get("run")

    undone = [f"release {p} {p.upper()} 36" for p in ("c", "b", "a")]
    assert did == ["book a", "book b", "book c", *undone]
    assert run.status is RunStatus.FAILED
    assert recorded[3:5] == ["unwind", "unwind/book.2/0/note.0"]
    assert {"unwind/book.0/0", "unwind/book.1/0", "unwind/book.2/0"} <= set(recorded)


async def test_success_undoes_nothing(store_url):
    """A run that is done keeps what it did."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(travels, ["a"], "ends", id="run")
        assert await client.result("run") == "there"
    assert did == ["book a"]


async def test_cancel_undoes(store_url):
    """A run that is cancelled while it waits, suspended, is undone too, and ends as cancelled."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK) as worker:
        await client.start(travels, ["a"], "waits", id="run")
        await worker.run_until_idle()
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")
        assert (await client.get("run")).status is RunStatus.CANCELLED
    assert did == ["book a", "release a A 36"]


async def test_what_may_have_happened_counts(store_url):
    """A call whose outcome nobody knows is undone; one that never left is not."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(travels, ["unsure", "refused"], "fails", id="run")
        with pytest.raises(RunFailed):
            await client.result("run")

    assert [d for d in did if d.startswith("release")] == ["release unsure None 36"]


async def test_a_call_in_flight_is_over_before_it_is_undone(store_url):
    """A step that a cancel interrupts is undone when its call has ended, never before."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=CALM):
        await client.start(travels, ["endless"], "ends", id="run")
        await eventually(lambda: did == ["book endless"])
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")
    assert did == ["book endless", "release endless None 36"]


async def test_a_call_of_a_lost_worker_is_waited_for(store_url):
    """What another process began is undone only when its call must be over."""
    clock = ManualClock()
    impatient = WorkerOptions(poll=QUICK.poll, shutdown_grace=timedelta(0))
    async with connect(store_url, clock) as client:
        async with client.work(FUNCTIONS, options=impatient):
            await client.start(travels, ["endless"], "ends", id="run")
            await eventually(lambda: did == ["book endless"])
        await client.cancel("run")
        async with client.work(FUNCTIONS, options=QUICK):
            await reached(client, "run", "unwind")
            await eventually(lambda: clock.sleepers)
            clock.advance(60)
            assert did == ["book endless"]
            clock.advance(1)
            with pytest.raises(RunCancelled):
                await client.result("run")
    assert did == ["book endless", "release endless None 36"]


async def test_an_undo_that_fails_makes_the_run_dead(store_url):
    """It is not skipped: the run is dead, and resumed it goes on with that undo, the done stay."""
    troubles["a"] = 1
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(travels, ["a", "b"], "fails", id="run")
        with pytest.raises(
            RunDead, match=r"'book\.0' could not be undone: OSError: the other side"
        ) as dead:
            await client.result("run")
        assert "; the run is undone for ValueError: the trip is off. Resumed" in str(dead.value)
        assert (await client.get("run")).status is RunStatus.DEAD
        assert did[2:] == ["release b B 36"]
        await client.resume("run")
        with pytest.raises(RunFailed, match="the trip is off"):
            await client.result("run")
        assert (await client.get("run")).status is RunStatus.FAILED
    assert did[2:] == ["release b B 36", "release a A 36"]


async def test_an_undo_whose_own_step_failed(store_url):
    """Resumed, it is tried anew, and what its step had come to is no part of that."""

    async def flaky(what: str) -> None:
        troubles["flaky"] += 1
        if troubles["flaky"] == 1:
            raise OSError("away")
        did.append(f"undone {what}")

    @durable
    async def undoes(ctx: Context, what: str) -> None:
        await ctx.step(flaky, what)

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(book, "a", undo=undoes)
        raise ValueError("off")

    async with connect(store_url) as client, client.work([trip, undoes], options=QUICK):
        await client.start(trip, id="run")
        with pytest.raises(RunDead):
            await client.result("run")
        await client.resume("run")
        with pytest.raises(RunFailed, match="off"):
            await client.result("run")
    assert did == ["book a", "undone a"]


@pytest.mark.parametrize("how", ["timeout", "race", "cancel"])
async def test_a_call_in_a_thread_is_over_before_it_is_undone(store_url, how):
    """What cannot be stopped is waited for: it is undone after it happened, not before."""
    go = threading.Event()

    def slowly(what: str) -> None:
        did.append(f"begin {what}")
        go.wait(20)
        did.append(f"happened {what}")

    @durable
    async def undoes(ctx: Context, what: str) -> None:
        did.append(f"undone {what}")

    @durable
    async def trip(ctx: Context) -> None:
        limit = 0.05 if how == "timeout" else 600
        call = ctx.step(slowly, "a", effect="once", timeout=limit, undo=undoes)
        if how == "race":
            await ctx.race(call, ctx.sleep(0.05))
        else:
            await call
        raise ValueError("off")

    async with connect(store_url) as client, client.work([trip, undoes], options=CALM):
        await client.start(trip, id="run")
        await eventually(lambda: did == ["begin a"])
        if how == "cancel":
            await client.cancel("run")
        await reached(client, "run", "unwind")
        assert did == ["begin a"]
        go.set()
        with pytest.raises(RunFailed):
            await client.result("run")
    assert did == ["begin a", "happened a", "undone a"]


async def test_a_result_that_cannot_be_kept(store_url):
    """A call whose result is no JSON has happened: the run is paused; cancelled, it is undone."""

    async def gives(what: str) -> Any:
        did.append(f"did {what}")
        return object()

    @durable
    async def undoes(ctx: Context, what: str) -> None:
        did.append(f"undone {what}")

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(gives, "a", effect="once", undo=undoes)

    async with connect(store_url) as client, client.work([trip, undoes], options=CALM):
        await client.start(trip, id="run")
        with pytest.raises(RunPaused):
            await client.result("run")
        await client.cancel("run")
        with pytest.raises(RunCancelled):
            await client.result("run")
    assert did == ["did a", "undone a"]


async def test_what_was_rolled_back_is_not_undone(store_url):
    """A transactional step that raised has left nothing to make up for."""

    def write(tx: Any, what: str) -> None:
        raise ValueError("rolled back")

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(write, "a", effect="transactional", undo=undoes)

    @durable
    async def undoes(ctx: Context, what: str) -> None:
        did.append("undone")

    async with connect(store_url) as client, client.work([trip, undoes], options=QUICK):
        await client.start(trip, id="run")
        with pytest.raises(RunFailed, match="rolled back"):
            await client.result("run")
    assert did == []


@pytest.mark.parametrize("why", ["deadline", "cancel"])
async def test_an_undo_that_waits_is_let_go(store_url, why):
    """An undo may wait for days, and its run holds nothing meanwhile, whatever ended it."""
    clock = ManualClock()

    @durable
    async def asks(ctx: Context, what: str) -> None:
        did.append(await ctx.receive("how"))

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(book, "a", undo=asks)
        await ctx.receive("never")

    async with connect(store_url, clock) as client, client.work([trip, asks], options=QUICK) as w:
        await client.start(trip, id="run", timeout=60)
        await w.run_until_idle()
        if why == "cancel":
            await client.cancel("run")
        clock.advance(61)
        async with asyncio.timeout(10):
            await w.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED
        await client.signal("run", "how", "kindly")
        with pytest.raises(RunFailed):
            await client.result("run")
    assert did == ["book a", "kindly"]


async def test_a_worker_that_leaves_in_the_middle(store_url):
    """Another worker goes on with the undos that are left, and does not call the function again."""

    @durable
    async def slowly(ctx: Context, what: str) -> None:
        if what == "b":
            await ctx.receive("go")
        await ctx.step(note, f"undo {what}")

    @durable
    async def trip(ctx: Context) -> None:
        troubles["calls"] += 1
        for what in ("a", "b", "c"):
            await ctx.step(book, what, undo=slowly)
        raise ValueError("off")

    async with connect(store_url) as client:
        async with client.work([trip, slowly], options=QUICK) as worker:
            await client.start(trip, id="run")
            await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.SUSPENDED
        await client.signal("run", "go")
        async with client.work([trip, slowly], options=QUICK):
            with pytest.raises(RunFailed, match="off"):
                await client.result("run")

    assert did == ["book a", "book b", "book c", "undo c", "undo b", "undo a"]
    assert troubles["calls"] == 1


async def test_a_worker_that_is_killed_while_it_unwinds(store_url, tmp_path):
    """Killed in the middle of an undo, another worker ends it: every undo has been done once."""
    outside = Outside(tmp_path)
    outside.hold("undo b")
    async with connect(store_url) as client:
        await client.start(regrets, str(tmp_path), id="run")
        with worker_process(store_url) as worker:
            await outside.noted("undo b begins")
            worker.kill()
        outside.let_go("undo b")
        with worker_process(store_url), pytest.raises(RunFailed, match="all for nothing"):
            await client.result("run")

    done = {what: n for what, n in outside.notes.items() if what.endswith("ends")}
    assert done == {f"{each} ends": 1 for each in ("a", "b", "c", "undo a", "undo b", "undo c")}
    assert outside.notes["undo b begins"] == 2


async def test_an_undo_that_does_not_fit(store_url):
    """An undo that takes other arguments, or is no durable function, is refused at once."""

    @durable
    async def other(ctx: Context, what: str, more: int) -> None: ...

    @durable
    async def careless(ctx: Context) -> list[str]:
        told = []
        for undo in (other, note):
            try:
                await ctx.step(book, "a", undo=undo)
            except Exception as error:  # noqa: BLE001 - what it is, is looked at
                told.append(f"{type(error).__name__}: {error}")
        return told

    async with connect(store_url) as client, client.work([careless, other], options=QUICK):
        await client.start(careless, id="run")
        told = await client.result("run")

    assert did == []
    assert "takes ['what', 'more'] and is given the same arguments as the step: missing" in told[0]
    assert "is no durable function; put @durable on it" in told[1]


async def test_a_paused_unwinding(store_url):
    """A later worker that does not know the undo pauses the run, and nothing is skipped."""
    async with connect(store_url) as client:
        async with client.work(FUNCTIONS, options=QUICK) as worker:
            await client.start(travels, ["a"], "waits", id="run")
            await worker.run_until_idle()
        await client.cancel("run")
        async with client.work([only_travels], options=QUICK):
            run = RunId("run")

            async def is_paused() -> bool:
                return (await client.get(run)).status is RunStatus.PAUSED

            await eventually(is_paused)
            with pytest.raises(RunPaused) as paused:
                await client.result("run")
        told = paused.value.failure
        assert (told.type, told.details) == ("UnknownFunction", {"undo": "book.0"})
        assert "nobody here knows 'release', version 1, which undoes 'book.0', so" in told.message
        assert "the run is undone for RunCancelled: it was asked to end" in told.message
        await client.resume("run")
        async with client.work(FUNCTIONS, options=QUICK):
            with pytest.raises(RunCancelled):
                await client.result("run")
    assert did == ["book a", "release a A 36"]


async def test_recorded_arguments_that_no_longer_fit(store_url):
    """An undo that a deploy has changed pauses the run, which goes on with one that fits."""

    @durable(name="give_back")
    async def narrower(ctx: Context) -> None:
        did.append("narrower")

    @durable(name="give_back")
    async def other_type(ctx: Context, what: list[int]) -> None:
        did.append("other type")

    @durable(name="give_back")
    async def fits(ctx: Context, what: str) -> None:
        did.append(f"give back {what}")

    def trip(undo: Any) -> Any:
        @durable
        async def trip(ctx: Context) -> None:
            await ctx.step(book, "a", undo=undo)
            await ctx.receive("go")
            raise ValueError("off")

        return trip

    async with connect(store_url) as client:
        first = trip(fits)
        async with client.work([first, fits], options=QUICK):
            await client.start(first, id="run")
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        for undo in (narrower, other_type):
            async with client.work([trip(fits), undo], options=QUICK):
                with pytest.raises(RunPaused, match=r"'book\.0' cannot be undone by 'give_back'"):
                    await client.result("run")
                assert (await client.get("run")).status is RunStatus.PAUSED
            await client.resume("run")
        async with client.work([trip(fits), fits], options=QUICK):
            with pytest.raises(RunFailed, match="off"):
                await client.result("run")
    assert did == ["book a", "give back a"]


async def test_two_undos_of_one_name(store_url):
    """An undo that is not the one the worker knows by its name is refused before the call."""

    @durable(name="release")
    async def another(ctx: Context, what: str) -> None: ...

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(book, "a", undo=another)

    async with connect(store_url) as client, client.work([trip, release], options=QUICK):
        await client.start(trip, id="run")
        with pytest.raises(RunFailed, match=r"'release', version 1, is .*another"):
            await client.result("run")
    assert did == []


@durable
async def refunds(ctx: Context, what: str) -> None:
    await ctx.step(note, f"refund {what}")
    if troubles["slow"]:
        await ctx.receive("paid")
        await ctx.step(note, f"paid {what}")


@durable
async def delegates(ctx: Context, what: str, result: Any) -> None:
    await ctx.spawn(refunds, what)


@durable
async def hires(ctx: Context, end: str) -> None:
    await ctx.step(book, "car", undo=delegates)
    if end == "fails":
        raise ValueError("the trip is off")
    await ctx.receive("go")


@pytest.mark.parametrize("end", ["cancel", "deadline", "fails"])
async def test_an_undo_has_children(store_url: str, end: str):
    """What an undo gives to a child is done, though its run was cancelled or is out of time."""
    timeout = timedelta(seconds=1) if end == "deadline" else None
    async with connect(store_url) as client, client.work([hires, refunds], options=QUICK):
        await client.start(hires, end, id="a", timeout=timeout)
        if end == "cancel":
            await reached(client, "a", "go.0")
            await client.cancel("a")
        with pytest.raises(RunFailed if end != "cancel" else RunCancelled):
            await client.result("a")

    assert did == ["book car", "refund car"]


@pytest.mark.parametrize("end", ["cancel", "deadline", "fails"])
async def test_a_cancel_while_a_child_undoes(store_url: str, end: str):
    """A cancel that comes during an undo does not reach its child; the child's own does."""
    troubles["slow"] = 1
    timeout = timedelta(seconds=1) if end == "deadline" else None
    child = RunId("a#unwind/book.0/0/refunds.0")
    async with connect(store_url) as client, client.work([hires, refunds], options=QUICK):
        await client.start(hires, end, id="a", timeout=timeout)
        if end == "cancel":
            await reached(client, "a", "go.0")
            await client.cancel("a")
        await reached(client, "a", "unwind/book.0/0/refunds.0")
        await reached(client, child, "paid.0")
        await client.cancel("a")
        await client.signal(child, "paid")
        with pytest.raises((RunFailed, RunCancelled)):
            await client.result("a")
        assert (await client.get("a")).status in (RunStatus.FAILED, RunStatus.CANCELLED)
        assert did == ["book car", "refund car", "paid car"]

        await client.start(hires, "fails", id="b")
        below = RunId(child.replace("a#", "b#"))
        await reached(client, "b", "unwind/book.0/0/refunds.0")
        await reached(client, below, "paid.0")
        await client.cancel(below)
        with pytest.raises(RunDead, match="it was asked to end"):
            await client.result("b")
