"""What a conversation carries from one message to the next, and from one generation on.

A loop of a conversation begins where the one before has ended: `turn.begin` looks here for what
was said, and `turn.finish` leaves it here. The loop itself knows nothing of it.

A generation ends with a row ``carried.n``: the messages that are new in it. The next one is begun
with the keys of such rows, so a message is carried once, however long the conversation becomes.

Invariants: what is carried on is what the next model call is sent, byte for byte, and what budgets
count; the chain of requests goes on, too. It decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain as chain_of
from typing import Any

from substrate.agent.chain import Chain
from substrate.agent.history.keys import CARRIED
from substrate.agent.named_step import named_step
from substrate.agent.task import Task
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Message, Reply, Usage, message_from_json
from substrate.values.codec import decode
from substrate.values.records import JsonText

_KEPT_REPLIES = 2  # budgets look at how much more the last call took than the one before it


@dataclass(frozen=True, slots=True)
class Carried:
    """What a generation of a conversation is begun with: JSON."""

    #: The keys of the rows that hold what the model is told, in order.
    rows: Sequence[str]
    #: What all of it has used, with what is below the run.
    used: dict[str, Any]
    #: What was used since the conversation was handed over.
    used_here: dict[str, Any]
    #: The most that one call took.
    peak: dict[str, Any]
    #: What the first reply since the last summary took, and the last ones, in order.
    last: Sequence[dict[str, Any]]
    #: The last model call: its key, the digest of what it was asked, and how many messages.
    asked: tuple[str, str, int] | None = None
    #: The agent that it was handed over to.
    agent: str | None = None
    #: Whether the model was told that its budget is nearly used up.
    is_warned: bool = False
    #: Whether tool results are left out that the model may have back.
    has_left_out: bool = False
    #: Who has given no summary when asked for one, and how often in a row.
    missed: tuple[str, int] = ("", 0)


class Talk:
    """A conversation, as far as it has come. Noted in the context of its function."""

    __slots__ = ("_held", "_rows", "_turns", "is_woken", "transcript")

    def __init__(self, transcript: Transcript | None, rows: Sequence[str]) -> None:
        #: All that was said; None before the first answer.
        self.transcript: Transcript | None = transcript
        #: Whether no message, but a decision has begun the present work.
        self.is_woken: bool = False
        self._held: tuple[Message, ...] = () if transcript is None else transcript.messages
        self._rows = tuple(rows)
        self._turns = 0 if transcript is None else transcript.turns

    @classmethod
    async def begin(cls, ctx: Context, task: Task, carried: Carried | None) -> "Talk":
        """Return a new one, or one that goes on with what was carried; `of` finds it again."""
        transcript = None if carried is None else await _restored(ctx, task, carried)
        talk = ctx.notes[cls] = cls(transcript, () if carried is None else carried.rows)
        return talk

    @classmethod
    def of(cls, ctx: Context) -> "Talk | None":
        """Return the conversation of which this context is; None where it is of none."""
        found = ctx.notes.get(cls)
        return found if isinstance(found, cls) else None

    @property
    def agent(self) -> str | None:
        """The agent that it was handed over to."""
        return None if self.transcript is None else self.transcript.agent

    @property
    def is_long(self) -> bool:
        """Whether a generation is long enough for the next one to begin."""
        told = self.transcript
        if told is None:
            return False
        # A message that no model is asked about, since the budget is used up, counts as well.
        said = len(told.messages) - len(self._held)
        return told.turns - self._turns >= _TURNS or said >= _MESSAGES

    async def carry(self, ctx: Context) -> Carried:
        """Write down the messages that are new; return what the next generation is begun with."""
        told = self.transcript
        assert told is not None
        # Where it was summed up, what was carried before is not told any more.
        goes_on = told.messages[: len(self._held)] == self._held
        new = told.messages[len(self._held) :] if goes_on else told.messages

        async def note() -> Json:
            return [_carried(each, told.chain) for each in new]

        key = ctx.key_ahead(CARRIED)
        await ctx.checkpoint(named_step(CARRIED, note))
        return Carried(
            rows=[*(self._rows if goes_on else ()), key],
            used=told.usage.to_json(),
            used_here=told.since_handoff().usage.to_json(),
            peak=told.peak.to_json(),
            last=[each.usage.to_json() for each in _kept_of(told)],
            asked=told.chain.last,
            agent=told.agent,
            is_warned=told.is_warned,
            has_left_out=told.has_left_out,
            missed=told.missed,
        )


_TURNS, _MESSAGES = 16, 96
"""So many replies, or messages, make a generation: what there is to replay stays short."""


def _kept_of(told: Transcript) -> Sequence[Reply]:
    """Return the replies by which budgets tell how much calls have grown since a summary."""
    since = told.replies_since_summary or told.replies[-1:]
    return (*since[:1], *since[1:][-_KEPT_REPLIES:])


NO_MESSAGES = JsonText("[]")


def _carried(message: Message, chain: Chain) -> dict[str, Json]:
    """Return a message as it is carried: with the keys of its results, where they are known."""
    keys = chain.results_of(message)
    return {**message.to_json(), **({_KEYS: list(keys)} if keys else {})}


_KEYS = "keys"


@lru_cache(maxsize=256)
def _messages_in(carried: JsonText) -> tuple[tuple[Message, tuple[str, ...]], ...]:
    """Return the messages of a row ``carried.n``, each with the keys of its results.

    Pure, and remembered for the rows that were read last: who talks comes back to the same ones
    with each message.
    """
    return tuple((message_from_json(each), tuple(each.get(_KEYS, ()))) for each in decode(carried))


async def _restored(ctx: Context, task: Task, carried: Carried) -> Transcript:
    """Return the transcript that was carried on. Of its replies only what they took is kept."""
    found = await ctx.earlier(carried.rows)
    parts = (_messages_in(found[key].value or NO_MESSAGES) for key in carried.rows)
    pairs = tuple(chain_of.from_iterable(parts))
    messages = tuple(message for message, _ in pairs)
    chain = Chain.begin(ctx)
    for message, keys in pairs:
        if keys:
            chain.note_results(message, keys)
    if carried.asked is not None:
        key, digest, count = carried.asked
        chain.resume(key, digest, messages[:count])
    last = next((each for each in reversed(messages) if isinstance(each, Reply)), None)
    replies = (
        ()
        if last is None
        else tuple(
            replace(last, usage=Usage.from_json(each), invalid=None) for each in carried.last
        )
    )
    return replace(
        Transcript.begin(task, ""),
        messages=messages,
        replies=replies,
        used=Usage.from_json(carried.used),
        used_here=Usage.from_json(carried.used_here),
        peak=Usage.from_json(carried.peak),
        agent=carried.agent,
        is_warned=carried.is_warned,
        has_left_out=carried.has_left_out,
        missed=carried.missed,
        chain=chain,
    )
