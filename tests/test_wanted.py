"""A wait tells in its row what it wants, so that a slip is refused before it is sent."""

import json
import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from typing_extensions import TypedDict

from substrate import Context, connect, durable
from substrate.engine.context.receive import annotation_of
from substrate.engine.context.wanted_type import WantedType
from substrate.values.codec import decode
from tests.runs import QUICK, reached


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Charge(BaseModel):
    amount: int
    note: str | None = None


class Aliased(BaseModel, populate_by_name=True):
    user: str = Field(alias="userName")


class Tree(BaseModel):
    name: str
    below: "list[Tree]" = []


@dataclass
class Address:
    street: str
    number: int


class Point(TypedDict):
    x: float
    y: float


class Named(NamedTuple):
    number: int
    text: str = "x"


class Closed(BaseModel, extra="forbid"):
    n: int


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    n: int = Field(gt=3)


TYPES = [
    *(bool, int, float, str, None, date, UUID, Decimal, Colour, Charge, Aliased, Tree, Address),
    *(
        Point,
        IPv4Address,
        bytes,
        list[int],
        dict[str, int],
        tuple[int, str],
        set[int],
        list[Charge],
    ),
    *(bool | str, int | None, Literal["a", 5], Charge | str, Literal["only"]),
    *(Annotated[int, Field(ge=1, le=9)], Annotated[bool, AfterValidator(lambda v: v)]),
    *(Annotated[int, BeforeValidator(lambda v: 1)], Annotated[str, Field(min_length=2)]),
    *(dict[int, str], dict[Literal["a"], int], tuple[int, ...], Named, IPv6Address, Closed),
    *(Annotated[Decimal, Field(gt=0, lt=6)], Annotated[int, Field(gt=0, multiple_of=5)]),
    Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^[A-Z]+$")],
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=3)],
    Annotated[dict[Annotated[str, StringConstraints(pattern="^a")], int], Field(max_length=1)],
    *(Annotated[set[int], Field(max_length=1)], Annotated[list[int], Field(min_length=2)]),
    Annotated[Cat | Dog, Field(discriminator="kind")],
    *(Annotated[float, Field(ge=1, lt=5)], Annotated[timedelta, Field(gt=timedelta())]),
    *(SecretStr, Path, Base64Bytes, Annotated[bytes, Field(max_length=2)]),
]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 5, 9, 10, 1.0, 1.5, -3, 10**400, float("inf"), "", "1", "0", "5"),
    *("true", "TRUE", "yes", "no", "on", "y", "t", " yes ", "1.5", "red", "RED", "a", "only"),
    *("2026-11-28", "2026-11-28T00:00:00", "12345678-1234-5678-1234-567812345678", "127.0.0.1"),
    *([], [1], ["1"], [1, "a"], [1, 1], ["x"], {}, {"amount": 5}, {"amount": "5"}, {"amount": "x"}),
    *({"note": "n"}, {"amount": 5, "note": 7}, {"userName": "a"}, {"user": "a"}, {"x": 1, "y": 2}),
    *({"name": "a", "below": [{"name": "b"}]}, {"name": "a", "below": [{}]}, [{"amount": 1}]),
    *(" true ", "Ab", " abc ", "abcd", "x.y", "-1", "1e2", "NaN", "Infinity", 5.5, "::1", "P1D"),
    *([1, "x"], [1, "x", 2], [1, 2], [2, 2, 2], [1, None], {"1": "x"}, {"a": 1, "ab": 2}),
    *({"kind": "cat"}, {"kind": "cow"}, {"kind": "dog", "n": 4}, {"kind": "dog", "n": 1}),
    *({"n": 1}, {"n": 1, "more": 2}, "YWJj", "é", "ab\n"),
    *({"street": "s", "number": 1}, {"street": "s"}, ["s", 1], {"a": 1}, {"a": "b"}),
]


