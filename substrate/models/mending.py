"""A request as every provider can take it: what one of them would refuse is mended before it goes.

A transcript holds what tools, people and models said, and some of it can't be said again: half an
emoji, an answer without a word, two calls under one id, arguments that are no object, a call whose
result was never given. A provider refuses the whole request for it, and would refuse it each time
the run is resumed. The journal keeps what was said; only what is sent is mended.

==========================================  ======================================================
in the transcript                           as it is sent
==========================================  ======================================================
half a character (a lone surrogate)         joined with its other half, or U+FFFD
words that are only white space             left out; so is a message of nothing else
an empty picture or document                words that say so
two calls with one id, or none              an id each, and their results with them
arguments that are no object                ``{}``; what was wrong stands in the call's result
a call without a result                     a result that says so, as an error
results in another order, or elsewhere,     one for each call, right after them, in their order,
or under another name                       under its name
a result without a call                     words of the user's
user messages that follow each other        one message
a reply at the beginning or the end, or     a word of the user's before, after or between
right after another
==========================================  ======================================================

Invariants: pure, so it is the same on every replay. What is mended needs no more mending. A request
to which nothing is wrong comes back as it is. The messages at the beginning of a longer transcript
are mended as they were, so that a provider finds what it has cached. Roles alternate afterwards,
beginning with the user and not ending with the model. What one provider alone refuses is left to
its adapter.
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TypeVar, cast
from weakref import ref

from substrate.models.messages import (
    Document,
    Image,
    Json,
    Message,
    Reply,
    ReplyPart,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
    UserPart,
    portable,
)
from substrate.values.errors import BadRequest

VERSION = 1
"""Which mending a request was sent with. It changes when what is sent for a transcript does."""

BEGINNING = Text("(What was said before this is not shown.)")
"""What the user says where a transcript begins with a reply, or with nothing."""

GO_ON = Text("Go on.")
"""What the user says between two replies, and after the last."""

NO_RESULT = "this call has no result: it was not made, or nobody knows what came of it"
"""What the model is told of a call that has no result."""

LONGEST_ID = 64


def mended(request: Request) -> Request:
    """Return the request with whatever a provider would refuse in it mended.

    Raises `BadRequest` for a value that contains itself, which nobody can send.
    """
    messages: Sequence[Message] = [_sound(message) for message in request.messages]
    if not _is_in_order(messages):
        messages = _in_order(messages)
    elif all(a is b for a, b in zip(messages, request.messages, strict=True)):
        messages = request.messages
    return _changed(
        request,
        system=whole(request.system) if request.system.strip() else "",
        messages=messages,
        tools=_each(_spec, request.tools),
        settings=sendable(request.settings),
        answer_schema=sendable(request.answer_schema),
    )


# What is said: each message by itself


_found: dict[int, tuple[ref[Message], Message | None]] = {}
"""The mended form of each message that is alive, by its identity; None where it is its own.

