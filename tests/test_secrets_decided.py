"""What people decide and send tells no secret that the process has revealed, in whatever table."""

import secrets
from typing import Any

import pytest

from substrate import Context, Misuse, Secret, connect, durable
from substrate.agent import answer, approve, ask_person, deny, tool
from substrate.models.providers.scripted import call
from substrate.values.gates import GateState
from substrate.values.mask import MASK
from tests.runs import QUICK, reached
from tests.stores import eventually
from tests.test_approvals import TASK, Shop, make_agent, open_gates, settle
from tests.test_secrets_recorded import KEY, VALUE, is_clean


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv("TEST_RECORDED_KEY", VALUE)


@durable
async def asks(ctx: Context, key: Secret[str]) -> Any:
    """Ask for words and for a word of two."""
    key.reveal()
    words = await ask_person(ctx, "What?", type=str)
    return [words, await ask_person(ctx, "Sure?", type=bool)]


async def test_an_answer(store_url: str) -> None:
    """An answer, who gives it and why are recorded without the secret; the answer counts once."""
    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, KEY, id="r")
        (gate,) = await eventually(lambda: open_gates(client))
        given = {"by": f"ada {VALUE}", "why": f"since {VALUE}", "via": VALUE}
        decided, counts = await answer(client, gate, f"it is {VALUE}", **given)
        again, counts_again = await answer(client, gate, f"it is {VALUE}", **given)
        await reached(client, "r", "ask_person.1/question.0")
        (gate,) = await open_gates(client)
        await answer(client, gate, True, by="ada")
        result = await client.result("r")

    assert (counts, counts_again, again.state) == (True, False, GateState.ANSWERED)
    assert (decided.decided_by, decided.reason, decided.via) == (
        f"ada {MASK}",
        f"since {MASK}",
        MASK,
    )
    assert result == [f"it is {MASK}", True]
    assert await is_clean(store_url)


async def test_an_answer_that_would_be_none(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fits no more once the secret is hidden is refused, and the question stays open."""
    pin = secrets.randbelow(10**12) + 10**12
    monkeypatch.setenv("TEST_PIN", str(pin))

    @durable
    async def picks(ctx: Context, key: Secret[str]) -> int:
        key.reveal()
        return await ask_person(ctx, "Which?", type=int)

    async with connect(store_url) as client, client.work([picks], options=QUICK):
        await client.start(picks, Secret("TEST_PIN"), id="r")
        (gate,) = await eventually(lambda: open_gates(client))
        with pytest.raises(Misuse, match="nothing was decided: the answer holds a secret") as no:
            await answer(client, gate, pin, by="ada")
        await answer(client, gate, 1, by="ada")
        assert await client.result("r") == 1
    assert str(pin) not in str(no.value)
    assert await is_clean(store_url, str(pin))


async def test_decisions_of_calls(store_url: str) -> None:
    """A denial's and an approval's words are hidden; an edit that holds it is refused."""
    sent: list[str] = []

    @tool(approve=True)
    def send(text: str) -> str:
        """Send."""
        sent.append(text)
        return "sent"

    KEY.reveal()
    calls = (call("send", text="a"), call("send", text="b"))
    agent = make_agent(Shop().model(*calls), [send])
    async with connect(store_url) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        first, second = await open_gates(client)
        edit = {"text": f"with {VALUE}"}
        for tools in ([send], []):
            with pytest.raises(Misuse, match="an edited argument holds a secret") as no:
                await approve(client, first, by="ada", edit=edit, tools=tools)
            assert VALUE not in str(no.value)
        await approve(client, first, by=VALUE, why=f"for {VALUE}")
        await deny(client, second, by="bob", why=f"not with {VALUE}")
        await settle(client, agent)
        told = (await client.result("a/1", agent)).text

    assert len(sent) == 1
    assert f"bob denied it: not with {MASK}" in told
    assert await is_clean(store_url)


async def test_a_signal(store_url: str) -> None:
    """It is hidden in the inbox of its run, too, whether it is ever taken or not."""

    @durable
    async def listens(ctx: Context) -> Any:
        return await ctx.receive("go")

    KEY.reveal()
    async with connect(store_url) as client, client.work([listens], options=QUICK):
        await client.start(listens, id="r")
        await client.signal("r", "other", {VALUE: [VALUE, 1]})
        await client.signal("r", "go", f"with {VALUE}")
        assert await client.result("r") == f"with {MASK}"
    assert await is_clean(store_url)
