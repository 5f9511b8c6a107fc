"""What a model was paid for and is recorded is not paid for again, whenever the process is killed.

Real processes, killed; a real client; and a server of our own that counts what it was asked.
"""

import asyncio
import time
from collections import Counter
from decimal import Decimal

import pytest

from substrate import Client, RunStatus, connect
from substrate.values.codec import decode
from tests.llm_providers import complete, unfinished
from tests.llm_servers import Answer, Ending, Wire, anthropic_events, refusal, stream, wire
from tests.loops import TASK, row
from tests.payer import agent, payer
from tests.stores import eventually, url_of

CALLING = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"what": "owls"}}
FIRST = stream(*anthropic_events(CALLING, stop="tool_use"))
LAST = stream(*complete("anthropic", "Two owls."))
STALLED = stream(*unfinished("anthropic"), ending=Ending.HELD)
WAIT_S = 2


def limited(seconds: float) -> Answer:
    """Return a provider's plea to wait."""
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Wait."}}
    return refusal(429, body, retry_after=str(seconds))


def turns(server: Wire) -> Counter[int]:
    """Return how often the server was asked for each turn, told by how much had been said."""
    return Counter(len(body["messages"]) // 2 for body in server.bodies)


async def told_after(server: Wire, client: Client, kill_when) -> str:
    """Start the run, kill its process when told, have another go on; return the answer."""
    await client.start(agent, TASK, id="a/1")
    with payer(client_url(client), server.url) as first:
        await eventually(kill_when)
        first.kill()
    with payer(client_url(client), server.url):
        answer = await asyncio.wait_for(client.result("a/1", agent), 60)
    return answer.text


def client_url(client: Client) -> str:
    """Return where a client's store is."""
    return url_of(client.store)


async def usages(client: Client) -> list[tuple[str, int, Decimal]]:
    """Return what the run's calls are recorded to have used: tokens, and dollars."""
    found = [(p.key, decode(p.usage)) for p in await client.journal("a/1") if p.usage]
    return [(key, used["input_tokens"], Decimal(used["cost_usd"])) for key, used in found]


async def test_killed_during_a_call(store_url):
    """Only the call in flight is made again; the one that was answered and recorded is not."""
    async with wire(FIRST, STALLED, LAST) as server, connect(store_url) as client:
        answer = await told_after(server, client, lambda: len(server.bodies) == 2)
        paid = await usages(client)
        whole = (await client.result("a/1", agent)).usage

    assert answer == "Two owls."
    assert turns(server) == {0: 1, 1: 2}
    assert [key for key, _, _ in paid] == ["model.0", "model.1"]
    assert whole.cost_usd == sum(cost for _, _, cost in paid) > 0


async def test_killed_during_a_back_off(store_url):
    """A process that dies while it waits for another attempt takes nothing paid for with it."""
    async with wire(FIRST, limited(0.4), LAST) as server, connect(store_url) as client:

        def is_waiting() -> bool:
            return len(server.times) == 2 and time.monotonic() > server.times[1] + 0.1

        answer = await told_after(server, client, is_waiting)
        paid = await usages(client)

    assert answer == "Two owls."
    assert turns(server) == {0: 1, 1: 2}
    assert [key for key, _, _ in paid] == ["model.0", "model.1"]


async def test_killed_during_a_long_back_off(store_url):
    """A long wait is the run's, not the process's: another goes on when it is over, not before."""
    async with wire(FIRST, limited(WAIT_S), LAST) as server, connect(store_url) as client:

        async def is_suspended() -> bool:
            return (await client.get("a/1")).status is RunStatus.SUSPENDED

        answer = await told_after(server, client, is_suspended)
        attempts = decode((await row(client, "model.1")).attempts)

    assert answer == "Two owls."
    assert turns(server) == {0: 1, 1: 2}
    assert server.times[2] - server.times[1] >= WAIT_S - 0.1
    assert [(each["type"], each["waited_ms"]) for each in attempts] == [
        ("RateLimited", pytest.approx(WAIT_S * 1000, abs=700))
    ]


async def test_killed_after_the_answer(store_url):
    """A run that is killed while its tool's outcome is being written repeats no recorded turn."""
    async with wire(FIRST, LAST, LAST) as server, connect(store_url) as client:

        async def is_recorded() -> bool:
            return any(each.key == "model.0" for each in await client.store.journal("a/1"))

        answer = await told_after(server, client, is_recorded)

    assert answer == "Two owls."
    assert turns(server)[0] == 1
