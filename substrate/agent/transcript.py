"""An agent's messages so far: a value that grows by `+`, rebuilt from the journal on a replay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from substrate.agent.task import Task
from substrate.models.messages import Message, Reply, ToolMessage, Usage, UserMessage


@dataclass(frozen=True, slots=True)
class Transcript:
    """The system prompt, the task, and all that was said since."""

    task: Task
    system: str
    messages: tuple[Message, ...]

    @classmethod
    def begin(cls, task: Task, system: str) -> "Transcript":
        """Return the transcript before the first model call."""
        return cls(task, system, (UserMessage.of(task.text),))

    def __add__(self, message: Any) -> "Transcript":
        """Return the transcript with a message more; nothing is added for a message of nothing."""
        if not isinstance(message, UserMessage | Reply | ToolMessage):
            return NotImplemented
        if isinstance(message, ToolMessage) and not message.results:
            return self
        return replace(self, messages=(*self.messages, message))

    @property
    def replies(self) -> Sequence[Reply]:
        """What the model said, in order."""
        return [message for message in self.messages if isinstance(message, Reply)]

    @property
    def last_reply(self) -> Reply | None:
        """What the model said last, or None before its first word."""
        return self.replies[-1] if self.replies else None

    @property
    def turns(self) -> int:
        """How many model calls there have been."""
        return len(self.replies)

    @property
    def usage(self) -> Usage:
        """What all model calls together consumed."""
        return sum((reply.usage for reply in self.replies), Usage(cost_usd=Decimal(0)))
