"""A run whose own code ends its task, its process or its worker fails, or is counted as crashed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from substrate import Context, Durable, RunDead, RunStatus, StepFailed, connect, durable
from tests.runs import QUICK
from tests.stores import eventually

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _afresh():
    calls.clear()


async def cancels_itself() -> None:
    calls["called"] += 1
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0.01)


async def ends_itself() -> None:
    calls["called"] += 1
    raise GeneratorExit


def ends_itself_plainly() -> None:
    calls["called"] += 1
    raise GeneratorExit


async def interrupts() -> None:
    calls["called"] += 1
    raise KeyboardInterrupt


def interrupts_plainly() -> None:
    calls["called"] += 1
    raise KeyboardInterrupt


async def awaits_one_that_ends() -> None:
    calls["called"] += 1
    ends = asyncio.get_running_loop().create_future()
    ends.set_exception(GeneratorExit("its own"))
    await ends


def in_a_transaction(tx: Any) -> None:
    calls["called"] += 1
    raise GeneratorExit


KINDS: dict[str, tuple[Callable[..., Any], str]] = {
    "cancel": (cancels_itself, "Misuse"),
    "GeneratorExit": (ends_itself, "GeneratorExit"),
    "GeneratorExit in a thread": (ends_itself_plainly, "GeneratorExit"),
    "KeyboardInterrupt": (interrupts, "KeyboardInterrupt"),
    "KeyboardInterrupt in a thread": (interrupts_plainly, "KeyboardInterrupt"),
}


@pytest.mark.parametrize("step, told", KINDS.values(), ids=KINDS)
async def test_a_step_fails(store_url, step, told):
    """What a step does to its own task, or raises to end it, is its failure: called once."""

    @durable
    async def tries(ctx: Context) -> list[str]:
        found: list[str] = []
        for branches in (1, 2):
            try:
                await ctx.gather(*(ctx.step(step) for _ in range(branches)))
            except StepFailed as error:
                found += [each.type for each in (error, *getattr(error, "others", ()))]
        try:
            await ctx.step(step)
        except StepFailed as error:
            found.append(error.type)
        return found

    async with connect(store_url) as client, client.work([tries], options=QUICK):
        await client.start(tries, id="run")
        assert await client.result("run") == [told] * 4
        run = await client.get("run")

    assert calls == {"called": 4}
    assert (run.crashes, run.epoch) == (0, 1)


async def test_a_transaction_fails(store_url):
    """A transactional step that raises what is no exception is rolled back and fails."""

    @durable
    async def tries(ctx: Context) -> str:
        try:
            await ctx.step(in_a_transaction, effect="transactional")
        except StepFailed as error:
            return error.type
        return "done"

    async with connect(store_url) as client, client.work([tries], options=QUICK):
        await client.start(tries, id="run")
        assert await client.result("run") == "GeneratorExit"
    assert calls == {"called": 1}


async def test_a_step_that_cancels_itself_and_returns(store_url):
    """A cancellation that a step has not lived to see is taken back: its result stands."""

    async def hasty() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    @durable
    async def goes_on(ctx: Context) -> list[str]:
        return [await ctx.step(hasty), await ctx.step(hasty)]

    async with connect(store_url) as client, client.work([goes_on], options=QUICK):
        await client.start(goes_on, id="run")
        assert await client.result("run") == ["done", "done"]


async def cancelled_function(ctx: Context) -> None:
    await cancels_itself()


async def ended_function(ctx: Context) -> None:
    await ends_itself()


async def interrupted_function(ctx: Context) -> None:
    await interrupts()


async def awaiting_function(ctx: Context) -> None:
    await awaits_one_that_ends()


FUNCTIONS = [cancelled_function, ended_function, interrupted_function, awaiting_function]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("how", ["run", "call"])
async def test_a_function_fails(store_url, function, how):
    """A durable function that does so fails, as a run and inside one, and is called once."""
    inner = Durable(function, "inner")

    @durable
    async def outer(ctx: Context) -> str:
        try:
            await ctx.call(inner)
        except StepFailed:
            return "failed"
        return "done"

    async with connect(store_url) as client, client.work([inner, outer], options=QUICK):
        await client.start(outer if how == "call" else inner, id="run")

        async def has_ended() -> bool:
            return (await client.get("run")).status.has_ended

        await eventually(has_ended)
        run = await client.get("run")

    assert run.status is (RunStatus.DONE if how == "call" else RunStatus.FAILED)
    assert calls == {"called": 1}
    assert run.crashes == 0


async def test_a_scope_that_is_never_left(store_url, caplog):
    """A run whose task is cancelled again and again is dead at the third time, and says why."""

    async def leaks() -> None:
        calls["called"] += 1
        scope = anyio.CancelScope()
        scope.__enter__()
        scope.cancel()

    @durable
    async def leaky(ctx: Context) -> None:
        await ctx.step(leaks)
        await ctx.sleep(3600)

    async with connect(store_url) as client, client.work([leaky], options=QUICK):
        await client.start(leaky, id="run")
        with pytest.raises(RunDead, match=r"3 times in a row .* cancel scope"):
            await client.result("run")
        run = await client.get("run")

    assert calls["called"] <= 3
    assert run.epoch == 3
    assert caplog.text.count("run run crashed") == 3


class Broken(Durable[..., Any]):
    """A durable function at which its driver fails."""

    def encode_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """Fail as code with a mistake in it does."""
        if "next" in str(args):
            calls["called"] += 1
            raise ZeroDivisionError("a mistake of the driver's")
        return super().encode_arguments(*args, **kwargs)


async def test_a_driver_that_fails(store_url, caplog):
    """A run that nobody can drive is dead at the third time, with the reason in its row."""

    async def goes_on(ctx: Context, what: str) -> Any:
        return ctx.continue_as("next")

    broken = Broken(goes_on, "broken")
    async with connect(store_url) as client, client.work([broken], options=QUICK):
        await client.start(broken, "first", id="run")
        with pytest.raises(RunDead, match="a mistake of the driver's"):
            await client.result("run")
        (own,) = [p for p in await client.journal("run") if p.key == "run"]

    assert calls["called"] == 3
    assert "ZeroDivisionError" in (own.error or "")


CTRL_C = """
import asyncio, sys, time
from substrate import Context, connect, durable

