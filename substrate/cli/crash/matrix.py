"""The matrix: which commits there are, a case for each and for each side of it, some at a time.

A case is a folder with a copy of the fork's and a database of its own. One process drives the run
there until it is killed at its commit, another goes on from what it has left, and both are judged
beside two runs that nobody killed.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from substrate.cli import errors
from substrate.cli import fork as forks
from substrate.cli.crash.answers import ANSWER, APPROVE
from substrate.cli.crash.drive import be, migrate
from substrate.cli.crash.judge import Called, Ended, Fault, Rows, Verdict, Whole, judge, key_of
from substrate.cli.crash.plan import CALLS, REPORT, RUN, SAID, STRUCK, Drive
from substrate.cli.crash.processes import Processes
from substrate.cli.crash.throwaway import MIGRATED, Databases
from substrate.cli.crash.world import copy_folder, files_in
from substrate.cli.errors import UsageError
from substrate.testing.crash import Side
from substrate.values.errors import Misuse
from substrate.values.records import UNWIND_KEY

_KILLED = -9
# How long a process may take: longer than a call that is made once may be in doubt.
_PATIENCE_S, _TIMES_AS_LONG = 90.0, 10.0
_TAIL = 300  # characters of what a process said last


class CannotRun(Misuse):
    """The agent does not come to an end without a kill, so a matrix would say nothing."""


class Case(NamedTuple):
    """A commit, and a side of it."""

    boundary: int
    side: Side

    @property
    def name(self) -> str:
        """What its folder is called, and its database."""
        return f"{self.boundary}-{self.side}"


class Commit(NamedTuple):
    """A commit of a run that was never killed, or the one at which one was."""

    method: str
    promises: tuple[str, ...]

    @property
    def words(self) -> str:
        """What it writes: ``tools.0/search.0``, or what it is where that is no promise."""
        keys = [key_of(each) for each in self.promises]
        kept = [each for each in keys if each != "crash"]
        return ", ".join(kept[:3]) if kept else self.method


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one case."""

    #: Which it was.
    case: Case
    #: At which commit its process was killed.
    commit: Commit
    #: What is to be said of it.
    verdict: Verdict
    #: Its folder, where it is kept.
    folder: Path


