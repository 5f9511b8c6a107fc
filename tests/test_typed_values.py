"""What is recorded of a typed value reads back as what was given, or it is not recorded as that."""

import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    model_serializer,
)
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict

from substrate import Context, Durable, Misuse, RunFailed, RunPaused, RunStatus, connect, durable
from substrate.values.codec import decode
from substrate.values.errors import NotEncodable, NotKept
from tests.runs import QUICK, keys

T = TypeVar("T")


class Color(str, Enum):  # noqa: UP042 - the older form, which many have
    RED = "red"


class Level(Enum):
    LOW = "low"


class Size(IntEnum):
    S = 1


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: Literal["a", "b"] | None = None


class Aliased(BaseModel):
    user_name: str = Field(alias="userName")


class Populated(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_name: str = Field(alias="userName")


class Status(StrEnum):
    OPEN = "open"


class Patch(BaseModel):
    name: str = ""
    email: str | None = None
    tags: list[str] = []
    raw: bytes | str = Field(default="", alias="rawText")


class Shop(BaseModel):
    id: UUID = Field(default_factory=uuid4)


class Order(BaseModel):
    patch: Patch
    shop: Shop = Shop()
    since: datetime = datetime.now(UTC)
    id: UUID = Field(default_factory=uuid4)
    day: date = Field(default_factory=date.today)
    lines: list[str] = Field(default_factory=list)


class OwnForm(BaseModel):
    a: int
    b: int = 2

    @model_serializer
    def form(self) -> dict[str, int]:
        return {"a": self.a, "b": self.b}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field
    @property
    def twice(self) -> int:
        return self.a * 2


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Login(BaseModel):
    name: str
    password: SecretStr


class Hidden(BaseModel):
    a: int
    b: int = Field(default=0, exclude=True)


class Private(BaseModel):
    a: int
    _seen: int = PrivateAttr(default=0)


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str


class Owner(BaseModel):
    pet: Animal


class Names(RootModel[list[str]]):
    pass


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Anything:
    it: Any


class Movie(TypedDict):
    title: str


@dataclass
class Blob:
    data: bytes


@dataclass
class Number:
    x: float
    n: int


@dataclass
class Line:
    tags: tuple[str, ...]
    price: Decimal | None = None


@dataclass
class Inner:
    at: datetime
    price: Decimal | str = "0"


@dataclass
class Outer:
    inner: list[Inner]
    by_name: dict[str, Blob] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        return len(self.inner)


@dataclass
class Base:
    a: int


@dataclass
class Derived(Base):
    b: int = 0


@dataclass(slots=True)
class Slotted:
    a: int
    b: tuple[int, ...] = ()


Rounded = Annotated[float, PlainSerializer(lambda x: round(x, 1), return_type=float)]
Unsigned = Annotated[float, PlainSerializer(abs, return_type=float)]
Loud = Annotated[str, PlainSerializer(lambda x: x.upper(), return_type=str)]
KATHMANDU = ZoneInfo("Asia/Kathmandu")
NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def with_private(value: int) -> Private:
    private = Private(a=1)
    private._seen = value
    return private


def counted() -> Outer:
    outer = Outer([Inner(NOON)])
    assert outer.count == 1
    return outer


KEPT: dict[str, tuple[Any, Any]] = {
    "literal": (Literal["a", "b"], "a"),
    "text enum": (Color, Color.RED),
    "enum": (Level, Level.LOW),
    "int enum": (Size, Size.S),
    "enum or text": (Level | int, Level.LOW),
    "int keys": (dict[int, str], {1: "a"}),
    "counter": (Counter[str], Counter("aab")),
    "deque": (deque[int], deque([2, 1])),
    "default factory": (defaultdict[str, list[int]], defaultdict(list, a=[1])),
    "enum keys": (dict[Level, bytes], {Level.LOW: b"\xff"}),
    "tuple": (tuple[int, str], (1, "a")),
    "set": (set[int], {1, 2}),
    "set of decimals or text": (set[Decimal | str], {Decimal("1.5"), "1.5"}),
    "bytes": (bytes, b"\xff\x00"),
    "list of bytes": (list[bytes], [b"\xff\x00", b"ab"]),
    "timedelta": (timedelta, timedelta(days=3, microseconds=7)),
    "uuid": (UUID, UUID(int=5)),
    "decimal": (Decimal, Decimal("2.00")),
    "decimal or none": (Decimal | None, Decimal("1.50")),
    "decimal or text": (Decimal | str, Decimal("1.50")),
    "text or decimal": (Decimal | str, "1.50"),
    "decimal or float": (Decimal | float, Decimal("0.1")),
    "datetime or text": (datetime | str, NOON),
    "date or text": (date | str, date(2026, 1, 1)),
    "date or datetime": (date | datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    "bytes or text": (bytes | str, b"ab"),
    "naive": (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001 - kept as it is
    "zone": (datetime, datetime(2026, 1, 1, tzinfo=KATHMANDU)),
    "time": (time, time(1, 2, 3, 4)),
    "time with an offset": (time, time(1, 2, tzinfo=UTC)),
    "minus zero": (list[float], [-0.0, 0.0]),
    "duration": (timedelta, timedelta(days=-3, microseconds=7)),
    "address": (IPv6Address, IPv6Address("fe80::1%eth0")),
    "network": (IPv4Interface, IPv4Interface("10.0.0.7/24")),
    "pattern": (re.Pattern[str], re.compile("a.b")),
    "fold": (datetime, datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK, fold=1)),
    "path": (Path, Path("/a/b")),
    "generic": (Page[Decimal], Page[Decimal](items=[Decimal("2.0")], next="b")),
    "generic of bytes": (Page[bytes | str], Page[bytes | str](items=[b"a", "a"])),
    "alias": (Aliased, Aliased(userName="ann")),
    "alias by name": (Populated, Populated(user_name="ann")),
    "list of aliases": (list[Aliased], [Aliased(userName="ann")]),
    "computed and forbid": (Strict, Strict(a=2)),
    "extra": (Loose, Loose(a=1, more=Decimal("1.0"))),
    "private": (Private, Private(a=1)),
    "root": (Names, Names(["a"])),
    "subclass": (Dog, Dog(name="rex", breed="pug")),
    "subclass or base": (Dog | Animal, Dog(name="rex", breed="pug")),
    "named tuple": (Point, Point(1, 2)),
    "typed dict": (Movie, {"title": "a"}),
    "bytes field": (Blob, Blob(b"\xff\x00")),
    "infinite field": (Number, Number(float("inf"), 2**70)),
    "nan": (list[float], [float("nan")]),
    "nan in any": (dict[str, Any], {"a": float("nan"), "b": [None, float("inf")]}),
    "any": (dict[str, Any], {"at": NOON, "n": None, "price": Decimal("1.0"), "raw": b"\xff"}),
    "tag-like keys": (dict[str, datetime], {"$date": NOON}),
    "nested": (Outer, Outer([Inner(NOON, Decimal("1.0"))], {"a": Blob(b"\xff")})),
    "cached property": (Outer, counted()),
    "slots": (Slotted, Slotted(1, (2, 3))),
    "none": (Decimal | None, None),
    "sorted order": (OrderedDict[str, int], OrderedDict(a=1, b=2)),
    "own form": (OwnForm, OwnForm(a=1)),
}


def gives(hint: Any, value: Any, name: str = "give") -> Durable[..., Any]:
    """Return a durable function that says it returns the type, and returns the value."""

    async def give(ctx: Context) -> Any:
        return value

    give.__annotations__["return"] = hint
    return durable(name=name)(give)


def takes(hint: Any) -> Durable[..., Any]:
    """Return a durable function of one argument, which it shows to no journal."""

    async def take(ctx: Context, it: Any) -> None:
        seen.append(it)

    take.__annotations__["it"] = hint
    return durable(take)


seen: list[Any] = []


@pytest.mark.parametrize("hint, value", KEPT.values(), ids=KEPT)
async def test_a_result_reads_back(sqlite_url, hint, value):
    """A typed result comes to its reader as what was returned, to the last field and type."""
    function = gives(hint, value)

    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        back = await client.result("run", function)

    assert type(back) is type(value)
    assert _shown(back) == _shown(value)


@pytest.mark.parametrize("hint, value", KEPT.values(), ids=KEPT)
async def test_an_argument_reads_back(sqlite_url, hint, value):
    """A typed argument comes to the function as what was given, in a run and in a call."""
    function = takes(hint)

    @durable
    async def outer(ctx: Context) -> None:
        await ctx.call(function, value)

    seen.clear()
    async with connect(sqlite_url) as client, client.work([function, outer], options=QUICK):
        await client.start(function, value, id="run")
        await client.result("run")
        await client.start(outer, id="outer")
        await client.result("outer")

    assert [type(each) for each in seen] == [type(value)] * 2
    assert [_shown(each) for each in seen] == [_shown(value)] * 2


def _shown(value: Any) -> str:
    """Return a value as its fields; of a moment in a zone the moment, which is what is kept."""
    if isinstance(value, set):
        return str(sorted(map(repr, value)))
    if isinstance(value, datetime) and value.tzinfo is not None:
        return repr(value.astimezone(UTC))
    return re.sub(r"TzInfo\((UTC|0)\)", "datetime.timezone.utc", repr(value))


LOST: dict[str, tuple[Any, Any, str]] = {
    "secret": (Login, Login(name="a", password=SecretStr("s3cret")), ".password is a secret"),
    "secrets": (list[SecretStr], [SecretStr("s3cret")], "[0] is a secret"),
    "secret bytes": (dict[str, SecretBytes], {"a": SecretBytes(b"s3cret")}, "['a'] is a secret"),
    "excluded": (Hidden, Hidden(a=1, b=7), ".b would come back as another int"),
    "private": (Private, with_private(3), "._seen would come back as another int"),
    "subclass": (Animal, Dog(name="rex", breed="s3cret"), " is Dog and would come back as Animal"),
    "subclass in a field": (
        Owner,
        Owner(pet=Dog(name="rex", breed="pug")),
        ".pet is Dog and would come back as Animal",
    ),
    "subclass in a list": (
        list[Base],
        [Base(1), Derived(1, 2)],
        "[1] is Derived and would come back as Base",
    ),
    "model in any": (
        dict[str, Any],
        {"it": Aliased(userName="a")},
        "['it'] is Aliased and would come back as dict",
    ),
    "text enum or text": (Color | str, Color.RED, " is Color and would come back as str"),
    "the same beside any": (
        tuple[Color | str, Any],
        (Color.RED, Color.RED),
        "[0] is Color and would come back as str",
    ),
    "plain enum": (Any, Level.LOW, " is Level and would come back as str"),
    "plain enum in a list": (Any, [1, {"a": Level.LOW}], " holds Level and would come back as str"),
    "plain enum in any": (
        dict[str, Any],
        {"a": Level.LOW},
        "['a'] is Level and would come back as str",
    ),
    "plain enum in a field": (
        Anything,
        Anything([Level.LOW]),
        ".it[0] is Level and would come back as str",
    ),
    "maxlen": (deque[int], deque([1], maxlen=2), " would come back as another deque"),
    "default factory": (
        defaultdict[str, list[int]],
        defaultdict(lambda: [1], a=[2]),
        " has a default_factory, which would be lost",
    ),
    "extra key": (Movie, {"title": "a", "year": 1}, "['year'] would be lost"),
    "fold of a naive datetime": (
        datetime,
        datetime(2026, 11, 1, 1, 30, fold=1),  # noqa: DTZ001 - nobody knows which of the two
        " would come back as another datetime",
    ),
    "fold of a time": (time, time(1, 2, fold=1), " would come back as another time"),
    "zone of a time": (time, time(1, 2, tzinfo=NEW_YORK), " would come back as another time"),
    "sign of zero": (Unsigned, -0.0, " would come back as another float"),
    "pattern's flags": (
        re.Pattern[str],
        re.compile("a", re.IGNORECASE),
        " would come back as another Pattern",
    ),
    "rounded": (Rounded, 1.25, " would come back as another float"),
    "shouted": (dict[str, Loud], {"a": "b"}, "['a'] would come back as another str"),
    "named tuple": (tuple[int, int], Point(1, 2), " is Point and would come back as tuple"),
    "order": (
        OrderedDict[str, int],
        OrderedDict(b=1, a=2),
        " has an order, which would be lost",
    ),
}


@pytest.mark.parametrize("hint, value, lost", LOST.values(), ids=LOST)
async def test_a_result_that_would_change_pauses_the_run(sqlite_url, hint, value, lost):
    """A result that would not read back pauses its run, which names the field, and no secret."""
    function = gives(hint, value)

    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        with pytest.raises(RunPaused) as caught:
            await client.result("run", function)
        row = (await client.journal("run"))[-1]

    failure = caught.value.failure
    assert failure.type == "NotKept"
    assert failure.details["lost"] == f"return{lost}"
    assert "resume the run: give() is called again from its journal" in failure.message
    assert "s3cret" not in failure.message
    assert "****" not in str(row)
    if "is a secret" in lost:
        assert failure.details["value"] is None
        assert "s3cret" not in str(row)
        assert "from the environment or a vault" in failure.message


@pytest.mark.parametrize("hint, value, lost", LOST.values(), ids=LOST)
async def test_an_argument_that_would_change_is_refused(sqlite_url, hint, value, lost):
    """An argument that would not read back is refused, field named, before anything is recorded."""
    function = takes(hint)

    @durable
    async def outer(ctx: Context) -> str:
        told = []
        for make in (ctx.call, ctx.spawn):
            try:
                await make(function, value)
            except NotKept as error:
                told.append(error.lost)
        return " and ".join(told)

    async with connect(sqlite_url) as client, client.work([function, outer], options=QUICK):
        with pytest.raises(NotKept) as caught:
            await client.start(function, value, id="run")
        await client.start(outer, id="outer")
        assert await client.result("outer") == f"it{lost} and it{lost}"
        assert await keys(client, "outer") == ["run"]

    assert "s3cret" not in str(caught.value)


async def test_a_paused_result_and_what_is_done_about_it(store_url):
    """The JSON of such a result is in the row; with the type mended the run goes on."""
    calls = []

    async def charge() -> str:
        calls.append("charge")
        return "rex"

    @durable(name="order")
    async def loses(ctx: Context) -> Animal:
        return Dog(name=await ctx.step(charge, effect="once"), breed="pug")

    @durable(name="order")
    async def mended(ctx: Context) -> Dog:
        return Dog(name=await ctx.step(charge, effect="once"), breed="pug")

    async with connect(store_url) as client:
        async with client.work([loses], options=QUICK):
            await client.start(loses, id="run")
            for _ in range(2):
                with pytest.raises(RunPaused) as caught:
                    await client.result("run")
                assert caught.value.failure.details["value"] == {"name": "rex"}
                await client.resume("run")
        async with client.work([mended], options=QUICK):
            assert await client.result("run", mended) == Dog(name="rex", breed="pug")
        assert (await client.get("run")).status is RunStatus.DONE

    assert calls == ["charge"]


async def test_the_same_in_a_call(store_url):
    """A called function whose result would change pauses the run, and is mended likewise."""
    calls = []

    async def charge() -> str:
        calls.append("charge")
        return "rex"

    def orders(hint: Any) -> Durable[..., Any]:
        @durable
        async def buy(ctx: Context) -> Any:
            return Dog(name=await ctx.step(charge, effect="once"), breed="pug")

        buy.function.__annotations__["return"] = hint

        @durable
        async def order(ctx: Context) -> str:
            return repr(await ctx.call(buy))

        return order

    async with connect(store_url) as client:
        first, second = orders(Animal), orders(Dog)
        async with client.work([first], options=QUICK):
            await client.start(first, id="run")
            with pytest.raises(RunPaused, match=r"buy\(\): return would not read back as Animal"):
                await client.result("run")
        async with client.work([second], options=QUICK):
            await client.resume("run")
            assert await client.result("run") == "Dog(name='rex', breed='pug')"

    assert calls == ["charge"]


WRONG: dict[str, tuple[Any, Any]] = {
    "int": (int, "nope"),
    "int of a digit": (int, "5"),
    "int of a float": (int, 5.0),
    "str": (str, 5),
    "float": (float, "1.5"),
    "bool": (bool, 1),
    "none": (None, 5),
    "dict": (dict, [("a", 1)]),
    "bytes": (bytes, "ab"),
    "optional": (int | None, "nope"),
    "bool of an optional int": (int | None, True),
    "list of int": (list[int], ["1"]),
    "decimal": (Decimal, "1.5"),
    "datetime": (datetime, "2026-01-01T00:00:00Z"),
    "enum": (Level, "low"),
    "literal": (Literal["a"], "b"),
    "uuid": (UUID, str(UUID(int=5))),
    "model": (Aliased, {"userName": "ann"}),
    "dataclass": (Base, {"a": 1}),
    "field": (Number, Number("s3cret", 1)),  # type: ignore[arg-type]
    "typed dict": (Movie, {"title": 5}),
    "set": (set[int], [1]),
    "short tuple": (tuple[int, str], (1,)),
    "bool of a text or float": (float | str, True),
    "text of an int in a list": (list[str], [1]),
    "not a number": (Decimal, Decimal("NaN")),
    "bool of a decimal": (Decimal, True),
    "beyond its limits": (Annotated[int, Field(gt=5)], 1),
}


@pytest.mark.parametrize("hint, value", WRONG.values(), ids=WRONG)
async def test_a_result_of_another_type_fails_the_run(sqlite_url, hint, value):
    """A result that is not of the annotated type fails the run, also one that could be made so."""
    function = gives(hint, value)

    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        with pytest.raises(RunFailed) as caught:
            await client.result("run")

    assert caught.value.failure.type in ("Misuse", "NotEncodable")
    assert "give()" in caught.value.failure.message
    assert "s3cret" not in caught.value.failure.message


RIGHT: dict[str, tuple[Any, Any]] = {
    "int for a float": (float, 5),
    "int for a float in a list": (list[float], [5]),
    "bool for an int": (int, True),
    "tuple for a list without a type": (list, (1, 2)),
    "tuple in a list without a type": (list, [(1, 2)]),
    "dict subclass": (dict[str, int], OrderedDict(a=1)),
    "enum in any": (dict[str, Any], {"a": Color.RED, "b": UUID(int=1)}),
    "nothing said": (Any, {"a": (1, 2)}),
    "named tuple without a type": (Any, [Point(1, 2)]),
}


@pytest.mark.parametrize("hint, value", RIGHT.values(), ids=RIGHT)
async def test_what_counts_as_the_same(sqlite_url, hint, value):
    """An int for a float, a subclass of a plain type, and what has no type, come back as JSON."""
    function = gives(hint, value)

    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        came = await client.result("run")

    assert came == to_jsonable_python(value)


MEANT: dict[str, tuple[Any, Any, Any]] = {
    "int for a float or text": (float | str, 1, 1.0),
    "ints in a dict": (dict[str, float | str], {"a": 1, "b": "1"}, {"a": 1.0, "b": "1"}),
    "tuple for a list": (list[int], (1, 2), [1, 2]),
    "list for a tuple": (tuple[str, ...], ["a"], ("a",)),
    "list for a tuple in a field": (Line, Line(["a"]), Line(("a",))),  # type: ignore[arg-type]
    "int for a decimal in a field": (
        Line,
        Line(("a",), 2),  # type: ignore[arg-type]
        Line(("a",), Decimal(2)),
    ),
    "int for a decimal": (Decimal, 0, Decimal(0)),
    "long int for a decimal": (Decimal, 10**30, Decimal(10**30)),
    "member for a text": (str | None, Status.OPEN, "open"),
    "members for texts": (list[str], [Status.OPEN], ["open"]),
    "member for a key": (dict[str, int], {Status.OPEN: 1}, {"open": 1}),
    "member for an int": (list[int], [Size.S], [1]),
    "members in a set": (set[str], {Status.OPEN}, {"open"}),
    "set for a frozenset": (frozenset[int], {1, 2}, frozenset({1, 2})),
    "frozenset for a set": (set[int], frozenset({1, 2}), {1, 2}),
    "ints in a set of floats": (set[float], {1, 2.5}, {1.0, 2.5}),
}


@pytest.mark.parametrize("hint, value, meant", MEANT.values(), ids=MEANT)
async def test_what_means_the_type(sqlite_url, hint, value, meant):
    """A value that a program gives in the place of the annotated one comes back as of that type."""
    gives_it, takes_it = gives(hint, value), takes(hint)

    seen.clear()
    async with connect(sqlite_url) as client, client.work([gives_it, takes_it], options=QUICK):
        await client.start(gives_it, id="gives")
        seen.append(await client.result("gives", gives_it))
        await client.start(takes_it, value, id="takes")
        await client.result("takes")

    assert [_shown(each) for each in seen] == [_shown(meant)] * 2


async def test_which_fields_were_set(store_url):
    """A field that was not set comes back as not set; one that was set comes back as set."""
    patches = [Patch(name="x"), Patch(email=None), Patch(name="", tags=[]), Patch(rawText=b"\xff")]
    function = takes(list[Patch])

    seen.clear()
    async with connect(store_url) as client, client.work([function], options=QUICK):
        await client.start(function, patches, id="run")
        await client.result("run")

    assert seen == [patches]
    assert [each.model_fields_set for each in seen[0]] == [
        each.model_fields_set for each in patches
    ]


def test_a_default_that_is_made_anew_is_kept():
    """What a factory or a process has made is recorded; what is constant is left out."""
    function = takes(Order)
    order = Order(patch=Patch(name="x"))
    text = function.encode_arguments((order,), {})
    back = function.decode_arguments(text)["it"]

    assert back == order
    assert back.patch.model_fields_set == {"name"}
    assert decode(text)["it"] == {
        "patch": {"name": "x"},
        "shop": {"id": str(order.shop.id)},
        "since": order.since.isoformat().replace("+00:00", "Z"),
        "id": str(order.id),
        "day": order.day.isoformat(),
    }


def test_a_default_that_was_changed_in_place_is_kept():
    """What stands in a field that was not set is recorded where it is not the default."""
    function = takes(Patch)
    patch = Patch(name="x")
    patch.tags.append("new")

    assert function.decode_arguments(function.encode_arguments((patch,), {}))["it"] == patch


class Other:
    """A thing that has nothing of a `Number`, so that no form of one can be made of it."""


REASONS: dict[str, tuple[Any, Any, str]] = {
    "not a number": (Decimal, Decimal("NaN"), "return is Decimal: Input should be a finite number"),
    "limit": (Annotated[int, Field(gt=5)], 1, "return is int: Input should be greater than 5"),
    "field": (Number, Number("1.5", 1), "return.x is str and would come back as float"),  # type: ignore[arg-type]
    "item": (list[int], [1, "2"], "return[1] is str and would come back as int"),
    "unreadable": (list[int], ["a"], "return.0 is str: Input should be a valid integer"),
    "another class": (Number, Other(), "is not of the annotated type Number: return is Other"),
}


@pytest.mark.parametrize("hint, value, reason", REASONS.values(), ids=REASONS)
def test_a_refusal_says_the_reason(hint, value, reason):
    """What is refused is told by its place, its type and the reason."""
    with pytest.raises(Misuse) as caught:
        gives(hint, value).encode_result(value)

    assert reason in str(caught.value)
    assert "serializer warnings" not in str(caught.value)


async def test_what_older_journals_hold_reads_on():
    """Forms in which values were recorded before are read, and made again where they read back."""
    function = takes(dict[str, datetime])
    assert function.encode_arguments(({"a": NOON},), {}) == '{"it":{"a":"2026-01-01T12:00:00Z"}}'
    assert takes(Base).encode_arguments((Base(1),), {}) == '{"it":{"a":1}}'
    assert takes(Blob).encode_arguments((Blob(b"ab"),), {}) == '{"it":{"data":"ab"}}'
    assert takes(Populated).encode_arguments((Populated(userName="a"),), {}) == (
        '{"it":{"user_name":"a"}}'
    )
    assert takes(Strict).decode_arguments('{"it":{"a":1}}') == {"it": Strict(a=1)}
    assert takes(set[int]).encode_arguments(({1, 2},), {}) == '{"it":[1,2]}'


def test_what_a_value_holds_twice_in_one_form():
    """What cannot be kept in one form is kept whole in another: all of a value has one form."""
    text = takes(list[Decimal | str]).encode_arguments(([Decimal("1.0"), "1.0"],), {})

    assert decode(text) == {"it": [Decimal("1.0"), "1.0"]}


async def test_a_long_result(store_url):
    """A result of some megabytes is written and checked beside the loop, and reads back."""
    value = [Inner(NOON, Decimal(n)) for n in range(20_000)]
    function = gives(list[Inner], value)

    async with connect(store_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        assert await client.result("run", function) == value


async def test_a_signal_that_is_no_json(sqlite_url):
    """A signal's value that JSON cannot hold is refused where it is sent, its place named."""
    async with connect(sqlite_url) as client:
        function = gives(None, None)
        await client.start(function, id="run")
        with pytest.raises(NotEncodable, match=r"value\['who'\] is object"):
            await client.signal("run", "go", {"who": object()})
        with pytest.raises(NotEncodable, match="is SecretStr"):
            await client.signal("run", "go", SecretStr("s3cret"))


async def test_a_wrong_result_names_what_was_said(sqlite_url):
    """The error says what was returned, what the function says it returns, and what to do."""
    function = gives(int, "nope")

    async with connect(sqlite_url) as client, client.work([function], options=QUICK):
        await client.start(function, id="run")
        with pytest.raises(
            RunFailed, match=r"give\(\) returned a str and says .* int; return that"
        ):
            await client.result("run")
        with pytest.raises(Misuse):
            function.encode_result("nope")


def test_zones_are_moments():
    """Two zones of one moment are the same; two moments are not."""
    one = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    text = takes(datetime).encode_arguments((one,), {})

    assert takes(datetime).decode_arguments(text)["it"] == one
