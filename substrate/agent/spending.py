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
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.ids import PromiseId
from substrate.values.records import Json as JsonText
from substrate.values.records import Kind

SPENT = "spent"

OWN = ("model.", "summary.")
"""How the keys of the loop's own model calls begin."""


async def spent(ctx: Context, scope: Context, *, may_ask: bool) -> Usage | None:
    """Return what the tree has used once the calls in a scope have ended; None where none asks.

    What is recorded for this turn holds, and in a turn that is over nothing is recorded any more,
    whichever tools there are now.
    """
    turn = int(scope.id_below.rstrip("/").rpartition(".")[2])
    found = ctx.recorded(SPENT)
    is_recorded = found is not None and decode(found.input or JsonText("{}")).get("turn") == turn
    if not is_recorded and (not may_ask or ctx.recorded("model") is not None):
        return None

    async def count() -> Json:
        below = ctx.id_below
        used = await ctx.execution.usages(below)
        others = ((id_, each) for id_, each in used if not id_.removeprefix(below).startswith(OWN))
        return summed(others).to_json()

    step = Step(
        name=SPENT,
        call=count,
        input=JsonText(encode({"turn": turn})),
        fingerprint=fingerprint(Kind.STEP.value, SPENT),
    )
    return Usage.from_json(await ctx.perform(step))


def summed(found: Iterable[tuple[PromiseId, JsonText]]) -> Usage:
    """Return what promises used together, from the records of their usage."""
    return sum((usage_from(decode(used)) for _, used in found), NOTHING)


def usage_from(record: Json) -> Usage:
    """Return what a step recorded as its usage: nothing, where that is something of its own."""
    if not isinstance(record, dict) or "cost_usd" not in record:
        return NOTHING
    return Usage.from_json({key: value for key, value in record.items() if key != "model"})
