"""What an agent is given, and what it gives back. Pure values; both cross the journal as JSON."""

from dataclasses import dataclass, field

from substrate.models.messages import Json, Usage


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is given: words, and data for the prompt hook where words don't do."""

    text: str
    data: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent gives back.

    `reason` says why the loop ended: `answered`, `max_turns`, `budget`, `refused`, `failed`; the
    text is whole when it is `answered`, and the best that could be had otherwise. `usage.cost_usd`
    is None where a price is not known.
    """

    text: str
    reason: str
    detail: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def is_complete(self) -> bool:
        """Whether the agent ended because it had its answer."""
        return self.reason == "answered"
