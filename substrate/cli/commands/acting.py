"""The commands that act on a run, with their options and their help."""

from typing import Annotated

import typer

from substrate.cli.commands.begin import begin


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

    return begin(send, context, id, name, value, dedup)


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

    return begin(cancel_, context, id)


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

    return begin(discard_, context, id)
