"""`runs`: the runs there are, newest first, one a line, each with the cost of its whole tree."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from substrate.cli import wording
from substrate.cli.document import of_run, print_document
from substrate.cli.environment import database_url
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.outcome import Outcome, outcome_of
from substrate.cli.screen import open_page, put
from substrate.cli.tally import Tally
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
        told = [of_run(each.run, each.journal, each.tree_usage) for each in found]
        print_document({"runs": told})
    elif not found:
        kind = f"{status} runs" if status else "runs"
        start = invocation.command("run", '"…"')
        put(open_page(), f"no {kind} in {hide_password(database_url())}; start one: {start}")
    else:
        put(open_page(), _table(found, now))
    return 0


def _table(found: Sequence[Outcome], now: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("id", overflow="fold")
    table.add_column("status")
    for column in ("turns", "steps", "cost"):
        table.add_column(column, justify="right")
    table.add_column("started", no_wrap=True)
    table.add_column("duration", justify="right", no_wrap=True)
    for each in found:
        run, tally = each.run, Tally.of(each.journal)
        table.add_row(
            run.id,
            Text(run.status.value, STYLES[run.status]),
            str(tally.turns),
            str(tally.steps),
            wording.money(each.tree_usage.cost_usd),
            Text(wording.moment(run.created_at), "dim"),
            Text(wording.duration((run.ended_at or now) - run.created_at), "dim"),
        )
    return table
