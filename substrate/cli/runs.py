"""`runs`: the runs there are, newest first, one a line, each with the cost of its whole tree.

Dead ones are dead letters, children among them: each with why it is dead and what to type next.
"""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from substrate.cli import wording
from substrate.cli.document import Document, of_error, of_run, print_document
from substrate.cli.environment import database_url
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.outcome import Outcome, outcome_of, whats_next
from substrate.cli.screen import open_page, put
from substrate.cli.tally import Tally
from substrate.cli.waits import waits_of
from substrate.engine.client import connect
from substrate.store.secrets import hide_password
from substrate.values.records import RunStatus

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


async def runs(invocation: Invocation, status: RunStatus | None, limit: int) -> int:
    """Print the runs of the database."""
    check_there(invocation.package)
    async with connect(database_url()) as client:
        found = [await outcome_of(client, run) for run in await client.list(status, limit)]
        now = client.store.clock.now_ms()
    if invocation.is_json:
        print_document({"runs": [_document(outcome, status) for outcome in found]})
    elif not found:
        kind = f"{status} runs" if status else "runs"
        start = invocation.command("run", '"…"')
        start_one = f"; start one: {start}" if status is None else ""
        put(open_page(), f"no {kind} in {hide_password(database_url())}{start_one}")
    elif status is RunStatus.DEAD:
        put(open_page(), *_dead_letters(found, invocation))
    else:
        put(open_page(), _table(found, now))
    return 0


def _document(outcome: Outcome, status: RunStatus | None) -> Document:
    document = of_run(outcome.run, outcome.journal, outcome.tree_usage)
    failure = outcome.failure
    if status is not RunStatus.DEAD or failure is None:
        return document
    return {**document, **of_error(failure.type, failure.message)}


def _dead_letters(found: Sequence[Outcome], invocation: Invocation) -> Iterator[Text]:
    """Yield each dead run, why it is dead, and what to type next."""
    for outcome in found:
        run, failure = outcome.run, outcome.failure
        since = f"  since {wording.moment(run.ended_at)}" if run.ended_at else ""
        yield Text.assemble((run.id, "bold"), "  ", ("dead", STYLES[run.status]), (since, "dim"))
        if failure is not None:
            yield Text(f"  {wording.short(failure.message, 400)}")
        for line in whats_next(outcome, invocation):
            yield Text("  ").append(line)


def _waits(outcome: Outcome) -> str:
    """Return what a suspended run waits for, in few words."""
    if outcome.run.status is not RunStatus.SUSPENDED:
        return ""
    waits = waits_of(outcome.run, outcome.journal)
    more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
    return wording.gist(waits[0].words, 160) + more if waits else ""


def _table(found: Sequence[Outcome], now: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("id", overflow="fold")
    table.add_column("status")
    for column in ("turns", "steps", "cost"):
        table.add_column(column, justify="right")
    table.add_column("started", no_wrap=True)
    table.add_column("duration", justify="right", no_wrap=True)
    waits = [_waits(each) for each in found]
    if any(waits):
        table.add_column("waits for", overflow="fold")
    for each, waiting in zip(found, waits, strict=True):
        run, tally = each.run, Tally.of(each.journal)
        table.add_row(
            run.id,
            Text(run.status.value, STYLES[run.status]),
            str(tally.turns),
            str(tally.steps),
            wording.money(each.tree_usage.cost_usd),
            Text(wording.moment(run.created_at), "dim"),
            Text(wording.duration((run.ended_at or now) - run.created_at), "dim"),
            *([Text(waiting, "dim")] if any(waits) else []),
        )
    return table
