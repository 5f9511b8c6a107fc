"""The example that waits: days pass, no process lives, and the run goes on where it was."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork import Fork, end
from tests.test_cli_interrupted import read_until

KIT = Path(__file__).resolve().parent.parent
EXAMPLE = KIT / "examples" / "waiting"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the template's package, and the example over it, as its README says."""
    shutil.copytree(KIT / "template" / "agent", tmp_path / "agent")
    (tmp_path / "tests").mkdir()
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path / ("tests" if file.name.startswith("test_") else "agent"))
    return tmp_path


def in_fork(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command there, with no key set."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(KIT)} | more,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_story(folder, sqlite_url):
    """Asked, suspended, its worker gone; days later answered with no worker, and finished."""
    told = in_fork(folder, "-m", "agent.story", DATABASE_URL=sqlite_url)

    assert told.returncode == 0, told.stdout + told.stderr
    workers = [line for line in told.stdout.splitlines() if line.startswith("process ")]
    pids = {line.split()[1] for line in workers}
    assert len(workers) == len(pids) == 4, "each worker is a process of its own"
    assert "it holds nothing meanwhile" in told.stdout
    assert "which waits for it at tools.0/refund.0/approval-42.0" in told.stdout
    assert "4900 cents of order 42 are refunded." in told.stdout
    assert "run 'refund/43' is done; it takes no signal 'approval-43'" in told.stdout
    assert (folder / "paid.txt").read_text().count("\n") == 1


def test_the_story_in_the_kit(tmp_path):
    """It can be told without a fork: it makes one, and leaves nothing behind."""
    told = in_fork(tmp_path, str(EXAMPLE / "story.py"))

    assert told.returncode == 0, told.stdout + told.stderr
    assert "2 questions were sent, 1 refund paid." in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_from_two_terminals(folder, store_url):
    """A run that waits tells what for; Ctrl-C leaves it waiting; it is answered from elsewhere."""
    terminal = Fork(folder, store_url)
    first = terminal.open("run", "Please refund order 7.", "--id", "mine", ANTHROPIC_API_KEY="")
    read_until(first, "waits for signal 'approval-7', true, false, yes or no, until ")
    first.send_signal(signal.SIGINT)
    left = end(first)
    again = terminal.open("resume", "mine")
    said = read_until(again, "approval-7.0  signal 'approval-7', true, false, yes or no, until ")

    refused = terminal.do("signal", "mine", "approval-7", '"perhaps"')
    terminal.do("signal", "mine", "approval-7", "true")
    done = end(again)

    assert left.code == 130
    assert "run mine waits, and holds nothing meanwhile" in left.err
    assert "suspended until " in said
    assert (done.code, done.out) == (0, "4900 cents of order 7 are refunded.\n")
    assert refused.code == 2
    assert "'perhaps' is not true, false, yes or no" in refused.err


def test_its_own_tests(folder):
    """The example's tests pass in a fork of it."""
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", ".")
    done = in_fork(folder, "-m", "pytest", *options, "tests", PYTHONPATH=f"{KIT}:{folder}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
