"""`make bench`: measure both stores, each beside its floor, and print the table of the README."""

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

from substrate import Client, WorkerOptions
from substrate.store.connect import open_store
from tests.bench import agents, floor, memory
from tests.bench.line import Line
from tests.bench.workloads import (
    Gate,
    Timed,
    empty,
    fan_out,
    gates,
    marks,
    resumable,
    sequential,
)
from tests.postgres import fresh_database, postgres

FUNCTIONS = [sequential, fan_out, resumable, empty]
LIMITS = WorkerOptions(concurrency=128, poll=timedelta(milliseconds=20))
STEPS = 500
RUNS = 64
EACH = 250
"""So many that one pause counts for no more than it is: Python looks through all of its objects for
garbage once in some 30,000 steps, for 20 ms, and a whole turn of the runs waits for that."""
STARTS = 1_000


@dataclass(frozen=True, slots=True)
class Bench:
    """A store to be measured: its URL, its floor, and the bytes it takes."""

    name: str
    url: str
    floor: Callable[[int], list[float]]
    size: Callable[[], int]


async def measure(bench: Bench) -> list[Line]:
    """Measure everything on one store, floor and engine in turn."""
    store = Timed(await open_store(bench.url))
    client = Client(store)
    lines: list[Line] = []
    async with client.work(FUNCTIONS, options=LIMITS):
        await finish(client, "warm-up", sequential, 200, "warm-up")
        lines += await one_by_one(client, bench)
        lines += await side_by_side(client, bench)
    # Without a worker here: it would say that nobody drives them.
    lines += await started_at_once(client)
    async with client.work(FUNCTIONS, options=LIMITS):
        lines += await fanned_out(client)
        lines += await empty_run(client, store)
        lines += await stored(client, bench)
    for steps, target in ((1_000, "< 20 ms"), (10_000, "< 150 ms")):
        lines.append(await resumed(client, steps, target))
    await store.close()
    return [*lines, *await agents.lines(bench.url), *await memory.lines(bench.url)]


async def finish(client: Client, id: str, function: object, *args: object) -> float:
    """Run to the end; return the seconds it took."""
    began = time.perf_counter()
    await client.start(function, *args, id=id)  # type: ignore[arg-type]
    await client.result(id)
    return time.perf_counter() - began


async def one_by_one(client: Client, bench: Bench) -> list[Line]:
    """One step after another, in three rounds that alternate with the floor."""
    raw: list[float] = []
    for i in range(3):
        raw += await asyncio.to_thread(bench.floor, STEPS)
        await finish(client, f"sequential/{i}", sequential, STEPS, "sequential")
    ours, least = median(marks["sequential"]), median(raw)
    marks["floor"] = raw
    is_sqlite = bench.name == "SQLite"
    over = f"+{(ours - least) * 1e3:.2f} ms" if is_sqlite else f"{ours / least:.2f} ×"
    return [
        Line("raw durable commit of one row, p50", f"{least * 1e3:.2f} ms", ""),
        Line(
            "one sequential step, p50",
            f"{ours * 1e3:.2f} ms ({over})",
            "floor + 0.2 ms" if is_sqlite else "≤ 1.35 ×",
        ),
    ]


async def side_by_side(client: Client, bench: Bench) -> list[Line]:
    """Many runs at once, from when all are started, beside the rate of raw commits."""
    gate = gates["concurrent"] = Gate()
    ids = [f"concurrent/{i}" for i in range(RUNS)]
    for id_ in ids:
        await client.start(sequential, EACH, "concurrent", id=id_)
    while gate.waiting < RUNS:
        await asyncio.sleep(0.01)
    began = time.perf_counter()
    gate.opened.set()
    for id_ in ids:
        await client.result(id_)
    rate = RUNS * EACH / (time.perf_counter() - began)
    raw_rate = 1 / (sum(marks["floor"]) / len(marks["floor"]))
    p99 = quantiles(marks["concurrent"], n=100)[98] * 1e3
    return [
        Line(
            f"{RUNS} concurrent runs",
            f"{rate:,.0f} steps/s ({rate / raw_rate:.1f} × raw)",
            "≥ 5.5 × raw",
        ),
        Line(f"{RUNS} concurrent runs, a step's p99", f"{p99:.1f} ms", "≤ 10 ms"),
    ]


async def started_at_once(client: Client) -> list[Line]:
    """Calls from outside, many at once, of runs that nobody drives."""
    numbers = iter(range(STARTS))

    async def lane() -> None:
        for i in numbers:
            await client.start(empty, id=f"started/{i}", queue="started")

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(RUNS)))
    rate = STARTS / (time.perf_counter() - began)
    async with client.work(FUNCTIONS, queue="started", options=LIMITS) as worker:
        await worker.run_until_idle()
    return [Line(f"{RUNS} `start()` at a time", f"{rate:,.0f} a second", "")]


