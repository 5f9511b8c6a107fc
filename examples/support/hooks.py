"""A support agent: it reserves a refund, a person approves what is large, and the bank pays once.

The reservation can be undone: where a person says no, the run comes to nothing, and what it held is
released again. The bank is a small HTTP server (`bank.py`), which knows a payment by its key.
"""

import json
import os
from urllib.request import Request, urlopen

from agent.rehearsal import rehearse
from substrate import Context, durable
from substrate.agent import Model, Policy, Task, answered, any_of, max_turns, tool

LIMIT_CENTS = 2000
"""Above this a person is asked."""


def prompt(task: Task) -> str:
    """Return the system prompt."""
    return "You are the support of a shop. Reserve a refund, then pay it, and say what came of it."


model = Model(
    "anthropic:claude-sonnet-5-5",
    offline=Model("scripted:support", script=rehearse),
)


def bank(path: str, **body: object) -> dict[str, object]:
    """Post to the bank, and return its answer; one that is no 2xx raises."""
    url = f"{os.environ.get('BANK_URL', 'http://127.0.0.1:8008')}/{path}"
    data = json.dumps(body).encode()
    request = Request(url, data, {"content-type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=10) as answer:  # noqa: S310 - the address is yours
        found: dict[str, object] = json.load(answer)
        return found


def hold(order: str, cents: int, idempotency_key: str) -> str:
    """Hold the money back for an order."""
    return str(bank("hold", order=order, cents=cents, key=idempotency_key)["reservation"])


@durable
async def release(ctx: Context, order: str, cents: int, result: str) -> None:
    """Let the money go again: what makes up for `hold`."""
    await ctx.step(let_go, result, effect="idempotent")


def let_go(reservation: str, idempotency_key: str) -> None:
    """Release a reservation."""
    bank("release", reservation=reservation, key=idempotency_key)


@tool
async def reserve(ctx: Context, order: str, cents: int) -> str:
    """Reserve a refund. Do this before you pay."""
    return await ctx.step(hold, order, cents, effect="idempotent", undo=release)


@tool(
    effect="idempotent",
    approve=Policy(
        when=lambda cents: cents > LIMIT_CENTS,
        to="finance",
        on_denied="fail",  # a denial ends the run, and the reservation is released
    ),
)
def refund(order: str, cents: int, reservation: str, idempotency_key: str) -> str:
    """Pay a reserved refund."""
    paid = bank("pay", order=order, cents=cents, reservation=reservation, key=idempotency_key)
    return f"{cents} cents of order {order} are refunded, receipt {paid['receipt']}"


tools = [reserve, refund]

stop = any_of(answered(), max_turns(6))
