"""The commands that try a fork before it is relied on, with their options and their help."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from substrate.cli.environment import load_dotenv
from substrate.values.number import MOST


def doctor(
    context: typer.Context,
    *,
    call: Annotated[
        bool, typer.Option("--call", help="Ask each model for one word, which costs a little.")
    ] = False,
) -> int:
    """Look at all that an agent needs, and say what is missing.

    Keys, SDKs, the names of models and their prices, tools with their effects
    and secrets, the database with its schema, rights and clock, the folder.
    Nothing is changed, no tool is called, and no model is asked, but with
    --call. Exit code 1 where something has to be mended.

      doctor
      doctor --call
    """
    from substrate.cli.doctor.doctor import doctor as doctor_

    return asyncio.run(doctor_(context.obj, is_calling=call))


def crash(
    context: typer.Context,
    *,
    task: Annotated[
        str, typer.Option(metavar="TEXT", help="What the agent is asked.")
    ] = "What is an ostinato?",
    every: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST, help="Of so many commits, try one.")
    ] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Only commits that write it: 'tools.*'; may be repeated."),
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="STORE", help="sqlite, postgres (the server of DATABASE_URL), or a URL."
        ),
    ] = "sqlite",
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Answers a question of that name."),
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Approves each call that a person is asked about.")
    ] = False,
    answer: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Answers each question to a person.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Let a model be asked that costs money.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="How many cases at a time.")
    ] = 4,
) -> int:
    """Kill the agent at every commit, and tell what was done again.

    A run of this agent is killed (SIGKILL) at each commit, before COMMIT and
    after it, and goes on in another process. A table says what was called
    again, by effect: once never, idempotent with one key, pure only what was
    not recorded. The offline model answers. Each case has a copy of this
    folder and a database that is thrown away, but the tools are really called:
    what they do elsewhere (mail, payments, other databases) happens. Nobody
    sees that from here, nor what code does outside of tools and steps.

    Exit code 1: something was repeated that may not be, or came to another end.

      crash
      crash --task "Please refund order 7." --approve
      crash --only 'tools.*' --store postgres
    """
    from substrate.cli.crash.crash import Wanted
    from substrate.cli.crash.crash import crash as crash_

    load_dotenv(Path.cwd())
    wanted = Wanted(
        task,
        store,
        every,
        only=only or (),
        signals=signal or (),
        approves=approve,
        answer=answer,
        is_live=live,
        jobs=jobs,
    )
    return crash_(context.obj, wanted)
