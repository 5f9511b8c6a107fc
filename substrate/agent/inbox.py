"""What people say to an agent while it works: messages, and signals that conditions listen for.

A message is a signal called ``message``, sent with or without a worker: ``client.signal(id,
"message", "Look in the attic.")``. It leaves a row, ``heard.n``, only where there was one. It never
counts as a decision.

Invariants: what is accepted is read, or the answer tells that it was not. A message that comes
while a run ends makes another turn, where the loop's conditions permit one. A signal of a condition
that was heard counts from then on; its row is ``signalled.n``.
"""

from collections.abc import Sequence
from dataclasses import replace

from substrate.agent.chain import Chain
from substrate.agent.history.keys import HEARD, MESSAGE, SIGNALLED, TOOLS
from substrate.agent.history.result import spoken
from substrate.agent.recorded import is_of_later_loop, turn_ahead
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Text, UserMessage
from substrate.values.ids import Key
from substrate.values.records import Kind, Promise

__all__ = ["MESSAGE", "hear", "hear_more", "is_in_a_tool", "listen", "unread"]

_QUOTED = 200


async def hear(ctx: Context) -> UserMessage:
    """Return what people have said since, as one message; one of no parts where nobody has.

    Only the run's own loop hears, since they speak to the run: not one that a tool of it calls.
    """
    if is_in_a_tool(ctx):
        return UserMessage(())
    key = ctx.key_ahead(HEARD)
    return _noted(ctx, key, await ctx.hear(MESSAGE))


async def hear_more(ctx: Context) -> UserMessage:
    """Do as `hear`, once more before the same turn: it may be done any number of times."""
    if is_in_a_tool(ctx):
        return UserMessage(())
    key = ctx.key_ahead(HEARD)
    return _noted(ctx, key, await ctx.listen(MESSAGE, HEARD))


def _noted(ctx: Context, key: Key, heard: Sequence[Json]) -> UserMessage:
    message = spoken(heard)
    if message.parts:
        Chain.of(ctx).note(message, key)
    return message


async def listen(ctx: Context, signals: Sequence[str], transcript: Transcript) -> Transcript:
    """Return the transcript with the signals that conditions listen for, and that have come.

    A turn that is recorded was taken, so there is nothing to listen for before it. What was heard
    counts, whether a condition still listens for it or not.
    """
    if turn_ahead(ctx, transcript) is not None or is_in_a_tool(ctx):
        return transcript
    found = dict(transcript.signals)
    while (row := ctx.recorded(SIGNALLED)) is not None and row.kind is Kind.SIGNAL:
        if is_of_later_loop(ctx, row):
            signals = ()  # it came to this point, and went on
            break
        for value in await ctx.listen(row.name, SIGNALLED):
            found.setdefault(row.name, value)
    for name in signals:
        for value in await ctx.listen(name, SIGNALLED) if name not in found else ():
            found.setdefault(name, value)
    return transcript if found == transcript.signals else replace(transcript, signals=found)


async def pass_by(ctx: Context, prompt: Promise) -> None:
    """Pass by the signals that ended the work on earlier messages of a conversation.

    On a replay, a turn that is recorded listens for nothing, so theirs are still ahead; they are
    older than the prompt of this message.
    """
    while (row := ctx.recorded(SIGNALLED)) is not None and row.kind is Kind.SIGNAL:
        if row.seq > prompt.seq:
            return
        await ctx.listen(row.name, SIGNALLED)


def unread(messages: Sequence[UserMessage]) -> str:
    """Say which messages the model has not read, for the answer; nothing where it read all."""
    words = [part.text for each in messages for part in each.parts if isinstance(part, Text)]
    quoted = ", ".join(repr(f"{w[:_QUOTED]}…" if len(w) > _QUOTED else w) for w in words)
    return f"not read any more: {quoted}" if words else ""


def is_in_a_tool(ctx: Context) -> bool:
    """Whether a tool of the run has this context, and not the run's own loop."""
    scopes = ctx.id_prefix.removeprefix(f"{ctx.run_id}#").split("/")
    return any(scope.startswith(f"{TOOLS}.") for scope in scopes)
