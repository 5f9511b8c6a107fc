"""Messages: what people say to an agent while it works, taken in before its next model call.

A message is a signal called ``message``, sent with or without a worker: ``client.signal(id,
"message", "Look in the attic.")``. It leaves a row, ``heard.n``, only where there was one. It never
counts as a decision.

Invariants: what is accepted is read, or the answer tells that it was not. A message that comes
while a run ends makes another turn, where the loop's conditions permit one.
"""

from collections.abc import Sequence

from substrate.agent.chain import Chain
from substrate.agent.history.result import spoken
from substrate.agent.history.rows import HEARD, TOOLS
from substrate.engine.context.context import Context
from substrate.models.messages import Text, UserMessage

MESSAGE = "message"
"""The name of the signal."""

_QUOTED = 200


async def hear(ctx: Context) -> UserMessage:
    """Return what people have said since, as one message; one of no parts where nobody has.

    Only the run's own loop hears, since they speak to the run: not one that a tool of it calls.
    """
    if is_in_a_tool(ctx):
        return UserMessage(())
    key = ctx.key_ahead(HEARD)
    message = spoken(await ctx.hear(MESSAGE))
    if message.parts:
        Chain.of(ctx).note(message, key)
    return message


def unread(messages: Sequence[UserMessage]) -> str:
    """Say which messages the model has not read, for the answer; nothing where it read all."""
    words = [part.text for each in messages for part in each.parts if isinstance(part, Text)]
    quoted = ", ".join(repr(f"{w[:_QUOTED]}…" if len(w) > _QUOTED else w) for w in words)
    return f"not read any more: {quoted}" if words else ""


def is_in_a_tool(ctx: Context) -> bool:
    """Whether a tool of the run has this context, and not the run's own loop."""
    scopes = ctx.id_prefix.removeprefix(f"{ctx.run_id}#").split("/")
    return any(scope.startswith(f"{TOOLS}.") for scope in scopes)
