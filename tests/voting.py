"""An agent of a panel that has another panel work, as `advised` drives one.

The first panel takes what comes first; one of its members never answers. The second is of an agent
that it asks: two answer, one fails for good, and a panel of judges chooses. A third one checks the
answer. They note outside the journal what they were asked.
"""

import asyncio
import json

from substrate.agent import Agent, Panel, delegate, first, judge, majority, rubric
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.errors import BadRequest
from tests.advised import OUTSIDE, asked, costing


def turns(request: Request) -> int:
    """Return how many replies there were before."""
    return sum(isinstance(each, Reply) for each in request.messages)


def quick(request: Request) -> Reply:
    """Have it counted, and then answer."""
    OUTSIDE[0].note(f"quick {asked(request)}")
    return costing(say(call("counters", task="Count.")) if turns(request) == 0 else say("Two."))


async def slow(request: Request) -> Reply:
    """Never answer."""
    OUTSIDE[0].note(f"slow {turns(request)}")
    await asyncio.Event().wait()
    raise AssertionError("it was not cancelled")


def counter(number: str) -> Model:
    """Return a model that has counted so many."""

    def script(request: Request) -> Reply:
        OUTSIDE[0].note(f"{number} {asked(request)}")
        return costing(say(number))

    return Model(f"scripted:{number}", script=script)


def broken(request: Request) -> Reply:
    """Fail for good."""
    raise BadRequest("it does not count")


def judge_called(name: str) -> Model:
    """Return one who chooses the second, for its own reason; mild's first judgement is none."""

    def script(request: Request) -> Reply:
        OUTSIDE[0].note(f"{name} {asked(request)}")
        if name == "mild" and len(request.messages) == 1:
            return costing(say("Well."))
        return costing(say(json.dumps({"reason": f"{name} says so.", "best": "2"})))

    return Model(f"scripted:{name}", script=script)


judges = Panel({name: judge_called(name) for name in ("mild", "strict")}, merge=majority)


counters = Agent(
    "counters",
    "Count.",
    Panel(
        {
            "one": counter("One."),
            "broken": Model("scripted:broken", script=broken),
            "two": counter("Two."),
        },
        merge=judge(judges, "It is right."),
    ),
)


def passes(name: str) -> Model:
    """Return one who lets an answer pass, for a reason of its own."""

    def script(request: Request) -> Reply:
        OUTSIDE[0].note(f"{name} {asked(request)}")
        return costing(say(json.dumps({"reason": f"{name} says so.", "passed": True})))

    return Model(f"scripted:{name}", script=script)


jury = Panel({name: passes(name) for name in ("kind", "stern")}, merge=majority)

agent = Agent(
    "agent",
    "Have it counted.",
    Panel(
        {
            "slow": Model("scripted:slow", script=slow, price=(1000, 1000)),
            "quick": Model("scripted:quick", script=quick),
        },
        merge=first,
    ),
    [delegate(counters, description="Count.")],
    checks=[rubric("It is a number.", judge=jury)],
)

DRIVEN = (agent.durable,)
