"""The calls that a loop goes on without while people are asked, as far as it has come.

A notebook in the context of the loop, or of the conversation whose loops share it: a replay fills
it again. It decides nothing.
"""

from dataclasses import dataclass, field

from substrate.engine.context.context import Context
from substrate.models.messages import ToolCall
from substrate.values.ids import Key
from substrate.values.records import GATE, Promise


@dataclass(frozen=True, slots=True)
class Deferral:
    """A call that waits for a person."""

    #: The call, as the model made it.
    call: ToolCall
    #: Its key.
    key: Key
    #: Its gate, as it was when the code asked.
    gate: Promise


def gate_key(call: Key) -> Key:
    """Return the key of the gate before a call."""
    return Key(f"{call}/{GATE}.0")


@dataclass(slots=True)
class Deferrals:
    """What is deferred, in the order in which it was asked."""

    calls: dict[Key, Deferral] = field(default_factory=dict)

    @classmethod
    def of(cls, ctx: Context) -> "Deferrals":
        """Return those of a loop's context."""
        found = ctx.notes.setdefault(cls, cls())
        assert isinstance(found, cls)
        return found

    @property
    def gates(self) -> list[Key]:
        """The keys of their gates."""
        return [gate_key(key) for key in self.calls]

    def any_below(self, prefix: str) -> bool:
        """Whether a call below an id's prefix is deferred."""
        return any(each.gate.id.startswith(prefix) for each in self.calls.values())
