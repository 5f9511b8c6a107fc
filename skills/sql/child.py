"""The process that asks a database: it answers one request after the other until its input ends.

It loads this skill's files and a driver, nothing of the kit, so it starts in a moment and is small.
What it may take is limited by the operating system, so that no statement can do more than end it:
`MEMORY` in all, `TEMPORARY` for a file of a large sort. It runs at a lower priority than the
worker, and where memory is short it is the first to be ended (Linux).

A request and its answer are a line of JSON each. `ends_in` is when the process ends in the middle
of whatever it does, for the case that its parent is not there to end it.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from skills.sql.answer import MAX_MESSAGE, QueryFailed, cut
from skills.sql.schema import describe

MEMORY = 256 * 2**20
"""Bytes of address space; a tenth of it is Python's and the driver's."""

TEMPORARY = 256 * 2**20
"""Bytes of a file that it writes: SQLite's, for a sort that does not fit into memory."""

PRIORITY = 5

OUT_OF_MEMORY = (
    f"the query takes more than the {MEMORY // 2**20} MB of memory that it may have; "
    "read fewer or shorter values at once"
)


def main(driver: str) -> None:
    """Answer requests until there are no more, with a module of this skill."""
    answers = _keep_output()
    database = import_module(f"skills.sql.{driver}")
    limit_itself()
    answers.write(b"ready\n")
    answers.flush()
    # So that one request is read at a time, and the next one stays where it is.
    requests = os.fdopen(os.dup(0), "rb")
    while line := requests.readline():
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["ends_in"])
        answer = do(database, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def limit_itself() -> None:
    """Set the limits of this process, as far as the operating system has them."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, TEMPORARY),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            _, hard = resource.getrlimit(kind)
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (soft, hard))
    with suppress(OSError):
        os.nice(PRIORITY)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def do(driver: ModuleType, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request, or what it failed by."""
    try:
        with driver.reading(request["url"], request["seconds"]) as database:
            if request["what"] == "query":
                return {"answer": database.query(**request["arguments"]).to_json()}
            return {"answer": describe(database.tables(), **request["arguments"])}
    except QueryFailed as error:
        return {"failed": cut(str(error), MAX_MESSAGE)}
    except TimeoutError:
        return {"is_slow": True}
    except MemoryError:
        return {"failed": OUT_OF_MEMORY}
    except Exception as error:  # noqa: BLE001 - what nobody foresaw is told where it is awaited
        return {"failed": cut(f"{type(error).__name__}: {error}", MAX_MESSAGE)}


def _keep_output() -> BinaryIO:
    """Return what answers are written to; whatever a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.stdout = sys.stderr
    return answers
