"""A conversation: one run, in which an agent answers one message after the other.

Its function calls the agent's own loop for each message, in its own journal, and waits for the
next one. So what holds in a run of the agent holds here: hooks, tools, approvals, sub-agents and
checks. Conditions and limits of turns are asked anew for each message; a budget is of the whole.

=============  ====================================================================================
``prompt.n``   the n-th message, and the system prompt as it was rendered for it
…              what the loop writes
``answer.n``   what was answered, why it ended there, and what all of it has used so far
``message.n``  the wait for the next message, and then the message; cancelled where the decision of
               a deferred call came first: then the agent tells what came of it
``carried.n``  what is new in a generation: see `talk`
=============  ====================================================================================

Invariants: between messages the run is suspended, and holds nothing; a call that is deferred mutes
nothing, and its decision is followed without another message. A message that comes while the
agent works is read before its next model call. A long conversation goes on as itself, with what was
said and used; never while a child or a gate of it is open. Nothing it has decided is asked again.
"""

from dataclasses import replace

from substrate.agent.deferrals import Deferrals
from substrate.agent.history.keys import ANSWER, MESSAGE
from substrate.agent.history.result import spoken
from substrate.agent.named_step import named_step
from substrate.agent.talk import Carried, Talk
from substrate.agent.task import Answer, Task
from substrate.engine.context.context import Context
from substrate.engine.function.function import Durable, MadeFor
from substrate.models.messages import Json, Text, UserMessage

_SUFFIX = "-conversation"

Conversation = Durable[[Task, Carried | None], Json]


def conversation_of(loop: Durable[[Task], Answer]) -> Conversation:
    """Return the function of conversations with an agent, for `Client.start` and a worker.

    A run of it is started with the first message as its task, and never ends by itself; each
    signal called ``message`` is the next one. ``data`` and ``timezone`` of the first task hold for
    all of them.

    Args:
        loop: The agent's own loop. Its name with ``-conversation`` is that of the function.

    Example:
        >>> owls = Agent("owls", "Count.", Model("scripted:owls", script=["Two owls."]))
        >>> conversation_of(owls.durable).name
        'owls-conversation'
    """

    async def conversation(ctx: Context, task: Task, carried: Carried | None = None) -> Json:
        talk = await Talk.begin(ctx, task, carried)
        if carried is None:
            await _answer(ctx, loop, task)
        present = task
        while True:
            if await _may_continue(ctx, talk):
                following = await talk.carry(ctx)
                return ctx.continue_as(replace(task, attachments=()), following)
            came = await ctx.receive_beside(MESSAGE, Deferrals.of(ctx).gates)
            said, talk.is_woken = spoken(came), not came
            if said.parts:
                present = replace(task, text=_words(said), attachments=())
            if said.parts or talk.is_woken:
                await _answer(ctx, loop, present)

    return Durable(conversation, f"{loop.name}{_SUFFIX}", made_for=_made_for(loop))


def is_conversation(function: str) -> bool:
    """Whether runs of a function are conversations, by its name."""
    return function.endswith(_SUFFIX)


def _made_for(loop: Durable[[Task], Answer]) -> MadeFor:
    made = loop.made_for
    place = ("", "") if made is None else (made.module, made.place)
    return MadeFor(loop if made is None else made.thing, "conversation", *place)


async def _answer(ctx: Context, loop: Durable[[Task], Answer], task: Task) -> None:
    """Have the agent's loop answer a message, in this very journal, and record what it gave."""
    answer = await loop(ctx, task)

    async def tell() -> Json:
        return _record(answer)

    await ctx.checkpoint(named_step(ANSWER, tell))


def _record(answer: Answer) -> dict[str, Json]:
    record: dict[str, Json] = {
        "text": answer.text,
        "reason": answer.reason,
        "turns": answer.turns,
        "used": answer.usage.to_json(),
    }
    more = {
        "detail": answer.detail or None,
        "value": answer.value,
        "confidence": answer.confidence,
        "ended_by": answer.ended_by,
    }
    return record | {name: value for name, value in more.items() if value is not None}


async def _may_continue(ctx: Context, talk: Talk) -> bool:
    """Whether the next generation may begin: it is time, and nothing of this one is open.

    Where the wait for the next message is recorded, it went on as it is.
    """
    if not talk.is_long or ctx.recorded(MESSAGE) is not None or Deferrals.of(ctx).calls:
        return False
    if await ctx.has_open_runs_below(ctx.id_prefix):
        return False
    below = await ctx.store.gates.pending_below(ctx.run_id)
    return all(each.run_id != ctx.run_id for each in below)


def _words(message: UserMessage) -> str:
    return "\n\n".join(part.text for part in message.parts if isinstance(part, Text))
