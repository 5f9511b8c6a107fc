"""The analyst's tests: a shop with a story in it, and none at all. No key, no network."""

from pathlib import Path

import pytest

from agent.loop import agent
from agent.shop import build
from substrate import connect
from substrate.agent import Answer, Task
from substrate.models.model import PROVIDERS


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no provider's key set."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        for key in provider.keys:
            monkeypatch.delenv(key, raising=False)


async def ask_analyst(run_id: str) -> Answer:
    """Start a run of the analyst and return its answer."""
    async with connect("sqlite:///runs.db") as client, client.work([agent]):
        await client.start(agent, Task("Why did revenue fall?"), id=run_id)
        return await client.result(run_id, agent)


async def test_finds_where_it_comes_from() -> None:
    """The analyst follows the fall to desk lamps in the north, and tells the team once."""
    build()
    answer = await ask_analyst("test/1")
    assert answer.is_complete
    assert "Desk lamps in North" in answer.text
    assert Path("outbox.txt").read_text(encoding="utf-8").count("\n") == 1
    assert len(list(Path("reports").iterdir())) == 1


async def test_says_what_is_missing() -> None:
    """Without a database it answers with what is wrong, and sends nothing."""
    answer = await ask_analyst("test/2")
    assert "agent.shop" in answer.text
    assert not Path("outbox.txt").exists()
