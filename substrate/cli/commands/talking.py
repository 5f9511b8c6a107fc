"""The commands by which people talk with an agent: their options and help."""

from typing import Annotated

import typer

from substrate.cli.commands.begin import begin


def chat(
    context: typer.Context,
    id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The conversation's id; without one, a fresh one."),
    ] = None,
) -> int:
    r"""Talk with the agent. It remembers: the same id goes on with the conversation.

    Enter sends; Alt+Enter, or a \ at its end, begins a new line. What the
    agent asks you is asked here: yes, no, edit, always, later. Ctrl-C stops
    what is under way and gives the prompt back; Ctrl-D leaves. Between
    messages nothing runs, here or elsewhere.

    From another terminal: say ID "…". Where standard input is no terminal,
    each line of it is a message.

      chat
      chat --id trip
    """
    from substrate.cli.chat.chat import chat as chat_

    return begin(chat_, context, id)


def say(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    words: Annotated[str, typer.Argument(metavar="MESSAGE", help="What to say.")],
    dedup: Annotated[
        str | None, typer.Option(metavar="D", help="A message with the same D counts once.")
    ] = None,
) -> int:
    """Say something to an agent at work, or in a conversation.

    It is read before the agent's next model call. It needs no worker: the
    message is kept in the run's inbox. It decides nothing that a person is
    asked; see approve, deny and answer.

      say first "Look in the attic, too."
      say trip "And in winter?"
    """
    from substrate.cli.act.say import say as say_

    return begin(say_, context, id, words, dedup)