async def fanned_out(client: Client) -> list[Line]:
    """A thousand steps side by side in one run."""
    for i in range(3):
        await finish(client, f"fan/{i}", fan_out, 1_000, "async")
        await finish(client, f"plain/{i}", fan_out, 1_000, "plain")
    return [
        Line("fan-out of 1,000 async steps", f"{median(marks['fan-out async']) * 1e3:.0f} ms", ""),
        Line("fan-out of 1,000 plain steps", f"{median(marks['fan-out plain']) * 1e3:.0f} ms", ""),
    ]


async def empty_run(client: Client, store: Timed) -> list[Line]:
    """A run that does nothing, from start to result in one process."""
    before, taken = (
        len(store.reached),
        [await finish(client, f"empty/{i}", empty) for i in range(50)],
    )
    commits = (len(store.reached) - before) / len(taken)
    return [
        Line("empty run, start to result", f"{median(taken) * 1e3:.2f} ms", ""),
        Line("empty run, commits", f"{commits:.0f}", "≤ 2"),
    ]


async def stored(client: Client, bench: Bench) -> list[Line]:
    """How many bytes a step of 200 bytes takes, with its indexes."""
    before = await asyncio.to_thread(bench.size)
    await finish(client, "stored", sequential, 4_000, "stored")
    per_step = (await asyncio.to_thread(bench.size) - before) / 4_000
    return [Line("bytes stored for a step of 200 B", f"{per_step:.0f}", "")]


async def resumed(client: Client, steps: int, target: str) -> Line:
    """From the claim of a run with so many recorded steps to its first new step."""
    id_ = f"resume/{steps}"
    async with client.work(FUNCTIONS, options=LIMITS):
        await client.start(resumable, steps, id=id_)
        while (await client.get(id_)).last_seq < steps + 2:
            await asyncio.sleep(0.05)
    await client.signal(id_, "go")
    async with client.work(FUNCTIONS, options=LIMITS):
        await client.result(id_)
    taken = marks["arrival"][-1] - marks["claimed"][-1]
    return Line(f"resume {steps:,} steps to the first new one", f"{taken * 1e3:.0f} ms", target)


KIT = Path(__file__).resolve().parents[2]
FORK = "from agent.loop import agent, hooks"
ANSWERING = f"{FORK}; import asyncio; asyncio.run(hooks.model.adapter())"


def import_times() -> list[Line]:
    """How long imports take, over a bare interpreter, with everything compiled.

    The fork is the template; with its provider, it is ready to send its first request.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "ANTHROPIC_API_KEY": "none",
            "PYTHONPATH": f"{KIT}:{KIT / 'template'}",
            "PYTHONPYCACHEPREFIX": folder,
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def run(code: str) -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            return time.perf_counter() - began

        def measured(code: str) -> str:
            run(code)
            pairs = [(run(code), run("pass")) for _ in range(5)]
            taken = median(ours for ours, _ in pairs) - median(bare for _, bare in pairs)
            return f"{taken * 1e3:.0f} ms"

        return [
            Line("`import substrate`", measured("import substrate"), "≤ 150 ms"),
            Line("import a fork: no SDK", measured(FORK), ""),
            Line("a fork with Anthropic's SDK, ready to ask", measured(ANSWERING), ""),
        ]


def main() -> None:
    """Measure, and print a Markdown table."""
    tables: dict[str, list[Line]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "bench.db"
        bench = Bench(
            "SQLite",
            f"sqlite:///{path}",
            lambda times: floor.sqlite_floor(path, times),
            lambda: floor.sqlite_size(path),
        )
        tables["SQLite"] = asyncio.run(measure(bench))
    marks.clear()
    with postgres() as dsn, fresh_database(dsn) as url:
        bench = Bench(
            "Postgres",
            url,
            lambda times: floor.postgres_floor(url, times),
            lambda: floor.postgres_size(url),
        )
        tables["Postgres"] = asyncio.run(measure(bench))
    fdatasync = floor.fdatasync_p50() * 1e3
    print(
        f"Python {platform.python_version()}, {platform.machine()}, fdatasync {fdatasync:.2f} ms\n"
    )
    print("| what | SQLite | Postgres | target |\n|---|---|---|---|")
    for ours, theirs in zip(tables["SQLite"], tables["Postgres"], strict=True):
        target = ours.target if ours.target == theirs.target else f"{ours.target}; {theirs.target}"
        print(f"| {ours.what} | {ours.measured} | {theirs.measured} | {target} |")
    for line in import_times():
        print(f"| {line.what} | {line.measured} | | {line.target} |")


if __name__ == "__main__":
    main()
