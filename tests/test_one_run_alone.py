"""`run --id X` drives X and what is below it, and no other run of the database."""

import pytest

from substrate import Context, RunStatus, connect, durable
from tests.fork import Fork
from tests.runs import QUICK, reached

OWLS = "What of the owls?"
ANSWER = "Two owls.\n"


async def echo(what: str) -> str:
    return what


@durable
async def child(ctx: Context, what: str) -> str:
    return await ctx.step(echo, what)


@durable
async def parent(ctx: Context, what: str) -> str:
    below = ctx.gather(ctx.spawn(child, what), ctx.spawn(child, "more"))
    return " ".join(await below)


async def test_a_worker_for_one_run(store_url):
    """It drives the run and its children, whatever else is ready, before it or beside it."""
    async with connect(store_url) as client:
        for id_ in ("a", "run", "run2", "run/3"):
            await client.start(parent, id_, id=id_)
        async with client.work([parent], options=QUICK, only="run") as worker:
            assert await client.result("run") == "run more"
            await worker.run_until_idle()
            await client.start(parent, "late", id="late")
            await worker.run_until_idle()
        others = [await client.get(id_) for id_ in ("a", "run2", "run/3", "late")]
        assert [run.status for run in others] == [RunStatus.READY] * 4
        assert {run.epoch for run in others} == {0}
        async with client.work([parent], options=QUICK):
            assert await client.result("run/3") == "run/3 more"


@durable
async def waits(ctx: Context) -> str:
    return await ctx.receive("go")


@durable
async def waits_below(ctx: Context) -> str:
    return await ctx.spawn(waits)


async def test_a_worker_for_a_child(store_url):
    """Of a child, it drives that one, and leaves its parent to others."""
    async with connect(store_url) as client:
        async with client.work([waits_below], options=QUICK):
            await client.start(waits_below, id="run")
            await reached(client, "run", "waits.0")
            await reached(client, "run#waits.0", "go.0")
        await client.signal("run#waits.0", "go", "went")
        async with client.work([waits_below], options=QUICK, only="run#waits.0") as worker:
            assert await client.result("run#waits.0") == "went"
            await worker.run_until_idle()
        assert (await client.get("run")).status is RunStatus.READY
        async with client.work([waits_below], options=QUICK, only="run"):
            assert await client.result("run") == "went"


@pytest.mark.parametrize("command", [("run", "--id", "first"), ("resume", "first")])
def test_from_the_command_line(tmp_path, command):
    """A run that is gone on with leaves others of the fork as they are."""
    fork = Fork.make(tmp_path / "fork")
    for id_ in ("older", "first", "newer"):
        fork.start(id_, OWLS)

    done = fork.do(*command)

    assert (done.code, done.out) == (0, ANSWER), done.err
    assert fork.calls == ["model", "look", "model"]
    assert [fork.run(id_)["status"] for id_ in ("older", "newer")] == ["ready", "ready"]
