"""What a run and everything below it has used, beside the loop's own model calls.

Tools that take a `ctx` may ask models themselves, or start runs that do, on other machines, which
may fail or never be waited for. So what was used is read from the journals of the whole tree, and
recorded: a replay counts the same. A child at work counts as what it was granted.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from substrate.agent.deferrals import Deferrals
from substrate.agent.grant import Grant
from substrate.agent.history.keys import CHECK, COMPACT, MODEL, MODEL_CALLS, SPENT
from substrate.agent.history.rows import input_of
from substrate.agent.history.usage import NOTHING, summed
from substrate.agent.named_step import named_step
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Usage
from substrate.values.ids import Key, PromiseId
from substrate.values.records import JsonText, Promise

_LOOP_CALLS = tuple(f"{name}." for name in (*MODEL_CALLS, CHECK, COMPACT))
"""How the keys of the loop's own model calls begin, and of those of its judges."""


async def spent(
    ctx: Context, scope: Context, *, may_ask: bool, later: Key | None = None
) -> Usage | None:
    """Return what the tree has used once the calls in a scope have ended; None where none asks.

    What is recorded for this turn holds, and in a turn that is over nothing is recorded any more,
    whichever tools there are now. Calls of the turn that were made `later` are counted anew, in a
    row that tells by this key after what.
    """
    turn = scope.id_prefix.removeprefix(ctx.id_prefix).rstrip("/")
    found = ctx.recorded(SPENT)
    after = turn if later is None else f"{later} of {turn}"
    is_recorded = found is not None and input_of(found).get("after") == after
    if not is_recorded and (not may_ask or ctx.recorded(MODEL) is not None):
        return None
    ledger = _Ledger.of(ctx)
    step = named_step(SPENT, partial(_count, ctx, ledger.last, turn), {"after": after})
    ledger.last = await ctx.checkpoint(step)
    return _usage(ledger.last)


async def used_below(
    ctx: Context, prefix: str, reserved: dict[PromiseId, Grant] | None = None
) -> Usage:
    """Return what was used below an id's prefix, with the grants of children that are at work."""
    children = await ctx.open_children_below(prefix)
    return counted(await ctx.usages_below(prefix), _grants(children, reserved or {}))


def counted(usages: Sequence[tuple[PromiseId, JsonText]], grants: dict[PromiseId, Grant]) -> Usage:
    """Return what promises used; those below an open child count as that one's grant, or more."""
    total, rest = NOTHING, list(usages)
    for id_, grant in grants.items():
        own = [each for each in rest if each[0].startswith(f"{id_}#")]
        rest = [each for each in rest if not each[0].startswith(f"{id_}#")]
        total += grant.covering(summed(own))
    return total + summed(rest)


def _grants(
    children: Sequence[Promise], reserved: dict[PromiseId, Grant]
) -> dict[PromiseId, Grant]:
    """Return the grants of open children, without those that stand below another one."""
    found = {each.id: Grant.from_json(each.granted) for each in children if each.granted}
    found |= reserved
    return {
        id_: found[id_]
        for id_ in sorted(found)
        if not any(id_.startswith(f"{other}#") for other in found if other != id_)
    }


class _Ledger:
    """What was last counted in a context, as it is recorded."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: dict[str, Json] | None = None

    @classmethod
    def of(cls, ctx: Context) -> "_Ledger":
        found = ctx.notes.setdefault(cls, cls())
        assert isinstance(found, cls)
        return found


async def _count(ctx: Context, before: Mapping[str, Json] | None, turn: str) -> Json:
    """Count what the calls of this turn used, and those before in which a run goes on.

    What was counted of a turn in which nothing goes on stands. So this takes as long in a long
    conversation as in a short one.
    """
    below = ctx.id_prefix
    name, _, number = turn.rpartition(".")
    # Tools that take a ctx may be new since the last restart: then all turns are looked at, once.
    since = [f"{name}.{i}" for i in range(int(number))] if before is None else before["open"]
    closed = NOTHING if before is None else Usage.from_json(before["closed"])
    going_on, open_ = NOTHING, []
    for each in dict.fromkeys((*since, turn)):
        inside = f"{below}{each}/"
        goes_on = await ctx.has_open_runs_below(inside)  # first: what it uses then is seen
        goes_on = goes_on or Deferrals.of(ctx).any_below(inside)
        # A child at work counts as what it was granted, so that nobody gives that away twice.
        used = await (used_below(ctx, inside) if goes_on else _sum(ctx, inside))
        if goes_on:
            going_on += used
            open_.append(each)
        else:
            closed += used
    # Our own rows are left out though they use nothing: there is one for each turn.
    others = await _sum(ctx, below, (*_LOOP_CALLS, f"{SPENT}.", f"{name}."))
    total = closed + going_on + others
    return {**total.to_json(), "closed": closed.to_json(), "open": open_}


async def _sum(ctx: Context, prefix: str, skipping: Sequence[str] = ()) -> Usage:
    return summed(await ctx.usages_below(prefix, skipping))


def _usage(record: Mapping[str, Json]) -> Usage:
    return Usage.from_json({k: v for k, v in record.items() if k not in ("closed", "open")})
