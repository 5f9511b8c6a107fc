"""`runs`: the runs there are, newest first, one a line, each with the cost of its whole tree.

Below the table: what those wait for that wait, and by which command a question is answered.

Dead ones are dead letters, children among them: each with why it is dead and what to type next.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from substrate.agent.history.listed import read_listed
from substrate.agent.history.questions import Question, read_asked
from substrate.agent.history.run import RunHistory, question_of
from substrate.agent.history.waits import waits_of
from substrate.cli import format as wording
from substrate.cli.database import missing_file, open_database
from substrate.cli.environment import database_url
from substrate.cli.errors import UsageError
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import (
    Document,
    of_error,
    of_question,
    of_run,
    of_unreadable,
    print_document,
)
from substrate.cli.moments import Moment
from substrate.cli.screen import open_page, put
from substrate.cli.show.failure import next_commands, unreadable_lines
from substrate.cli.show.questions import how_to_answer
from substrate.cli.show.waits import wait_words
from substrate.engine.client import Client
from substrate.engine.worker.unknown import missing_workers
from substrate.store.database_url import shown_url
from substrate.values.ids import may_be_id
from substrate.values.records import Run, RunFilter, RunStatus

STYLES = {
    RunStatus.READY: "cyan",
    RunStatus.RUNNING: "blue",
    RunStatus.SUSPENDED: "blue",
    RunStatus.PAUSED: "yellow",
    RunStatus.DONE: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "dim",
    RunStatus.DEAD: "red",
}


@dataclass(frozen=True, slots=True)
class _Line:
    """One run as it is listed."""

    #: The run, with its journal.
    history: RunHistory
    #: What it, and all below it, ask people.
    questions: Sequence[Question] = ()
    #: The function that no worker knows and that it waits for.
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are listed, as it was typed."""

    #: Only those of this status, children too.
    status: RunStatus | None = None
    #: At most so many.
    limit: int = 20
    #: Only those of this function, children too.
    function: str | None = None
    #: Only those started since then.
    since: str | None = None
    #: Only those started before.
    until: str | None = None
    #: Only those that ask somebody.
    is_asking: bool = False
    #: Only those whose id begins so.
    prefix: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return replace(self, limit=20) == Wanted()


async def runs(invocation: Invocation, wanted: Wanted) -> int:
    """Print the runs of the database."""
    since = None if wanted.since is None else Moment.read("--since", wanted.since)
    until = None if wanted.until is None else Moment.read("--until", wanted.until)
    if wanted.prefix and not may_be_id(wanted.prefix):
        raise UsageError(f"--id {wanted.prefix!r:.100} begins no run's id; `runs` lists them all")
    folder = check_there(invocation.package).parent
    if missing_file() is not None:
        return _nothing(invocation, wanted, folder)
    async with open_database() as client:
        now = client.store.clock.now_ms()
        also = RunFilter(
            wanted.function,
            None if since is None else since.at(now),
            None if until is None else until.at(now),
            wanted.prefix,
            wanted.is_asking,
        )
        found = await _lines(client, await client.store.list(wanted.status, wanted.limit, also))
    if invocation.is_json:
        print_document({"runs": [_document(each, wanted.status) for each in found]})
    elif not found:
        return _nothing(invocation, wanted, folder)
    elif wanted.status is RunStatus.DEAD:
        put(open_page(), *_dead_letters([each.history for each in found], invocation))
    else:
        page = open_page()
        put(page, _table(found, now, page.width))
        put(page, *_what_they_wait_for(found, invocation))
    return 0


async def _lines(client: Client, found: Sequence[Run]) -> Sequence[_Line]:
    """Return the runs as they are listed: a bounded number of questions, however many they are."""
    asked, missing = await read_asked(client, found), await missing_workers(client.store, found)
    histories = await read_listed(client, found)
    return [_Line(each, asked.get(each.run.id, ()), missing.get(each.run.id)) for each in histories]


def _nothing(invocation: Invocation, wanted: Wanted, folder: Path) -> int:
    if invocation.is_json:
        print_document({"runs": []})
        return 0
    kind = f"{wanted.status} runs" if wanted.status else "runs"
    if not replace(wanted, status=None).is_everything:
        kind = f"such {kind}"
    start_one = f'; start one: {invocation.command("run")} "…"' if wanted.is_everything else ""
    there = ", which is not there yet" if missing_file() is not None else ""
    if there and folder != Path.cwd() and "site-packages" not in folder.parts:
        there += f"; the agent here is that of {str(folder)!r}: cd there, if its runs are meant"
    put(open_page(), f"no {kind} in {shown_url(database_url())}{there}{start_one}")
    return 0


