"""`cancel` and `discard`: ask a run to end, or give up one that is dead, failed or paused.

Neither drives anything: a cancelled run is ended, and what it did undone, by the worker that drives
it, or by the next one that knows it.
"""

from collections.abc import Callable

from rich.text import Text

from substrate.agent.history.run import history_of
from substrate.cli.database import opened
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_run, print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.engine.client import Client
from substrate.values.errors import RunEnded
from substrate.values.records import Run, RunStatus


async def cancel(invocation: Invocation, run_id: str) -> int:
    """Ask a run, and everything below it, to end."""
    async with opened(invocation) as client:
        run = await client.cancel(run_id)
        if run.status.has_ended and run.status is not RunStatus.CANCELLED:
            raise RunEnded(
                f"run {run_id!r} is {run.status} already, and stays so; what still went on below "
                "it is asked to end"
            )
        return await _print_report(invocation, client, run, _asked(run), _next_of_cancel)


async def discard(invocation: Invocation, run_id: str) -> int:
    """Give a dead, failed or paused run up for good."""
    async with opened(invocation) as client:
        run = await client.discard(run_id)
        report = f"run {run_id} is given up: cancelled. Its history stays, and nothing is undone"
        return await _print_report(invocation, client, run, report, _next_of_discard)


async def _print_report(
    invocation: Invocation,
    client: Client,
    run: Run,
    report: str,
    following: Callable[[Invocation, Run], Text],
) -> int:
    if invocation.is_json:
        history = await history_of(client, run)
        print_document(of_run(history))
        return 0
    put(open_page(), report)
    put(open_screen(), following(invocation, run))
    return 0


def _asked(run: Run) -> str:
    if run.status is RunStatus.CANCELLED:
        return f"run {run.id} is cancelled already"
    below = f"run {run.id} is asked to end, and everything below it"
    if run.status is RunStatus.RUNNING:
        return f"{below}; its worker cancels what is under way and undoes what it can"
    return f"{below}; the next worker ends it and undoes what it can"


def _next_of_cancel(invocation: Invocation, run: Run) -> Text:
    if run.status is RunStatus.CANCELLED:
        return _next_of_discard(invocation, run)
    here = invocation.command("resume", run.id)
    return Text(f"to see it end, here if no worker is running: {here}", "dim")


def _next_of_discard(invocation: Invocation, run: Run) -> Text:
    return Text(f"what it did: {invocation.command('show', run.id)}", "dim")
