"""What a tool gives back is what the model reads: as JSON, without the journal's own marks."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from substrate import RunPaused, connect
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


def yielded() -> Any:
    """Yield a number."""
    yield 1


RETURNED: dict[str, tuple[Any, Any, bool]] = {
    "a generator for a list": (yielded, list[int], False),
    "a generator for a number": (yielded, int, False),
    "a map for a list": (lambda: map(str, [1]), list[str], False),
    "an iterator for a dict": (lambda: iter([1]), dict[str, int], False),
    "a generator for either": (yielded, list[str] | Iterable[int], True),
    "a generator for what it is": (yielded, Iterable[int], True),
    "a generator, of which nothing is said": (yielded, Any, True),
}


@pytest.mark.parametrize("name", RETURNED)
async def test_what_yields_is_no_list(store_url: str, name: str) -> None:
    """A tool that says it returns a list, and returns what yields, pauses its run and is named."""
    make, type_, is_right = RETURNED[name]

    def look() -> Any:
        """Look."""
        return make()

    look.__annotations__["return"] = type_
    script = [call("look"), "Done."]
    async with connect(store_url) as client:
        running = answer_of(
            client,
            make_agent(Model("scripted:x", script=script), [tool(effect="pure")(look)], answered()),
        )
        if is_right:
            assert (await running).text == "Done."
            return
        with pytest.raises(RunPaused, match=r"look\(\) .* returned an? .*, which yields, and says"):
            await running