@dataclass(slots=True)
class Matrix:
    """The cases of one fork."""

    #: What every process is to do, but for the commit.
    drive: Drive
    #: A folder for all that is thrown away.
    scratch: Path
    #: Where the databases are.
    databases: Databases
    #: The processes that are forked.
    processes: Processes
    #: How many there are at a time.
    jobs: int
    #: Who answered.
    answers: str = ""
    #: The commits of a run that was never killed, in order.
    commits: list[Commit] = field(default_factory=list)
    #: What it called, in order.
    called: list[Called] = field(default_factory=list)
    #: What it waits for in the end, if it does.
    waits: tuple[str, ...] = ()
    #: How it ended.
    status: str = ""
    #: Cases whose run had ended before their commit came.
    unreached: int = 0
    _whole: Whole | None = None
    _limit_s: float = 600.0

    def begin(self, folder: Path, without: tuple[Path, ...]) -> None:
        """Copy the folder, and drive two runs that nobody kills.

        Raises what keeps the fork from being loaded, and `CannotRun` where a run does not end well.
        """
        copy_folder(folder, self.scratch / "fork", without)
        if self.databases.server is not None:
            url = self.databases.url(self.scratch, MIGRATED)
            self._one(partial(migrate, url, self.scratch), self.scratch)
        began = time.monotonic()
        names = ("whole", "again")
        drives = {self._start(name, drive): name for name, drive in self._drives(names)}
        ended: dict[str, tuple[Ended, dict[str, Any]]] = {}
        while drives:
            for pid, code in self.processes.wait(self._limit_s):
                name = drives.pop(pid)
                ended[name] = self._ended(self.scratch / name, code)
        self._limit_s = _PATIENCE_S + _TIMES_AS_LONG * (time.monotonic() - began)
        first, report = ended["whole"]
        is_undone = first.status == "failed" and f"{RUN}#{UNWIND_KEY}" in first.rows
        if first.status not in ("done", "suspended") and not is_undone:
            why = f": {first.failure}" if first.failure else ""
            raise CannotRun(f"the run is {first.status} without any kill{why}; mend that first")
        self._check_answered(report["answered"], first.waits)
        self.answers, self.status, self.waits = report["answers"], first.status, first.waits
        self.commits = [Commit(how, tuple(ids)) for how, *ids in report["commits"]]
        self.called = _called(self.scratch / "whole")
        self._whole = Whole.of(first, ended["again"][0], self.called)
        for name in names:
            self._throw_away(name)

    def _check_answered(self, answered: Sequence[str], waits: Sequence[str]) -> None:
        """Refuse an answer that nothing asks for: a name is mistyped, or the task is another."""
        drive = self.drive
        given = {name: f"--signal {name}=…" for name, _ in drive.signals}
        given |= {APPROVE: APPROVE} if drive.approves else {}
        given |= {ANSWER: ANSWER} if drive.answers else {}
        for name, option in given.items():
            if name not in answered:
                asked = f"; it waits for {', '.join(waits)}" if waits else ""
                raise UsageError(f"{option}: the run asks nothing of that kind{asked}")

    def cases(self, every: int, only: Sequence[str]) -> list[Case]:
        """Return the cases: every so many-th commit, of those that write what is named."""
        numbers = [
            n for n, commit in enumerate(self.commits, 1) if not only or _is_named(commit, only)
        ]
        return [Case(number, side) for number in numbers[::every] for side in Side]

    def judged(self, cases: Sequence[Case]) -> Iterator[Judged]:
        """Kill in each case, and go on; yield what came of it, in the order of the ends."""
        left, first, second = list(cases), dict[int, Case](), dict[int, tuple[Case, int]]()
        while left or first or second:
            while left and len(self.processes) < self.jobs:
                case = left.pop(0)
                drive = self._drive(case.name)
                drive = replace(drive, boundary=case.boundary, side=case.side)
                first[self._start(case.name, drive)] = case
            for pid, code in self.processes.wait(self._limit_s):
                if pid in second:
                    case, called = second.pop(pid)
                    yield self._judge(case, called, code)
                    continue
                case = first.pop(pid)
                folder = self.scratch / case.name
                if code == 0:  # it came to its end before that commit
                    self.unreached += 1
                    self._throw_away(case.name)
                elif code == _KILLED:
                    called = len(_called(folder))
                    go_on = self._drive(case.name).again()
                    second[self.processes.start(partial(be, go_on))] = case, called
                else:
                    fault = Fault(f"before any kill, {self._what_went_wrong(folder, code)}")
                    yield self._told(case, Verdict((fault,)))

    def _judge(self, case: Case, called: int, code: int | None) -> Judged:
        assert self._whole is not None
        folder = self.scratch / case.name
        if code != 0:
            return self._told(case, Verdict((Fault(self._what_went_wrong(folder, code)),)))
        ended, report = self._ended(folder, code)
        calls = _called(folder)
        recorded: Rows = report["before"]
        verdict = judge(self._whole, ended, calls[:called], calls[called:], recorded)
        return self._told(case, verdict)

    def _told(self, case: Case, verdict: Verdict) -> Judged:
        folder = self.scratch / case.name
        struck = _lines(folder / STRUCK)
        commit = Commit(struck[0][0], tuple(struck[0][1:])) if struck else Commit("no commit", ())
        judged = Judged(case, commit, verdict, folder)
        if not verdict.faults and not verdict.doubts:
            self._throw_away(case.name)
        return judged

    def _drives(self, names: Sequence[str]) -> Iterator[tuple[str, Drive]]:
        for name in names:
            yield name, self._drive(name)

    def _drive(self, name: str) -> Drive:
        folder = self.scratch / name
        url = self.databases.url(folder, name)
        environment = {**self.drive.environment, "DATABASE_URL": url}
        return replace(self.drive, folder=folder, environment=environment)

    def _start(self, name: str, drive: Drive) -> int:
        """Make a case's folder and database, and start a process that drives its run."""
        copy_folder(self.scratch / "fork", drive.world)
        self.databases.make(name)
        return self.processes.start(partial(be, drive))

    def _one(self, work: Callable[[], int], folder: Path) -> None:
        """Have one process do something, and raise where it cannot."""
        self.processes.start(work)
        for _, code in self.processes.wait(self._limit_s):
            if code != 0:
                raise CannotRun(self._what_went_wrong(folder, code))

    def _ended(self, folder: Path, code: int | None) -> tuple[Ended, dict[str, Any]]:
        """Return how a run ended that nobody killed, with its report. Raises where it did not."""
        report = self._report(folder)
        if error := report.get("error"):
            raise _error(error["type"], error["message"])
        if code != 0 or not report:
            raise CannotRun(f"without any kill, {self._what_went_wrong(folder, code)}")
        ended = Ended(
            report["status"],
            report["answer"],
            report["after"],
            files_in(folder / "world"),
            report["failure"],
            tuple(report["waits"]),
        )
        return ended, report

    def _what_went_wrong(self, folder: Path, code: int | None) -> str:
        """Return how a process ended that should have come to its end."""
        report = self._report(folder)
        if error := report.get("error"):
            return f"{error['type']}: {error['message']}"
        said = folder / SAID
        words = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
        last = f"; it said last: {words.strip()[-_TAIL:]!r}" if words.strip() else ""
        if code is None:
            return f"it did not end within {self._limit_s:.0f} s{last}"
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"its process ended {how}{last}"

    def _report(self, folder: Path) -> dict[str, Any]:
        file = folder / REPORT
        report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return report

    def _throw_away(self, name: str) -> None:
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        self.databases.drop(name)


def _error(type_: str, message: str) -> Exception:
    """Return the error of a forked process as one of this: what was typed wrong, or is broken."""
    known = getattr(forks, type_, None) or getattr(errors, type_, None)
    if isinstance(known, type) and issubclass(known, Misuse):
        return known(message)
    return CannotRun(f"{type_}: {message}")


def _is_named(commit: Commit, only: Sequence[str]) -> bool:
    keys = [key_of(each) for each in commit.promises]
    return any(fnmatchcase(key, each) for key in (*keys, commit.method) for each in only)


def _called(folder: Path) -> list[Called]:
    return [Called(*line) for line in _lines(folder / CALLS)]


def _lines(file: Path) -> list[list[Any]]:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines()]
