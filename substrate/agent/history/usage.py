"""What steps have used, as their rows tell: tokens, and what they cost. Pure.

Invariant: a cost is None as soon as the price of one call is not known; it is never taken for 0.
"""

from collections.abc import Iterable
from decimal import Decimal

from substrate.models.messages import Json, Usage
from substrate.values.codec import decode
from substrate.values.ids import PromiseId
from substrate.values.records import JsonText, Promise

NOTHING = Usage(cost_usd=Decimal(0))
"""What a step uses that asks no model."""


def usage_of(promise: Promise) -> Usage:
    """Return what a step used: nothing, where it did not say."""
    return usage_from(decode(promise.usage)) if promise.usage else NOTHING


def usage_from(record: Json) -> Usage:
    """Return what a step recorded as its usage: nothing, where that is something of its own."""
    if not isinstance(record, dict) or "cost_usd" not in record:
        return NOTHING
    return Usage.from_json({key: value for key, value in record.items() if key != "model"})


def summed(found: Iterable[tuple[PromiseId, JsonText]]) -> Usage:
    """Return what promises used together, from the records of their usage."""
    return sum((usage_from(decode(used)) for _, used in found), NOTHING)
