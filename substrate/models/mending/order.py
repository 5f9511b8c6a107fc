"""Messages in the order that every provider takes: roles alternate, each call has its result.

Invariants: pure. Messages that are in order stay as they are; those at the beginning of a longer
transcript are ordered as they were, so that a provider finds what it has cached. Afterwards the
user begins, the model does not end, each call has an id of its own that is taken, and its result
right after it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from substrate.models import messages as m
from substrate.models.mending.notes import Note, NoteAt, at, message
from substrate.models.mending.rules import Rule
from substrate.models.mending.takes import Takes
from substrate.models.sendable import changed

BEGINNING = m.Text("(What was said before this is not shown.)")
"""What the user says where a transcript begins with a reply, or with nothing."""

GO_ON = m.Text("Go on.")
"""What the user says between two replies, and after the last."""

NO_RESULT = "this call has no result: it was not made, or nobody knows what came of it"
"""What the model reads where a call has no result."""

NOTED = m.Reply((m.Text("Noted."),), m.StopReason.END, "", "")
"""What the model says between results and the user, where it has to say something."""


def is_in_order(messages: Sequence[m.Message], to: Takes) -> bool:
    """Whether roles alternate, and each call has an id of its own and its result right after it."""
    taken: set[str] = set()
    waiting: list[tuple[str, str]] = []
    may_speak: tuple[type[m.Message], ...] = (m.UserMessage,)
    for each in messages:
        if not isinstance(each, may_speak):
            return False
        match each:
            case m.UserMessage(parts):
                if not parts:
                    return False
                may_speak = (m.Reply,)
            case m.ToolMessage(results):
                if [(result.call_id, result.name) for result in results] != waiting:
                    return False
                may_speak = (m.Reply,) if to.replies_to_results else (m.Reply, m.UserMessage)
            case m.Reply(parts):
                if not parts:
                    return False
                own = each.made_by(to.provider, to.model)
                waiting = [(part.id, part.name) for part in parts if isinstance(part, m.ToolCall)]
                for id, _ in waiting:
                    if id in taken or not to.takes_id(id, own=own):
                        return False
                    taken.add(id)
                may_speak = (m.ToolMessage,) if waiting else (m.UserMessage,)
    return bool(messages) and not isinstance(messages[-1], m.Reply)


@dataclass(slots=True)
class _Turn:
    """A reply and what follows it until the next."""

    #: None before the first.
    reply: m.Reply | None
    #: The place of its first message.
    index: int
    #: Of all tool messages, in their order.
    results: list[m.ToolResult] = field(default_factory=list)
    #: By people, or by the kit on their behalf.
    said: list[m.UserPart] = field(default_factory=list)
    #: Who spoke after the reply, in order.
    spoke: list[type[m.Message]] = field(default_factory=list)


def _turns(messages: Iterable[m.Message]) -> Iterator[_Turn]:
    turn = _Turn(None, 0)
    for index, each in enumerate(messages):
        match each:
            case m.Reply():
                yield turn
                turn = _Turn(each, index)
                continue
            case m.ToolMessage(results):
                turn.results += results
            case m.UserMessage(parts):
                turn.said += parts
        turn.spoke.append(type(each))
    yield turn


def in_order(messages: Sequence[m.Message], to: Takes, note: NoteAt) -> list[m.Message]:
    """Return the messages in an order that every provider takes."""
    made: list[m.Message] = []
    ids = _Ids(to)
    turns = list(_turns(messages))
    for number, turn in enumerate(turns):
        noting = at(note, message(turn.index))
        said, results = turn.said, turn.results
        if turn.reply is not None and turn.reply.parts:
            reply, given, results = _answered(turn, ids, number - 1, noting)
            made.append(reply)
            if given:
                made.append(m.ToolMessage(given))
        if results:
            noting(Rule.UNASKED)
            said = [*map(_in_words, results), *said]
        if turn.spoke.count(m.UserMessage) > 1:
            noting(Rule.TWO_USERS)
        if said and made and isinstance(made[-1], m.ToolMessage) and to.replies_to_results:
            noting(Rule.NO_REPLY)
            made.append(NOTED)
        if made and isinstance(made[-1], m.UserMessage):  # the reply between them said nothing
            made[-1] = m.UserMessage((*made[-1].parts, *said))
        elif said or not made or isinstance(made[-1], m.Reply):
            if not said:
                _note_silence(turns, number, noting)
            made.append(m.UserMessage(tuple(said) or (GO_ON if made else BEGINNING,)))
    return made


def _note_silence(turns: Sequence[_Turn], number: int, note: Note) -> None:
    """Note why the user is made to say something."""
    if len(turns) == 1:
        note(Rule.NO_MESSAGE)
    elif number == 0:
        note(Rule.BEGINS)
    else:
        note(Rule.ENDS if number == len(turns) - 1 else Rule.TWO_REPLIES)


def _answered(
    turn: _Turn, ids: "_Ids", number: int, note: Note
) -> tuple[m.Reply, tuple[m.ToolResult, ...], list[m.ToolResult]]:
    """Return a reply with an id for each call, a result for each, and the results that are left."""
    reply = turn.reply
    assert reply is not None, "the turn before the first reply has none"
    own = reply.made_by(ids.to.provider, ids.to.model)
    waiting: defaultdict[str, deque[m.ToolResult]] = defaultdict(deque)
    for result in turn.results:
        waiting[result.call_id].append(result)
    parts: list[m.ReplyPart] = []
    given: list[m.ToolResult] = []
    claimed: list[m.ToolResult] = []
    for position, part in enumerate(reply.parts):
        if not isinstance(part, m.ToolCall):
            parts.append(part)
            continue
        # Two calls may share an id: the first result is the first one's.
        found = waiting[part.id].popleft() if waiting[part.id] else None
        call_id = ids.take(part.id or f"call_{number}_{position}", own=own, note=note)
        if not part.id:
            note(Rule.BAD_ID)
        if found is None:
            note(Rule.UNANSWERED)
            given.append(m.ToolResult(call_id, part.name, NO_RESULT, is_error=True))
        else:
            claimed.append(found)
            if found.name != part.name:
                note(Rule.MISNAMED)
            given.append(changed(found, call_id=call_id, name=part.name))
        parts.append(changed(part, id=call_id))
    unclaimed = {id(each) for queue in waiting.values() for each in queue}
    left = [result for result in turn.results if id(result) in unclaimed]
    if _is_displaced(turn, claimed, unclaimed):
        note(Rule.DISPLACED)
    return replace(reply, parts=tuple(parts)), tuple(given), left


def _is_displaced(turn: _Turn, claimed: Sequence[m.ToolResult], unclaimed: set[int]) -> bool:
    """Whether the results of a reply's calls did not come at once, right after it, in order."""
    if not claimed:
        return False
    came = [result for result in turn.results if id(result) not in unclaimed]
    is_split = turn.spoke[0] is not m.ToolMessage or turn.spoke.count(m.ToolMessage) > 1
    return is_split or any(a is not b for a, b in zip(came, claimed, strict=True))


def _in_words(result: m.ToolResult) -> m.Text:
    """Return a result without a call as words, since what it says may matter."""
    return m.Text(f"(From {result.name or 'a tool'}, whose call is not shown:)\n{result.content}")


class _Ids:
    """The ids of a transcript's calls: each is taken once."""

    __slots__ = ("_next", "_taken", "to")

    def __init__(self, to: Takes) -> None:
        self.to: Takes = to
        self._taken: set[str] = set()
        self._next: defaultdict[tuple[str, bool], int] = defaultdict(lambda: 1)

    def take(self, wanted: str, *, own: bool, note: Note) -> str:
        """Return the id as it is taken, or the first one after it that is free."""
        number = self._next[wanted, own]
        if number == 1 and not self.to.takes_id(wanted, own=own):
            note(Rule.BAD_ID)
        while (id := self.to.id(wanted, number, own=own)) in self._taken:
            number += 1
        if number > 1:
            note(Rule.SAME_ID)
        self._next[wanted, own] = number + 1
        self._taken.add(id)
        return id
