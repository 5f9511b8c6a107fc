"""A model for rehearsals: it needs no key and no network, and costs nothing.

It is a function of what was said so far, so it goes on in the right place after a crash. Throw it
away once a real model answers; the tests use it too.
"""

import asyncio

from substrate.models.messages import Reply, Request, ToolMessage
from substrate.models.scripted import call, say

THINKING_S = 0.4  # long enough to watch, and to kill it in the middle


async def rehearse(request: Request) -> Reply:
    """Read the notebook, note the question, and answer."""
    await asyncio.sleep(THINKING_S)
    done = {
        result.name
        for message in request.messages
        if isinstance(message, ToolMessage)
        for result in message.results
    }
    question = request.messages[0].to_json()["parts"][0]["text"]
    if not request.may_call_tools or "write_note" in done:
        return say(
            f"This is a rehearsal: no model was asked. You wanted to know: {question} "
            "I looked into the notebook and noted the question there."
        )
    if "read_notes" in done:
        return say(call("write_note", text=f"Somebody asked: {question}"))
    return say("I look into the notebook first.", call("read_notes"))
