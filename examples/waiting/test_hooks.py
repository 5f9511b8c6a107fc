"""The agent's tests: days of waiting in milliseconds, since the clock is the test's own."""

from pathlib import Path

import pytest

from agent.hooks import PATIENCE
from agent.loop import agent
from substrate import RunStatus, connect
from substrate.agent import Task
from substrate.models.model import PROVIDERS
from substrate.testing import ManualClock


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no provider's key set."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        monkeypatch.delenv(provider.key, raising=False)


@pytest.mark.parametrize(
    "answer, told",
    [
        (True, "4900 cents of order 7 are refunded."),
        (False, "A person said no. Nothing was refunded."),
        (None, "Nobody approved it in 3 days. Nothing was refunded."),
    ],
)
async def test_what_comes_of_it(answer, told) -> None:
    """A refund is paid when a person says so, in time, and in no other case."""
    clock = ManualClock()
    async with connect("sqlite:///runs.db", clock) as client, client.work([agent]) as worker:
        await client.start(agent, Task("Refund order 7, please."), id="test")
        await worker.run_until_idle()
        assert (await client.get("test")).status is RunStatus.SUSPENDED
        clock.advance(PATIENCE.total_seconds() - 1)
        if answer is None:
            clock.advance(1)
        else:
            await client.signal("test", "approval-7", answer)
        await worker.run_until_idle()
        assert (await client.result("test", agent)).text == told
    assert Path("paid.txt").exists() is (answer is True)
