"""The command that forgets for good, with its options and its help."""

from typing import Annotated

import typer

from substrate.cli.commands.begin import begin


def forget(
    context: typer.Context,
    namespace: Annotated[
        str, typer.Argument(metavar="NAMESPACE", help="Or the id of one thing in it, with a #.")
    ] = "",
    *,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what is said of it there.")
    ] = None,
    note: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this note, in all its versions.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="What came from this run, and its journal.")
    ] = None,
    below: Annotated[bool, typer.Option("--below", help="With the namespaces below it.")] = False,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Other runs that say it word for word, too.")
    ] = False,
    look: Annotated[
        bool, typer.Option("--look", help="Tell what would go; go no further.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> int:
    """Forget for good: from memory, and from the journals that have to do with it.

    It tells first what goes, and asks. Runs that have written or read it keep
    their ids, keys, states and times, and lose all contents. What it does not
    reach is told, too. Cut off, the same command again ends it.

      memory forget acme/users/anna --below
      memory forget acme/users/anna --subject "Anna's address"
      memory forget "acme/users/anna#12"
      memory forget --run report/1
    """
    from substrate.cli.act.forget import TypedForgetting
    from substrate.cli.act.forget import forget as forget_

    typed = TypedForgetting(namespace or None, subject, note, run, below, everywhere, look, yes)
    return begin(forget_, context, typed)
