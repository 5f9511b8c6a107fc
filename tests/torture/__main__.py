"""`make torture`: minutes of kills, stops and restarts; at the end, what became of everything.

Ends with exit code 1 where anything was lost, done twice, buried, left open, or written by who had
lost its claim. `python -m tests.torture family scopes` does only what is named so.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from substrate.testing import Side
from tests import interventions
from tests.everything import Case, check_nothing_twice, prepare
from tests.postgres import fresh_database, postgres, server_pid
from tests.torture.family import family_storm
from tests.torture.late import late_calls
from tests.torture.pooler import is_installed, pooled
from tests.torture.scopes import cut_off_in_scopes
from tests.torture.silence import silent_connections
from tests.torture.storm import storm
from tests.torture.takeover import takeover_ms
from tests.torture.tally import (
    BURIED,
    CRASHES,
    LEFT_BEHIND,
    LEFT_OPEN,
    LOST,
    NEVER_BACK,
    ONCE_TWICE,
    Tally,
)

RUNS = int(os.environ.get("TORTURE_RUNS", "1200"))
TAKEOVERS = 15
LATE_ROUNDS = 3
FAMILY_S = 25.0
MUST_BE_NONE = (
    LOST,
    BURIED,
    ONCE_TWICE,
    "idempotent with two keys",
    "transactions repeated",
    "pure repeated after its commit",
    LEFT_OPEN,
    "stale writes committed",
    CRASHES,
    LEFT_BEHIND,
    NEVER_BACK,
)

console = Console()


@dataclass(slots=True)
class Report:
    """What each part has come to, and what was measured."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[tuple[Path, Tally]]:
        """Do one part in a folder of its own, and say so."""
        folder = Path(tempfile.mkdtemp(prefix="ostinato-torture-"))
        tally = self.tallies.setdefault(name, Tally())
        began = time.monotonic()
        try:
            with console.status(name):
                yield folder, tally
            counts = ", ".join(f"{what} {n}" for what, n in sorted(tally.counts.items()))
            took = f"{time.monotonic() - began:.0f} s"
            console.print(f"[bold]{name}[/] ({took}): {counts or 'done'}", highlight=False)
            for fault in tally.faults[:20]:
                console.print(f"  [red]{fault}[/]", highlight=False)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def crash_matrix(url: str, folder: Path, tally: Tally) -> None:
    """Kill a run of everything at each of its commits, or each second one, on both sides."""
    for moment in Side:
        for boundary in count(1, 2 if url else 1):
            world = folder / f"{moment}-{boundary}"
            world.mkdir(parents=True)
            where = url or f"sqlite:///{world}/runs.db"
            case = Case(where, f"crash/{moment}/{boundary}", world)
            await prepare(case)
            if case.drive(boundary, moment) == 0:
                break
            called, recorded = case.outside.notes, case.recorded()
            if case.drive() != 0:
                tally.fault(LOST, f"killed at {boundary}, {moment}: {case}")
                break
            tally.counts["pure repeated"] += check_nothing_twice(case, called, recorded)
            tally.counts["kills"] += 1
            tally.counts["runs"] += 1


async def intervention_matrix(url: str, folder: Path, tally: Tally) -> None:
    """Kill at commits where people and stopping workers intervene, on both sides."""
    for moment in Side:
        for boundary in count(1, 4 if url else 2):
            world = folder / f"{moment}-{boundary}"
            world.mkdir(parents=True)
            where = url or f"sqlite:///{world}/runs.db"
            case = interventions.Case(where, f"{moment}-{boundary}", world)
            if case.drive(boundary, moment) == 0:
                break
            if case.drive() != 0 or await case.ends() != interventions.ENDS:
                tally.fault(LOST, f"killed at {boundary}, {moment}: {case}")
                break
            for row in case.open_rows():
                tally.fault(LEFT_OPEN, row)
            tally.counts["kills"] += 1
            tally.counts["runs"] += len(interventions.ENDS)


def commits(report: Report) -> None:
    """Processes are killed at each commit."""
    for name, matrix in (
        ("at commits", crash_matrix),
        ("where people act", intervention_matrix),
    ):
        with report.part(f"SQLite, killed {name}") as at:
            asyncio.run(matrix("", *at))
        with (
            postgres() as dsn,
            fresh_database(dsn) as url,
            report.part(f"Postgres, killed {name}") as at,
        ):
            asyncio.run(matrix(url, *at))


