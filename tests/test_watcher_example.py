"""The example that watches: over weeks a person is told only what is new, whatever is killed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from substrate import RunStatus, connect
from substrate.testing import Side
from tests.fork import Fork, end
from tests.keeper import wait_until
from tests.watching import RUN, Watcher

KIT = Path(__file__).resolve().parent.parent
EXAMPLE = KIT / "examples" / "watcher"
DAYS = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the template's package, and the example over it, as its README says."""
    shutil.copytree(KIT / "template" / "agent", tmp_path / "agent")
    (tmp_path / "tests").mkdir()
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path / ("tests" if file.name.startswith("test_") else "agent"))
    return tmp_path


@pytest.fixture
def page(folder: Path) -> Iterator[str]:
    """Start a board that shows `board.txt`, and writes down who came by."""

    class Board(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with (folder / "visits").open("a") as visits:
                visits.write("one\n")
            text = (folder / "board.txt").read_bytes()
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Board)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(folder: Path) -> list[str]:
    """Return what the person was told, in order."""
    outbox = folder / "outbox.txt"
    return [line.partition("  ")[2] for line in outbox.read_text().splitlines()]


async def test_killed_every_morning(folder, page, store_url, record_property):
    """Each morning a worker is killed at another commit: all is told once, and nothing else."""
    watcher = Watcher(folder, store_url, page)
    board: list[str] = []
    kills = 0
    for day in range(DAYS):
        if day % 6 != 5:  # five mornings with something new, then one without
            board = [*board[-2:], f"Notice {day}."]
        (folder / "board.txt").write_text("\n".join(board))
        # Before a commit, what was just done is in no record: what is told must not be told again.
        kills += watcher.wake(day, day + 1, Side.BEFORE) < 0
        assert watcher.wake(day) == 0
        if day % 5 == 0:
            assert watcher.wake(day) == 0, "the same morning once more does nothing"
    record_property("mornings on which the watcher was killed", kills)

    assert told(folder) == [f"Notice {day}." for day in range(DAYS) if day % 6 != 5]
    assert kills > DAYS / 2
    visits = len((folder / "visits").read_text().split())
    assert DAYS <= visits <= DAYS + kills, "a look that was not recorded is made again, no other"
    async with connect(store_url) as client:
        run = await client.get(RUN)
        journal = await client.journal(RUN)
    assert run.status is RunStatus.SUSPENDED
    looks = [each.key for each in journal if each.name == "look"]
    assert len(looks) == len(set(looks)) == DAYS
    last = [each for each in journal if each.key.startswith(f"g{DAYS - 1}/")]
    assert len(last) <= 4, "a generation holds one day"
    whole = sum(len(each.input or "") for each in last)
    record_property("bytes of input in the watcher's last day", whole)


def test_from_the_shell(folder, store_url):
    """What the README types: begun twice it is one run, told once, and it is ended by a cancel."""
    (folder / "board.txt").write_text("A lamp is sold.\n")
    fork = Fork(folder, store_url)
    for _ in range(2):
        begun = fork.do(RUN, f"file://{folder}/board.txt", by=("-m", "agent.begin"))
        assert begun.out == f"{RUN} watches file://{folder}/board.txt\n", begun
    worker = fork.open("worker")
    try:
        assert wait_until((folder / "outbox.txt").exists, 30)
        assert wait_until(lambda: "timer, until" in fork.do("show", RUN).out, 30)

        asked = fork.do("cancel", RUN)

        assert asked.code == 0, asked
        assert wait_until(lambda: fork.run(RUN)["status"] == "cancelled", 30)
    finally:
        worker.kill()
        end(worker)

    assert told(folder) == ["A lamp is sold."]


def test_its_own_tests(folder):
    """The example's tests pass in a fork of it."""
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", ".")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{KIT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_it_is_small():
    """What one writes for it, hooks, mornings and what is believed, is under 160 lines."""
    texts = [(EXAMPLE / f"{name}.py").read_text() for name in ("hooks", "watch", "beliefs")]
    assert 50 < sum(text.count("\n") for text in texts) < 160