def repr_of(value: Any) -> str:
    """Return how a value is written, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def wanted_of(hint: Any) -> WantedType:
    """Return what the row of a wait for this type tells."""
    return WantedType(annotation_of(hint, "x").schema)


@pytest.mark.parametrize("hint", TYPES, ids=repr_of)
def test_what_the_wait_takes_is_never_refused(hint):
    """No value that the type takes is refused by what its row tells."""
    annotation, wanted = annotation_of(hint, "x"), wanted_of(hint)

    for value in VALUES:
        try:
            annotation.make(value)
        except (ValidationError, OverflowError):
            continue
        assert wanted.refusal(value) is None, value


@pytest.mark.parametrize(
    "hint, words, wrong, right",
    [
        (bool, "true, false, yes or no", [1, "1", "on", "y", None, "maybe"], [True, "yes", "No"]),
        (int, "a whole number", ["x", 1.5, None, []], [5, "5"]),
        (Annotated[int, Field(ge=1, le=9)], "a whole number from 1 to 9", [0, 10], [9]),
        (str, "text", [5, None, True], ["5"]),
        (str | None, "text or null", [5], [None, "a"]),
        (Colour, "'red' or 'blue'", ["green", 7], ["red"]),
        (Literal["a", "b"], "'a' or 'b'", ["c"], ["a"]),
        (date, "a date such as 2026-11-28", ["soon"], ["2026-11-28"]),
        (list[int], "a list, each a whole number", [5, ["x"]], [[5]]),
        (Charge, "an object with amount and note", [5, {}, {"amount": "x"}], [{"amount": 5}]),
        (Annotated[int, Field(gt=0)], "a whole number, more than 0", [0, -1], [1, "1"]),
        (Annotated[str, StringConstraints(pattern="^a+$")], "text", ["b", ""], ["aa"]),
        (Annotated[str, Field(min_length=2, max_length=3)], "text", ["a", "abcd"], ["ab"]),
        (dict[str, int], "an object", [{"a": "x"}], [{"a": 1}, {}]),
        (dict[int, str], "an object", [{"x": "x"}], [{"1": "x"}]),
        (
            tuple[int, str],
            "a list of 2: a whole number, text",
            [[1], ["x", "x"], [1, "x", 2]],
            [[1, "x"]],
        ),
        (Named, "a list of 2: a whole number, text", [[], ["x"]], [[1], [1, "y"]]),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            "an object with kind or an object with kind and n",
            [{"kind": "cow"}, {"kind": "dog", "n": 1}, {}],
            [{"kind": "cat"}],
        ),
        (bytes, "text", [5, []], ["x"]),
        (
            Decimal,
            "a number or a number in quotes, such as 9.90",
            ["x", "NaN", []],
            ["9.90", 1, "1e2"],
        ),
        (IPv4Address, "an address such as 127.0.0.1", ["x"], ["127.0.0.1"]),
        (Closed, "an object with n", [{"n": 1, "m": 2}], [{"n": 1}]),
        (Annotated[list[int], Field(max_length=1)], "a list, each a whole number", [[1, 2]], [[1]]),
        (Annotated[int, Field(multiple_of=5)], "a whole number", [4], [10]),
        (Tree, "an object with name and below", [{"name": "a", "below": [{}]}], [{"name": "a"}]),
    ],
    ids=repr_of,
)
def test_what_is_wanted(hint, words, wrong, right):
    """What is wanted is told in words, and what does not fit is refused, its place named."""
    wanted = wanted_of(hint)

    assert wanted.words == words
    assert [value for value in wrong if wanted.refusal(value) is None] == []
    assert [value for value in right if wanted.refusal(value) is not None] == []
    is_to_be_filled_in = any(word in str(wanted.example) for word in ("NUMBER", "TEXT"))
    assert wanted.refusal(wanted.example) is None or is_to_be_filled_in


def test_the_place_is_told():
    """What is wrong in the middle of a value is named by its place."""
    told = wanted_of(list[Charge]).refusal([{"amount": 1}, {"amount": "x"}])

    assert told == "[1].amount: 'x' is not a whole number"


@pytest.mark.parametrize(
    "hint", [Aliased, Annotated[int, BeforeValidator(lambda v: 1)]], ids=repr_of
)
def test_a_type_that_takes_more_than_it_tells(hint):
    """A type that takes more than its schema says wants anything: its wait decides."""
    assert wanted_of(hint).is_anything


LOOP = {"$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    "schema",
    [
        {**LOOP, "$defs": {"a": LOOP}},
        {**LOOP, "$defs": {"a": {"anyOf": [LOOP] * 50}}},
        {**LOOP, "$defs": {"a": {"type": "array", "items": LOOP}}},
        {**LOOP, "$defs": []},
        {"$ref": "#/$defs/nobody"},
        {"anyOf": [], "type": "boolean"},
        {"anyOf": {}},
        {"enum": 5, "type": 7},
        {"enum": []},
        {"type": "object", "properties": [], "required": 5},
        {"type": "integer", "minimum": "x", "maximum": []},
        {"type": "string", "format": []},
        {"type": ["string"], "const": {}},
    ],
    ids=str,
)
def test_a_schema_that_is_none(schema):
    """A row that was written by hand tells something or nothing, soon, and breaks nobody."""
    wanted = WantedType(schema)

    assert isinstance(wanted.words, str)
    assert isinstance(wanted.is_bool and wanted.is_text, bool)
    json.dumps(wanted.example)
    for value in VALUES:
        assert wanted.refusal(value) is None or isinstance(wanted.refusal(value), str)


async def test_yes_and_no(store_url):
    """A wait for a bool takes true, false, yes and no, and refuses all that pydantic would take."""

    @durable
    async def asks(ctx: Context) -> list[bool]:
        return [await ctx.receive("pay", bool) for _ in range(4)]

    async with connect(store_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, id="run")
        await reached(client, "run", "pay.0")
        for value in ("1", 1, 0, "on", "off", "t", "y", None, 1.0, "yes", True, "NO", " false "):
            await client.signal("run", "pay", value)
        answers = await client.result("run")
        (first, *_) = [row for row in await client.journal("run") if row.key == "pay.0"]

    assert answers == [True, True, False, False]
    refused = decode(first.attempts or "[]")
    assert len(refused) == 9
    assert all("send true, false, yes or no" in each["message"] for each in refused)
    assert decode(first.input)["wants"] == {"type": "boolean"}


async def test_text_stays_text(sqlite_url):
    """Where text is wanted as well as a bool, a word that means yes stays the text that it is."""

    @durable
    async def asks(ctx: Context) -> Any:
        return [await ctx.receive("say", bool | str) for _ in range(2)]

    async with connect(sqlite_url) as client, client.work([asks], options=QUICK):
        await client.start(asks, id="run")
        await client.signal("run", "say", "yes")
        await client.signal("run", "say", True)

        assert await client.result("run") == ["yes", True]


async def test_a_wait_of_an_older_version(sqlite_url):
    """A row that tells no type, as older ones do, wants anything; and goes on as it was."""

    @durable
    async def untyped(ctx: Context) -> Any:
        return await ctx.receive("say")

    untyped_row = WantedType()
    async with connect(sqlite_url) as client, client.work([untyped], options=QUICK):
        await client.start(untyped, id="run")
        await reached(client, "run", "say.0")
        (row,) = [each for each in await client.journal("run") if each.key == "say.0"]
        assert decode(row.input) == {"due_at": None}
        assert WantedType.by(row) == untyped_row
        assert untyped_row.refusal(object()) is None
        assert untyped_row.words == "any JSON"