def _document(line: _Line, status: RunStatus | None) -> Document:
    history, failure = line.history, line.history.failure
    document = of_run(history)
    document["question"] = question_of(history.own)
    document["asks"] = [of_question(each) for each in line.questions]
    document |= of_unreadable(history.unreadable)
    if status is not RunStatus.DEAD or failure is None:
        return document
    return {**document, **of_error(failure.type, failure.message)}


def _dead_letters(found: Sequence[RunHistory], invocation: Invocation) -> Iterator[Text]:
    """Yield each dead run, why it is dead, and what to type next."""
    for history in found:
        run, failure = history.run, history.failure
        since = f"  since {wording.moment(run.ended_at)}" if run.ended_at else ""
        yield Text.assemble((run.id, "bold"), "  ", ("dead", STYLES[run.status]), (since, "dim"))
        if failure is not None:
            yield Text(f"  {wording.short(failure.message, 400)}")
        for line in next_commands(history, invocation):
            yield Text("  ").append(line)


def _what_they_wait_for(found: Sequence[_Line], invocation: Invocation) -> Iterator[Text]:
    """Yield what each run waits for, and the command that answers where somebody is asked."""
    for line in found:
        run = line.history.run
        details = list(how_to_answer(line.questions, invocation))
        asked = {each.wait.promise.id for each in line.questions}
        for wait in waits_of(run, line.history.journal)[:_FEW]:
            if wait.promise.id not in asked and run.status is RunStatus.SUSPENDED:
                details.insert(0, Text(wording.gist(wait_words(wait), 200), "dim"))
        if line.missing is not None:
            details = [Text(f"waits for a worker that knows {line.missing}; none does", "yellow")]
        if run.cancel_requested and not run.status.has_ended:
            details = [
                Text.assemble(("is asked to end; ", "dim"), invocation.command("resume", run.id))
            ]
        details += unreadable_lines(line.history)
        if details:
            yield Text("")
            yield Text(run.id, "bold")
            yield from (Text("  ").append_text(each) for each in details)


def _table(found: Sequence[_Line], now: int, width: int) -> Table:
    """Return the table, without what there is no room for: an id and a status are never cut."""
    cells = [_cells(each, now) for each in found]
    needed = {
        name: max(cell_len(name), *(cell_len(row[name].plain) for row in cells))
        for name in _COLUMNS
    }
    needed["question"] = min(needed["question"], _QUESTION)
    wanted = [name for name in _WANTED if name != "asks" or any(each.questions for each in found)]
    chosen, left = {"id", "status"}, width - needed["id"] - _GAP - needed["status"]
    for name in wanted:
        if needed[name] + _GAP <= left:
            chosen.add(name)
            left -= needed[name] + _GAP
    names = [name for name in _COLUMNS if name in chosen]
    room = width - sum(needed[each] + _GAP for each in names if each != "question")
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for name in names:
        most = max(room, needed[name]) if name == "question" else None
        is_whole = name in ("id", "status")
        table.add_column(
            name,
            justify="right" if name in _NUMBERS else "left",
            no_wrap=name != "id",
            overflow="fold" if is_whole else "ellipsis",
            min_width=needed[name] if name == "status" else None,
            max_width=most,
        )
    for row in cells:
        table.add_row(*(row[name] for name in names))
    return table


def _cells(line: _Line, now: int) -> Mapping[str, Text]:
    history, run, totals = line.history, line.history.run, line.history.totals
    is_ending = run.cancel_requested and not run.status.has_ended
    columns = {
        "question": wording.short(question_of(history.own) or "", 200),
        "asks": _asks(line.questions),
        "age": wording.age(now - run.created_at),
        "cost": wording.money(history.tree_usage.cost_usd),
        "turns": str(totals.turns),
        "steps": str(totals.steps),
        "duration": wording.duration(history.duration_ms),
        "started": wording.moment(run.created_at),
    }
    status = Text("cancelling", "yellow") if is_ending else Text(run.status, STYLES[run.status])
    dim = {name: Text(each, "dim" if name in _DIM else "") for name, each in columns.items()}
    return {"id": Text(run.id), "status": status, **dim}


def _asks(questions: Sequence[Question]) -> str:
    """Return what a run asks first, by its line or its name, and how many there are besides."""
    names = [each.wait.summary or each.wait.promise.name for each in questions]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return f"{wording.short(names[0], 24)}{more}" if names else ""


_COLUMNS = (
    "id",
    "status",
    "asks",
    "question",
    "age",
    "cost",
    "turns",
    "steps",
    "duration",
    "started",
)
_WANTED = ("asks", "question", "age", "cost", "turns", "duration", "steps", "started")
"""What is shown beside id and status as far as there is room, the first of them first."""

_NUMBERS = ("age", "cost", "turns", "steps", "duration")
_DIM = ("age", "duration", "started")
_GAP, _QUESTION = 2, 12  # characters between columns; the least of a question that is worth it
_FEW = 3  # waits of a run that are shown
