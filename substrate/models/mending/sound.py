"""Each message by itself as it can be sent: its texts, its parts, what goes back of a reply.

Invariant: a message to which nothing is wrong comes back as it is, and is looked at once for each
model that it is sent to.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeVar

from substrate.models import messages as m
from substrate.models.mending import media
from substrate.models.mending.notes import Note, faults, ignore
from substrate.models.mending.reasoning import going_back
from substrate.models.mending.rules import Rule
from substrate.models.mending.takes import Takes
from substrate.models.once import Once
from substrate.models.sendable import changed, clean, sendable


@lru_cache(maxsize=64)
def sound_for(to: Takes) -> Once[m.Message, m.Message]:
    """Return what gives the mended form of each message, by itself, for one model."""
    return Once(partial(sound, to=to, note=ignore))


def sound(message: m.Message, to: Takes, note: Note) -> m.Message:
    """Return a message that can be encoded and is taken, without parts that say nothing."""
    match message:
        case m.UserMessage(parts):
            if not parts:
                note(Rule.NOTHING)
            said = _each(partial(_user_part, to=to, note=note), parts)
            return message if said is parts else m.UserMessage(tuple(said))
        case m.ToolMessage(results):
            if not results:
                note(Rule.NOTHING)
            given = _each(partial(_result, to=to, note=note), results)
            return message if given is results else replace(message, results=tuple(given))
        case m.Reply(parts):
            if not parts:
                note(Rule.NOTHING)
            own = message.made_by(to.provider, to.model)
            written = _each(partial(_encoded, to=to, own=own, note=note), parts)
            whole = message if written is parts else replace(message, parts=tuple(written))
            written = _each(partial(_taken, to=to, note=note), going_back(whole, to, note))
            is_same = len(written) == len(parts) and all(map(_is, written, parts))
            return message if is_same else replace(message, parts=tuple(written))


def _is(one: object, other: object) -> bool:
    return one is other


def _user_part(part: m.UserPart, to: Takes, note: Note) -> m.UserPart | None:
    match part:
        case m.Text():
            return _words(part, note)
        case m.Image():
            return media.picture(part, to, note)
        case m.Document():
            return media.document(part, to, note)


def _words(part: m.Text, note: Note) -> m.Text | None:
    if not part.text.strip():
        note(Rule.BLANK)
        return None
    return changed(part, text=clean(part.text, faults(note)))


def _result(result: m.ToolResult, to: Takes, note: Note) -> m.ToolResult:
    content = clean(result.content, faults(note))
    return changed(result, content=content, name=to.name(result.name))


def _encoded(part: m.ReplyPart, *, to: Takes, own: bool, note: Note) -> m.ReplyPart | None:
    """Return a part of a reply that can be encoded; what was signed keeps whatever else it has.

    Words that say nothing go first, so that it is known what follows a thought; those with a
    signature or an id keep their place, where that is asked for.
    """
    found, is_signed = faults(note), to.provider in _SIGN
    native = sendable(part.native, found, keeps_nul=is_signed)
    match part:
        case m.Text(text):
            if not text.strip() and not (native and own and to.provider in _KEEP_PLACES):
                note(Rule.BLANK)
                return None
            return changed(part, text=clean(text, found), native=native)
        case m.Thinking(text):
            return changed(part, text=clean(text, found, keeps_nul=is_signed), native=native)
        case m.ToolCall(arguments=arguments, malformed=malformed):
            if malformed is not None:  # complete ones too, of a reply that was cut off
                note(Rule.NO_OBJECT)
                arguments = m.ToolCall.read("", "", malformed).arguments
            arguments = sendable(arguments, found)
            return changed(part, native=native, arguments=arguments, malformed=None)


def _taken(part: m.ReplyPart, to: Takes, note: Note) -> m.ReplyPart | None:
    match part:
        case m.Text(text, native) if not native:  # another's, which had one until now, too
            return part if text.strip() else _words(part, note)
        case m.ToolCall(name=name):
            sent = to.name(name)
            if sent is not name:
                note(Rule.NAME)
            return changed(part, name=sent)
    return part


_KEEP_PLACES = frozenset({"google", "openai"})
_SIGN = frozenset({"anthropic", "google", "openai"})

T = TypeVar("T")


def _each(mend: Callable[[T], T | None], parts: Sequence[T]) -> Sequence[T]:
    """Return what a function makes of each part that it keeps, or the same where all are as is."""
    made = [each for part in parts if (each := mend(part)) is not None]
    return parts if len(made) == len(parts) and all(map(_is, made, parts)) else made
