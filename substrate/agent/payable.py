"""Whether what is left pays for another turn: asked before one is taken, not of a recorded one."""

import asyncio
from collections.abc import Callable
from functools import partial

from substrate.agent.ask import (
    not_payable,
    turn_model_call,
)
from substrate.agent.end import End, Stop
from substrate.agent.hooks import AnswerType, Tools, model_of, tools_of, typed_of
from substrate.agent.purse import TURN, Purse
from substrate.agent.recorded import (
    turn_ahead,
)
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models import prices
from substrate.models.panel import Answering, Panel


def is_limited(ctx: Context, transcript: Transcript) -> bool:
    """Whether a budget or a grant says what the next call may use; not where that is recorded."""
    is_ahead = turn_ahead(ctx, transcript) is not None
    return not is_ahead and Purse.allowance(ctx, transcript) is not None


def not_paid_for(
    ctx: Context, model: Answering, transcript: Transcript, tools: Tools, answer: AnswerType
) -> End | None:
    """Return the end of a loop of which what is left pays for no turn more; None where it does.

    A call's cost is bounded before it is made, so a loop ends before it goes over its budget.
    """
    model, known = model_of(ctx, model), tools_of(ctx, tools)
    make = partial(turn_model_call, tools=known, typed=typed_of(ctx, answer))
    return not_payable(ctx, model, transcript, make, TURN)


async def load_prices(
    ctx: Context, stop: Stop, transcript: Transcript, model: Callable[[], Answering]
) -> None:
    """Load the price list away from the event loop, where the next call is limited in dollars.

    `model` reads that hook, and is asked only then.
    """
    if prices.is_loaded() or turn_ahead(ctx, transcript) is not None:
        return
    Purse.note(ctx, transcript, stop)
    allowed = Purse.allowance(ctx, transcript)
    if allowed is None or allowed.usd is None:
        return
    asked = model_of(ctx, model())
    members = list(asked.named.values()) if isinstance(asked, Panel) else [asked]
    if any(each.needs_price_list for each in members):
        await asyncio.to_thread(prices.load, members[0].provider)
