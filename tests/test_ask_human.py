"""A question to a person waits for an answer of its type: a tool's, or a durable function's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, StringConstraints, field_validator

from substrate import Context, RunStatus, connect, durable
from substrate.agent import answer, approve, ask_human, ask_person
from substrate.models.providers.scripted import call
from substrate.testing import ManualClock
from substrate.values.errors import GateClosed, Misuse, NoAnswer, RunFailed
from tests.test_approvals import answered as said
from tests.test_approvals import asking, open_gates, settle


class Order(BaseModel):
    """An order."""

    lamp: int

    @field_validator("lamp")
    @classmethod
    def not_thirteen(cls, value: int) -> int:
        """Refuse what no schema tells."""
        if value == 13:
            raise ValueError("thirteen is unlucky")
        return value


@dataclass(frozen=True)
class Case:
    """A type, what is answered, and what comes of it."""

    type: Any
    given: Any
    value: Any


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]


@pytest.mark.parametrize(
    "case",
    [
        Case(str, "blue", "blue"),
        Case(bool, "yes", True),
        Case(int, 3, 3),
        Case(date, "2026-12-24", date(2026, 12, 24)),
        Case(Literal["red", "blue"], "blue", "blue"),
        Case(list[str], ["a", "b"], ["a", "b"]),
        Case(Order, {"lamp": 3}, Order(lamp=3)),
        Case(int | None, None, None),
    ],
)
async def test_an_answer_of_a_type(store_url: str, case: Case) -> None:
    """It comes as what was asked for, however long it took, live as on a replay."""
    got: list[Any] = []

    @durable(name="asks")
    async def asks(ctx: Context) -> bool:
        got.append(await ask_person(ctx, "How many?", type=case.type))
        return await ctx.receive("go", bool)

    async with connect(store_url) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        (gate,) = await open_gates(client)
        assert (gate.kind, gate.summary) == ("question", "How many?")
        await answer(client, gate, case.given, by="ada")
        await settle(client, asks)
        await client.signal("run", "go", True)
        await settle(client, asks)
        assert await client.result("run", asks)
    assert got == [case.value] * len(got)
    assert len(got) >= 2


@pytest.mark.parametrize(
    "type_, given",
    [
        (int, "many"),
        (int, True),
        (float | None, False),
        (Annotated[int, Field(ge=1)], True),
        (Literal[1, 2], True),
        (bool, "perhaps"),
        (date, "soon"),
        (Literal["a", "b"], "c"),
        (Order, {}),
        (Annotated[int, Field(gt=0)], 0),
        (Annotated[str, StringConstraints(pattern="^a+$")], "b"),
        (dict[str, int], {"a": "x"}),
        (dict[int, str], {"x": "x"}),
        (tuple[int, str], [1]),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "cow"}),
        (bytes, 5),
        (Decimal, "x"),
        (Decimal, "NaN"),
        (IPv4Address, "x"),
    ],
    ids=str,
)
async def test_an_answer_that_does_not_fit(store_url: str, type_: Any, given: Any) -> None:
    """It is refused where it is given, with what is asked for, and the question stays open."""

    @durable(name="asks")
    async def asks(ctx: Context) -> None:
        await ask_person(ctx, "How many?", type=type_)

    async with connect(store_url) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        (gate,) = await open_gates(client)
        with pytest.raises(Misuse):
            await answer(client, gate, given, by="ada")
        with pytest.raises(Misuse, match="give it an answer"):
            await approve(client, gate, by="ada")
        assert len(await open_gates(client)) == 1


class Shape(Enum):
    """Its values are tuples, which JSON does not have."""

    SMALL = (1, 2)


async def test_an_answer_that_nobody_could_give(store_url: str) -> None:
    """A type whose own members do not read back from JSON is refused, and nobody is asked."""

    @durable(name="asks")
    async def asks(ctx: Context) -> None:
        await ask_person(ctx, "Which?", type=Shape)

    async with connect(store_url) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        assert await open_gates(client) == []
        with pytest.raises(RunFailed, match="nobody could answer"):
            await client.result("run", asks)


async def test_what_only_the_code_can_check(store_url: str) -> None:
    """An answer that the type's own validator refuses is asked for again, with the reason."""

    @durable(name="asks")
    async def asks(ctx: Context) -> int:
        return (await ask_person(ctx, "How many?", type=Order)).lamp

    async with connect(store_url) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        (first,) = await open_gates(client)
        await answer(client, first, {"lamp": 13}, by="ada")
        await settle(client, asks)
        (second,) = await open_gates(client)
        assert "unlucky" in second.summary
        await answer(client, second, {"lamp": 3}, by="ada")
        await settle(client, asks)
        assert await client.result("run", asks) == 3


async def test_nobody_answers(store_url: str) -> None:
    """After its time the caller is told, and a later answer is refused."""
    clock = ManualClock()

    @durable(name="asks")
    async def asks(ctx: Context) -> str:
        try:
            return await ask_person(ctx, "Who?", timeout=timedelta(days=1))
        except NoAnswer as error:
            return str(error)

    async with connect(store_url, clock) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        (gate,) = await open_gates(client)
        clock.advance(86_400)
        await settle(client, asks)
        assert "nobody has answered in time" in await client.result("run", asks)
        with pytest.raises(GateClosed, match="expired"):
            await answer(client, gate, "Ada", by="ada")


