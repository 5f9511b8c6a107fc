"""A recorded model says what was said, without a key, and fails loudly when it is asked anew."""

import json
from dataclasses import replace

import pytest

from substrate.models.messages import Reply, ToolMessage, ToolResult, UserMessage
from substrate.models.model import Model
from substrate.models.request import Request
from substrate.testing.cassette import cassette
from substrate.values.errors import BadRequest
from tests.llm_providers import HELLO, SEARCHING, SETUPS, after, complete, served
from tests.llm_servers import anthropic_events, stream

CLAUDE = Model(SETUPS["anthropic"].model, settings={"thinking": {"type": "adaptive"}})
THINKING = {"type": "thinking", "thinking": "Owls…", "signature": "c2lnbmVk+/=="}
CALLING = {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {"query": "owls"}}


def asking(model: Model, request: Request) -> Request:
    """Return a request with a model's own parameters."""
    return replace(request, settings=model.settings, max_output_tokens=model.max_output_tokens)


async def conversation(model: Model, found: str = "two found") -> list[Reply]:
    """Ask, answer the tool call, ask again."""
    first = await model.answer(asking(model, SEARCHING))
    result = ToolResult(first.tool_calls[0].id, "search", found)
    return [first, await model.answer(asking(model, after(first, result)))]


@pytest.fixture
async def tape(tmp_path, monkeypatch):
    """Record a conversation of two calls, and leave no server behind."""
    path = tmp_path / "tapes" / "owls.json"
    answers = stream(*anthropic_events(THINKING, CALLING)), stream(*complete("anthropic"))
    async with served(monkeypatch, "anthropic", *answers):
        replies = await conversation(cassette(path, CLAUDE, record=True))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    return path, replies


async def test_replayed(tape):
    """What was recorded comes back as it was, signatures and costs too, with no key and no wire."""
    path, replies = tape

    assert await conversation(cassette(path, CLAUDE)) == replies
    assert replies[1].text == "So."


async def test_readable(tape):
    """The file can be read: requests and replies in plain words, and no key."""
    path, _ = tape
    calls = json.loads(path.read_text())

    assert [call["request"]["messages"][0]["parts"][0]["text"] for call in calls] == [
        "Search for owls",
        "Search for owls",
    ]
    assert calls[1]["reply"]["parts"] == [{"type": "text", "text": "So."}]
    assert "a-key" not in path.read_text()


async def test_miss(tape):
    """A request that was not recorded is an error that names the difference to the nearest one."""
    path, _ = tape

    with pytest.raises(BadRequest) as caught:
        await conversation(cassette(path, CLAUDE), found="three found")

    told = str(caught.value)
    assert "call 2 of it differs in" in told
    assert "messages[2].results[0].content: recorded 'two found', asked 'three found'" in told
    assert "record it again" in told


async def test_miss_of_another_shape(tape):
    """What is only on one side is shown as such, and a long list of differences is cut."""
    path, _ = tape
    model = cassette(path, CLAUDE)
    longer = Request("Be long.", [UserMessage.of("x")] * 20 + [ToolMessage(())])

    with pytest.raises(BadRequest, match="recorded nothing") as caught:
        await model.answer(longer)

    assert "more\n" in str(caught.value)


async def test_another_model(tape):
    """A recording of one model does not pass for another's."""
    path, _ = tape
    other = Model("anthropic:claude-opus-5-5", settings=CLAUDE.settings)

    with pytest.raises(BadRequest, match="model: recorded 'anthropic:claude-sonnet-5-5', asked"):
        await conversation(cassette(path, other))


async def test_nothing_recorded(tmp_path):
    """A file that is not there holds no call, and none is made."""
    with pytest.raises(BadRequest, match="holds no call"):
        await cassette(tmp_path / "none.json", CLAUDE).answer(HELLO)

    assert list(tmp_path.iterdir()) == []


async def test_not_a_cassette(tmp_path):
    """A file that is something else is named."""
    path = tmp_path / "notes.json"
    path.write_text('[{"title": "no"}]')

    with pytest.raises(BadRequest, match=r"notes\.json is no cassette"):
        await cassette(path, CLAUDE).answer(HELLO)


async def test_recording_goes_on(tape, monkeypatch):
    """While recording, what is there is not asked again, and what is new is added."""
    path, replies = tape
    async with served(monkeypatch, "anthropic", stream(*complete("anthropic"))) as server:
        model = cassette(path, CLAUDE, record=True)
        assert await conversation(model) == replies
        await model.answer(asking(model, HELLO))

    assert len(server.bodies) == 1
    assert len(json.loads(path.read_text())) == 3
