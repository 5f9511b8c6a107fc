"""A SQLite file has one name, and a worker stops where that name is another file's."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from substrate import Client, Context, WorkerOptions, connect, durable
from substrate.values.errors import StoreUnusable
from tests.runs import QUICK, reached
from tests.stores import eventually

SHORT = WorkerOptions(lease=timedelta(seconds=0.5), poll=QUICK.poll)
calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def work(what: str) -> str:
    calls.append(what)
    return what


@durable
async def waits(ctx: Context) -> str:
    await ctx.step(work, "before")
    await ctx.receive("go")
    return await ctx.step(work, "after")


async def test_a_hard_link(tmp_path):
    """A file with two names is refused, under either, and nothing of it is changed."""
    path, other = tmp_path / "runs.db", tmp_path / "other.db"
    async with connect(f"sqlite:///{path}") as client:
        await client.start(waits, id="run")
    other.hardlink_to(path)
    for name in (path, other):
        with pytest.raises(StoreUnusable, match="has another name, a hard link"):
            async with connect(f"sqlite:///{name}"):
                pass
    other.unlink()
    async with connect(f"sqlite:///{path}") as client:
        assert [run.id for run in await client.list()] == ["run"]


async def test_a_symbolic_link(tmp_path):
    """A symbolic link is no other name."""
    path, other = tmp_path / "runs.db", tmp_path / "other.db"
    other.symlink_to(path)
    async with connect(f"sqlite:///{other}") as client, connect(f"sqlite:///{path}") as same:
        await client.start(waits, id="run")
        assert [run.id for run in await same.list()] == ["run"]


async def test_processes_that_make_a_file_at_once(tmp_path):
    """Clients that all make the same file open it, though it has two names for a moment."""

    async def lists(number: int) -> None:
        async with connect(f"sqlite:///{tmp_path}/{number % 4}.db") as client:
            assert await client.list() == []

    await asyncio.gather(*(lists(number) for number in range(16)))


def move(path: Path) -> None:
    """Rename it."""
    path.rename(path.with_name("moved.db"))


def delete(path: Path) -> None:
    """Unlink it."""
    path.unlink()


def replace(path: Path) -> None:
    """Have a copy take its place."""
    copy = path.with_name("copy.db")
    shutil.copy(path.with_name("before.db"), copy)
    copy.rename(path)


async def has_no_lease(client: Client) -> bool:
    """Whether a step of the run does not begin any more."""
    await client.signal("run", "go")
    await asyncio.sleep(0.1)
    return "after" not in calls


@pytest.mark.parametrize("takes", [move, delete, replace])
async def test_the_file_is_taken_away(tmp_path, caplog, takes):
    """Its worker says so, begins no step after its lease, and makes no new file in its place."""
    path = tmp_path / "runs.db"
    async with connect(f"sqlite:///{path}"):
        pass
    shutil.copy(path, tmp_path / "before.db")
    async with connect(f"sqlite:///{path}") as client:
        async with client.work([waits], options=SHORT):
            await client.start(waits, id="run")
            await reached(client, "run", "go.0")
            takes(path)
            await eventually(lambda: "was moved, deleted or replaced" in caplog.text)
            await asyncio.sleep(0.7)  # more than the lease
            assert await has_no_lease(client)
        assert path.exists() is (takes is replace)
    assert calls == ["before"]
