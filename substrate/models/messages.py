"""One set of message types for all providers. Pure values; each knows its JSON form.

What a provider needs back byte for byte (a thinking block's signature, encrypted reasoning) is
kept in a part's `native` beside the provider and model that made it, and is sent back to that
model only: `Reply.made_by` tells an adapter which parts are its own.

Invariants: ``X.from_json(x.to_json()) == x`` for every message and for `Usage`; what `to_json`
returns is plain JSON (bytes as base64, money as a decimal string); a part's field that is None
is left out of it. What was used is no part of a message's record: what was said and what it cost
are kept side by side.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

Json = Any
"""A JSON value: None, bool, int, float, str, or lists and dicts of these."""

OnText = Callable[[str], None]
"""Is told each piece of text as it comes in: live only, never recorded."""

Tell = Callable[[dict[str, Any]], None]
"""Is told what becomes of a call: live only, never recorded.

``{"event": "model_asked", "model"}``: a model is asked from the beginning, so the text that came
before, if any, is void. ``{"event": "model_waits", "model", "seconds"}``: it is not asked before
its limits allow it.
"""


def tell_nobody(event: dict[str, Any]) -> None:
    """Do nothing with what becomes of a call."""


READ_TIMEOUT_S = 600.0
"""How long a provider may say nothing, unless the model's settings say otherwise.

Models that think without a word for minutes are common, and their keep-alives do not count.
"""

CALL_TIMEOUT_S = 3600.0
"""How long a whole answer may take, unless the model's settings say otherwise."""

OURS = frozenset({"read_timeout", "call_timeout"})
"""The settings that no provider is told."""

_DEEPEST = 200
"""How deep arguments may be nested: the journal's JSON ends at 254, and a reply wraps them."""


class StopReason(StrEnum):
    """Why a model stopped writing."""

    #: It has said what it had to say.
    END = "end"
    #: It asks for tools.
    TOOL_CALLS = "tool_calls"
    #: It was cut off at the longest output.
    LENGTH = "length"
    #: It, or its provider, declined.
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    #: The words.
    text: str
    #: What its provider needs back as it is.
    native: Json = None


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


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call consumed. Input includes what was cached; output includes reasoning.

    `cost_usd` is None where the price is not known, never 0.
    """

    #: Tokens read, cached ones among them.
    input_tokens: int = 0
    #: Tokens written, those of reasoning among them.
    output_tokens: int = 0
    #: Of those read, the ones that were in a cache.
    cached_tokens: int = 0
    #: Of those read, the ones that were put into a cache.
    cache_write_tokens: int = 0
    #: Of those written, the ones of reasoning.
    reasoning_tokens: int = 0
    #: US dollars; None where the price is not known.
    cost_usd: Decimal | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Return both together; a cost that is not known makes the sum unknown."""
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        )

    def to_json(self) -> dict[str, Json]:
        """Return the counts, and the cost as a decimal string or None."""
        cost = None if self.cost_usd is None else str(self.cost_usd)
        return {**asdict(self), "cost_usd": cost}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "Usage":
        """Rebuild usage from its record."""
        cost = record["cost_usd"]
        return cls(**{**record, "cost_usd": None if cost is None else Decimal(cost)})


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A model that was to answer and did not: why, in a word and in its own, and what it took."""

    model: str
    reason: str
    message: str
    usage: Usage | None = None

    def to_json(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        took = {} if self.usage is None else {"usage": self.usage.to_json()}
        return {"model": self.model, "reason": self.reason, "message": self.message, **took}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "PassedOver":
        """Rebuild it from its record."""
        took = record.get("usage")
        usage = None if took is None else Usage.from_json(took)
        return cls(record["model"], record["reason"], record["message"], usage)


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why a reply is not what was asked for, as the model is told; and whether it may try again."""

    told: str
    is_last: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        return {"told": self.told, "is_last": self.is_last}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "Invalid":
        """Rebuild it from its record."""
        return cls(record["told"], record["is_last"])


