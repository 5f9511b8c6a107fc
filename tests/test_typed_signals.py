"""A typed signal is the same value live and on every replay, and comes to the wait it is for."""

from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr

from substrate import Context, Misuse, RunFailed, RunPaused, RunStatus, connect, durable
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


class Ordered(BaseModel):
    item: str
    count: int = 1
    tags: list[str] = []


class Point(BaseModel):
    x: int = 0


class Place(BaseModel):
    x: int = 0
    y: int = 0


@pytest.mark.parametrize("hint", [Any, dict[str, Any]], ids=["any", "dict"])
async def test_a_model_is_sent_whole(store_url, hint):
    """Who does not read a model as its class hears all of its fields, those not set included."""

    @durable
    async def run(ctx: Context) -> list[Any]:
        first = await ctx.receive("order", hint)
        return [first, *await ctx.receive("order", list[Any]), *await ctx.poll("order")]

    order, whole = Ordered(item="owl"), {"item": "owl", "count": 1, "tags": []}
    async with connect(store_url) as client:
        await client.start(run, id="run")
        for value in (order, [order], {"it": order}):
            await client.signal("run", "order", value)
        async with client.work([run], options=QUICK):
            assert await client.result("run", run) == [whole, whole, {"it": whole}]


async def test_the_one_of_a_union_that_was_sent(sqlite_url):
    """Of several classes a model is read as the one whose fields it has."""

    @durable
    async def run(ctx: Context) -> str:
        return type(await ctx.receive("it", Point | Place)).__name__

    async with connect(sqlite_url) as client, client.work([run], options=QUICK):
        await client.start(run, id="run")
        await client.signal("run", "it", Place())
        assert await client.result("run", run) == "Place"


class Weighed(BaseModel):
    grams: float


@pytest.mark.parametrize(
    "hint, right, wrong",
    [
        (float, 2**53, 2**53 + 1),
        (list[float], [5], [1, 2**53 + 1]),
        (Weighed, {"grams": 5}, {"grams": 2**53 + 1}),
        (dict[str, Weighed], {"a": {"grams": 5}}, {"a": {"grams": -(2**53) - 1}}),
        (float | str, 5, 2**60 + 1),
    ],
    ids=str,
)
async def test_a_number_that_no_float_holds(sqlite_url, hint, right, wrong):
    """A whole number that would become another one as a float is refused; any other is taken."""
    function = takes(hint)

    seen.clear()
    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        await client.signal("run", "charge", wrong)
        await client.signal("run", "charge", right)
        await client.signal("run", "go")
        await client.result("run")
        (row,) = [each for each in await client.journal("run") if each.key == "charge.0"]

    (refused,) = decode(row.attempts or "[]")
    assert "is an integer that no float holds" in refused["message"]
    assert len(seen) == 1


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


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
async def test_a_validator_that_would_end_the_process(store_url, raised):
    """A type whose code raises what ends a process has refused the value, and no worker ends."""

    def leaves(value: int) -> int:
        raise raised

    own = Annotated[int, AfterValidator(leaves)]
    function = takes(own | str)

    @durable
    async def returns(ctx: Context) -> own:  # type: ignore[valid-type]
        return 1

    @durable
    async def asks(ctx: Context, value: own) -> None:  # type: ignore[valid-type]
        return None

    seen.clear()
    functions = [function, returns, asks]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        await client.start(function, id="run")
        await client.signal("run", "charge", 5)
        await client.signal("run", "charge", "none")
        await client.start(returns, id="returns")
        with pytest.raises((RunFailed, RunPaused)):
            await client.result("returns")
        with pytest.raises(Misuse):
            await client.start(asks, 1, id="asks")
        await client.signal("run", "go")
        await client.result("run")
        (row,) = [each for each in await client.journal("run") if each.key == "charge.0"]

    (refused,) = decode(row.attempts or "[]")
    assert f"its type's own code raised {raised.__name__}" in refused["message"]
    assert seen == ["none"]


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
    "a number, or true": (int, Any, [True, 7], [7, True]),
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
