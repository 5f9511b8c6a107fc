"""The command line as a whole: its help, its exit codes, and all commands in their order."""

from typing import Annotated

import typer

from substrate.cli.commands.acting import cancel, discard, signal
from substrate.cli.commands.deciding import answer, approvals, approve, deny, rules
from substrate.cli.commands.driving import resume, run, worker
from substrate.cli.commands.looking import compare, runs, show
from substrate.cli.commands.remembering import memory
from substrate.cli.commands.talking import chat, say
from substrate.cli.commands.trying import crash, doctor

_HELP = """
A durable agent: kill it at any instant, and it goes on from there.

Every command takes --json (one JSON document on standard output) and
--debug (tracebacks, and the log), before its name or after.

DATABASE_URL says where runs live: sqlite:///runs.db, if unset, or
postgresql://user@host/database. A .env file in this folder is read.
OSTINATO_TIMEZONE, such as Europe/Vienna, says which day it is; unset, UTC.
OSTINATO_TENANT says whose memory it is about, and whose the runs are that it starts.

Exit codes: 0 answered, or done; 1 failed, or refused by the state of the run
(it is done, or there is none), or something is not there, such as a key; 2 what
was typed or written is wrong, whatever the state: the command line, hooks that
do not load, .env; or a decision is not taken; 3 the answer is incomplete, 4 the
run is paused, 130 or 143 stopped by Ctrl-C or SIGTERM.
"""

_DASHES = {"ignore_unknown_options": True}

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


# In the order in which the help lists them. What begins with a dash may be a value: -5.
app.command()(run)
app.command()(worker)
app.command()(runs)
app.command()(show)
app.command()(resume)
app.command(context_settings=_DASHES)(signal)
app.command()(cancel)
app.command()(discard)
app.command()(compare)
app.command()(doctor)
app.command()(crash)
app.command()(chat)
app.command(context_settings=_DASHES)(say)
app.command()(approvals)
app.command()(approve)
app.command()(deny)
app.command(context_settings=_DASHES)(answer)
app.add_typer(rules, name="rules")
app.add_typer(memory, name="memory")
