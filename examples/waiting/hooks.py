"""An agent that refunds orders, and asks a person first: it waits for days and holds no process.

`refund` takes a `ctx`, so it is a durable function: the question, the wait and the payment are each
recorded, and a process that ends between them loses nothing.
"""

from datetime import timedelta
from pathlib import Path

from agent.rehearsal import rehearse
from substrate import Context, SignalExpired
from substrate.agent import Model, Task, answered, any_of, max_turns, tool

OUTBOX = Path("outbox.txt")
PAID = Path("paid.txt")
PATIENCE = timedelta(days=3)


def prompt(task: Task) -> str:
    """Return the system prompt."""
    return "You refund orders of a shop. A person approves each refund; say what came of it."


model = Model(
    "anthropic:claude-sonnet-5-5",
    offline=Model("scripted:refunds", script=rehearse),
)


def ask_person(order: int, cents: int, run_id: str) -> None:
    """Ask for the approval: here, in a file; it goes out once and cannot be taken back."""
    with OUTBOX.open("a", encoding="utf-8") as outbox:
        outbox.write(f"May {cents} cents of order {order} be refunded? Run {run_id} waits.\n")


def pay(order: int, cents: int, idempotency_key: str) -> str:
    """Pay: under the same key a second time, nothing more is paid."""
    line = f"{idempotency_key} {cents} cents of order {order}\n"
    if not PAID.exists() or line not in PAID.read_text(encoding="utf-8"):
        with PAID.open("a", encoding="utf-8") as paid:
            paid.write(line)
    return f"{cents} cents of order {order} are refunded."


@tool
async def refund(ctx: Context, order: int, cents: int) -> str:
    """Refund part of an order, once a person has approved it. That may take days."""
    await ctx.step(ask_person, order, cents, ctx.run_id, effect="once")
    try:
        is_approved = await ctx.receive(f"approval-{order}", bool, timeout=PATIENCE)
    except SignalExpired:
        return f"Nobody approved it in {PATIENCE.days} days. Nothing was refunded."
    if not is_approved:
        return "A person said no. Nothing was refunded."
    return await ctx.step(pay, order, cents, effect="idempotent")


tools = [refund]

stop = any_of(answered(), max_turns(5))
