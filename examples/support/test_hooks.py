"""The support agent's own tests: they need no key and no network but a bank on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from agent.bank import serve
from agent.hooks import release
from agent.loop import agent
from substrate import Client, RunFailed, connect
from substrate.agent import Task, approve, deny, find_gate


@pytest.fixture(autouse=True)
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder, with a bank."""
    monkeypatch.chdir(tmp_path)
    server = serve()
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("BANK_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def booked(kind: str) -> int:
    """Return how many of a kind the bank has in its book."""
    book = Path("bank.json")
    return len(json.loads(book.read_text()).get(kind, {})) if book.exists() else 0


async def drive(client: Client) -> None:
    """Drive until all waits, or has ended."""
    async with client.work([agent, release]) as worker:
        await worker.run_until_idle()


async def test_a_small_refund_asks_nobody() -> None:
    """Up to the limit it is paid at once."""
    async with connect("sqlite:///runs.db") as client:
        await client.start(agent, Task("Refund 500 cents of order 42."), id="r/1")
        await drive(client)
        assert "500 cents of order 42" in (await client.result("r/1", agent)).text
    assert (booked("hold"), booked("pay"), booked("release")) == (1, 1, 0)


@pytest.mark.parametrize("is_approved", [True, False])
async def test_a_large_one_asks(*, is_approved: bool) -> None:
    """It waits for a person; approved it is paid once, denied the reservation is released."""
    async with connect("sqlite:///runs.db") as client:
        await client.start(agent, Task("Refund 4900 cents of order 42."), id="r/1")
        await drive(client)
        assert (booked("hold"), booked("pay")) == (1, 0)
        gate = await find_gate(client, "r/1")
        if is_approved:
            await approve(client, gate, by="ada")
        else:
            await deny(client, gate, by="ada", why="a fraud")
        await drive(client)
        if is_approved:
            assert "4900 cents" in (await client.result("r/1", agent)).text
        else:
            with pytest.raises(RunFailed, match="a fraud"):
                await client.result("r/1", agent)
    assert booked("pay") == is_approved
    assert booked("release") == (not is_approved)
