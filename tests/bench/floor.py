"""The floor: one durable commit of one row with the same columns, and nothing else."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import apsw
import psycopg

from substrate.store.sqlite.opening import open_file
from tests.bench.workloads import PAYLOAD

COLUMNS = (
    "id, part, tenant, run_id, key, seq, kind, name, state, effect, fingerprint, input, value, "
    "epoch, created_at, settled_at"
)
VALUE = '{"text":"' + PAYLOAD["text"] + '"}'


def row(i: int) -> tuple[object, ...]:
    """Return a row as a step would write it, of a run that does not exist."""
    named = (f"floor#work.{i}", 0, "", "floor", f"work.{i}", i, "step", "work", "resolved", "pure")
    now = 1_795_000_000_000
    return (*named, "0123456789abcdef01234567", f"[{i}]", VALUE, 1, now, now)


def timed(commit: Callable[[int], object], times: int) -> list[float]:
    """Time so many commits, one after another."""
    taken = []
    for i in range(times):
        began = time.perf_counter()
        commit(i)
        taken.append(time.perf_counter() - began)
    return taken


def sqlite_floor(path: Path, times: int) -> list[float]:
    """Commit rows to the file, each in a transaction of its own; seconds for each."""
    database = open_file(path)
    database.set_busy_timeout(10_000)  # the worker that is measured beats meanwhile
    insert = f"INSERT INTO promises ({COLUMNS}) VALUES ({', '.join('?' * 16)})"

    def commit(i: int) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute(insert, row(i))
        database.execute("COMMIT")

    try:
        return timed(commit, times)
    finally:
        with database:
            database.execute("DELETE FROM promises WHERE run_id = 'floor'")
        database.close()


def postgres_floor(url: str, times: int) -> list[float]:
    """Commit rows to the server, each by one statement; seconds for each."""
    insert = f"INSERT INTO promises ({COLUMNS}) VALUES ({', '.join(['%s'] * 16)})"
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as database:
        taken = timed(lambda i: database.execute(insert.encode(), row(i)), times)
        database.execute("DELETE FROM promises WHERE run_id = 'floor'")
    return taken


def fdatasync_p50() -> float:
    """Return the median seconds that this disk takes for one fdatasync of 4 KB."""
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:

        def sync(i: int) -> None:
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fdatasync(file.fileno())

        return median(timed(sync, 200))


def sqlite_size(path: Path) -> int:
    """Return the bytes of the file, its log written back."""
    database = apsw.Connection(str(path))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    return path.stat().st_size


def postgres_size(url: str) -> int:
    """Return the bytes of the tables of runs and promises, with their indexes."""
    with psycopg.connect(url, autocommit=True) as database:
        found = database.execute(
            "SELECT pg_total_relation_size('promises') + pg_total_relation_size('runs')"
        ).fetchone()
    return int(found[0]) if found else 0