def storms(report: Report) -> None:
    """Many runs of everything, while workers are killed and stopped, and the server restarts."""
    with report.part("SQLite, a storm") as (folder, tally):
        asyncio.run(storm(f"sqlite:///{folder}/runs.db", folder, RUNS, (), tally))
    with postgres() as dsn:
        with fresh_database(dsn) as url, report.part("Postgres, a storm") as (folder, tally):
            troubles = (lambda: restart(dsn), lambda: cut_backends(dsn))
            asyncio.run(storm(url, folder, RUNS, troubles, tally))
        for mode in ("session", "transaction"):
            name = f"Postgres, a storm through PgBouncer ({mode} pooling)"
            if not is_installed():
                console.print(f"[yellow]{name}: left out, since pgbouncer is not installed[/]")
                continue
            with (
                fresh_database(dsn) as url,
                pooled(url, mode) as through,
                report.part(name) as (folder, tally),
            ):
                asyncio.run(storm(through, folder, RUNS // 12, (lambda: cut_backends(dsn),), tally))


def late(report: Report) -> None:
    """Workers that are stopped with a call before them, past their lease."""
    with report.part("SQLite, late calls") as (folder, tally):
        asyncio.run(late_calls(f"sqlite:///{folder}/runs.db", folder, LATE_ROUNDS, tally))
    with (
        postgres() as dsn,
        fresh_database(dsn) as url,
        report.part("Postgres, late calls") as (folder, tally),
    ):
        asyncio.run(late_calls(url, folder, LATE_ROUNDS, tally))


def family(report: Report) -> None:
    """Trees of runs whose workers are killed each 50 to 500 ms."""
    with report.part("SQLite, a storm on children") as (folder, tally):
        asyncio.run(family_storm(f"sqlite:///{folder}/runs.db", folder, 100, FAMILY_S, tally))
    with (
        postgres() as dsn,
        fresh_database(dsn) as url,
        report.part("Postgres, a storm on children") as (folder, tally),
    ):
        asyncio.run(family_storm(url, folder, 100, FAMILY_S, tally))


def scopes(report: Report) -> None:
    """Workers that are cut off by cancel scopes in a process that lives on."""
    with report.part("SQLite, cancel scopes") as (folder, tally):
        asyncio.run(cut_off_in_scopes(f"sqlite:///{folder}/runs.db", folder, 100, 150, tally))
    with (
        postgres() as dsn,
        fresh_database(dsn) as url,
        report.part("Postgres, cancel scopes") as (folder, tally),
    ):
        asyncio.run(cut_off_in_scopes(url, folder, 100, 150, tally))


def silence(report: Report) -> None:
    """Connections to Postgres that fall silent, and stay open."""
    with (
        postgres() as dsn,
        fresh_database(dsn) as url,
        report.part("Postgres, silent connections") as (folder, tally),
    ):
        asyncio.run(silent_connections(url, folder, 10, 2, tally))


def takeovers(report: Report) -> None:
    """How long it takes until the runs of a killed worker go on, with nothing beside it."""
    with report.part("takeover, SQLite") as (folder, _):
        url = f"sqlite:///{folder}/runs.db"
        report.measured["SQLite"] = asyncio.run(_takeovers(url, folder))
    with postgres() as dsn, fresh_database(dsn) as url, report.part("takeover, Postgres") as at:
        report.measured["Postgres"] = asyncio.run(_takeovers(url, at[0]))


async def _takeovers(url: str, folder: Path) -> str:
    """Return the median and the longest of some takeovers."""
    found = [await takeover_ms(url, folder / f"{i}", f"takeover/{i}") for i in range(TAKEOVERS)]
    return f"p50 {median(found):.0f} ms, max {max(found):.0f} ms"


Kind = Callable[[Report], None]
KINDS: dict[str, Kind] = {
    kind.__name__: kind for kind in (commits, storms, late, family, scopes, silence, takeovers)
}


def restart(dsn: str) -> str:
    """Kill the server; its keeper starts it again on the same data."""
    try:
        os.kill(server_pid(dsn), signal.SIGKILL)
    except (OSError, ValueError):  # no pid file, or one that is not written yet, or a dead one's
        return "kills of a server that was away"
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


def sums_of(report: Report) -> Table:
    """Return what became of everything, and what was measured."""
    sums = Tally()
    for tally in report.tallies.values():
        sums.counts.update(tally.counts)
    table = Table("what", "count", title="What became of everything")
    for what, n in sorted(sums.counts.items()):
        if what not in MUST_BE_NONE:
            table.add_row(what, f"{n:,}")
    for what in MUST_BE_NONE:
        table.add_row(what, f"[{'red' if sums.counts[what] else 'green'}]{sums.counts[what]}[/]")
    for store, took in report.measured.items():
        table.add_row(f"from the kill of a worker to the next step, {store}", took)
    return table


def main(wanted: list[str]) -> int:
    """Do the kinds that are wanted, or all; print the sums."""
    if unknown := [name for name in wanted if name not in KINDS]:
        console.print(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return 2
    report, began = Report(), time.monotonic()
    for name in wanted or KINDS:
        KINDS[name](report)
    console.print(sums_of(report))
    console.print(f"{time.monotonic() - began:.0f} s in all", highlight=False)
    return (
        1
        if any(tally.counts[what] for tally in report.tallies.values() for what in MUST_BE_NONE)
        else 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