@dataclass(frozen=True, slots=True, weakref_slot=True)
class UserMessage:
    """What a person, or the kit on their behalf, says to the model."""

    #: Words, pictures and documents, in order.
    parts: tuple[UserPart, ...]

    @classmethod
    def of(cls, text: str) -> "UserMessage":
        """Return a message that is only words: `text`."""
        return cls((Text(text),))

    def to_json(self) -> dict[str, Json]:
        """Return the message as plain JSON, with the role ``user``."""
        return {"role": "user", "parts": [recorded(part) for part in self.parts]}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "UserMessage":
        """Rebuild a message from its record."""
        return cls(tuple(_part(part) for part in record["parts"]))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ToolMessage:
    """The results of all tool calls of one reply, in the order of the calls.

    `elsewhere` is what everything in and below the run has used until then, but for the loop's own
    model calls; None where no tool has calls of its own.
    """

    #: One for each call, in the order of the calls.
    results: tuple[ToolResult, ...]
    #: What is used in and below the run, but for the loop's own model calls.
    elsewhere: Usage | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the message as plain JSON, with the role ``tools``."""
        return {"role": "tools", "results": [recorded(result) for result in self.results]}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "ToolMessage":
        """Rebuild a message from its record."""
        return cls(tuple(_part(result) for result in record["results"]))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Reply:
    """What a model answered: its parts in order, and where they come from.

    Where another model was to answer, `passed_over` says why it did not; `usage` then includes
    what it took. `invalid` says why it is not what was asked for: an answer that does not fit its
    type, or calls of which none could be made. `detail` is the provider's own word for why it
    declined, such as ``PROHIBITED_CONTENT``.
    """

    #: Words, thinking and calls, in order.
    parts: tuple[ReplyPart, ...]
    #: Why it ended.
    stop: StopReason
    #: Who answered.
    provider: str
    #: By the name that its provider gives it.
    model: str
    #: What it took, with those that were passed over.
    usage: Usage = Usage()
    #: Its provider's own id.
    response_id: str | None = None
    #: Who was to answer before, and why they did not.
    passed_over: tuple[PassedOver, ...] = ()
    #: Why it is not what was asked for.
    invalid: Invalid | None = None
    #: The provider's own word for why it declined.
    detail: str | None = None

    @property
    def text(self) -> str:
        """All its words, without the thinking."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools it asks for, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    def made_by(self, provider: str, model: str) -> bool:
        """Whether this model wrote it, so that its native parts may be sent back."""
        return (self.provider, self.model) == (provider, model)

    def to_json(self) -> dict[str, Json]:
        """Return the reply as plain JSON, with the role ``assistant`` and without its usage."""
        record: dict[str, Json] = {
            "role": "assistant",
            "parts": [recorded(part) for part in self.parts],
            "stop": self.stop.value,
            "provider": self.provider,
            "model": self.model,
            "response_id": self.response_id,
        }
        if self.passed_over:
            record["passed_over"] = [each.to_json() for each in self.passed_over]
        if self.invalid is not None:
            record["invalid"] = self.invalid.to_json()
        if self.detail is not None:
            record["detail"] = self.detail
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Json], usage: Usage = Usage()) -> "Reply":
        """Rebuild a reply from its record and the usage that was kept beside it."""
        invalid = record.get("invalid")
        return cls(
            tuple(_part(part) for part in record["parts"]),
            StopReason(record["stop"]),
            record["provider"],
            record["model"],
            usage,
            record["response_id"],
            tuple(PassedOver.from_json(each) for each in record.get("passed_over") or ()),
            None if invalid is None else Invalid.from_json(invalid),
            record.get("detail"),
        )


Message = UserMessage | Reply | ToolMessage


