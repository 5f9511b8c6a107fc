"""Messages in the order that every provider takes: roles alternate, each call has its result.

Invariants: pure. Messages that are in order stay as they are; those at the beginning of a longer
transcript are ordered as they were, so that a provider finds what it has cached. Afterwards the
user begins, the model does not end, each call has an id of its own, and its result right after it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from substrate.models.messages import (
    Json,
    Message,
    Reply,
    ReplyPart,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    UserPart,
    portable,
)
from substrate.models.sendable import changed

BEGINNING = Text("(What was said before this is not shown.)")
"""What the user says where a transcript begins with a reply, or with nothing."""

GO_ON = Text("Go on.")
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


def is_in_order(messages: Sequence[Message]) -> bool:
    """Whether roles alternate, and each call has an id of its own and its result right after it."""
    taken: set[str] = set()
    waiting: list[tuple[str, str]] = []
    may_speak: tuple[type[Message], ...] = (UserMessage,)
    for message in messages:
        if not isinstance(message, may_speak):
            return False
        match message:
            case UserMessage(parts):
                if not parts:
                    return False
                may_speak = (Reply,)
            case ToolMessage(results):
                if [(each.call_id, each.name) for each in results] != waiting:
                    return False
                may_speak = (Reply, UserMessage)
            case Reply(parts):
                if not parts:
                    return False
                waiting = [(part.id, part.name) for part in parts if isinstance(part, ToolCall)]
                for id, _ in waiting:
                    if not _is_free(id, taken):
                        return False
                    taken.add(portable(id))
                may_speak = (ToolMessage,) if waiting else (UserMessage,)
    return bool(messages) and not isinstance(messages[-1], Reply)


def _is_free(id: str, taken: set[str]) -> bool:
    return bool(id) and len(id) <= LONGEST_ID and portable(id) not in taken


@dataclass(slots=True)
class _Turn:
    """A reply, or None before the first, and what follows it until the next."""

    reply: Reply | None
    results: list[ToolResult] = field(default_factory=list)
    said: list[UserPart] = field(default_factory=list)


def _turns(messages: Iterable[Message]) -> Iterator[_Turn]:
    turn = _Turn(None)
    for message in messages:
        match message:
            case Reply():
                yield turn
                turn = _Turn(message)
            case ToolMessage(results):
                turn.results += results
            case UserMessage(parts):
                turn.said += parts
    yield turn


def in_order(messages: Sequence[Message]) -> list[Message]:
    """Return the messages in an order that every provider takes."""
    made: list[Message] = []
    ids = _Ids()
    for number, turn in enumerate(_turns(messages)):
        said, results = turn.said, turn.results
        if turn.reply is not None and not _is_mute(turn):
            reply, given, results = _answered(turn.reply, results, ids, number - 1)
            made.append(reply)
            if given:
                made.append(ToolMessage(given))
        said = [*map(_in_words, results), *said]
        if made and isinstance(made[-1], UserMessage):  # the reply between them said nothing
            made[-1] = UserMessage((*made[-1].parts, *said))
        elif said or not made or isinstance(made[-1], Reply):
            made.append(UserMessage(tuple(said) or (GO_ON if made else BEGINNING,)))
    return made


def _is_mute(turn: _Turn) -> bool:
    """Whether a reply says nothing: it has no part, or only thoughts that nobody has answered."""
    parts = turn.reply.parts if turn.reply else ()
    return all(isinstance(part, Thinking) for part in parts) and not (
        parts and (turn.results or turn.said)
    )


def _answered(
    reply: Reply, results: Sequence[ToolResult], ids: "_Ids", number: int
) -> tuple[Reply, tuple[ToolResult, ...], list[ToolResult]]:
    """Return a reply with an id for each call, a result for each, and the results that are left."""
    waiting: defaultdict[str, deque[ToolResult]] = defaultdict(deque)
    for result in results:
        waiting[result.call_id].append(result)
    parts: list[ReplyPart] = []
    given: list[ToolResult] = []
    for position, part in enumerate(reply.parts):
        if isinstance(part, ToolCall):
            found = waiting[part.id].popleft() if waiting[part.id] else None
            call_id = ids.take(part.id or f"call_{number}_{position}")
            none = ToolResult(call_id, part.name, NO_RESULT, is_error=True)
            given.append(none if found is None else replace(found, call_id=call_id, name=part.name))
            parts.append(changed(part, id=call_id))
        else:
            parts.append(part)
    unclaimed = {id(each) for queue in waiting.values() for each in queue}
    left = [result for result in results if id(result) in unclaimed]
    return replace(reply, parts=tuple(parts)), tuple(given), left


def _in_words(result: ToolResult) -> Text:
    """Return a result without a call as words, since what it says may matter."""
    return Text(f"(From {result.name or 'a tool'}, whose call is not shown:)\n{result.content}")


class _Ids:
    """The ids of a transcript's calls: each is taken once, also where it is made portable."""

    __slots__ = ("_next", "_taken")

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: defaultdict[str, int] = defaultdict(lambda: 2)

    def take(self, wanted: str) -> str:
        """Return the id, or the first one after it that is free."""
        id = wanted if len(wanted) <= LONGEST_ID else portable(wanted)
        while portable(id) in self._taken:
            suffix = f"_{self._next[wanted]}"
            self._next[wanted] += 1
            id = portable(wanted)[-(LONGEST_ID - len(suffix)) :] + suffix
        self._taken.add(portable(id))
        return id
