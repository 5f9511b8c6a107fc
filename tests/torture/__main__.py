"""`make torture`: minutes of kills, stops and restarts; at the end, what became of everything.

Ends with exit code 1 where anything was lost, done twice, or written by who had lost its claim.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from substrate.testing import Moment
from tests.everything import Case, check_nothing_twice, prepare
from tests.postgres import fresh_database, postgres, server_pid
from tests.torture.late import late_calls
from tests.torture.pooler import is_installed, pooled
from tests.torture.storm import Tally, storm
from tests.torture.takeover import takeover_ms

RUNS = int(os.environ.get("TORTURE_RUNS", "600"))
TAKEOVERS = 20
LATE_ROUNDS = 4
MUST_BE_NONE = (
    "lost",
    "once called twice",
    "idempotent with two keys",
    "transactions repeated",
    "pure repeated after its commit",
    "rows left open",
    "stale writes committed",
)

console = Console()


async def crash_matrix(url: str, folder: Path, tally: Tally) -> None:
    """Kill a run of everything at each of its commits, on both sides."""
    for moment in Moment:
        for boundary in count(1):
            world = folder / f"{moment}-{boundary}"
            world.mkdir(parents=True)
            where = url or f"sqlite:///{world}/runs.db"
            case = Case(where, f"crash/{moment}/{boundary}", world)
            await prepare(case)
            if case.drive(boundary, moment) == 0:
                break
            called, recorded = case.outside.notes, case.recorded()
            if case.drive() != 0:
                tally.counts["lost"] += 1
                tally.faults.append(f"killed at {boundary}, {moment}: {case}")
                continue
            tally.counts["pure repeated"] += check_nothing_twice(case, called, recorded)
            tally.counts["kills"] += 1
            tally.counts["runs"] += 1


async def takeovers(url: str, folder: Path) -> str:
    """Return the median and the longest of twenty takeovers."""
    found = [await takeover_ms(url, folder / f"{i}", f"takeover/{i}") for i in range(TAKEOVERS)]
    return f"p50 {median(found):.0f} ms, max {max(found):.0f} ms"


@contextmanager
def part(name: str, tallies: dict[str, Tally]) -> Iterator[tuple[Path, Tally]]:
    """Do one part in a folder of its own, and say so."""
    folder = Path(tempfile.mkdtemp(prefix="ostinato-torture-"))
    tally = tallies.setdefault(name, Tally())
    try:
        with console.status(name):
            yield folder, tally
        counts = ", ".join(f"{what} {n}" for what, n in sorted(tally.counts.items()))
        console.print(f"[bold]{name}[/]: {counts}", highlight=False)
        for fault in tally.faults[:20]:
            console.print(f"  [red]{fault}[/]", highlight=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sqlite_parts(tallies: dict[str, Tally]) -> None:
    """Everything that is done to SQLite."""
    with part("SQLite, killed at each commit", tallies) as (folder, tally):
        asyncio.run(crash_matrix("", folder, tally))
    with part("SQLite, a storm", tallies) as (folder, tally):
        asyncio.run(storm(f"sqlite:///{folder}/runs.db", folder, RUNS, (), tally))
    with part("SQLite, late calls", tallies) as (folder, tally):
        asyncio.run(late_calls(f"sqlite:///{folder}/runs.db", folder, LATE_ROUNDS, tally))


def postgres_parts(tallies: dict[str, Tally]) -> None:
    """Everything that is done to Postgres."""
    with postgres() as dsn:
        with fresh_database(dsn) as url, part("Postgres, killed at each commit", tallies) as at:
            asyncio.run(crash_matrix(url, *at))
        with fresh_database(dsn) as url, part("Postgres, a storm", tallies) as (folder, tally):
            troubles = (lambda: restart(dsn), lambda: cut_backends(dsn))
            asyncio.run(storm(url, folder, RUNS, troubles, tally))
        with fresh_database(dsn) as url, part("Postgres, late calls", tallies) as (folder, tally):
            asyncio.run(late_calls(url, folder, LATE_ROUNDS, tally))
        for mode in ("session", "transaction"):
            name = f"Postgres, a storm through PgBouncer ({mode} pooling)"
            if not is_installed():
                console.print(f"[yellow]{name}: left out, since pgbouncer is not installed[/]")
                continue
            with (
                fresh_database(dsn) as url,
                pooled(url, mode) as through,
                part(name, tallies) as (folder, tally),
            ):
                asyncio.run(storm(through, folder, RUNS // 3, (lambda: cut_backends(dsn),), tally))


def restart(dsn: str) -> str:
    """Kill the server; its keeper starts it again on the same data."""
    os.kill(server_pid(dsn), signal.SIGKILL)
    return "server restarts"


def cut_backends(dsn: str) -> str:
    """Cut every connection that is open."""
    try:
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
    except psycopg.Error:
        return "cuts of a server that was away"
    return "cuts of all connections"


def takeover_parts() -> dict[str, str]:
    """Measure takeovers with nothing beside them."""
    found = {}
    with part("takeover, SQLite", {}) as (folder, _):
        found["SQLite"] = asyncio.run(takeovers(f"sqlite:///{folder}/runs.db", folder))
    with postgres() as dsn, fresh_database(dsn) as url, part("takeover, Postgres", {}) as (f, _):
        found["Postgres"] = asyncio.run(takeovers(url, f))
    return found


def main() -> int:
    """Do it all; print the sums."""
    tallies: dict[str, Tally] = {}
    sqlite_parts(tallies)
    postgres_parts(tallies)
    times = takeover_parts()
    sums = Tally()
    for tally in tallies.values():
        sums.counts.update(tally.counts)
    table = Table("what", "count", title="What became of everything")
    for what, n in sorted(sums.counts.items()):
        if what not in MUST_BE_NONE:
            table.add_row(what, f"{n:,}")
    for what in MUST_BE_NONE:
        table.add_row(what, f"[{'red' if sums.counts[what] else 'green'}]{sums.counts[what]}[/]")
    for store, time in times.items():
        table.add_row(f"from the kill of a worker to the next step, {store}", time)
    console.print(table)
    return 1 if any(sums.counts[what] for what in MUST_BE_NONE) else 0


if __name__ == "__main__":
    sys.exit(main())
