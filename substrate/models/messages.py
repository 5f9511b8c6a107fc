"""One set of message types for all providers. Pure values; each knows its JSON form.

A reply names the provider and the model that made it. What this provider needs back byte for byte
is in the `native` of its parts, and is sent to that model only: `Reply.made_by` tells an adapter
which parts are its own. The parts themselves are in `parts`, and are imported from here.

Invariants: ``X.from_json(x.to_json()) == x`` for every message and for `Usage`; what `to_json`
returns is plain JSON (money as a decimal string). What a call used is no part of a reply's record:
what was said and what it cost are kept side by side.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum

from substrate.models.parts import (
    UPGRADE,
    Document,
    Image,
    Json,
    ReplyPart,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UserPart,
    attached,
    part_from_json,
    portable,
    recorded,
)

__all__ = [
    "Confidence",
    "Document",
    "Image",
    "Invalid",
    "Json",
    "Message",
    "PassedOver",
    "Reply",
    "ReplyPart",
    "StopReason",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolMessage",
    "ToolResult",
    "Usage",
    "UserMessage",
    "UserPart",
    "attached",
    "message_from_json",
    "portable",
    "recorded",
]


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
    """Why a reply is not what was asked for, in words for the model."""

    problems: str
    is_last: bool = False
    #: Whether nobody was asked: what is left of a budget pays for no try more.
    is_unpaid: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        unpaid = {"is_unpaid": True} if self.is_unpaid else {}
        return {"problems": self.problems, "is_last": self.is_last, **unpaid}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "Invalid":
        """Rebuild it from its record."""
        return cls(record["problems"], record["is_last"], record.get("is_unpaid", False))


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a model says that it is of its answer, where it was asked.

    Then the words of its reply are JSON, in which the answer stands beside this.
    """

    #: From 0 to 1.
    value: float
    #: What was wanted: an answer of less is none yet.
    least: float
    #: What is missing, in the model's words.
    missing: str = ""

    @property
    def is_enough(self) -> bool:
        """Whether the model is as sure as was wanted."""
        return self.value >= self.least

    def to_json(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "Confidence":
        """Rebuild it from its record."""
        return cls(record["value"], record["least"], record["missing"])


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
        return cls(tuple(part_from_json(part) for part in record["parts"]))


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
        return cls(tuple(part_from_json(result) for result in record["results"]))


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
    #: How sure it is of its answer, where it was asked.
    confidence: Confidence | None = None
    #: Whether a budget cut it off, and not the model's own longest output.
    is_cut_short: bool = False

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
        if self.confidence is not None:
            record["confidence"] = self.confidence.to_json()
        if self.is_cut_short:
            record["is_cut_short"] = True
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Json], usage: Usage = Usage()) -> "Reply":
        """Rebuild a reply from its record and the usage that was kept beside it."""
        invalid, sure = record.get("invalid"), record.get("confidence")
        return cls(
            tuple(part_from_json(part) for part in record["parts"]),
            StopReason(record["stop"]),
            record["provider"],
            record["model"],
            usage,  # kept beside the record: what was said and what it cost are two columns
            record["response_id"],
            tuple(PassedOver.from_json(each) for each in record.get("passed_over") or ()),
            None if invalid is None else Invalid.from_json(invalid),
            record.get("detail"),
            None if sure is None else Confidence.from_json(sure),
            record.get("is_cut_short", False),
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
    raise ValueError(f"{record['role']!r} is a role that this version does not know; {UPGRADE}")