A transcript of a thousand messages is looked at with every call, and they never change.
"""


def _sound(message: Message) -> Message:
    """Return a message that can be encoded, without parts that say nothing."""
    known = _found.get(id(message))
    if known is None:
        made = _made_sound(message)
        key = id(message)
        watch = ref(message, lambda _: _found.pop(key, None))
        known = _found[key] = (watch, None if made is message else made)
    return message if known[1] is None else known[1]


def _made_sound(message: Message) -> Message:
    match message:
        case UserMessage(parts):
            said = _each(_user_part, parts)
            return message if said is parts else UserMessage(tuple(said))
        case ToolMessage(results):
            given = _each(_result, results)
            return message if given is results else replace(message, results=tuple(given))
        case Reply(parts):
            written = _each(_reply_part, parts)
            return message if written is parts else replace(message, parts=tuple(written))


def _user_part(part: UserPart) -> UserPart | None:
    match part:
        case Text(text):
            return _changed(part, text=whole(text)) if text.strip() else None
        case Image(data):
            return part if data else Text("(an empty picture)")
        case Document(data, title=title):
            title = title and whole(title)
            if not data.strip():
                return Text(f"(an empty document{f': {title}' if title else ''})")
            return _changed(part, title=title)


def _result(result: ToolResult) -> ToolResult:
    content, name, call_id = map(whole, (result.content, result.name, result.call_id))
    return _changed(result, content=content, name=name, call_id=call_id)


def _reply_part(part: ReplyPart) -> ReplyPart | None:
    native = sendable(part.native)
    match part:
        case Text(text):  # one that carries a signature or an id keeps its place without a word
            is_said = native or text.strip()
            return _changed(part, text=whole(text), native=native) if is_said else None
        case Thinking(text):
            return _changed(part, text=whole(text), native=native)
        case ToolCall(id, name, arguments, malformed):
            if malformed is not None:  # complete ones too, of a reply that was cut off
                arguments = ToolCall.read("", "", malformed).arguments
            named = {"id": whole(id), "name": whole(name), "native": native}
            return _changed(part, **named, arguments=sendable(arguments), malformed=None)


def _spec(tool: ToolSpec) -> ToolSpec:
    name, description = whole(tool.name), whole(tool.description)
    return _changed(tool, name=name, description=description, parameters=sendable(tool.parameters))


def whole(text: str) -> str:
    """Return a text that can be encoded: halves of a character are joined, or U+FFFD."""
    if text.isascii():  # which it knows without looking
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


JsonT = TypeVar("JsonT")


def sendable(value: JsonT) -> JsonT:
    """Return a JSON value whose texts can all be encoded, and whose numbers are such."""
    if not value:
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if whole(text) is text:
            return value
    except (TypeError, RecursionError):  # a setting that is not JSON, which its SDK says better
        return value
    except ValueError:
        pass
    try:
        return cast("JsonT", _walked(value))
    except RecursionError as error:
        raise BadRequest(
            f"{str(value)[:200]!r} contains itself and cannot be sent; correct the request"
        ) from error


def _walked(value: Json) -> Json:
    match value:
        case str():
            return whole(value)
        case float() if not isfinite(value):
            return str(value)
        case Mapping():
            return {_walked(key): _walked(each) for key, each in value.items()}
        case list() | tuple():
            return [_walked(each) for each in value]
    return value


T = TypeVar("T")


def _each(mend: Callable[[T], T | None], parts: Sequence[T]) -> Sequence[T]:
    """Return what a function makes of each part that it keeps, or the same where all are as is."""
    made = [each for part in parts if (each := mend(part)) is not None]
    is_same = len(made) == len(parts) and all(a is b for a, b in zip(made, parts, strict=True))
    return parts if is_same else made


def _changed(value: T, **fields: object) -> T:
    """Return a value with these fields, or the same where they are what it has."""
    differing = {k: v for k, v in fields.items() if getattr(value, k) is not v}
    return replace(value, **differing) if differing else value  # type: ignore[type-var]


# Who speaks after whom


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


def _is_in_order(messages: Sequence[Message]) -> bool:
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


def _in_order(messages: Sequence[Message]) -> list[Message]:
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
        told = [*map(_told, results), *said]
        if made and isinstance(made[-1], UserMessage):  # the reply between them said nothing
            made[-1] = UserMessage((*made[-1].parts, *told))
        elif told or not made or isinstance(made[-1], Reply):
            made.append(UserMessage(tuple(told) or (GO_ON if made else BEGINNING,)))
    return made


def _is_mute(turn: _Turn) -> bool:
    """Whether a reply says nothing: not a part, or only thoughts, to which nobody said a word."""
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
            parts.append(_changed(part, id=call_id))
        else:
            parts.append(part)
    unclaimed = {id(each) for queue in waiting.values() for each in queue}
    left = [result for result in results if id(result) in unclaimed]
    return replace(reply, parts=tuple(parts)), tuple(given), left


def _told(result: ToolResult) -> Text:
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
