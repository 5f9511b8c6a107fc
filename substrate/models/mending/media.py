"""Pictures and documents as a model takes them; words, where it does not.

Invariant: what is shown in words says what it was and why it is not there.
"""

from dataclasses import replace

from substrate.models import messages as m
from substrate.models.mending.notes import Note, faults
from substrate.models.mending.rules import Rule
from substrate.models.mending.takes import Takes
from substrate.models.pictures import size_of, type_of
from substrate.models.sendable import changed, clean

_TEXTS = frozenset(
    f"application/{each}"
    for each in ("json", "xml", "yaml", "x-yaml", "toml", "javascript", "x-sh", "sql", "rtf")
)
"""Types of media that are text, though they do not say so."""


def picture(part: m.Image, to: Takes, note: Note) -> m.Image | m.Text:
    """Return a picture as it is taken, or words."""
    if not part.data:
        note(Rule.EMPTY)
        return m.Text("(an empty picture)")
    media_type = type_of(part.data) or part.media_type
    problem = _unseen(part.data, media_type, to)
    if problem:
        note(Rule.UNSEEN)
        return m.Text(f"(a picture, {clean(media_type)}, that cannot be shown: {problem})")
    if media_type != part.media_type:
        note(Rule.MISTYPED)
    return changed(part, media_type=media_type) if media_type != part.media_type else part


def _unseen(data: bytes, media_type: str, to: Takes) -> str:
    """Return why a picture is not taken, or nothing."""
    if not to.pictures:
        return "this model sees none"
    if media_type not in to.pictures:
        return "this model does not take the type"
    length = 4 * ((len(data) + 2) // 3)
    if to.largest_picture is not None and length > to.largest_picture:
        return f"it has {length:,} characters, above {to.largest_picture:,}"
    sides = size_of(data) if to.longest_side is not None else None
    if sides is not None and max(sides) > (to.longest_side or 0):
        return f"it has {sides[0]} × {sides[1]} pixels, above {to.longest_side}"
    return ""


def document(part: m.Document, to: Takes, note: Note) -> m.Document | m.Text:
    """Return a document as it is taken, or words."""
    title = part.title and clean(part.title, faults(note))
    if not part.data.strip():
        note(Rule.EMPTY)
        return m.Text(f"(an empty document{f': {title}' if title else ''})")
    if _is_text(part.media_type):
        if part.media_type in to.documents:
            return changed(part, title=title)
        note(Rule.IN_WORDS)
        if "text/plain" in to.documents:
            return replace(part, media_type="text/plain", title=title)
        text = clean(part.data.decode(errors="replace"), faults(note))
        return m.Text(f"{title}:\n\n{text}" if title else text)
    if part.media_type in to.documents:
        return changed(part, title=title)
    note(Rule.UNREAD)
    named = f" {title}" if title else ""
    kind = clean(part.media_type)
    return m.Text(f"(a document{named}, {kind}, that cannot be shown: this model does not read it)")


def _is_text(media_type: str) -> bool:
    bare = media_type.partition(";")[0].strip().lower()
    return bare.startswith("text/") or bare in _TEXTS or bare.endswith(("+json", "+xml"))


def most_shown(messages: list[m.Message], to: Takes, note: Note) -> list[m.Message]:
    """Return the messages with no more pictures than are taken; the oldest are said in words.

    Half as many as are taken go at a time: the beginning of a transcript rarely changes then, and a
    provider finds what it has cached.
    """
    most = to.most_pictures
    if most is None:
        return messages
    count = sum(map(_count, messages))
    if count <= most:
        return messages
    note(Rule.MANY_PICTURES)
    half = max(most // 2, 1)
    left_out = -(-(count - most) // half) * half
    made: list[m.Message] = []
    for message in messages:
        if isinstance(message, m.UserMessage) and left_out and _count(message):
            parts: list[m.UserPart] = []
            for part in message.parts:
                if isinstance(part, m.Image) and left_out:
                    left_out -= 1
                    parts.append(m.Text(f"(a picture, left out: only {most} can be shown)"))
                else:
                    parts.append(part)
            made.append(m.UserMessage(tuple(parts)))
        else:
            made.append(message)
    return made


def _count(message: m.Message) -> int:
    if not isinstance(message, m.UserMessage):
        return 0
    return sum(isinstance(part, m.Image) for part in message.parts)
