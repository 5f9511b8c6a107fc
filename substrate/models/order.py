"""Messages in the order that every provider takes: roles alternate, each call has its result.

Invariants: pure. Messages that are in order stay as they are; those at the beginning of a longer
transcript are ordered as they were, so that a provider finds what it has cached. Afterwards the
user begins, the model does not end, each call has an id of its own, and its result right after it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from substrate.models import messages as m
from substrate.models.parts import Json
from substrate.models.sendable import changed

BEGINNING = m.Text("(What was said before this is not shown.)")
"""What the user says where a transcript begins with a reply, or with nothing."""

GO_ON = m.Text("Go on.")
"""What the user says between two replies, and after the last."""

NO_RESULT = "this call has no result: it was not made, or nobody knows what came of it"
"""What the model reads where a call has no result."""

LONGEST_ID = 64


def alternating(messages: Iterable[dict[str, Json]], parts: str) -> list[dict[str, Json]]:
    """Return messages with those of one role that follow each other joined, and none that is empty.

    `parts` is the name of what a message has. A reply of which nothing is left says nothing.
    """
    made: list[dict[str, Json]] = []
    for message in messages:
        if made and message["role"] == made[-1]["role"]:
            made[-1] = {**made[-1], parts: [*made[-1][parts], *message[parts]]}
        elif message[parts]:
            made.append(message)
    return made


def is_in_order(messages: Sequence[m.Message]) -> bool:
    """Whether roles alternate, and each call has an id of its own and its result right after it."""
    taken: set[str] = set()
    waiting: list[tuple[str, str]] = []
    may_speak: tuple[type[m.Message], ...] = (m.UserMessage,)
    for message in messages:
        if not isinstance(message, may_speak):
            return False
        match message:
            case m.UserMessage(parts):
                if not parts:
                    return False
                may_speak = (m.Reply,)
            case m.ToolMessage(results):
                if [(each.call_id, each.name) for each in results] != waiting:
                    return False
                may_speak = (m.Reply, m.UserMessage)
            case m.Reply(parts):
                if not parts:
                    return False
                waiting = [(part.id, part.name) for part in parts if isinstance(part, m.ToolCall)]
                for id, _ in waiting:
                    if not _is_free(id, taken):
                        return False
                    taken.add(m.portable(id))
                may_speak = (m.ToolMessage,) if waiting else (m.UserMessage,)
    return bool(messages) and not isinstance(messages[-1], m.Reply)


def _is_free(id: str, taken: set[str]) -> bool:
    return bool(id) and len(id) <= LONGEST_ID and m.portable(id) not in taken


@dataclass(slots=True)
class _Turn:
    """A reply and what follows it until the next."""

    #: None before the first.
    reply: m.Reply | None
    #: Of all tool messages, in their order.
    results: list[m.ToolResult] = field(default_factory=list)
    #: By people, or by the kit on their behalf.
    said: list[m.UserPart] = field(default_factory=list)


def _turns(messages: Iterable[m.Message]) -> Iterator[_Turn]:
    turn = _Turn(None)
    for message in messages:
        match message:
            case m.Reply():
                yield turn
                turn = _Turn(message)
            case m.ToolMessage(results):
                turn.results += results
            case m.UserMessage(parts):
                turn.said += parts
    yield turn


def in_order(messages: Sequence[m.Message]) -> list[m.Message]:
    """Return the messages in an order that every provider takes."""
    made: list[m.Message] = []
    ids = _Ids()
    for number, turn in enumerate(_turns(messages)):
        said, results = turn.said, turn.results
        if turn.reply is not None and not _is_mute(turn):
            reply, given, results = _answered(turn.reply, results, ids, number - 1)
            made.append(reply)
            if given:
                made.append(m.ToolMessage(given))
        said = [*map(_in_words, results), *said]
        if made and isinstance(made[-1], m.UserMessage):  # the reply between them said nothing
            made[-1] = m.UserMessage((*made[-1].parts, *said))
        elif said or not made or isinstance(made[-1], m.Reply):
            made.append(m.UserMessage(tuple(said) or (GO_ON if made else BEGINNING,)))
    return made


def _is_mute(turn: _Turn) -> bool:
    """Whether a reply says nothing: it has no part, or only thoughts that nobody has answered."""
    parts = turn.reply.parts if turn.reply else ()
    return all(isinstance(part, m.Thinking) for part in parts) and not (
        parts and (turn.results or turn.said)
    )


def _answered(
    reply: m.Reply, results: Sequence[m.ToolResult], ids: "_Ids", number: int
) -> tuple[m.Reply, tuple[m.ToolResult, ...], list[m.ToolResult]]:
    """Return a reply with an id for each call, a result for each, and the results that are left."""
    waiting: defaultdict[str, deque[m.ToolResult]] = defaultdict(deque)
    for result in results:
        waiting[result.call_id].append(result)
    parts: list[m.ReplyPart] = []
    given: list[m.ToolResult] = []
    for position, part in enumerate(reply.parts):
        if isinstance(part, m.ToolCall):
            # Two calls may share an id: the first result is the first one's.
            found = waiting[part.id].popleft() if waiting[part.id] else None
            call_id = ids.take(part.id or f"call_{number}_{position}")
            none = m.ToolResult(call_id, part.name, NO_RESULT, is_error=True)
            given.append(none if found is None else replace(found, call_id=call_id, name=part.name))
            parts.append(changed(part, id=call_id))
        else:
            parts.append(part)
    unclaimed = {id(each) for queue in waiting.values() for each in queue}
    left = [result for result in results if id(result) in unclaimed]
    return replace(reply, parts=tuple(parts)), tuple(given), left


def _in_words(result: m.ToolResult) -> m.Text:
    """Return a result without a call as words, since what it says may matter."""
    return m.Text(f"(From {result.name or 'a tool'}, whose call is not shown:)\n{result.content}")


class _Ids:
    """The ids of a transcript's calls: each is taken once, also where it is made portable."""

    __slots__ = ("_next", "_taken")

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: defaultdict[str, int] = defaultdict(lambda: 2)

    def take(self, wanted: str) -> str:
        """Return the id, or the first one after it that is free."""
        # Servers compare ids as they write them: what is taken is kept as it will be sent.
        id = wanted if len(wanted) <= LONGEST_ID else m.portable(wanted)
        while m.portable(id) in self._taken:
            suffix = f"_{self._next[wanted]}"
            self._next[wanted] += 1
            id = m.portable(wanted)[-(LONGEST_ID - len(suffix)) :] + suffix
        self._taken.add(m.portable(id))
        return id
