"""What a journal adds up to: steps, turns, tokens and cost. Pure.

A step counts when it is settled; a turn is a settled call of the model by the loop itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from substrate.agent.history.rows import is_turn
from substrate.agent.history.usage import NOTHING, usage_of
from substrate.models.messages import Usage
from substrate.values.records import Kind, Promise


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of a journal."""

    #: How many promises are settled, whatever their outcome is.
    steps: int = 0
    #: How many replies the loop has had from the model.
    turns: int = 0
    #: What all of these used.
    usage: Usage = NOTHING

    @classmethod
    def of(cls, journal: Iterable[Promise]) -> "Totals":
        """Return the sums of these promises."""
        totals = cls()
        for promise in journal:
            totals = totals.plus(promise)
        return totals

    def plus(self, promise: Promise) -> "Totals":
        """Return the sums with a promise more, which counts once it is settled."""
        if promise.kind is Kind.RUN or not promise.is_settled:
            return self
        return replace(
            self,
            steps=self.steps + 1,
            turns=self.turns + is_turn(promise),
            usage=self.usage + usage_of(promise),
        )
