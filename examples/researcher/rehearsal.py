"""The models for rehearsals: the planner, the specialists, and the one who judges."""

import json
import re

from substrate.models.messages import Reply, ToolMessage, ToolResult
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request

PARTS = {"naturalist": "food", "builder": "nests", "historian": "legends"}


def plan(request: Request) -> Reply:
    """Give each specialist its part, have the jury vote on what they found, and report it."""
    found = [each for each in _results(request) if each.name in PARTS]
    votes = [each for each in _results(request) if each.name == "jury"]
    if not found and request.may_call_tools:
        asked = re.search(r"\b(\w+s)\b\W*$", _said(request))
        animal = asked[1].lower() if asked else "owls"
        calls = [call(name, task=f"Look up {animal}/{part}.") for name, part in PARTS.items()]
        return say("Three parts, side by side.", *calls)
    findings = [json.loads(each.content) for each in found if not each.is_error]
    gaps = [f"{each.name}: {each.content.splitlines()[0]}" for each in found if each.is_error]
    gaps += ["jury: most of it doubt this"] if votes and "false" in votes[-1].content else []
    title = f"{len(findings)} of {len(found)} parts were found"
    report = json.dumps({"title": title, "findings": findings, "gaps": gaps})
    return say(report) if votes or not request.may_call_tools else say(call("jury", task=report))


def vote(request: Request) -> Reply:
    """Vote for what does not claim to know it all; each member of the jury does so by itself."""
    return say(json.dumps({"keeps_to_sources": "always" not in _said(request)}))


def look_into_it(request: Request) -> Reply:
    """Look the topic up, once more where that failed, and answer with what the library has."""
    good = [each.content for each in _results(request) if not each.is_error]
    if good:
        return say(good[-1])
    topic = re.search(r"\w+/\w+", _said(request))
    if topic is None or not request.may_call_tools:
        return say("The library has nothing on this.")
    return say(call("look_up", topic=topic[0]))


def judge_it(request: Request) -> Reply:
    """Pass what does not claim to know it all."""
    knows_it_all = "always" in json.dumps([each.to_json() for each in request.messages])
    reason = "A source knows what was, not what is always so." if knows_it_all else "It is modest."
    return say(json.dumps({"reason": reason, "passed": not knows_it_all}))


def _said(request: Request) -> str:
    parts = request.messages[0].to_json()["parts"]  # the last of them tells the day
    return str(next((part["text"] for part in parts if "text" in part), ""))


def _results(request: Request) -> list[ToolResult]:
    told = [each for each in request.messages if isinstance(each, ToolMessage)]
    return [result for each in told for result in each.results]
