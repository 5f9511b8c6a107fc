"""`crash`: the fork's own agent is killed at every commit, and what was repeated is counted.

Its tools are really called, once for each case and more: in a copy of the folder, with a database
of its own and no provider's key. What they do beyond that folder happens as often as they are
called, and is not seen here.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.crash.matrix import Case, Judged, Matrix
from substrate.cli.crash.plan import Drive
from substrate.cli.crash.processes import forking
from substrate.cli.crash.table import document, lines, table, where
from substrate.cli.crash.throwaway import databases
from substrate.cli.environment import database_url
from substrate.cli.errors import UsageError
from substrate.cli.exit import Exit
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.models.model import PROVIDERS
from substrate.store.connect import sqlite_file
from substrate.testing.crash import Side


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed."""

    #: What the agent is asked.
    question: str
    #: ``sqlite``, ``postgres``, or the URL of a server.
    store: str = "sqlite"
    #: Of so many commits one is tried.
    every: int = 1
    #: Only commits that write one of these keys.
    only: Sequence[str] = ()
    #: ``NAME=VALUE``: what answers a question of that name.
    signals: Sequence[str] = ()
    #: Whether each call that a person is asked about is approved.
    approves: bool = False
    #: What answers each question to a person: JSON, or text.
    answer: str | None = None
    #: Whether a model may be asked that costs money.
    is_live: bool = False
    #: How many cases at a time.
    jobs: int = 4


def crash(invocation: Invocation, wanted: Wanted) -> int:
    """Kill the agent at each commit; print a table. Exit code 1 where something broke."""
    if not wanted.question.strip():
        raise UsageError("the task is empty; is a shell variable unset?")
    signals = tuple(map(_signal, wanted.signals))
    check_there(invocation.package)
    scratch = Path(mkdtemp(prefix="ostinato-crash-"))
    drive = Drive(
        invocation.package,
        scratch,
        _environment(os.environ, is_live=wanted.is_live),
        wanted.question,
        signals,
        wanted.approves,
        () if wanted.answer is None else (_value(wanted.answer),),
        is_live=wanted.is_live,
    )
    found: list[Judged] = []
    began = time.monotonic()
    try:
        with _ended_by_sigterm(), databases(wanted.store) as where_, forking() as processes:
            matrix = Matrix(drive, scratch, where_, processes, wanted.jobs)
            screen = open_screen(is_quiet=invocation.is_json)
            put(screen, Text("two runs that nobody kills, to compare with …", "dim"))
            matrix.begin(Path.cwd(), (scratch, *_databases_here()))
            cases = matrix.cases(wanted.every, wanted.only)
            if not cases:
                raise UsageError(_no_such_commit(matrix, wanted.only))
            put(screen, Text(_plan(matrix, cases), "dim"))
            with _progress(len(cases), is_shown=screen.is_terminal and not screen.quiet) as tell:
                for judged in matrix.judged(cases):
                    found.append(judged)
                    tell(judged)
        found.sort(key=lambda each: (each.case.boundary, list(Side).index(each.case.side)))
        _report(invocation, matrix, found, time.monotonic() - began)
    finally:
        for each in ("fork", "whole", "again"):
            shutil.rmtree(scratch / each, ignore_errors=True)
        if not any(each.verdict.faults or each.verdict.doubts for each in found):
            shutil.rmtree(scratch, ignore_errors=True)
    return Exit.FAILED if any(each.verdict.faults for each in found) else Exit.DONE


def _report(invocation: Invocation, matrix: Matrix, found: Sequence[Judged], took: float) -> None:
    if invocation.is_json:
        print_document(document(matrix, found))
        return
    page = open_page()
    kills = wording.count(len(found), "kill")
    put(
        page,
        Text(f"{kills}, {matrix.databases.name}, {matrix.answers} answers, {took:.0f} s", "bold"),
        table(matrix, found),
        *lines(matrix, found, invocation.command("show", "crash")),
    )


def _plan(matrix: Matrix, cases: Sequence[Case]) -> str:
    """Return what is going to happen, with what is really called."""
    outside = sorted({each.name for each in matrix.called if each.effect != "pure"})
    called = f"; {', '.join(outside)} will really be called, in a copy of this folder"
    commits = wording.count(len(cases) // 2, "commit")
    return (
        f"{matrix.answers} answers; {commits} of {len(matrix.commits)}, killed before COMMIT and "
        f"after it{called if outside else ''}"
    )


def _no_such_commit(matrix: Matrix, only: Sequence[str]) -> str:
    known = list(dict.fromkeys(each.words for each in matrix.commits))
    return f"--only {' '.join(only)} names no commit of this run; there are: {', '.join(known)}"


def _signal(text: str) -> tuple[str, Any]:
    """Return a name and a value."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--signal {text!r} is none; write NAME=VALUE, as in approval=true")
    return name, _value(value)


def _value(text: str) -> Any:
    """Return a value: JSON, or the text as it is where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _environment(environ: Mapping[str, str], *, is_live: bool) -> dict[str, str]:
    """Return the environment of the processes: without the keys of providers, unless it is live."""
    keys = {key for known in PROVIDERS.values() for key in (*known.keys, *known.addresses)}
    return {name: value for name, value in environ.items() if is_live or name not in keys}


def _databases_here() -> tuple[Path, ...]:
    """Return the files of the runs that there are, which no copy needs."""
    file = sqlite_file(database_url())
    folder = Path.cwd() if file is None else file.absolute().parent
    names = {"runs.db", *([] if file is None else [file.name])}
    return tuple(each for name in names if folder.is_dir() for each in folder.glob(f"{name}*"))


@contextmanager
def _progress(total: int, *, is_shown: bool) -> Iterator[Any]:
    """Give what to tell of each case that is judged. It starts no thread: processes are forked."""
    if not is_shown:
        yield lambda judged: None
        return
    console = open_screen()
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    at = TextColumn("{task.description}")
    with Progress(*columns, at, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=total)

        def tell(judged: Judged) -> None:
            for fault in judged.verdict.faults:
                put(console, Text(f"{where(judged)}: {fault.text}", "red"))
            told = wording.short(where(judged), 60)
            progress.update(task, advance=1, description=told, refresh=True)

        yield tell


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what is forked and throw all away, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
