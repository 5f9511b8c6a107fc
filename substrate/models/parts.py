"""What messages are made of: words, thinking, tool calls and their results, pictures, documents.

What a provider needs back byte for byte (a thinking block's signature, encrypted reasoning) is kept
in a part's `native`.

Invariants: ``part_from_json(recorded(part)) == part``; a record is plain JSON (bytes as base64) and
leaves out a field that is None. What a model wrote as a call's arguments is an object, or the call
is `malformed`.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Json = Any
"""A JSON value: None, bool, int, float, str, or lists and dicts of these."""

_DEEPEST = 200
"""How deep arguments may be nested: the journal's JSON ends at 254, and a reply wraps them."""


def check_texts(part: object, *names: str) -> None:
    """Raise `TypeError` where one of these fields is no text: what reads it later relies on it."""
    for name in names:
        if not isinstance(value := getattr(part, name), str):
            kind = type(value).__name__
            raise TypeError(f"the {name} of a {type(part).__name__} is {kind}, no text")


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    #: The words.
    text: str
    #: What its provider needs back as it is.
    native: Json = None

    def __post_init__(self) -> None:
        """Refuse what a server sent in the place of words."""
        check_texts(self, "text")


@dataclass(frozen=True, slots=True)
class Thinking:
    """The model's reasoning: a readable summary, and what its provider needs back.

    A block that only its own provider understands, such as a search that the provider ran, is
    one without text: it holds its place among the parts and goes back in `native`.
    """

    #: What of it may be read.
    text: str
    #: What its provider needs back as it is.
    native: Json = None

    def __post_init__(self) -> None:
        """Refuse what a server sent in the place of words."""
        check_texts(self, "text")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool.

    `arguments` is an object; where the model sent something that is none, `arguments` is empty
    and `malformed` holds its text, so that the loop can answer with what was wrong. So it is with
    every call of a reply that was cut off or filtered: what is `malformed` is never made.
    """

    #: What its result names; unique in a transcript.
    id: str
    #: The tool's.
    name: str
    #: By the names of the parameters.
    arguments: dict[str, Json] = field(default_factory=dict)
    #: What the model sent in the place of an object; such a call is never made.
    malformed: str | None = None
    #: What its provider needs back as it is.
    native: Json = None

    def __post_init__(self) -> None:
        """Refuse what a server sent in the place of an id, a name or an object."""
        check_texts(self, "id", "name")
        if not isinstance(self.arguments, dict):
            raise TypeError(f"a call's arguments are {type(self.arguments).__name__}, no object")

    @classmethod
    def read(cls, id: str, name: str, arguments: str, native: Json = None) -> "ToolCall":
        """Return a call from the arguments as the model wrote them; no text is no arguments."""
        try:
            value = json.loads(arguments or "{}", parse_constant=_refuse)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and not _is_too_deep(value, arguments):
            return cls(id, name, value, native=native)
        return cls(id, name, malformed=arguments, native=native)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back, for the call with this id.

    Not every provider knows `is_error`, so `content` says by itself that something went wrong.
    """

    #: The call's `id`.
    call_id: str
    #: The tool's.
    name: str
    #: What the model reads.
    content: str
    #: Whether it went wrong.
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A picture for the model to look at."""

    #: Its bytes.
    data: bytes
    #: Such as ``image/png``.
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class Document:
    """A file for the model to read."""

    #: Its bytes.
    data: bytes
    #: Such as ``application/pdf``.
    media_type: str = "application/pdf"
    #: What it is called.
    title: str | None = None


ReplyPart = Text | Thinking | ToolCall
UserPart = Text | Image | Document


_PARTS: Mapping[str, type[Any]] = {
    "text": Text,
    "thinking": Thinking,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "image": Image,
    "document": Document,
}
_TYPES = {cls: name for name, cls in _PARTS.items()}

UPGRADE = "it was written by a newer one: update the kit"
"""What helps against a record of which this version knows nothing."""


def recorded(part: ReplyPart | UserPart | ToolResult) -> dict[str, Json]:
    """Return a part as its type's name and those of its fields that are not None."""
    record: dict[str, Json] = {"type": _TYPES[type(part)]}
    for name in (each.name for each in fields(part)):
        value = getattr(part, name)
        if value is not None:
            record[name] = b64encode(value).decode() if isinstance(value, bytes) else value
    return record


def attached(record: "Mapping[str, Json] | Image | Document") -> "Image | Document":
    """Rebuild an image or a document from its record. Raises `ValueError` for anything else."""
    part = record
    if isinstance(record, Mapping):
        given = {"type": None, **record}
        part = part_from_json(given) if given["type"] in ("image", "document") else record
    data: object = part.data if isinstance(part, Image | Document) else None
    if not isinstance(part, Image | Document) or not isinstance(data, bytes) or not data:
        raise ValueError("an attachment is an Image or a Document, with its bytes as data")
    return part


def part_from_json(record: Mapping[str, Json]) -> Any:
    """Rebuild a part from its record. Raises `ValueError` for a type that is not known here."""
    if record["type"] not in _PARTS:
        raise ValueError(f"{record['type']!r} is a part that this version does not know; {UPGRADE}")
    given = {key: value for key, value in record.items() if key != "type"}
    if "data" in given:  # the one field that holds bytes
        given["data"] = b64decode(given["data"])
    return _PARTS[record["type"]](**given)


def portable(name: str) -> str:
    """Return a call's id or name as every provider takes it: 1 to 64 letters, digits, ``_``, ``-``.

    One that fits is returned as it is, so a provider's own come back to it unchanged. Models make
    up names that their own provider refuses to read again.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[-64:] or "_"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_too_deep(value: Json, written: str) -> bool:
    """Whether a value is nested deeper than the journal can keep; mostly its text tells."""
    if written.count("{") + written.count("[") <= _DEEPEST:
        return False
    layer, depth = [value], 0
    while layer and depth <= _DEEPEST:
        inner = [each.values() if isinstance(each, dict) else each for each in layer]
        layer = [each for group in inner for each in group if isinstance(each, dict | list)]
        depth += 1
    return depth > _DEEPEST
