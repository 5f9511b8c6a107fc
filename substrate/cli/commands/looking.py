"""The commands that look at runs, with their options and their help."""

from pathlib import Path
from typing import Annotated

import typer

from substrate.cli.commands.begin import begin
from substrate.values.number import MOST
from substrate.values.records import RunStatus


def runs(
    context: typer.Context,
    *,
    state: Annotated[
        RunStatus | None,
        typer.Option("--state", "--status", metavar="STATE", help=f"Only {', '.join(RunStatus)}."),
    ] = None,
    function: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this durable function.")
    ] = None,
    asking: Annotated[
        bool, typer.Option("--asking", help="Only those that wait for somebody's answer.")
    ] = False,
    id: Annotated[str, typer.Option(metavar="PREFIX", help="Only those whose id begins so.")] = "",
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only those started since: 7d, 2026-11-21.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only those started before.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=MOST, help="At most so many.")] = 20,
) -> int:
    """List the runs there are, newest first.

    With what each was asked, what it asks somebody, its cost and its age.
    Turns, steps and cost are those recorded so far; a price that nobody
    knows is said to be unknown. Its duration is from a run's start to its
    end, or to now, waits included. With a state or a function, children are
    listed too; dead ones are dead letters: each with its reason and what to
    type next.

      runs
      runs --asking
      runs --state paused --since 7d --limit 5
      runs --id report/ --function research
      runs --state dead
    """
    from substrate.cli.show.runs import Wanted
    from substrate.cli.show.runs import runs as runs_

    wanted = Wanted(state, limit, function, since, until, asking, id)
    return begin(runs_, context, wanted)


def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="One promise, whole: tools.0/search.0")
    ] = None,
) -> int:
    """Show what a run has done, step by step, and what it waits for.

    The time of the run is from its start to its end, or to now, waits included.
    Each step with its outcome, effect, time, tokens, cost, failed attempts,
    input and value. A line marks where another process went on. Below it:
    open waits and until when they last, and signals that nobody took.

      show first
      show first --key model.0
      show first --key run
    """
    from substrate.cli.show.show import show as show_

    return begin(show_, context, id, key)


def compare(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The prompt's name; without one of its own, prompt."),
    ],
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST, help="Read the newest N runs at most.")
    ] = 10_000,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Lines of a run's id and its score, as CSV.",
        ),
    ] = None,
) -> int:
    """Tell how the versions of a prompt did, with confidence intervals.

    For each version: runs, the share that answered, cost, tokens, latency,
    why the others ended. The score of a run is what its last step called
    score came to, or what the file says. Needs scipy.

      compare prompt
      compare prompt --scores scores.csv --json
    """
    from substrate.cli.compare.prompts import compare_versions

    return begin(compare_versions, context, name, limit, scores)
