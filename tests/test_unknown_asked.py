"""A call of which nobody knows is put to a person where its tool says so, and never made again."""

from typing import Any

import pytest

from substrate import RunStatus, connect
from substrate.agent import answer, tool
from substrate.agent.history.request import read_request
from substrate.models.messages import ToolMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.values.errors import Misuse
from tests.loops import TASK, make_agent
from tests.test_approvals import PAY, Shop, answered, asking, open_gates, settle


def doubtful(shop: Shop, **options: Any) -> Any:
    """Return a tool of which nobody knows whether it has paid."""

    @tool(name="refund", **options)
    def refund(order: str, cents: int) -> str:
        """Pay back."""
        shop.paid.append((order, cents))
        raise OSError("the line went dead")

    return refund


@pytest.mark.parametrize(
    "given, told, is_error",
    [
        ("done", "refund: it was done, a person has looked", False),
        (
            {"done": "receipt 17"},
            "A person has looked: it was done. Its result:\nreceipt 17",
            False,
        ),
        ("not done", "refund: it was not done, a person has looked; call it again", True),
        ("leave", "OutcomeUnknown: ", True),
    ],
)
async def test_what_a_person_says(store_url: str, given: Any, told: str, *, is_error: bool) -> None:
    """It is what the model is told, live and by who reads the rows; there is no second call."""
    shop = Shop()
    refund = doubtful(shop, on_unknown="ask")
    async with asking(store_url, refund, shop=shop) as (client, agent):
        assert (await client.get("a/1")).status is RunStatus.SUSPENDED
        (gate,) = await open_gates(client)
        assert gate.kind == "unknown"
        assert "refund(cents=4900, order='A-17')" in gate.summary
        assert gate.id == "a/1#tools.0/refund.0/unknown.0"

        await answer(client, gate, given, by="ada")

        assert (await answered(client, agent)).startswith(told)
        last = shop.requests[-1].messages[-1]
        assert isinstance(last, ToolMessage)
        assert last.results[0].is_error is is_error
        assert shop.paid == [("A-17", 4900)]
        read = await read_request(client, "a/1", "model.1")
        assert told.replace("\n", "\\n") in str(read)


async def test_without_it_the_model_is_told(store_url: str) -> None:
    """A tool that says nothing tells the model that nobody knows, and nobody is asked."""
    shop = Shop()
    async with asking(store_url, doubtful(shop), shop=shop) as (client, agent):
        assert await open_gates(client) == []
        assert (await answered(client, agent)).startswith("OutcomeUnknown: ")


async def test_what_was_told_is_not_asked_later(store_url: str) -> None:
    """A tool that asks from now on does not ask about a turn that is over."""
    shop = Shop()

    @tool
    async def wait(ctx: Any) -> str:
        """Wait."""
        return await ctx.receive("go", str)

    def script(request: Any) -> Any:
        turn = sum(isinstance(m, ToolMessage) for m in request.messages)
        return say(PAY) if turn == 0 else say(call("wait")) if turn == 1 else say("Done.")

    model = Model("scripted:two", script=script)
    async with connect(store_url) as client:
        old = make_agent(model, [doubtful(shop), wait])
        await client.start(old, TASK, id="a/1")
        await settle(client, old)
        new = make_agent(model, [doubtful(shop, on_unknown="ask"), wait])
        await client.signal("a/1", "go", "on")
        await settle(client, new)
        assert await open_gates(client) == []
        assert (await client.result("a/1", new)).text == "Done."


@pytest.mark.parametrize(
    "options", [{"on_unknown": "tell it"}, {"on_unknown": "ask", "effect": "pure"}]
)
def test_what_would_ask_nobody(options: dict[str, Any]) -> None:
    """It is refused where the tool is made."""
    with pytest.raises(Misuse, match="on_unknown"):
        doubtful(Shop(), **options)
