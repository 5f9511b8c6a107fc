"""What a provider told one process of its limits, the others keep."""

import asyncio
import json
import time
from contextlib import suppress

import pytest

from substrate import connect
from substrate.models.limits.model_limits import ModelLimits
from substrate.models.limits.shared import EVERY_MS
from substrate.models.model import disconnect
from substrate.testing import ManualClock
from substrate.values.errors import Overloaded, RateLimited, StoreUnreachable
from tests.llm_providers import HELLO, complete
from tests.llm_servers import anthropic_events, refusal, stream, wire
from tests.loops import TASK
from tests.payer import agent, payer
from tests.stores import eventually, opened
from tests.test_providers_quota import MODEL, called, entered, limits


class Process:
    """A process as far as limits go: what it was told, and what it tells."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        limits = ModelLimits.on(self.clock)
        self.limiter, self.sharing = limits.limiter, limits.sharing

    async def call(self, store, outcome=None, headers=None) -> None:
        """Make a call, that ends like this and has these headers."""
        with suppress(type(outcome) if outcome else ()):
            async with self.sharing.around(store), self.limiter.call(MODEL, HELLO):
                if headers:
                    self.limiter.observe(MODEL, headers)
                if outcome:
                    raise outcome

    async def waits(self, store) -> float:
        """Return how long a call waits now, in seconds."""
        await self.sharing.read(store)
        return await entered(self.limiter, self.clock)


async def test_a_plea_for_quiet(store_url):
    """A model that asked one process for quiet is left alone by the others, and not for longer."""
    one, other = Process(), Process()
    async with opened(store_url) as store:
        await one.call(store, RateLimited("wait", retry_after=40))
        waited = await other.waits(store)

    assert 38 <= waited <= 40.5


async def test_a_limit_that_is_nearly_used_up(store_url):
    """What is left of a limit is told on when it is little, and not while there is plenty."""
    one, other, third = Process(), Process(), Process()
    plenty, little = (limits(one.clock, (left, 100, "500s")) for left in (60, 0))
    async with opened(store_url) as store:
        await one.call(store, headers=plenty)
        first = [*await store.rate_limits(0)]
        waited_first = await other.waits(store)
        await one.call(store, headers=little)
        waited = await third.waits(store)

    assert (first, waited_first) == ([], 0)
    assert 3 <= waited <= 6


async def test_what_is_learned_is_not_told_on(store_url):
    """Only what a process heard itself goes out, and its own words do not come back to it."""
    one, other = Process(), Process()
    async with opened(store_url) as store:
        await one.call(store, RateLimited("wait", retry_after=40))
        written = await store.rate_limits(0)
        await other.sharing.read(store)
        await other.sharing.write(store)
        again = await store.rate_limits(0)
        one.clock.advance(41)
        waited = await one.waits(store)

    assert written == again
    assert waited == 0
    ((model, record, _),) = written
    assert (model, set(json.loads(record))) == (MODEL, {"by", "quiet_ms", "limits"})


async def test_once_a_second(store_url):
    """A limit is read, and written, once a second at most; a refusal is written at once."""

    class Counting:
        """A store that counts."""

        def __init__(self, store) -> None:
            self.store, self.clock = store, store.clock
            self.reads = self.writes = 0

        async def rate_limits(self, since):
            self.reads += 1
            return await self.store.rate_limits(since)

        async def write_rate_limit(self, name, told):
            self.writes += 1
            await self.store.write_rate_limit(name, told)

    one = Process()
    little = limits(one.clock, (20, 100, "50s"))
    async with opened(store_url) as store:
        counting = Counting(store)
        began = time.monotonic()
        for _ in range(10):
            await one.call(counting, headers=little)
        if time.monotonic() - began < EVERY_MS / 1000:
            assert (counting.reads, counting.writes) == (1, 1)
        before = counting.writes
        await one.call(counting, RateLimited("wait", retry_after=1))

    assert counting.writes == before + 1


async def test_an_overload_without_a_word_is_ones_own():
    """A failure that asks for no wait is told to nobody."""
    one = Process()
    await called(one.limiter, outcome=Overloaded("busy"))

    assert one.limiter.unshared() == []


async def test_each_store_has_limits_of_its_own(sqlite_url):
    """All runs of a client share what its models said; another client hears it from the store."""
    async with opened(sqlite_url) as store, opened(sqlite_url) as another:
        assert ModelLimits.of(store) is ModelLimits.of(store)
        assert ModelLimits.of(store) is not ModelLimits.of(another)
        assert ModelLimits.of_this_loop() is ModelLimits.of_this_loop()


async def test_what_a_person_knows_better(store_url):
    """What a model asked for before a person unblocked it counts no more, whoever heard it."""
    one, other = Process(), Process()
    async with opened(store_url) as store:
        await one.call(store, RateLimited("wait", retry_after=40))
        other.limiter.unblock(MODEL)
        waited = await other.waits(store)

    assert waited == 0


async def test_a_database_that_is_gone():
    """A database that does not answer fails no call, before it or after."""

    class Gone:
        clock = ManualClock()

        async def rate_limits(self, since):
            raise StoreUnreachable("gone")

        async def write_rate_limit(self, name, told):
            raise StoreUnreachable("gone")

    one = Process()
    await one.call(Gone(), headers=limits(one.clock, (0, 100, "50s")))

    with pytest.raises(RateLimited):
        async with one.sharing.around(Gone()):
            raise RateLimited("wait", retry_after=1)


CALLING = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"what": "owls"}}


async def test_across_processes(store_url, monkeypatch):
    """One process is told to wait; another that was never told asks when the wait is over."""
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "Wait."}}
    answers = [
        refusal(429, body, retry_after="3"),
        stream(*anthropic_events(CALLING, stop="tool_use")),
        *[stream(*complete("anthropic", "Two owls."))] * 3,
    ]
    async with wire(*answers) as server, connect(store_url) as client:
        await client.start(agent, TASK, id="a/1")
        with payer(store_url, server.url) as process:

            async def is_told() -> bool:
                return len(await client.store.rate_limits(0)) == 1

            await eventually(is_told)
            process.kill()
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with client.work([agent]):
            await client.start(agent, TASK, id="a/2")
            answer = await asyncio.wait_for(client.result("a/2", agent), 30)
        await disconnect()

    assert answer.text == "Two owls."
    assert server.times[1] - server.times[0] >= 2.9
