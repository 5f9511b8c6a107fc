"""The researcher: parts go to specialists side by side, and one that fails leaves a report."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fork import Fork, end
from tests.keeper import wait_until

KIT = Path(__file__).resolve().parent.parent
EXAMPLE = KIT / "examples" / "researcher"
QUESTION = "What is known of owls?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the template's package, and the example over it, as its README says."""
    shutil.copytree(KIT / "template" / "agent", tmp_path / "agent")
    (tmp_path / "tests").mkdir()
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path / ("tests" if file.name.startswith("test_") else "agent"))
    return tmp_path


HELD = """    import time
    from pathlib import Path
    with Path("calls").open("a") as calls:
        calls.write(topic + chr(10))
    while Path("hold").exists() and topic != "owls/food":
        time.sleep(0.01)
    if topic not in SHELVES:"""
"""The library notes each reader, and lets nobody go while the file `hold` is there."""


@pytest.fixture
def held(folder: Path, store_url: str) -> Iterator[tuple[Fork, Any]]:
    """Start a run whose first specialist has answered, while the two others are reading."""
    fork = Fork(folder, store_url)
    fork.replace("agent/library.py", "    if topic not in SHELVES:", HELD)
    (folder / "hold").touch()
    process = fork.open("run", QUESTION, "--id", "r")
    assert wait_until(lambda: sorted(fork.calls) == ["owls/food", "owls/legends", "owls/nests"], 30)
    assert wait_until(lambda: fork.run(child("naturalist"))["status"] == "done", 30)
    yield fork, process
    (folder / "hold").unlink(missing_ok=True)
    if process.poll() is None:
        process.kill()
        end(process)


def child(name: str) -> str:
    """Return the id of a specialist's run."""
    return f"r#tools.0/{name}.0/{name}.0"


def report_of(fork: Fork) -> Any:
    """Return the report of a run that is done."""
    done = fork.do("run", "--id", "r", "--json")
    assert done.code == 0, done
    return done.document["value"]


def test_killed_while_they_look(held):
    """Killed with one part found and two under way: the part is not looked up again."""
    fork, process = held
    process.send_signal(signal.SIGKILL)
    end(process)
    (fork.folder / "hold").unlink()

    report = report_of(fork)

    parts = [each["part"] for each in report["findings"]]
    assert parts == ["owls/food", "owls/nests", "owls/legends"]
    assert report["gaps"] == []
    assert fork.calls.count("owls/food") == 1
    assert sorted(fork.calls)[1:] == ["owls/legends"] * 2 + ["owls/nests"] * 2


def test_a_specialist_that_is_cancelled(held):
    """Somebody ends one specialist: the report has what the others found, and names the gap."""
    fork, process = held
    cancelled = fork.do("cancel", child("historian"))
    assert cancelled.code == 0, cancelled
    assert wait_until(lambda: fork.run(child("historian"))["status"] == "cancelled", 30)
    (fork.folder / "hold").unlink()
    done = end(process)
    assert done.code == 0, done

    report = report_of(fork)

    assert [each["part"] for each in report["findings"]] == ["owls/food", "owls/nests"]
    [gap] = report["gaps"]
    assert gap.startswith("historian: ")
    assert "cancelled" in gap


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
    assert "6 passed" in done.stdout


def test_it_is_small():
    """What one writes for it is under 120 lines."""
    assert 50 < (EXAMPLE / "hooks.py").read_text().count("\n") < 120
