"""The commands that drive runs, with their options and their help."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from substrate.cli.commands.begin import begin
from substrate.engine.worker.options import DEFAULT_OPTIONS, SHORTEST_LEASE_S, WorkerOptions
from substrate.values.ids import DEFAULT_QUEUE
from substrate.values.number import MOST


def run(
    context: typer.Context,
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False)
    ] = None,
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="The run's id; without one, a fresh one.")
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An image or a document to look at; may be repeated."),
    ] = None,
) -> int:
    """Start a run, or go on with one, and print its answer.

    The id is printed at once. The same id again goes on from the last
    checkpoint, or prints the answer that there is and calls nothing.
    Without a question, it goes on with the run of that id.

      run "What is an ostinato?"
      run "What is an ostinato?" --id first
      run --id first
      run "What is wrong in this picture?" --attach screen.png
    """
    from substrate.cli.run.run import run as run_

    return begin(run_, context, question, id, attach or ())


def resume(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    accept: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Let what was recorded under this key stand."),
    ] = None,
) -> int:
    """Go on with a run that is paused, failed, dead or interrupted.

    One that waits for a provider tries again at once.

    Where the code asks for something else than was recorded, a run is paused.
    Resume it under the code that recorded it, or accept what was recorded.

      resume first
      resume first --accept tools.0/search.0
    """
    from substrate.cli.run.run import resume as resume_

    return begin(resume_, context, id, accept)


def worker(
    context: typer.Context,
    queue: Annotated[
        str, typer.Option(metavar="NAME", help="Whose runs to drive.")
    ] = DEFAULT_QUEUE,
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST, help="How many runs at once.")
    ] = DEFAULT_OPTIONS.concurrency,
    lease: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=SHORTEST_LEASE_S,
            max=86_400.0,
            help="How long it may be silent before others take its runs.",
        ),
    ] = DEFAULT_OPTIONS.lease.total_seconds(),
    check: Annotated[  # noqa: FBT002 - click sets it by its name
        bool,
        typer.Option("--check", help="Drive nothing: say whether a worker of this host is well."),
    ] = False,
) -> int:
    """Drive runs until SIGTERM or Ctrl-C; start as many as you like.

    At the first signal it takes no more runs, lets the steps under way end,
    and gives every run back; at the second it leaves at once.

    With --check it is a health check, for a container: exit code 0 where a
    worker of this host holds its lease, 1 where none does.

      worker
      worker --queue nightly --concurrency 16
      worker --check
    """
    from substrate.cli.run.work import check as check_
    from substrate.cli.run.work import work

    if check:
        return begin(check_, context)

    options = WorkerOptions(concurrency=concurrency, lease=timedelta(seconds=lease))
    return begin(work, context, queue, options)
