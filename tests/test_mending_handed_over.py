"""A conversation may go on with another provider's model, whoever began it, thoughts and all.

Real runs over the real SDKs: one agent thinks, calls a tool and hands over to one of another
provider, whose server refuses whatever its provider does.
"""

from itertools import permutations
from typing import Any

import pytest

from substrate import connect
from substrate.agent import Agent, handoff, tool
from substrate.agent.history.mending import read_last_mending
from substrate.models.mending.rules import PROVIDERS, Rule
from substrate.models.model import Model
from tests.llm_providers import SETUPS, complete, served
from tests.llm_servers import anthropic_events, chat_events, gemini_events, openai_events, stream
from tests.test_delegate import worked

CALLS = ("look", "hand_over_to_office")
IDS = ("call_1a2b3", "call_4c5d6")


@tool(effect="pure")
def look(where: str = "barn") -> str:
    """Look for owls."""
    return "Two owls, and \ud83d."


def thinking(provider: str) -> list[Any]:
    """Return the events of a reply that thinks, looks, and hands over, as only its own reads it."""
    mark = f"of:{SETUPS[provider].model.partition(':')[2]}"
    match provider:
        case "anthropic":
            return anthropic_events(
                {"type": "thinking", "thinking": "hm", "signature": mark},
                *(
                    {"type": "tool_use", "id": id, "name": name, "input": {}}
                    for id, name in zip(IDS, CALLS, strict=True)
                ),
                stop="tool_use",
            )
        case "openai":
            return openai_events(
                {"type": "reasoning", "summary": [], "encrypted_content": mark},
                *(
                    {"type": "function_call", "call_id": id, "name": name, "arguments": "{}"}
                    for id, name in zip(IDS, CALLS, strict=True)
                ),
            )
        case "google":
            first, second = ({"functionCall": {"name": name, "args": {}}} for name in CALLS)
            return gemini_events({**first, "thoughtSignature": mark}, second)
    calls = [(id, name, "{}") for id, name in zip(IDS, CALLS, strict=True)]
    return [*chat_events("", *calls, finish="tool_calls", reasoning={"reasoning": mark})]


@pytest.mark.parametrize("one, other", list(permutations(PROVIDERS, 2)))
async def test_handed_over(monkeypatch, sqlite_url, one, other):
    """The other's model takes what the first one said, and what was left out of it is told."""
    office = Agent("office", "Settle it.", Model(SETUPS[other].model), [look])
    front = Agent("front", "Greet.", Model(SETUPS[one].model), [look, handoff(office)])
    async with (
        served(monkeypatch, one, stream(*thinking(one))) as desk,
        served(monkeypatch, other, stream(*complete(other, "So."))) as server,
        connect(sqlite_url) as client,
    ):
        answer = await worked(client, front)
        mending = await read_last_mending(client, await client.journal("a/1"))

    assert (answer.text, len(desk.bodies), len(server.bodies)) == ("So.", 1, 1)
    assert "of:" not in str(server.bodies)
    assert mending is not None
    assert {Rule.FOREIGN, Rule.HALF} <= {each.rule for each in mending.mends}
