"""The commands, their options and their help; each hands over to the module that does it.

Those modules are imported by the command that needs them, so that ``--help`` comes at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from substrate.cli.checking import crash, doctor
from substrate.cli.deciding import answer, approvals, approve, deny, rules
from substrate.cli.environment import load_dotenv
from substrate.cli.talking import chat, say
from substrate.engine.worker.options import DEFAULT_OPTIONS, SHORTEST_LEASE_S, WorkerOptions
from substrate.values.ids import DEFAULT_QUEUE
from substrate.values.number import MOST
from substrate.values.records import RunStatus

_HELP = """
A durable agent: kill it at any instant, and it goes on from there.

Every command takes --json (one JSON document on standard output) and
--debug (tracebacks, and the log), before its name or after.

DATABASE_URL says where runs live: sqlite:///runs.db, if unset, or
postgresql://user@host/database. A .env file in this folder is read.
OSTINATO_TIMEZONE, such as Europe/Vienna, says which day it is; unset, UTC.

Exit codes: 0 answered, or done; 1 failed, or refused by the state of the run
(it is done, or there is none); 2 what was typed is wrong, whatever the state;
3 the answer is incomplete, 4 the run is paused, 130 or 143 stopped by Ctrl-C
or SIGTERM.
"""

app = typer.Typer(
    help=_HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(context: typer.Context, is_asked: bool) -> None:  # noqa: FBT001 - click calls it
    if is_asked:
        from substrate.cli.version import tell_version

        raise typer.Exit(tell_version(context.obj))


@app.callback()
def options(
    version: Annotated[  # noqa: FBT002 - click sets it by its name
        bool,
        typer.Option(
            "--version",
            help="Tell the kit's version, and where it is from.",
            callback=_tell_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take what stands before a command's name."""


def _await(
    command: Callable[..., Coroutine[None, None, int]], context: typer.Context, *arguments: Any
) -> int:
    load_dotenv(Path.cwd())
    return asyncio.run(command(context.obj, *arguments))


@app.command()
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

    return _await(run_, context, question, id, attach or ())


@app.command()
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
        return _await(check_, context)

    options = WorkerOptions(concurrency=concurrency, lease=timedelta(seconds=lease))
    return _await(work, context, queue, options)


@app.command()
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
    return _await(runs_, context, wanted)


@app.command()
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

    return _await(show_, context, id, key)


@app.command()
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

    return _await(resume_, context, id, accept)


@app.command(context_settings={"ignore_unknown_options": True})  # -5 is a value
def signal(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.")],
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="As JSON; without one, null.")
    ] = None,
    dedup: Annotated[
        str | None, typer.Option(metavar="D", help="The same name with the same D counts once.")
    ] = None,
) -> int:
    """Send a value to a run: an approval, a message, what it waits for.

    It needs no worker. It is kept in the run's inbox until it is taken,
    and says what the run waits for, if not for this.

      signal first approval true
      signal first mail '"Good morning."' --dedup mail-17
      signal first order '{"lamp": 3}'
    """
    from substrate.cli.act.signal import send

    return _await(send, context, id, name, value, dedup)


@app.command()
def cancel(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
) -> int:
    """Ask a run, and every run below it, to end.

    The worker that drives it, or the next one, cancels what is under way,
    undoes what was done and can be undone, and then it is cancelled.

      cancel first
    """
    from substrate.cli.act.cancel import cancel as cancel_

    return _await(cancel_, context, id)


@app.command()
def discard(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
) -> int:
    """Give a dead, failed or paused run up for good.

    It counts as cancelled and is no dead letter any more. Its history
    stays. Nothing is undone: to end a run that goes on, cancel it.

      discard first
    """
    from substrate.cli.act.cancel import discard as discard_

    return _await(discard_, context, id)


@app.command()
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

    return _await(compare_versions, context, name, limit, scores)


app.command()(doctor)
app.command()(crash)
app.command()(chat)
app.command(context_settings={"ignore_unknown_options": True})(say)  # "-5 degrees" is a message
app.command()(approvals)
app.command()(approve)
app.command()(deny)
app.command(context_settings={"ignore_unknown_options": True})(answer)  # -5 is an answer
app.add_typer(rules, name="rules")
