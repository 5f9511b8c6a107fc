"""Many agents write in one namespace, in processes that are killed: `make memory`.

What each of them says follows from a seed alone, and so does what has to be there in the end: how
many facts there are, how many of them several have said, where they disagree, and by which rule
that is decided. So two runs with one seed give one table, however often and whenever they are
killed. It is printed for both stores, two runs each, and is an error if one differs.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from substrate import Context, WorkerOptions, connect, durable
from substrate.values.memory import Policy
from tests.postgres import create_database, postgres
from tests.processes import Process
from tests.stores import database, eventually

NS = "acme/crowd"
AT_A_TIME = 20
LIMITS = WorkerOptions(
    poll=timedelta(milliseconds=100),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)
POLICIES = (Policy.LATEST, Policy.SUREST, Policy.SOURCES, Policy.VOTE, Policy.ASK)
VOTERS = tuple(f"agent/{i}" for i in range(10))
NEED = 1
"""Voters who must say the same. A value that as many say as another one is not decided for."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one agent says."""

    subject: str
    predicate: str
    #: Which of the values of its subject; what is said alike has the same.
    value: int
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many agents say how much, from which seed."""

    agents: int
    total: int
    seed: int
    duplicates: float = 0.3
    conflicts: float = 0.05

    def plan(self) -> Sequence[Sequence[Said]]:
        """Return what each agent says."""
        chosen = random.Random(self.seed)
        repeated, disputed = round(self.total * self.duplicates), round(self.total * self.conflicts)
        own = self.total - repeated - disputed
        plan: list[list[Said]] = [[] for _ in range(self.agents)]
        by: dict[int, list[int]] = {}
        for i in range(own):
            by[i] = [chosen.randrange(self.agents)]
            plan[by[i][0]].append(_said(i, 0, chosen))
        # Of each policy as many as of the others, and each agent says one value of a subject.
        for i in chosen.sample([i for i in range(own) if i % 6 < len(POLICIES)], disputed):
            agent = _another(chosen, self.agents, by[i])
            by[i].append(agent)
            plan[agent].append(_said(i, 1, chosen))
        for _ in range(repeated):
            i = chosen.randrange(own)
            while len(by[i]) >= self.agents:
                i = chosen.randrange(own)
            agent = _another(chosen, self.agents, by[i])
            by[i].append(agent)
            plan[agent].append(_said(i, 0, chosen))
        for some in plan:
            chosen.shuffle(some)
        return plan

    def table(self) -> dict[str, int]:
        """Return what has to be there in the end, of the plan alone."""
        said: dict[tuple[str, str], dict[int, set[int]]] = {}
        for agent, some in enumerate(self.plan()):
            for each in some:
                values = said.setdefault((each.subject, each.predicate), {})
                values.setdefault(each.value, set()).add(agent)
        facts = [agents for values in said.values() for agents in values.values()]
        disputed = {key: values for key, values in said.items() if len(values) > 1}
        found = Counter({f"decided by {policy}": 0 for policy in POLICIES[:-1]})
        for (_, predicate), values in disputed.items():
            policy = Policy(predicate)
            votes = sorted(len([v for v in who if v < len(VOTERS)]) for who in values.values())
            is_undecided = votes[-1] < NEED or votes[-1] == votes[-2]
            is_open = policy is Policy.ASK or (policy is Policy.VOTE and is_undecided)
            found["open" if is_open else f"decided by {policy}"] += 1
        return {
            "said": sum(map(len, facts)),
            "distinct": len(facts),
            "merged": sum(len(agents) - 1 for agents in facts),
            "in conflict": len(disputed),
            **found,
        }


def _another(chosen: random.Random, agents: int, but: Sequence[int]) -> int:
    return chosen.choice([agent for agent in range(agents) if agent not in but])


def _said(i: int, value: int, chosen: random.Random) -> Said:
    """Return a fact in one of the ways in which it can be written."""
    predicate = [*map(str, POLICIES), "is_said"][i % 6]
    number = 2 * i + value
    day = date(2000, 1, 1) + timedelta(days=number)
    ways = [
        [f"Value {number} of it", f"VALUE {number}  OF IT", f"value {number} of It"],
        [f"{number}.50 km", f"{number}.50 Kilometers", f"{number}.50km"],
        [f"{day:%Y-%m-%d}", f"{day.day} {day:%B} {day.year}", f"{day:%b} {day.day}, {day.year}"],
    ][i % 3]
    confidence = 0.9 if value else 0.5
    return Said(f"Thing {i}", predicate, value, chosen.choice(ways), confidence)


@durable
async def speaker(ctx: Context, agents: int, total: int, seed: int, number: int) -> None:
    """Declare what becomes of conflicts, as all the others do, and say one's facts."""
    memory = ctx.memory(NS)
    for policy in POLICIES:
        voting: dict[str, Any] = {}
        if policy is Policy.VOTE:
            voting = {"voters": VOTERS, "need": NEED}
        await memory.declare(policy, policy, **voting)
    said = Crowd(agents, total, seed).plan()[number]
    for first in range(0, len(said), AT_A_TIME):
        await ctx.gather(
            *(
                memory.remember(each.subject, each.predicate, each.text, confidence=each.confidence)
                for each in said[first : first + AT_A_TIME]
            )
        )