async def busy() -> None:
    print("busy", flush=True)
    while True:
        time.sleep(0.01)

async def idle() -> None:
    print("busy", flush=True)
    await asyncio.sleep(3600)

@durable
async def runs(ctx: Context) -> None:
    await ctx.step({"busy": busy, "idle": idle}[sys.argv[2]])

async def main() -> None:
    async with connect(sys.argv[1]) as client, client.work([runs]):
        await client.start(runs, id="run")
        await asyncio.Event().wait()

if sys.argv[3] == "runner":
    asyncio.run(main())
else:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
"""


@pytest.mark.parametrize("step", ["busy", "idle"])
@pytest.mark.parametrize("how", ["runner", "loop"])
def test_ctrl_c_still_ends_the_process(sqlite_url, tmp_path, how, step):
    """A real Ctrl-C is no failure of the step that it falls into: the process ends."""
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    command = [sys.executable, str(script), sqlite_url, step, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"busy\n"
        for _ in range(100):  # asyncio's runner ends at the first or, if it is busy, the second
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
        else:
            process.kill()
        code = process.wait()

    assert code not in (0, -signal.SIGKILL)


@pytest.mark.parametrize("how", ["plain", "async", "awaiting"])
async def test_a_forked_child_is_no_worker(store_url, tmp_path, how):
    """A child that a step forks ends where it leaves the step: it calls and writes nothing more."""
    notes = tmp_path / "notes"

    def note(what: str) -> None:
        with notes.open("a") as file:
            file.write(f"{what}\n")

    def fork() -> str:
        child = os.fork()
        if child == 0:
            note("child")
            return "child"
        _, status = os.waitpid(child, 0)
        return f"parent of {os.waitstatus_to_exitcode(status)}"

    async def fork_on_the_loop() -> str:
        return fork()

    async def fork_and_wait() -> str:
        child = os.fork()
        await asyncio.sleep(0)
        note("after")
        _, status = os.waitpid(child, 0)
        return f"parent of {os.waitstatus_to_exitcode(status)}"

    async def then() -> None:
        note("then")

    steps = {"plain": fork, "async": fork_on_the_loop, "awaiting": fork_and_wait}

    @durable
    async def forks(ctx: Context) -> str:
        told = await ctx.step(steps[how], name="fork")
        await ctx.step(then)
        return told

    async with connect(store_url) as client, client.work([forks], options=QUICK):
        await client.start(forks, id="run")
        assert await client.result("run") == "parent of 1"

    first = ["after"] if how == "awaiting" else ["child"]
    assert notes.read_text().split() == [*first, "then"]
