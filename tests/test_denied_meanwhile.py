"""A deny rule stops the attempts of a call that are still to be made, however it was allowed."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from substrate import Client, Retry, RunStatus, connect
from substrate.agent import Policy, approve, tool
from substrate.agent.rules import read_rule
from substrate.models.providers.scripted import call
from substrate.testing import ManualClock
from substrate.values.records import PromiseState
from tests.test_approvals import TASK, Shop, make_agent, open_gates

HOURS = timedelta(hours=3)


class Away(Exception):
    """The other side is away: the call has not left."""


def payer(calls: Counter[int], **options: Any) -> Any:
    """Return a tool whose calls all fail, and are made again hours later."""

    @tool(
        name="pay",
        retry=Retry(
            max_attempts=5, initial=HOURS, factor=1, max_delay=HOURS, jitter=0, safe_on=(Away,)
        ),
        **options,
    )
    def pay(cents: int) -> str:
        """Pay."""
        calls[cents] += 1
        raise Away("away")

    return pay


async def deny_by_rule(client: Client, text: str) -> None:
    await client.store.gates.add_rule(read_rule(text, by="bob", now=1))


@pytest.mark.parametrize("effect", ["once", "idempotent"])
@pytest.mark.parametrize(
    "how",
    [None, True, Policy(wait=False), Policy(rules=["allow pay"])],
    ids=["unasked", "approved", "aside", "allowed"],
)
async def test_no_more_attempts(store_url: str, effect: str, how: Any) -> None:
    """Approved or not, with a person's edit too, and by a worker that was not there before."""
    calls: Counter[int] = Counter()
    clock = ManualClock()
    asks = how is not None and not getattr(how, "own_rules", ())
    shop, pay = Shop(), payer(calls, effect=effect, approve=how)
    agent = make_agent(shop.model(call("pay", cents=5)), [pay])

    async def work(client: Client) -> None:
        async with client.work([agent]) as worker:
            await worker.run_until_idle()

    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await work(client)
        cents = 5
        if asks:
            (gate,) = await open_gates(client)
            await approve(client, gate, by="ada", edit={"cents": 7})
            await work(client)
            cents = 7
        await deny_by_rule(client, "deny pay where cents > 100")  # which says nothing of this one
        clock.advance(HOURS.total_seconds())
        await work(client)
        assert calls == {cents: 2}

        await deny_by_rule(client, f"deny pay where cents = {cents}")
        clock.advance(HOURS.total_seconds())
        await work(client)
        row = next(r for r in await client.journal("a/1") if r.key == "tools.0/pay.0")
        assert (await client.get("a/1")).status is RunStatus.DONE
        told = "".join(map(repr, shop.requests[-1].messages))

    assert calls == {cents: 2}
    assert row.state is PromiseState.REJECTED
    assert "pay was not called again after 2 attempts failed: a standing rule denies it" in told
    assert f"(deny pay where cents = {cents})" in told


async def test_the_run_fails(store_url: str) -> None:
    """Where a denial fails the run, this one does, too."""
    calls: Counter[int] = Counter()
    clock = ManualClock()
    pay = payer(calls, effect="idempotent", approve=Policy(on_denied="fail"))
    agent = make_agent(Shop().model(call("pay", cents=5)), [pay])
    async with connect(store_url, clock) as client, client.work([agent]) as worker:
        await client.start(agent, TASK, id="a/1")
        await worker.run_until_idle()
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        await worker.run_until_idle()
        await deny_by_rule(client, "deny pay")
        clock.advance(HOURS.total_seconds())
        await worker.run_until_idle()
        assert (await client.get("a/1")).status is RunStatus.FAILED
    assert calls == {5: 1}
