"""What an agent is given, and what it gives back. Pure values; both cross the journal as JSON."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter

from substrate.models.day import day, zone_of
from substrate.models.messages import (
    Document,
    Image,
    Json,
    Text,
    Usage,
    UserMessage,
    attached,
    recorded,
)
from substrate.values.errors import Misuse

T = TypeVar("T")


class InvalidTask(Misuse):
    """A task says nothing, or has what is none. A model may be what made it so."""


Attachment = Annotated[
    Image | Document,
    PlainSerializer(recorded, return_type=dict[str, Any]),
    PlainValidator(attached),
]
"""An image or a document; its record is that of a message's part, with the bytes as base64."""


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is given: words, and data for the prompt hook where words don't do.

    Raises `InvalidTask`, a `Misuse`, for an unknown time zone, and for a task that says
    nothing or has an attachment that is none.

    Example:
        >>> Task("What is an ostinato?", data={"name": "Ada"}).data["name"]
        'Ada'
    """

    #: The words.
    text: str
    #: JSON for the prompt hook; the model is not told it.
    data: dict[str, Json] = field(default_factory=dict)
    # Left out of the record where there is none, as in records from before there were any.
    #: Images and documents for the model to look at, after the words, of 64 MB all together. One
    #: that is a file is read by `substrate.agent.attachment.attachment`.
    attachments: Annotated[tuple[Attachment, ...], Field(exclude_if=lambda given: not given)] = ()
    #: In which the model is told the day on which the run begins, such as ``Europe/Vienna``; None
    #: is UTC.
    timezone: Annotated[str | None, Field(exclude_if=lambda given: given is None)] = None

    def __post_init__(self) -> None:
        """Refuse now what a provider would refuse at the first call."""
        if not isinstance(self.text, str):
            raise InvalidTask(f"Task({self.text!r:.200}) is no text; write Task('…')")
        try:
            given = tuple(map(attached, self.attachments))
        except (TypeError, ValueError) as error:
            raise InvalidTask(f"attachments={self.attachments!r:.200}: {error}") from None
        object.__setattr__(self, "attachments", given)
        if not (self.text.strip() or given):
            raise InvalidTask(
                f"Task({self.text!r:.200}) says nothing; give it words, or an attachment"
            )

        try:
            zone_of(self.timezone or "UTC")
        except ValueError as error:
            raise InvalidTask(f"timezone: {error}") from None

    @property
    def message(self) -> UserMessage:
        """What the model is told first, but for the day."""
        words = (Text(self.text),) if self.text.strip() else ()
        return UserMessage((*words, *self.attachments))

    def begun(self, now: datetime) -> UserMessage:
        """Return what the model is told first of a task that is begun now."""
        return UserMessage((*self.message.parts, day(now, self.timezone)))


def is_complete(reason: str, ended_by: object) -> bool:
    """Whether a loop that ended for this reason had its answer."""
    return reason == "answered" or (reason == "signalled" and ended_by == "agent")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent gives back."""

    #: The words: when it is `answered` whole, or, as `detail` says then, as many as the model can
    #: write; the best that could be had otherwise.
    text: str
    #: Why the loop ended: a word of `EndReason`, such as ``answered``.
    reason: str
    #: The same in words, where there is more to say.
    detail: str = ""
    #: How many model calls there were.
    turns: int = 0
    #: What the run and all below it used; its cost is None where a price is not known.
    usage: Usage = field(default_factory=Usage)
    #: The answer as JSON, where the agent has an `answer` type and it fits: see `read`.
    value: Json = None
    #: How sure the model says that it is of it, from 0 to 1, where it was asked: see `confident`.
    confidence: Annotated[float | None, Field(exclude_if=lambda given: given is None)] = None
    #: Who ended the work, ``agent`` or ``person``, where it is ``signalled``.
    ended_by: Annotated[str | None, Field(exclude_if=lambda given: given is None)] = None

    @property
    def is_complete(self) -> bool:
        """Whether the agent ended because it had its answer."""
        return is_complete(self.reason, self.ended_by)

    def read(self, type_: type[T]) -> T:
        """Return the answer as its type.

        Args:
            type_: That of the hook `answer`.

        Raises:
            ValueError: there is none that fits.
        """
        return TypeAdapter(type_).validate_json(json.dumps(self.value))
