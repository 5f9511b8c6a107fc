"""Your agent's tests. They need no key and no network: the rehearsal answers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.loop import agent
from substrate import RunStatus, connect
from substrate.agent import Answer, Task
from substrate.models.model import PROVIDERS
from substrate.testing import describe_waits


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no provider's key set."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        for key in provider.keys:
            monkeypatch.delenv(key, raising=False)


async def ask_agent(run_id: str, question: str) -> tuple[Answer, Sequence[object]]:
    """Start a run of the agent; return its answer, and its journal: what was done for it.

    An agent that asks a person, or sleeps, would wait here for as long: the test fails instead, and
    says which line answers it.
    """
    async with connect("sqlite:///runs.db") as client, client.work([agent]) as worker:
        await client.start(agent, Task(question), id=run_id)
        await worker.run_until_idle()
        if (await client.get(run_id)).status is RunStatus.SUSPENDED:
            pytest.fail(await describe_waits(client, run_id))
        return await client.result(run_id, agent), await client.journal(run_id)


async def test_answers() -> None:
    """The agent answers, and says that it ended because it had its answer."""
    answer, _ = await ask_agent("test/1", "What is an ostinato?")
    assert answer.reason == "answered"
    assert "What is an ostinato?" in answer.text


async def test_asking_again_changes_nothing() -> None:
    """The same id returns the recorded answer; no model and no tool is called a second time."""
    first = await ask_agent("test/2", "What is an ostinato?")
    assert await ask_agent("test/2", "What is an ostinato?") == first
