"""Making messages shorter, so that what did not fit a model's context does. Pure.

First go the contents of tool results, the oldest first; then the oldest turns, a reply with the
results of its calls; then the results of the last turn are cut. What people said, and the last
turn, stay.

Invariants: what comes out can be sent: each call has its result; the same messages and the same
room give the same, so a replay needs to know the room only.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from substrate.models.messages import (
    Document,
    Image,
    Message,
    Reply,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from substrate.models.tokens import tokens_shown
from substrate.values.codec import encode

TOKEN_CHARS = 4
"""So many characters, about, are a token: what is shown counts by its tokens, not by its bytes."""

NOTE = 64
"""About how many characters the word takes that something was left out."""

FEW = 200
"""A result of so few characters is not worth leaving out."""


def size(messages: Sequence[Message]) -> int:
    """Return about how many characters a model has to read, its own and the tools' words."""
    return sum(map(_size, messages))


def shortened(messages: Sequence[Message], room: int) -> tuple[Message, ...]:
    """Return messages of about `room` characters at most, where that can be had.

    >>> said = (ToolMessage((ToolResult("1", "read", "x" * 9000),)),)
    >>> size(shortened(said, 1000)) <= 1100
    True
    """
    found = list(messages)
    # What is least missed goes first, and more only where that was too little.
    for shorten in (_without_old_results, _without_old_turns, _with_results_cut):
        excess = size(found) - room
        if excess > 0:
            found = shorten(found, excess)
    return tuple(found)


def _without_old_results(messages: list[Message], excess: int) -> list[Message]:
    found = list(messages)
    for i in _places(found, ToolMessage)[:-1]:  # the last are what the model is about to read
        if excess <= 0:
            break
        found[i] = _mapped(found[i], _left_out)
        excess -= _size(messages[i]) - _size(found[i])
    return found


def _without_old_turns(messages: list[Message], excess: int) -> list[Message]:
    gone: set[int] = set()
    replies = _places(messages, Reply)
    for begin, end in pairwise(replies):
        if excess <= 0:
            break
        # A reply goes with the results of its calls, which no provider takes alone.
        turn = [i for i in range(begin, end) if not isinstance(messages[i], UserMessage)]
        gone.update(turn)
        excess -= sum(_size(messages[i]) for i in turn)
    return [each for i, each in enumerate(messages) if i not in gone]


def _with_results_cut(messages: list[Message], excess: int) -> list[Message]:
    """Cut the last results so far that they fit, each by the same share."""
    found, places = list(messages), _places(messages, ToolMessage)
    for i in places[-1:]:
        share = max(1 - excess / max(_size(found[i]), 1), 0.0)
        found[i] = _mapped(found[i], partial(_cut, share=share))
    return found


def _places(messages: Sequence[Message], type_: type[Message]) -> list[int]:
    return [i for i, each in enumerate(messages) if isinstance(each, type_)]


def _mapped(message: Message, change: Callable[[ToolResult], ToolResult]) -> Message:
    assert isinstance(message, ToolMessage)
    return replace(message, results=tuple(map(change, message.results)))


def _size(message: Message) -> int:
    if isinstance(message, ToolMessage):
        return sum(len(result.content) for result in message.results)
    return sum(map(_size_of_part, message.parts))


def _size_of_part(part: object) -> int:
    match part:
        case Text(text=text):
            return len(text)
        case Thinking(text=text, native=native):
            return len(text) + (len(encode(native)) if native is not None else 0)
        case ToolCall(arguments=arguments, malformed=malformed):
            return len(encode(arguments)) + len(malformed or "")
        case Image() | Document():
            return TOKEN_CHARS * tokens_shown(part)
    return 0


def _left_out(result: ToolResult) -> ToolResult:
    if len(result.content) <= FEW:
        return result
    notice = f"[left out, to make room: {len(result.content):,} characters]"
    return replace(result, content=notice)


def _cut(result: ToolResult, share: float) -> ToolResult:
    """Keep the beginning and the end of a result, and say what is missing."""
    content, most = result.content, max(int(len(result.content) * share) - NOTE, FEW)
    if len(content) <= most:
        return result
    head, tail = most * 2 // 3, most - most * 2 // 3
    notice = f"\n[… left out, to make room: {len(content) - most:,} characters …]\n"
    return replace(result, content=content[:head] + notice + content[len(content) - tail :])
