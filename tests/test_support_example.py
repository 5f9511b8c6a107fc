"""The support desk: a large refund waits for a person, is paid once, and a denial releases it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fork import Fork, end
from tests.keeper import wait_until

KIT = Path(__file__).resolve().parent.parent
EXAMPLE = KIT / "examples" / "support"
RUNS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the template's package, and the example over it, as its README says."""
    shutil.copytree(KIT / "template" / "agent", tmp_path / "agent")
    (tmp_path / "tests").mkdir()
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, tmp_path / ("tests" if file.name.startswith("test_") else "agent"))
    return tmp_path


@pytest.fixture
def bank(folder: Path) -> Iterator[str]:
    """Start the bank, a process of its own; return its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "agent.bank", "0"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(KIT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.kill()


def book(folder: Path) -> dict[str, Any]:
    """Return what the bank has written down."""
    file = folder / "bank.json"
    return json.loads(file.read_text()) if file.exists() else {}


def pays(folder: Path) -> list[str]:
    """Return the orders that were paid, each time that one was."""
    return sorted(each["order"] for each in book(folder).get("pay", {}).values())


def test_its_own_tests(folder: Path) -> None:
    """Its hooks are tested as those of any fork are."""
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "asyncio_mode=auto",
            "tests",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{KIT}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_killed_while_a_person_thinks(folder: Path, store_url: str, bank: str) -> None:
    """It waits; every worker is killed; it is approved with none alive; a new one pays once."""
    fork = Fork(folder, store_url)
    env = {"BANK_URL": bank}
    run = fork.open("run", "Refund 4900 cents of order 42.", "--id", "large", **env)
    assert wait_until(lambda: "large" in fork.do("approvals").out, 30)
    run.send_signal(signal.SIGKILL)
    end(run)
    assert pays(folder) == []

    assert fork.do("approve", "large", "--by", "ada").code == 0

    assert pays(folder) == []
    done = fork.do("resume", "large", **env)
    assert "4900 cents of order 42 are refunded" in done.out, done
    assert pays(folder) == ["42"]


def test_a_denial_releases(folder: Path, store_url: str, bank: str) -> None:
    """The run fails with the reason, and what was reserved is released, once."""
    fork = Fork(folder, store_url)
    env = {"BANK_URL": bank}
    run = fork.open("run", "Refund 4900 cents of order 43.", "--id", "fraud", **env)
    assert wait_until(lambda: "fraud" in fork.do("approvals").out, 30)
    run.send_signal(signal.SIGKILL)
    end(run)
    fork.do("deny", "fraud", "--by", "ada", "--why", "sent back empty")

    done = fork.do("resume", "fraud", **env)

    assert done.code == 1
    assert "sent back empty" in done.err
    assert pays(folder) == []
    held, released = book(folder)["hold"], book(folder)["release"]
    assert [each["reservation"] for each in held.values()] == ["hold-1"]
    assert len(released) == 1


def test_decisions_that_race(folder: Path, postgres_url: str, bank: str) -> None:
    """Two workers, twenty runs, each decided by two people at once: one counts, each time."""
    fork = Fork(folder, postgres_url)
    for i in range(RUNS):
        fork.start(f"r/{i}", f"Refund 4900 cents of order {i}.")
    workers = [fork.open("worker", BANK_URL=bank) for _ in range(2)]
    try:
        gates: list[dict[str, Any]] = []

        def all_ask() -> bool:
            gates[:] = fork.do("approvals", "--json").document["gates"]
            return len(gates) == RUNS

        assert wait_until(all_ask, 60)
        moves = [(gate["gate"], word) for gate in gates for word in ("approve", "deny")]
        random.Random(7).shuffle(moves)

        def decide(move: tuple[str, str]) -> tuple[str, str, int]:
            gate, word = move
            why = ("--why", "no") if word == "deny" else ()
            return gate, word, fork.do(word, gate, "--by", word, *why).code

        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(decide, moves))

        codes: dict[str, dict[str, int]] = {}
        for gate, word, code in said:
            codes.setdefault(gate, {})[word] = code
        assert all(sorted(each.values()) == [0, 2] for each in codes.values())
        approved = sorted(
            gate["run"].removeprefix("r/") for gate in gates if codes[gate["gate"]]["approve"] == 0
        )
        runs = ("runs", "--limit", "99", "--json")
        assert wait_until(
            lambda: all(r["status"] in ("done", "failed") for r in fork.do(*runs).document["runs"]),
            60,
        )
    finally:
        for worker in workers:
            worker.kill()
            end(worker)
    assert pays(folder) == approved
    assert 0 < len(approved) < RUNS
    assert len(book(folder)["release"]) == RUNS - len(approved)
