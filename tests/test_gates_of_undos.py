"""An undo may ask a person, whatever its run was ended by; the answer goes on with the undo."""

from datetime import timedelta

import pytest

from substrate import Context, RunStatus, connect, durable
from substrate.agent import answer, ask_person
from substrate.testing import ManualClock
from tests.test_approvals import open_gates, settle

ID = "trip"


@pytest.mark.parametrize("how", ["cancelled", "cancelled twice", "out of time", "failed"])
async def test_a_question_of_an_undo(store_url: str, how: str) -> None:
    """It is listed and answered; then what comes before it is undone, too, and each once."""
    did: list[str] = []

    async def book(what: str) -> str:
        did.append(what)
        return what

    @durable
    async def give_back(ctx: Context, what: str) -> None:
        if what == "hotel":
            did.append(f"{await ask_person(ctx, 'How many nights are paid?', type=int)} nights")
        did.append(f"no {what}")

    @durable
    async def trip(ctx: Context) -> None:
        await ctx.step(book, "flight", undo=give_back)
        await ctx.step(book, "hotel", undo=give_back)
        if how == "failed":
            raise ValueError("it rains")
        await ctx.receive("go")

    known = (trip, give_back)
    clock = ManualClock()
    async with connect(store_url, clock) as client:
        await client.start(trip, id=ID, timeout=timedelta(hours=1))
        await settle(client, *known)
        if how == "out of time":
            clock.advance(7200)
        elif how != "failed":
            await client.cancel(ID)
        await settle(client, *known)
        if how == "cancelled twice":
            await client.cancel(ID)
            await settle(client, *known)

        assert (await client.get(ID)).status is RunStatus.SUSPENDED
        (gate,) = await open_gates(client)
        await answer(client, gate, 3, by="ada")
        await settle(client, *known)

        ends = RunStatus.CANCELLED if how.startswith("cancelled") else RunStatus.FAILED
        assert (await client.get(ID)).status is ends
        assert await open_gates(client) == []
    assert did == ["flight", "hotel", "3 nights", "no hotel", "no flight"]
