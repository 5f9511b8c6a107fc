"""What a run and everything below it has used, beside the loop's own model calls.

Tools that take a `ctx` may ask models themselves, or start runs that do, on other machines, which
may fail or never be waited for. So what was used is read from the journals of the whole tree, and
recorded: a replay counts the same.
"""

from collections.abc import Iterable

from substrate.agent.transcript import NOTHING
from substrate.engine.context import Context
from substrate.engine.step import Step
from substrate.models.messages import Json, Usage
from substrate.values.codec import decode, fingerprint
from substrate.values.ids import PromiseId
from substrate.values.records import Json as JsonText
from substrate.values.records import Kind

OWN = ("model.", "summary.")
"""How the keys of the loop's own model calls begin."""


def spent_step(ctx: Context) -> Step:
    """Prepare the step that records it."""

    async def spent() -> Json:
        below = ctx.id_below
        found = await ctx.execution.usages(below)
        others = ((id_, used) for id_, used in found if not id_.removeprefix(below).startswith(OWN))
        return summed(others).to_json()

    return Step(name="spent", call=spent, fingerprint=fingerprint(Kind.STEP.value, "spent"))


def summed(found: Iterable[tuple[PromiseId, JsonText]]) -> Usage:
    """Return what promises used together, from the records of their usage."""
    return sum((usage_from(decode(used)) for _, used in found), NOTHING)


def usage_from(record: Json) -> Usage:
    """Return what a step recorded as its usage: nothing, where that is something of its own."""
    if not isinstance(record, dict) or "cost_usd" not in record:
        return NOTHING
    return Usage.from_json({key: value for key, value in record.items() if key != "model"})