async def test_asked_by_the_model(store_url: str) -> None:
    """The tool gives the model's question and choices to a person, and the answer to the model."""
    ask = call("ask_human", question="Which colour?", choices=["red", "blue"])
    async with asking(store_url, ask_human(to="design"), calls=(ask,)) as (client, agent):
        (gate,) = await open_gates(client)
        assert gate.summary == "Which colour?"
        with pytest.raises(Misuse, match="'red' or 'blue'"):
            await answer(client, gate, "green", by="ada")
        await answer(client, gate, "blue", by="ada")
        assert await said(client, agent) == "blue"


async def test_choices_of_the_model_that_are_none(store_url: str) -> None:
    """One choice, or two alike, are told to the model, which may mend that; nobody is asked."""
    ask = call("ask_human", question="Which?", choices=["red"])
    async with asking(store_url, ask_human(), calls=(ask,)) as (client, agent):
        assert await open_gates(client) == []
        assert (await client.get("a/1")).status is RunStatus.DONE
        assert "two or more" in await said(client, agent)


@pytest.mark.parametrize("words", ["", " ", "\n"])
@pytest.mark.parametrize("given", [{}, {"type": int}, {"choices": ["a", "b"]}], ids=str)
async def test_a_model_that_asks_nothing(store_url: str, words: str, given: Any) -> None:
    """A question of no words is told to the model, which may mend that; nobody is asked."""
    ask = call("ask_human", question=words)
    async with asking(store_url, ask_human(**given), calls=(ask,)) as (client, agent):
        assert await open_gates(client) == []
        assert (await client.get("a/1")).status is RunStatus.DONE
        assert "write what is asked" in await said(client, agent)


async def test_several_questions_at_once(store_url: str) -> None:
    """Each answer goes to its own question, in whatever order they come."""

    @durable(name="asks")
    async def one(ctx: Context, what: str) -> str:
        return f"{what}: {await ask_person(ctx, what)}"

    @durable(name="all_of_them")
    async def every(ctx: Context) -> Sequence[str]:
        return await ctx.gather(*(ctx.call(one, each) for each in "abc"))

    async with connect(store_url) as client:
        await client.start(every, id="run")
        await settle(client, every)
        gates = {each.summary: each for each in await open_gates(client)}
        for what in "cab":
            await answer(client, gates[what], what.upper(), by="ada")
        await settle(client, every)
        assert await client.result("run", every) == ["a: A", "b: B", "c: C"]


async def test_the_loser_of_a_race_is_withdrawn(store_url: str) -> None:
    """A question whose branch has lost asks nobody any more."""

    @durable(name="races")
    async def races(ctx: Context) -> int:
        return (await ctx.race(ask_person(ctx, "Who?"), ctx.receive("go"))).place

    async with connect(store_url) as client:
        await client.start(races, id="run")
        await settle(client, races)
        (gate,) = await open_gates(client)
        await client.signal("run", "go")
        await settle(client, races)
        assert await client.result("run", races) == 1
        with pytest.raises(GateClosed, match="withdrawn"):
            await answer(client, gate, "Ada", by="ada")


@pytest.mark.parametrize(
    "given",
    [
        {"choices": "ab"},
        {"choices": ["a"]},
        {"choices": ["a", "a"]},
        {"choices": ["a", "b"], "type": int},
        {"type": 3},
        {"timeout": timedelta(0)},
        {"to": 3},
    ],
)
def test_what_could_not_be_asked(given: dict[str, Any]) -> None:
    """It is refused where the tool is made."""
    with pytest.raises(Misuse):
        ask_human(**given)


async def test_a_question_of_no_words(store_url: str) -> None:
    """An empty question asks nobody."""

    @durable(name="asks")
    async def asks(ctx: Context) -> str:
        try:
            return await ask_person(ctx, " ")
        except Misuse as error:
            return str(error)

    async with connect(store_url) as client:
        await client.start(asks, id="run")
        await settle(client, asks)
        assert "write a question" in await client.result("run", asks)


def test_what_the_model_is_told() -> None:
    """A fixed question takes nothing; a free one takes the question, and perhaps choices."""
    fixed = ask_human("Which region?", choices=["eu", "us"], name="region")
    assert fixed.spec.parameters["properties"] == {}
    assert "Which region?" in fixed.spec.description
    assert list(ask_human().spec.parameters["properties"]) == ["question", "choices"]
    assert list(ask_human(type=int).spec.parameters["properties"]) == ["question"]


@pytest.mark.parametrize("type_", [SecretStr, list[SecretStr] | None])
def test_no_secret_is_an_answer(type_: Any) -> None:
    """What a person answers is recorded, so a secret is not asked for."""
    with pytest.raises(Misuse, match="has a secret in it"):
        ask_human("Which password?", type=type_)


@pytest.mark.parametrize("how", ["if", "assigned", "alone"])
async def test_a_forgotten_await(store_url: str, how: str) -> None:
    """It pauses the run, or is refused: nothing goes on as if somebody had said yes."""
    sent: list[str] = []

    def send() -> None:
        sent.append("money")

    @durable(name="forgets")
    async def forgets(ctx: Context) -> str:
        if how == "if":
            if ask_person(ctx, "Sure?", type=bool):
                await ctx.step(send)
        elif how == "assigned":
            said = ask_person(ctx, "Sure?", type=bool)
            if said:
                await ctx.step(send)
        else:
            ask_person(ctx, "Sure?", type=bool)
        return "done"

    async with connect(store_url) as client:
        await client.start(forgets, id="run")
        await settle(client, forgets)
        assert (await client.get("run")).status in (RunStatus.PAUSED, RunStatus.FAILED)
        assert sent == []
