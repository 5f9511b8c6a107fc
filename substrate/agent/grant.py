"""A grant: what a child may use of its parent's budget, and how a budget tells what is left.

A grant is written with the child's row, ``{"usd": "0.0937", "tokens": 20000}``, and is never
changed: neither a restart nor new hooks move it. What is not limited is not in it.

Invariants: pure; what is left of a budget whose use is not known is not known, and never 0.
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from substrate.models.messages import Json, Usage
from substrate.values.codec import decode, encode
from substrate.values.records import JsonText

if TYPE_CHECKING:
    from substrate.agent.end import Verdict

_SMALLEST = Decimal("0.000001")


class DelegateFailed(Exception):
    """A sub-agent gave no whole answer, or was not asked; the model is told.

    Its `details` are the run, the reason in a word, and what the sub-agent had found.
    """

    def __init__(self, message: str, details: Json = None) -> None:
        #: The run, the reason, what was found.
        self.details = details
        super().__init__(message)


class Unit(StrEnum):
    """What a budget is counted in."""

    #: Dollars.
    USD = "usd"
    #: Tokens, read and written.
    TOKENS = "tokens"

    def of(self, usage: Usage) -> Decimal | None:
        """Return how much of it a usage is; None where nobody knows."""
        if self is Unit.USD:
            return usage.cost_usd
        return Decimal(usage.input_tokens + usage.output_tokens)


@dataclass(frozen=True, slots=True)
class Told:
    """What one limit of a budget tells of a transcript."""

    #: What it is counted in.
    unit: Unit
    #: How much is left for others, once the loop's own next turn and last words are kept back;
    #: None where nobody knows.
    left: Decimal | None
    #: Whether it ends what reaches it; one that only warns does not.
    is_hard: bool
    #: What it says of the loop itself.
    verdict: "Verdict"
    #: How much is left in all; None where nobody knows.
    rest: Decimal | None = None
    #: How much of that a turn leaves for last words after it.
    last_words: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Grant:
    """How much may be used, by unit."""

    #: What is limited, and to how much.
    most: dict[Unit, Decimal]

    @classmethod
    def from_json(cls, text: JsonText) -> "Grant":
        """Read what a row keeps."""
        record = decode(text)
        return cls({unit: Decimal(str(record[unit])) for unit in Unit if unit in record})

    def to_json(self) -> JsonText:
        """Return what a row keeps."""
        return JsonText(
            encode({unit.value: _plain(unit, most) for unit, most in self.most.items()})
        )

    @classmethod
    def of(cls, told: "list[Told]") -> "Grant | None":
        """Return what all these limits leave; None where none of them is hard.

        Raises `DelegateFailed` where it is not known what is left.
        """
        most: dict[Unit, Decimal] = {}
        for each in told:
            if not each.is_hard:
                continue
            if each.left is None:
                raise DelegateFailed("what is left of the budget is not known: a price is missing")
            most[each.unit] = min(each.left, most.get(each.unit, each.left))
        return cls(most) if most else None

    def within(self, other: "Grant | None") -> "Grant":
        """Return what both allow."""
        if other is None:
            return self
        units = self.most | other.most
        least = {
            unit: min(each.most[unit] for each in (self, other) if unit in each.most)
            for unit in units
        }
        return Grant(least)

    def less(self, used: Usage) -> "Grant":
        """Return what is left of it. Raises `DelegateFailed` where that is not known."""
        left = {}
        for unit, most in self.most.items():
            amount = unit.of(used)
            if amount is None:
                raise DelegateFailed("what is left of the budget is not known: a price is missing")
            left[unit] = most - amount
        return Grant(left)

    @property
    def none(self) -> "Grant":
        """Nothing of what it limits: who has that asks nobody."""
        return Grant(dict.fromkeys(self.most, Decimal(0)))

    @property
    def is_none(self) -> bool:
        """Whether nothing may be used."""
        return any(most <= 0 for most in self.most.values())

    def times(self, grant: "Grant") -> int:
        """Return how often another one that is not nothing can be taken from it."""
        units = self.most.keys() & grant.most.keys()
        return max(min((int(self.most[unit] / grant.most[unit]) for unit in units), default=0), 0)

    def divided(self, count: int) -> "Grant":
        """Return an equal part, rounded down. Raises `DelegateFailed` where that is nothing."""
        parts = {
            unit: (most / count).quantize(_SMALLEST if unit is Unit.USD else 1, ROUND_DOWN)
            for unit, most in self.most.items()
        }
        if any(part <= 0 for part in parts.values()):
            raise DelegateFailed("nothing is left of the budget for it")
        return Grant(parts)

    def covering(self, used: Usage) -> Usage:
        """Return what counts while whoever has it is at work: all of it, or more that was used."""
        tokens, usd = Unit.TOKENS.of(used) or Decimal(0), used.cost_usd
        if Unit.USD in self.most and usd is not None:
            usd = max(usd, self.most[Unit.USD])
        return Usage(int(max(tokens, self.most.get(Unit.TOKENS, tokens))), cost_usd=usd)


def _plain(unit: Unit, amount: Decimal) -> Json:
    return int(amount) if unit is Unit.TOKENS else format(amount, "f")
