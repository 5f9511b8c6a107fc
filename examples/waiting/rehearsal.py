"""The rehearsal of the refunds: a scripted model, as a function of what was said."""

import re

from substrate.models.messages import Reply, ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request

CENTS = 4900


def rehearse(request: Request) -> Reply:
    """Ask for the refund of the order that the task names, then say what came of it."""
    if not request.may_call_tools:
        return say("I was stopped before I had an answer.")
    found = [
        result.content
        for message in request.messages
        if isinstance(message, ToolMessage)
        for result in message.results
    ]
    if found:
        return say(found[-1])
    number = re.search(r"\d+", request.messages[0].to_json()["parts"][0]["text"])
    if number is None:
        return say("Which order?")
    return say("I ask for its refund.", call("refund", order=int(number[0]), cents=CENTS))
