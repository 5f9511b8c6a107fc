"""What a tool gives back is what the model reads: as JSON, without the journal's own marks."""

import json
from typing import Any

import pytest

from substrate import connect
from substrate.agent.stop import answered
from substrate.agent.tool import tool
from substrate.models.messages import ToolMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call
from substrate.models.request import Request
from tests.loops import answer_of, make_agent

AWKWARD: list[Any] = [
    {"$oid": "65f0"},
    {"$text": "a", "b": [{"$map": []}]},
    {"half": "\ud83d"},
    {"nul": "a\x00b"},
    [10**30],
    {"plain": [1, None, "ä"]},
]


@pytest.mark.parametrize("value", AWKWARD, ids=repr)
async def test_as_json(store_url: str, value: Any) -> None:
    """Keys that look like marks, halves of characters and huge numbers are told as they are."""
    told: list[str] = []

    @tool(effect="pure")
    def look() -> Any:
        """Look."""
        return value

    def script(request: Request) -> Any:
        last = request.messages[-1]
        if isinstance(last, ToolMessage):
            told.append(last.results[0].content)
            return "Done."
        return call("look")

    async with connect(store_url) as client:
        model = Model("scripted:told", script=script)
        answer = await answer_of(client, make_agent(model, [look], answered()))

    assert answer.text == "Done."
    assert json.loads(told[0]) == value
