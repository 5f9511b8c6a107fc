"""A store's file has no other way to it in the same process, which would lose what is committed."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from substrate import Context, RunFailed, connect, durable

WAYS: dict[str, Callable[[Path], object]] = {
    "sqlite3": sqlite3.connect,
    "sqlite3, by name": lambda path: sqlite3.connect(str(path)),
    "sqlite3, to read": lambda path: sqlite3.connect(f"file:{path}?mode=ro", uri=True),
    "sqlite3, by an encoded URL": lambda path: sqlite3.connect(
        f"file://{str(path).replace('o', '%6f')}", uri=True
    ),
    "a copy": lambda path: shutil.copy(path, f"{path}.bak"),
    "read": lambda path: path.read_bytes(),
    "open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "bytes": lambda path: open(os.fsencode(path), "rb").close(),  # noqa: PTH123
    "a link": lambda path: (path.parent / "link").read_bytes(),
    "another name": lambda path: (path.parent / "name").read_bytes(),
    "its locks": lambda path: Path(f"{path}-shm").read_bytes(),
}

PROGRAM = """
import asyncio, os, sqlite3, sys
from substrate import Context, connect, durable

path = os.path.abspath(sys.argv[1])

def look() -> str:
    try:
        sqlite3.connect(path).execute("SELECT count(*) FROM runs").fetchone()
    except Exception as error:
        return type(error).__name__
    return "opened"

def charge(i: int) -> None:
    with open(path + ".charged", "a") as file:
        file.write(f"{i} ")

@durable
async def job(ctx: Context) -> str:
    looked = await ctx.step(look)
    for i in range(3):
        await ctx.step(charge, i, effect="once")
    return looked

async def main():
    async with connect(f"sqlite:///{path}") as client, client.work([job]):
        await client.start(job, id="job")
        print(await client.result("job"), flush=True)
        if sys.argv[2:]:
            os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.parametrize("way", WAYS)
async def test_it_is_refused(tmp_path: Path, way: str) -> None:
    """While it is open as a store it is opened in no other way; before and after, in any."""
    path = tmp_path / "runs.db"
    async with connect(f"sqlite:///{path}") as client:
        (tmp_path / "link").symlink_to(path)
        os.link(path, tmp_path / "name")
        with pytest.raises(Exception, match="is open here as a store") as refused:
            WAYS[way](path)
        (tmp_path / "name").unlink()  # a store has one name
        async with connect(f"sqlite:///{path}"):
            pass
        os.link(path, tmp_path / "name")
        with pytest.raises(Exception, match="VACUUM INTO"):
            WAYS[way](path)
        assert await client.list() == []

    assert type(refused.value).__name__ == "Misuse"
    Path(f"{path}-shm").touch()
    opened = WAYS[way](path)
    if isinstance(opened, sqlite3.Connection):
        opened.close()


def test_nothing_is_lost(tmp_path: Path) -> None:
    """A step that would look by itself is told; killed afterwards, no call is made again."""
    for more in ("kill", ""):
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            str(tmp_path / "runs.db"),
            *([more] if more else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "Misuse\n", done.stderr

    assert (tmp_path / "runs.db.charged").read_text() == "0 1 2 "


def look(path: str) -> int:
    """Read the file by Python's own driver."""
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        return count


async def test_others_may(tmp_path: Path) -> None:
    """Another process may read it meanwhile, and one that was forked from this one."""
    path = str(tmp_path / "runs.db")
    async with connect(f"sqlite:///{path}"):
        for kind in ("fork", "spawn"):
            with multiprocessing.get_context(kind).Pool(1) as pool:
                assert pool.apply(look, (path,)) == 0


async def test_other_files_are_nobodys(tmp_path: Path) -> None:
    """What is not a store's file is opened as ever, whatever stands for its path."""
    async with connect(f"sqlite:///{tmp_path / 'runs.db'}"):
        (tmp_path / "notes").write_text("mine")
        with closing(sqlite3.connect(":memory:")), closing(sqlite3.connect("")):
            pass
        with pytest.raises(FileNotFoundError):
            (tmp_path / "nothing").read_text()
        with pytest.raises(ValueError, match="null"):
            open("a\0b")  # noqa: PTH123, SIM115
        reading, writing = os.pipe()
        with open(reading), open(writing, "w"):  # noqa: PTH123
            pass


@durable
async def backs_up(ctx: Context, path: str) -> None:
    """Copy the file in a step."""
    await ctx.step(shutil.copy, path, f"{path}.bak")


async def test_a_step_that_copies_it(tmp_path: Path) -> None:
    """A step that would copy it fails, in words."""
    path = tmp_path / "runs.db"
    async with connect(f"sqlite:///{path}") as client, client.work([backs_up]):
        await client.start(backs_up, str(path), id="a")
        with pytest.raises(RunFailed, match="is open here as a store"):
            await client.result("a")