def message_from_json(record: Mapping[str, Json]) -> Message:
    """Rebuild any message from its record; a reply comes back without its usage."""
    match record["role"]:
        case "user":
            return UserMessage.from_json(record)
        case "assistant":
            return Reply.from_json(record)
        case "tools":
            return ToolMessage.from_json(record)
    raise ValueError(f"{record['role']!r} is a role that this version does not know; {_UPGRADE}")


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it. `parameters` is a JSON Schema whose root is an object."""

    #: What the model calls it.
    name: str
    #: What the model chooses it by.
    description: str
    #: A JSON Schema.
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Request:
    """One model call: everything the provider is told.

    `settings` are the model's: ``read_timeout`` and ``call_timeout`` are ours; the rest goes out.
    Where `max_output_tokens` is None, an answer may be as long as the model can make it. Without
    `may_call_tools` the model is shown the tools, which earlier messages may speak of, and may
    call none. With an `answer_schema`, a JSON Schema whose root is an object, its answer is to be
    JSON that fits.
    """

    #: The system prompt.
    system: str
    #: What was said so far; the first is the task.
    messages: Sequence[Message]
    #: What the model may call.
    tools: Sequence[ToolSpec] = ()
    #: The longest answer; None is as much as the model can write.
    max_output_tokens: int | None = None
    #: The model's.
    settings: Mapping[str, Json] = field(default_factory=dict)
    #: Whether it may call them now, or is only shown them.
    may_call_tools: bool = True
    #: What its answer is to fit, where it is to be JSON.
    answer_schema: Mapping[str, Json] | None = None

    def call_id(self, position: int) -> str:
        """Return an id for a call to which its provider gives none: no other call has it."""
        replies = [message for message in self.messages if isinstance(message, Reply)]
        ours = (_OUR_ID.fullmatch(call.id) for reply in replies for call in reply.tool_calls)
        # After a summary there are fewer replies than there were, and the last one kept its ids.
        number = max((int(each[1]) + 1 for each in ours if each), default=0)
        return f"call_{max(number, len(replies))}_{position}"

    @property
    def read_timeout_s(self) -> float:
        """How long the provider may say nothing, in seconds, before the call counts as stalled."""
        return float(self.settings.get("read_timeout", READ_TIMEOUT_S))

    @property
    def call_timeout_s(self) -> float:
        """How long the whole answer may take, in seconds."""
        return float(self.settings.get("call_timeout", CALL_TIMEOUT_S))

    @property
    def parameters(self) -> dict[str, Json]:
        """The settings that go to the provider as they are."""
        return {key: value for key, value in self.settings.items() if key not in OURS}


_OUR_ID = re.compile(r"call_(\d{1,9})_\d+")
_PARTS: Mapping[str, type[Any]] = {
    "text": Text,
    "thinking": Thinking,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "image": Image,
    "document": Document,
}
_TYPES = {cls: name for name, cls in _PARTS.items()}
_UPGRADE = "it was written by a newer one: update the kit"


def portable(name: str) -> str:
    """Return a call's id or name as every provider takes it: 1 to 64 letters, digits, ``_``, ``-``.

    One that fits is returned as it is, so a provider's own come back to it unchanged. Models make
    up names that their own provider refuses to read again.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[-64:] or "_"


def uncalled(parts: Iterable[ReplyPart], stop: StopReason) -> tuple[ReplyPart, ...]:
    """Return the parts of a reply, without a call that can be made where it was not finished.

    The last call of a reply that was cut off is incomplete, even where no argument had come yet;
    and nothing of a reply that was filtered is to have an effect.
    """
    if stop not in (StopReason.LENGTH, StopReason.REFUSAL):
        return tuple(parts)
    return tuple(
        replace(part, arguments={}, malformed=_written(part))
        if isinstance(part, ToolCall)
        else part
        for part in parts
    )


def _written(call: ToolCall) -> str:
    """Return a call's arguments as text; none at all are no arguments that came."""
    if call.malformed is not None:
        return call.malformed
    return json.dumps(call.arguments, ensure_ascii=False) if call.arguments else ""


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
        part = _part(given) if given["type"] in ("image", "document") else record
    data: object = part.data if isinstance(part, Image | Document) else None
    if not isinstance(part, Image | Document) or not isinstance(data, bytes) or not data:
        raise ValueError("an attachment is an Image or a Document, with its bytes as data")
    return part


def _part(record: Mapping[str, Json]) -> Any:
    """Rebuild a part; `data` is the one field that holds bytes."""
    if record["type"] not in _PARTS:
        raise ValueError(
            f"{record['type']!r} is a part that this version does not know; {_UPGRADE}"
        )
    given = {key: value for key, value in record.items() if key != "type"}
    if "data" in given:
        given["data"] = b64decode(given["data"])
    return _PARTS[record["type"]](**given)


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
