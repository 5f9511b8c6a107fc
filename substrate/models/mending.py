"""A transcript as it can be sent: what a provider would refuse in it, mended.

What models write, and people say, cannot always be said again: half an emoji, an answer without a
word, arguments that are no object, a call whose result was never given. A provider refuses the
whole request for it, and would refuse it each time the run is resumed. The journal keeps what was
said; only what is sent is mended: each message by itself here, and their order in `order`.

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

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from substrate.models import messages as m
from substrate.models.once import Once
from substrate.models.order import in_order, is_in_order
from substrate.models.request import Request, ToolSpec
from substrate.models.sendable import changed, sendable, whole

VERSION = 1
"""Which mending a request was sent with. It changes when what is sent for a transcript does."""


def mended(request: Request) -> Request:
    """Return the request with whatever a provider would refuse in it mended.

    Raises `BadRequest` for a value that contains itself, which nobody can send.
    """
    messages: Sequence[m.Message] = [sound(message) for message in request.messages]
    if not is_in_order(messages):
        messages = in_order(messages)
    elif all(a is b for a, b in zip(messages, request.messages, strict=True)):
        messages = request.messages
    return changed(
        request,
        system=whole(request.system) if request.system.strip() else "",
        messages=messages,
        tools=_each(_spec, request.tools),
        settings=sendable(request.settings),
        answer_schema=sendable(request.answer_schema),
    )


def _sound(message: m.Message) -> m.Message:
    """Return a message that can be encoded, without parts that say nothing."""
    match message:
        case m.UserMessage(parts):
            said = _each(_user_part, parts)
            return message if said is parts else m.UserMessage(tuple(said))
        case m.ToolMessage(results):
            given = _each(_result, results)
            return message if given is results else replace(message, results=tuple(given))
        case m.Reply(parts):
            written = _each(_reply_part, parts)
            return message if written is parts else replace(message, parts=tuple(written))


sound: Once[m.Message, m.Message] = Once(_sound)
"""The mended form of each message, by itself."""


def _user_part(part: m.UserPart) -> m.UserPart | None:
    match part:
        case m.Text(text):
            return changed(part, text=whole(text)) if text.strip() else None
        case m.Image(data):
            return part if data else m.Text("(an empty picture)")
        case m.Document(data, title=title):
            title = title and whole(title)
            if not data.strip():
                return m.Text(f"(an empty document{f': {title}' if title else ''})")
            return changed(part, title=title)


def _result(result: m.ToolResult) -> m.ToolResult:
    content, name, call_id = map(whole, (result.content, result.name, result.call_id))
    return changed(result, content=content, name=name, call_id=call_id)


def _reply_part(part: m.ReplyPart) -> m.ReplyPart | None:
    native = sendable(part.native)
    match part:
        case m.Text(text):  # one that carries a signature or an id keeps its place without a word
            is_said = native or text.strip()
            return changed(part, text=whole(text), native=native) if is_said else None
        case m.Thinking(text):
            return changed(part, text=whole(text), native=native)
        case m.ToolCall(id, name, arguments, malformed):
            if malformed is not None:  # complete ones too, of a reply that was cut off
                arguments = m.ToolCall.read("", "", malformed).arguments
            named = {"id": whole(id), "name": whole(name), "native": native}
            return changed(part, **named, arguments=sendable(arguments), malformed=None)


def _spec(tool: ToolSpec) -> ToolSpec:
    name, description = whole(tool.name), whole(tool.description)
    return changed(tool, name=name, description=description, parameters=sendable(tool.parameters))


T = TypeVar("T")


def _each(mend: Callable[[T], T | None], parts: Sequence[T]) -> Sequence[T]:
    """Return what a function makes of each part that it keeps, or the same where all are as is."""
    made = [each for part in parts if (each := mend(part)) is not None]
    is_same = len(made) == len(parts) and all(a is b for a, b in zip(made, parts, strict=True))
    return parts if is_same else made
