"""A typed signal is the same value live and on every replay, and comes to the wait it is for."""

from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr

from substrate import Context, RunPaused, RunStatus, connect, durable
from substrate.values.codec import decode
from tests.runs import QUICK, reached

seen: list[Any] = []


class Charge(BaseModel):
    amount: int
    note: str | None = None
    payment: UUID = Field(default_factory=uuid4)
    day: date = Field(default_factory=date.today)


@dataclass
class Paid:
    amount: int
    payment: UUID = field(default_factory=uuid4)


class Private(BaseModel):
    amount: int
    _payment: UUID = PrivateAttr(default_factory=uuid4)


@dataclass
class NotGiven:
    amount: int
    payment: UUID = field(default_factory=uuid4, init=False)


_numbers = count()


class Numbered(BaseModel):
    amount: Annotated[int, AfterValidator(lambda amount: amount + next(_numbers))]


def takes(hint: Any) -> Any:
    @durable
    async def take(ctx: Context) -> None:
        seen.append(await ctx.receive("charge", hint))
        await ctx.receive("go")

    return take


@pytest.mark.parametrize("hint", [Charge, Paid], ids=["model", "dataclass"])
async def test_what_is_made_of_a_signal_is_made_once(store_url, hint):
    """What a type adds to the value that was sent is the same live and in another worker."""
    function = takes(hint)

    seen.clear()
    async with connect(store_url) as client:
        await client.start(function, id="run")
        async with client.work([function], options=QUICK):
            await client.signal("run", "charge", {"amount": 5})
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        async with client.work([function], options=QUICK):
            await client.result("run")

    assert len(seen) == 2
    assert seen[0] == seen[1]
    if hint is Charge:
        assert [each.model_fields_set & {"amount", "note"} for each in seen] == [{"amount"}] * 2


@pytest.mark.parametrize("hint", [Private, NotGiven, Numbered])
async def test_a_type_that_does_not_read_back(sqlite_url, hint):
    """A value of which its type makes another each time is refused, and the journal says why."""
    function = takes(hint | str)

    seen.clear()
    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        await client.signal("run", "charge", {"amount": 5})
        await client.signal("run", "charge", "none")
        await client.signal("run", "go")
        await client.result("run")
        (row,) = [each for each in await client.journal("run") if each.key == "charge.0"]

    assert all(each == "none" for each in seen)
    (refused,) = decode(row.attempts or "[]")
    assert "would not read back" in refused["message"]


async def test_a_validator_that_raises(sqlite_url):
    """A value on which a type's own code fails is refused like any other."""

    def broken(value: int) -> int:
        return 1 // value

    function = takes(Annotated[int, AfterValidator(broken)])

    seen.clear()
    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        await client.signal("run", "charge", 0)
        await client.signal("run", "charge", 1)
        await client.signal("run", "go")
        await client.result("run")
        (row,) = [each for each in await client.journal("run") if each.key == "charge.0"]

    (refused,) = decode(row.attempts or "[]")
    assert "ZeroDivisionError" in refused["message"]


async def test_a_signal_that_fits_no_more_pauses_the_run(store_url):
    """A recorded signal whose type has changed pauses the run; under mended code it goes on."""
    undone = []

    async def charge(what: str) -> None:
        pass

    @durable
    async def refund(ctx: Context, what: str) -> None:
        undone.append("refund")

    def orders(hint: Any) -> Any:
        @durable
        async def order(ctx: Context) -> Any:
            await ctx.step(charge, "a", undo=refund)
            answer = await ctx.receive("answer", hint)
            await ctx.receive("go")
            return answer

        return order

    before, broken = orders(str), orders(int)
    async with connect(store_url) as client:
        await client.start(before, id="run")
        async with client.work([before, refund], options=QUICK):
            await client.signal("run", "answer", "yes")
            await reached(client, "run", "go.0")
        await client.signal("run", "go")
        async with client.work([broken, refund], options=QUICK):
            with pytest.raises(RunPaused, match=r"ctx.receive\('answer'\): the recorded value no"):
                await client.result("run")
        await client.resume("run")
        async with client.work([before, refund], options=QUICK):
            assert await client.result("run") == "yes"
        assert (await client.get("run")).status is RunStatus.DONE

    assert undone == []


PAIRS: dict[str, tuple[Any, Any, list[Any], list[Any]]] = {
    "bool and int": (bool, int, [1, True], [True, 1]),
    "int and text": (int, str, ["5", 6], [6, "5"]),
    "in order where both do": (str, str, ["a", "b"], ["a", "b"]),
    "by coercion where none does": (int, bool, ["5", "no"], [5, False]),
    "date and text": (date, str, ["2026-01-02", "x"], [date(2026, 1, 2), "x"]),
    "number and model": (Charge, int, [7, {"amount": 1}], [1, 7]),
}


@pytest.mark.parametrize("one, other, values, expected", PAIRS.values(), ids=PAIRS)
async def test_a_value_goes_to_its_own_type_first(store_url, one, other, values, expected):
    """Of open waits of a name, that gets a value whose type it is; only then who could make it."""

    @durable
    async def both(ctx: Context) -> None:
        seen.extend(await ctx.gather(ctx.receive("ask", one), ctx.receive("ask", other)))

    seen.clear()
    async with connect(store_url) as client:
        await client.start(both, id="run")
        for value in values:
            await client.signal("run", "ask", value)
        async with client.work([both], options=QUICK):
            await client.result("run")

    found = [each.amount if isinstance(each, Charge) else each for each in seen]
    assert [(type(each), each) for each in found] == [(type(each), each) for each in expected]
