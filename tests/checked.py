"""An agent whose answers go back for a doubt, for a check and for a judge, as `advised` drives one.

Its models are functions of what they are told, and note outside the journal what they were asked.
"""

import json

from substrate.agent.checks import Checks, rubric
from substrate.agent.confidence import confident
from substrate.agent.signalled import signalled
from substrate.agent.stop import any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import tool
from substrate.models.frame import canonical
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import encode
from tests.advised import OUTSIDE, asked, costing
from tests.loops import make_agent


def sure(answer: str, confidence: float, missing: str = "") -> Reply:
    """Return an answer that says how sure it is."""
    return say(json.dumps({"answer": answer, "confidence": confidence, "missing": missing}))


TURNS = [
    say(call("look")),
    sure("Two owls?", 0.4, "the attic"),
    sure("Two.", 0.9),
    say(call("finish", answer="Two owls.")),
    say(call("finish", answer="Two owls, in the attic.")),
]


def script(request: Request) -> Reply:
    """Give the next turn."""
    OUTSIDE[0].note(f"model {asked(request)}")
    return costing(TURNS[sum(isinstance(each, Reply) for each in request.messages)])


def judge_script(request: Request) -> Reply:
    """Want the attic; the first judgement of an answer without it is none."""
    OUTSIDE[0].note(f"judge {asked(request)}")
    passes = "in the attic" in encode(canonical(request))
    if not passes and len(request.messages) == 1:
        return costing(say("Well."))
    return costing(say(json.dumps({"reason": "It names no place.", "passed": passes})))


@tool(effect="pure")
def look() -> str:
    """Look for owls."""
    return "two"


async def names_owls(answer: Answer, task: Task) -> str | None:
    """Want owls to be named."""
    return None if "owl" in answer.text else "Say what was counted."


agent = make_agent(
    Model("scripted:checked", script=script),
    [look],
    any_of(confident(0.8), signalled(), max_turns(9)),
    checks=Checks(
        [names_owls, rubric("It says where.", judge=Model("scripted:judge", script=judge_script))],
        3,
    ),
)

DRIVEN = (agent,)