def work(url: str, folder: Path, agents: int) -> None:
    """Drive all agents to their end, in a process that may be killed."""
    os.chdir(folder)
    asyncio.run(_work(url, agents))


async def _work(url: str, agents: int) -> None:
    async with connect(url) as client, client.work([speaker], options=LIMITS):
        for i in range(agents):
            await client.result(f"agent/{i}")


async def speak(crowd: Crowd, url: str, folder: Path, *, processes: int, kills: int) -> int:
    """Let all of them speak, kill processes at random meanwhile; return how many were killed."""
    chosen = random.Random(crowd.seed + 1)
    async with connect(url) as client:
        for i in range(crowd.agents):
            asked = (crowd.agents, crowd.total, crowd.seed, i)
            await client.start(speaker, *asked, id=f"agent/{i}")
    workers = [_worker(url, folder, crowd.agents) for _ in range(processes)]
    killed = 0
    for moment in sorted(chosen.randrange(1, crowd.total * 9 // 10) for _ in range(kills)):
        await eventually(partial(_has, url, moment), 300)
        victim = chosen.randrange(processes)
        if workers[victim].is_alive():
            workers[victim].kill()
            killed += 1
        workers[victim].join()
        workers[victim] = _worker(url, folder, crowd.agents)
    for worker in workers:
        await asyncio.to_thread(worker.join, 600)
        assert worker.exitcode == 0, worker.exitcode
    return killed


def _worker(url: str, folder: Path, agents: int) -> Process:
    worker = Process(target=work, args=(url, folder, agents))
    worker.start()
    return worker


def _has(url: str, rows: int) -> bool:
    with database(url) as db:
        count: int = db.value("SELECT count(*) FROM facts")
    return count >= rows


def found(url: str) -> dict[str, int]:
    """Return what is there in the end, counted in the tables."""
    of = f"FROM facts WHERE ns = '{NS}' AND gone_n IS NULL"
    with database(url) as db:
        decided = dict(
            db.rows("SELECT policy, count(*) FROM decisions WHERE gone_n IS NULL GROUP BY policy")
        )
        disputed = db.value(
            f"SELECT count(*) FROM (SELECT 1 {of} GROUP BY subject_key, predicate"
            " HAVING count(DISTINCT object_key) > 1) AS disputed"
        )
        said, distinct = (
            db.value(f"SELECT count(*) {of}"),
            db.value(f"SELECT count(DISTINCT doc) {of}"),
        )
        keys = "DISTINCT subject_key, predicate, object_key"
        once = db.value(f"SELECT count(*) FROM (SELECT {keys} {of}) AS once")
    assert once == distinct, "two facts say the same"
    return {
        "said": said,
        "distinct": distinct,
        "merged": said - distinct,
        "in conflict": disputed,
        **{f"decided by {policy}": decided.get(policy, 0) for policy in POLICIES[:-1]},
        "open": disputed - sum(decided.values()),
    }


async def main(agents: int, total: int, seed: int) -> int:
    """Let them speak twice on each store; print one table, and whether all four are equal."""
    crowd = Crowd(agents, total, seed)
    expected = crowd.table()
    columns: dict[str, dict[str, int | str]] = {"of the plan": dict(expected)}
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        for again in range(2):
            for kind in ("SQLite", "Postgres"):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                is_sqlite = kind == "SQLite"
                url = f"sqlite:///{folder}/runs.db" if is_sqlite else create_database(server)
                begun = time.monotonic()
                killed = await speak(crowd, url, folder, processes=4, kills=12)
                took = time.monotonic() - begun
                there = found(url)
                columns[f"{kind}, run {again + 1}"] = {
                    **there,
                    "processes killed": killed,
                    "facts a second": round(total / took),
                }
                print(f"{kind}, run {again + 1}: {took:.0f} s, {killed} kills", file=sys.stderr)
    names = list(next(reversed(columns.values())))
    print("|", " | ".join(["", *columns]), "|")
    print("|", " | ".join(["---", *("---:" for _ in columns)]), "|")
    for name in names:
        print("|", " | ".join([name, *(str(each.get(name, "")) for each in columns.values())]), "|")
    is_equal = all(
        each.get(name) == expected[name] for each in columns.values() for name in expected
    )
    print("\nall equal" if is_equal else "\nNOT equal")
    return 0 if is_equal else 1
