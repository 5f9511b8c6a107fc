"""An agent's messages so far: a value that grows by `+`, rebuilt from the journal on a replay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from substrate.agent.task import Task
from substrate.models.messages import (
    Message,
    Reply,
    StopReason,
    Text,
    ToolMessage,
    Usage,
    UserMessage,
    UserPart,
)

NOTHING = Usage(cost_usd=Decimal(0))

SUMMARY = "What you did so far, in your own summary:"


@dataclass(frozen=True, slots=True)
class Transcript:
    """The system prompt, the task, and all that was said since.

    `messages` are what the model is told: a summary has taken the place of those before it.
    `replies` are all that it said, in order, and `used` is what these and the `summaries` took.
    `elsewhere` is what was used in and below the run by others than this loop. `version` is that of
    the prompt, where it has some.
    """

    task: Task
    system: str
    messages: tuple[Message, ...]
    replies: tuple[Reply, ...] = ()
    summaries: tuple[Reply, ...] = ()
    summed_up_at: int = 0
    used: Usage = NOTHING
    elsewhere: Usage = NOTHING
    is_warned: bool = False
    version: tuple[str, str] | None = None

    @classmethod
    def begin(cls, task: Task, system: str, version: tuple[str, str] | None = None) -> "Transcript":
        """Return the transcript before the first model call."""
        return cls(task, system, (UserMessage.of(task.text),), version=version)

    def __add__(self, message: Any) -> "Transcript":
        """Return the transcript with a message more; nothing is added for a message of nothing.

        An answer that is not what was asked for is followed by what is wrong with it.
        """
        if not isinstance(message, UserMessage | Reply | ToolMessage):
            return NotImplemented
        if isinstance(message, ToolMessage) and not message.results:
            return self
        if isinstance(message, Reply):
            told = _correction(message)
            correction = (UserMessage.of(told),) if told else ()
            return replace(
                self,
                messages=(*self.messages, message, *correction),
                replies=(*self.replies, message),
                used=self.used + message.usage,
            )
        messages = (*self.messages, message)
        if isinstance(message, ToolMessage) and message.elsewhere is not None:
            return replace(self, messages=messages, elsewhere=message.elsewhere)
        return replace(self, messages=messages)

    def warned(self, words: str) -> "Transcript":
        """Return the transcript with a warning to the model at its end."""
        return replace(self + UserMessage.of(words), is_warned=True)

    def summed_up(self, summary: Reply) -> "Transcript":
        """Return the transcript with a summary in the place of all but the task and the last turn.

        Where the model has written none, only its price is counted.
        """
        counted = replace(
            self,
            summaries=(*self.summaries, summary),
            summed_up_at=len(self.replies),
            used=self.used + summary.usage,
        )
        if not summary.text.strip() or summary.stop is StopReason.REFUSAL:
            return counted
        at = max(i for i, each in enumerate(self.messages) if isinstance(each, Reply))
        begun = self.messages[0]
        task: tuple[UserPart, ...] = begun.parts[:1] if isinstance(begun, UserMessage) else ()
        told = UserMessage((*task, Text(f"{SUMMARY}\n\n{summary.text}")))
        return replace(counted, messages=(told, *self.messages[at:]))

    @property
    def last_reply(self) -> Reply | None:
        """What the model said last, or None before its first word."""
        return self.replies[-1] if self.replies else None

    @property
    def turns(self) -> int:
        """How many model calls there have been, without those for a summary."""
        return len(self.replies)

    @property
    def replies_since_summary(self) -> Sequence[Reply]:
        """What the model said since there was last a summary, or since the beginning."""
        return self.replies[self.summed_up_at :]

    @property
    def turns_since_summary(self) -> int:
        """How many model calls there have been since there was last a summary."""
        return self.turns - self.summed_up_at

    def misses(self, tries: int) -> tuple[int, int]:
        """Return how many models have used up their tries, and how many the present one has used.

        Each answer that is not what was asked for is one; calls that cannot be made are while they
        follow each other.
        """
        models = answers = calls = 0
        for reply in self.replies:
            if reply.invalid is None:
                calls = 0
            elif reply.tool_calls:
                calls += 1
            else:
                answers += 1
            if answers + calls >= tries:
                models, answers, calls = models + 1, 0, 0
        return models, answers + calls

    @property
    def usage(self) -> Usage:
        """What all model calls together consumed, in and below the run."""
        return self.used + self.elsewhere


def _correction(reply: Reply) -> str | None:
    """Return what the model is told of an answer that it may give again."""
    if reply.invalid is None or reply.invalid.is_last or reply.tool_calls:
        return None  # wrong calls have their results, which say what was wrong
    return reply.invalid.told
