"""Many runs of everything, on workers that are killed and stopped all the time.

The world outside keeps what was really done, and when; the database what was recorded. Afterwards
both are compared, and what is counted is told.
"""

import asyncio
import logging
import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Client, RunDead, WorkerOptions, connect
from substrate.values.errors import StoreUnreachable
from tests.crew import WorkerProcess
from tests.everything import FUNCTIONS, RESULT, SIGNALS, Case, everything, prepare
from tests.processes import Process
from tests.stores import database
from tests.torture.tally import BURIED, LEFT_OPEN, LOST, Tally

LEASE = timedelta(seconds=1)
WORKERS = 3
PAUSE_S = 0.4
STOPPED_S = 2.0
SLACK_MS = 50
"""By how much the clocks of two processes of one host, and a commit, may differ."""

Trouble = Callable[[], str]


async def storm(
    url: str, folder: Path, runs: int, troubles: Sequence[Trouble], tally: Tally
) -> None:
    """Drive so many runs to their end through all this trouble, and compare."""
    cases = [Case(url, f"storm/{i}", folder / f"{i}") for i in range(runs)]
    for case in cases:
        case.folder.mkdir(parents=True)
        await prepare(case)
    async with connect(url) as client:
        for case in cases:
            await client.start(everything, str(case.folder), 0, id=case.run_id)
        chaos = asyncio.create_task(_trouble(url, troubles, tally))
        signals = asyncio.create_task(_signal(client, cases, tally))
        results = [asyncio.create_task(_result(client, case, tally)) for case in cases]
        try:
            await _all_or_first_failure(results, (chaos, signals))
        finally:
            for each in (*results, chaos, signals):
                each.cancel()
            await asyncio.wait([*results, chaos, signals])
    for case, result in zip(cases, results, strict=True):
        _compare(case, result.result(), tally)
    tally.counts["runs"] += runs
    tally.counts["children"] += runs * 2
    tally.counts["stale writes committed"] += _stale_writes(url)
    tally.counts["claims, by wake-ups and takeovers"] += _claims(url)


async def _all_or_first_failure(
    results: Sequence[asyncio.Task[Any]], beside: Sequence[asyncio.Task[None]]
) -> None:
    """Return when all results are there; raise what ended a task beside them, at once."""
    waiting: set[asyncio.Task[Any]] = {*results, *beside}
    while not all(result.done() for result in results):
        ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


async def _trouble(url: str, troubles: Sequence[Trouble], tally: Tally) -> None:
    """Keep workers running, and let none of them be at peace."""
    chance = random.Random(7)
    with ExitStack() as stack:
        workers = [_worker(url, stack) for _ in range(WORKERS)]
        while True:
            await asyncio.sleep(PAUSE_S * chance.uniform(0.5, 1.5))
            place = chance.randrange(WORKERS)
            kind = chance.random()
            if kind < 0.5 or (not troubles and kind < 0.8):
                workers[place].kill()
                workers[place] = _worker(url, stack)
                tally.counts["kills"] += 1
            elif kind < 0.7 or not troubles:
                workers[place].stop()
                await asyncio.sleep(STOPPED_S)
                workers[place].go_on()
                tally.counts["stops past the lease"] += 1
            else:
                tally.counts[await asyncio.to_thread(chance.choice(troubles))] += 1


async def _signal(client: Client, cases: Sequence[Case], tally: Tally) -> None:
    """Send each run what it waits for: some early, some when it has long been suspended."""
    chance = random.Random(11)
    waited_for_last = sorted(SIGNALS, key=lambda each: each[0] == "go")
    for case in cases:
        for name, value, dedup in waited_for_last:
            await _patiently(client, case.run_id, name, value, dedup)
            tally.counts["signals"] += 1
        await asyncio.sleep(chance.uniform(0, 0.1))


async def _patiently(client: Client, run_id: str, name: str, value: Any, dedup: str) -> None:
    while True:
        try:
            await client.signal(run_id, name, value, dedup)
        except StoreUnreachable:
            await asyncio.sleep(0.1)
        else:
            return


async def _result(client: Client, case: Case, tally: Tally) -> Any:
    """Wait for a result; a run that is dead, though it is innocent, is resumed."""
    while True:
        try:
            return await client.result(case.run_id)
        except StoreUnreachable:
            await asyncio.sleep(0.1)
        except RunDead:
            tally.fault(BURIED, case.run_id)
            await client.resume(case.run_id)
        except Exception as error:  # noqa: BLE001 - told at the end
            return f"{type(error).__name__}: {error}"


def _compare(case: Case, result: Any, tally: Tally) -> None:
    """Count what was lost, done twice, or left open."""
    if "RunDead" in str(result):
        tally.fault(BURIED, f"a child of {case.run_id}")
    elif result != RESULT:
        tally.fault(LOST, f"{case.run_id}: {result}")
    notes = case.outside.notes
    twice = [what for what, n in notes.items() if what.startswith("once") and n > 1]
    keys = {what for what in notes if what.startswith("idempotent")}
    tally.counts["once called twice"] += len(twice)
    tally.counts["idempotent with two keys"] += max(len(keys) - 1, 0)
    tally.counts["transactions repeated"] += max(case.entries() - 1, 0)
    tally.counts["pure repeated"] += sum(
        n - 1 for what, n in notes.items() if what.startswith("pure look")
    )
    late = _called_after_commit(case)
    tally.counts["pure repeated after its commit"] += len(late)
    tally.faults += [f"{case.run_id}: {what}" for what in (*twice, *late)]
    for row in case.open_rows():
        tally.fault(LEFT_OPEN, row)


def _called_after_commit(case: Case) -> list[str]:
    """Return the calls that were begun after their outcome had been committed.

    The first call of all is none of them, whatever the clock of a worker says that was stopped.
    """
    settled, times = case.settled_looks(), case.outside.notes
    last: dict[str, int] = {}
    for line in (case.folder / "times" / "notes").read_text().splitlines():
        at, _, what = line.split(" ", 2)
        last[what] = int(at)
    return [
        what
        for what, at in last.items()
        if what.startswith("pure look ")
        and times[what] > 1
        and at > settled.get(what[10:], at) + SLACK_MS
    ]


def _stale_writes(url: str) -> int:
    """Return how many rows of a run were written by an older claim than a row before them."""
    with database(url) as db:
        found: int = db.value(
            "SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (PARTITION BY run_id ORDER BY seq)"
            " AS newest FROM promises WHERE kind IN ('step', 'timer', 'signal')) AS rows"
            " WHERE epoch < newest"
        )
    return found


def _claims(url: str) -> int:
    """Return how many claims there were on all runs."""
    with database(url) as db:
        return int(db.value("SELECT sum(epoch) FROM runs"))


def _worker(url: str, stack: ExitStack) -> WorkerProcess:
    process = Process(target=_be_worker, args=(url,))
    process.start()
    stack.callback(_end, process)
    return WorkerProcess(process)


def _end(process: Any) -> None:
    with suppress(ProcessLookupError, ValueError):
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
    process.join()


def _be_worker(url: str) -> None:
    logging.getLogger("ostinato").setLevel(logging.CRITICAL)  # it is told a lot of trouble here
    asyncio.run(_work(url))


async def _work(url: str) -> None:
    limits = WorkerOptions(
        concurrency=16,
        lease=LEASE,
        poll=timedelta(milliseconds=50),
        idle_timeout=timedelta(seconds=0.2),
    )
    while True:
        with suppress(StoreUnreachable):
            async with connect(url) as client, client.work(FUNCTIONS, options=limits):
                await asyncio.Event().wait()
        await asyncio.sleep(0.1)
