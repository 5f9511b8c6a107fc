"""A model for rehearsals: it reserves what it is asked to refund, pays it, and says so."""

import re
from typing import Any

from substrate.models.messages import Reply, ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request


def rehearse(request: Request) -> Reply:
    """Take the turn that follows what was said so far."""
    parts = request.messages[0].to_json()["parts"]
    words = " ".join(part.get("text", "") for part in parts)
    results: dict[str, Any] = {
        result.name: result
        for message in request.messages
        if isinstance(message, ToolMessage)
        for result in message.results
    }
    asked = re.search(r"(\d+) cents of order (\w+)", words)
    if asked is None:
        return say("Tell me how much: 'Refund 4900 cents of order 42.'")
    cents, order = int(asked[1]), asked[2]
    if "reserve" not in results:
        return say(call("reserve", order=order, cents=cents))
    if "refund" not in results:
        held = results["reserve"].content
        return say(call("refund", order=order, cents=cents, reservation=held))
    return say(f"{results['refund'].content}.")
