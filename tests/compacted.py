"""An agent that makes room: old results go, facts to memory, a summary, one that is none, a cut.

It is driven as the one of `advised`. Its model is a function of what it is told, and notes outside
what it was asked.
"""

from dataclasses import replace
from decimal import Decimal

from substrate.agent import (
    Agent,
    Compact,
    Task,
    answered,
    any_of,
    drop_results,
    max_turns,
    remember_first,
    summarise,
    tool,
)
from substrate.models.messages import Reply, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.models.tokens import estimate
from substrate.values.errors import ContextOverflow
from tests import advised
from tests.advised import asked
from tests.reader import is_extraction, is_summary

TASK = Task("Do it.")
FACTS = '{"facts": [{"subject": "Owls", "predicate": "seen", "value": "two"}]}'
WINDOW = 4_000


@tool(effect="pure")
def look(at: int) -> str:
    """Look."""
    return f"place {at}: " + "owl " * 900


def script(request: Request) -> Reply:
    """Look eight times, by what was said so far; sum up where that is asked for."""
    advised.OUTSIDE[0].note(f"model {asked(request)}")
    read = estimate(request)
    if read > WINDOW:
        raise ContextOverflow(f"{read} is more than {WINDOW}")
    reply = _said(request)
    return replace(reply, usage=Usage(read, 10, cost_usd=Decimal("0.01")))


def _said(request: Request) -> Reply:
    replies = [each for each in request.messages if isinstance(each, Reply)]
    seen = max(
        (made.arguments.get("at", 0) for each in replies for made in each.tool_calls), default=0
    )
    if is_extraction(request):
        return say(FACTS)
    if is_summary(request):
        return say("" if seen > 5 else f"I have seen {seen} places.")
    return say("Two owls.") if seen == 8 else say(call("look", at=seen + 1))


agent = Agent(
    "compacted",
    "Look.",
    Model("scripted:compacted", script=script),
    [look],
    any_of(answered(), max_turns(40)),
    compact=Compact(
        [remember_first("acme/owls"), summarise(), drop_results(keep=1)],
        at=0.8,
        to=0.3,
        window=WINDOW,
    ),
)

DRIVEN = (agent.durable,)
