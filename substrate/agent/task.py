"""What an agent is given, and what it gives back. Pure values; both cross the journal as JSON."""

import json
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter

from substrate.models.messages import Json, Usage, UserMessage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is given: words, and data for the prompt hook where words don't do."""

    text: str
    data: dict[str, Json] = field(default_factory=dict)

    @property
    def message(self) -> UserMessage:
        """What the model is told first."""
        return UserMessage.of(self.text)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent gives back.

    `reason` says why the loop ended: `answered`, `max_turns`, `budget`, `refused`, `failed`; the
    text is whole when it is `answered`, and the best that could be had otherwise. `usage` is that
    of the run and of all below it; its cost is None where a price is not known. `value` is the
    answer as JSON, where the agent has an `answer` type and it fits: see `read`.
    """

    text: str
    reason: str
    detail: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    value: Json = None

    @property
    def is_complete(self) -> bool:
        """Whether the agent ended because it had its answer."""
        return self.reason == "answered"

    def read(self, type_: type[T]) -> T:
        """Return the answer as its type. Raises `ValueError` where there is none that fits."""
        return TypeAdapter(type_).validate_json(json.dumps(self.value))
