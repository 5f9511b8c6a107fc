"""The analyst of the examples as a fork in a folder, and its run in a process of its own."""

import asyncio
import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from examples.analyst.shop import build
from substrate import Client, WorkerOptions
from substrate.agent.task import Task
from substrate.store.connect import open_store
from substrate.testing import Side, kill_at_commit
from tests.processes import driven

KIT = Path(__file__).resolve().parent.parent
QUESTION = "Why did revenue fall in the last quarter?"
LIMITS = WorkerOptions(lease=timedelta(milliseconds=500), poll=timedelta(milliseconds=20))


def make_fork(folder: Path) -> Path:
    """Copy the template's package and the analyst over it, and make the shop's database."""
    shutil.copytree(KIT / "template" / "agent", folder / "agent")
    for file in (KIT / "examples" / "analyst").glob("[!t]*.py"):
        shutil.copy(file, folder / "agent")
    shutil.copy(KIT / "examples" / "analyst" / "tally.py", folder / "agent")
    build(folder / "shop.db")
    return folder


@dataclass(frozen=True, slots=True)
class Outside:
    """What was counted outside the journal: how often each thing was called."""

    calls: Counter[str]

    @classmethod
    def read(cls, tally: Path) -> "Outside":
        """Read a tally file."""
        lines = tally.read_text(encoding="utf-8").splitlines() if tally.exists() else []
        return cls(Counter(lines))

    def of(self, kind: str) -> Counter[str]:
        """Return the counts of one kind of effect, by what was called."""
        prefix = f"{kind} "
        return Counter(
            {k.removeprefix(prefix): n for k, n in self.calls.items() if k.startswith(prefix)}
        )

    @property
    def repeatable(self) -> Counter[str]:
        """Return how often the model and each pure tool were called."""
        pure = Counter[str]()
        for what, n in self.of("pure").items():
            pure[what.split(" ")[0]] += n
        return pure + Counter({"model": self.of("model").total()})


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the analyst: where it lives, and the commit at which its process ends."""

    folder: Path
    url: str
    run_id: str
    tally: Path
    answer: Path

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int:
        """Drive the run in a process of its own until it ends; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    """Be the process: start the run or go on with it, and write down its answer."""
    os.chdir(case.folder)
    sys.path.insert(0, str(case.folder))
    os.environ["ANALYST_TALLY"] = str(case.tally)
    os.environ.pop("ANTHROPIC_API_KEY", None)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    from agent.loop import agent

    store = await open_store(case.url)
    client = Client(kill_at_commit(store, boundary, moment))
    async with client.work([agent], options=LIMITS):
        await client.start(agent, Task(QUESTION), id=case.run_id)
        answer = await client.result(case.run_id)
    case.answer.write_text(json.dumps(answer), encoding="utf-8")
    await store.close()
