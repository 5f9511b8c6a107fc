"""What is one fact and what are two: how it is written is forgiven, and never what it says."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from substrate import Context, connect, durable
from substrate.memory.canonical import folded, object_key
from tests.runs import QUICK
from tests.stores import database

ALIKE: list[tuple[Any, ...]] = [
    ("Kiel", "KIEL", " kiel ", "\uff2b\uff49\uff45\uff4c"),
    ("Café au lait", "cafe\u0301  AU\tlait"),
    (1, 1.0, Decimal(1), Decimal("1.00")),
    (0.1, Decimal("0.1"), Decimal("0.10")),
    ("5 km", "5km", "5 Kilometers", "+5 kilometre"),
    ("5.000 km", "5000 m", "5000 Meters"),
    ("1.5 kg", "1.5 kilograms"),
    ("-3 °C", "\u22123 Celsius", "-3°C"),
    ("20 \u00b5m", "20 \u03bcm", "20 micrometers"),
    ("20 %", "20%", "20 Percent"),
    ("12 €", "12 EUR", "12 euros"),
    ("2 hours", "2 h", "2 Hour"),
    ("29 November 2026", "Nov 29, 2026", "november 29th 2026", "29. Nov. 2026", "2026-11-29"),
    (date(2026, 11, 29), "2026-11-29"),
    (
        "2026-11-29T10:00:00Z",
        "2026-11-29 11:00:00+01:00",
        "2026-11-29t10:00z",
        datetime(2026, 11, 29, 10, tzinfo=UTC),
        datetime(2026, 11, 29, 12, tzinfo=timezone(timedelta(hours=2))),
    ),
    ({"since": "2026-11-29", "in": "Kiel"}, {"in": "KIEL", "since": "29 November 2026"}),
]
"""Each line is said in several ways."""

APART: list[tuple[Any, Any]] = [
    ("5 km", "5000 m"),
    ("5 km", "5.0 km"),
    ("5 kg", "5.0 kg"),
    ("5 mW", "5 MW"),
    ("it takes 5 mW", "it takes 5 MW"),
    ("8 Mb", "8 MB"),
    ("1000 B", "1.000 kB"),
    ("60 min", "1 h"),
    ("5 $", "5 USD"),
    ("1,000 m", "1.000 m"),
    ("10² m", "102 m"),
    ("x²", "x2"),
    ("½", "1/2"),
    ("aB3xY", "ab3xy"),
    ("https://a.example/Abc", "https://a.example/abc"),
    ("Maße", "Masse"),
    ("11/12/2026", "12/11/2026"),
    ("11/12/2026", "2026-11-12"),
    ("2026-11", "2026-11-01"),
    ("29 November 2026", "29 December 2026"),
    ("2026-11-12", "2026-12-11"),
    ("31 June 2026", "1 July 2026"),
    ("2026-11-29T10:00:00", "2026-11-29T10:00:00Z"),
    ("2026-11-29T10:00:00.1234567Z", "2026-11-29T10:00:00.1234568Z"),
    (datetime(2026, 11, 29, tzinfo=UTC), date(2026, 11, 29)),
    (Decimal("0.1"), Decimal("0.10000000000000000001")),
    (2**53, 2**53 + 1),
    (1, True),
    (1, "1"),
    (None, "null"),
    ("", None),
    (["a", "b"], ["b", "a"]),
    ({"a": 1}, {"A": 1}),
]
"""Both of each are said in nearly the same way."""


@pytest.mark.parametrize("said", ALIKE, ids=lambda said: str(said[0])[:40])
def test_the_same_is_one_fact(said):
    """What differs only in how it is written has one canonical form."""
    assert len({object_key(each) for each in said}) == 1


@pytest.mark.parametrize("one, other", APART, ids=lambda said: str(said)[:40])
def test_another_is_another_fact(one, other):
    """What may mean something else has a canonical form of its own."""
    assert object_key(one) != object_key(other)


NUMBERS = st.from_regex(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,4})?", fullmatch=True)


@given(NUMBERS, NUMBERS, st.sampled_from(["", "k", "m"]), st.sampled_from(["", "k", "m"]))
def test_amounts_are_one_where_they_are_as_exact(one, other, left, right):
    """Two lengths are one fact if they are the same amount, and have as many digits that count."""
    powers = {"": 0, "k": 3, "m": -3}
    a, b = (Decimal(n).scaleb(powers[p]) for n, p in ((one, left), (other, right)))
    is_one = a.as_tuple() == b.as_tuple()
    assert (object_key(f"{one} {left}m") == object_key(f"{other} {right}m")) == is_one


@given(st.dates(min_value=date(1000, 1, 1)), st.dates(min_value=date(1000, 1, 1)))
def test_days_are_one_where_they_are_the_same_day(one, other):
    """However a day is written, it is one fact with itself alone."""
    written = [f"{one:%d} {one:%B} {one.year}", f"{one:%b} {one.day}, {one.year}", one.isoformat()]
    assert len({object_key(each) for each in written}) == 1
    assert (object_key(written[0]) == object_key(f"{other:%B} {other.day} {other.year}")) == (
        one == other
    )


ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda off: timezone(off - timedelta(microseconds=off.microseconds))
)
MOMENTS = st.datetimes(timezones=ZONES)


@given(MOMENTS, MOMENTS)
def test_moments_are_one_where_they_are_the_same(one, other):
    """A moment is one fact in every time zone, as text and as itself, and with no other moment."""
    try:
        same = one.astimezone(UTC)
    except OverflowError:  # it is before the year 1 there, or after 9999
        same = one
    assert len({object_key(each) for each in (one, same, one.isoformat(), str(one))}) == 1
    assert (object_key(one) == object_key(other)) == (one == other)


@given(st.one_of(st.text(), st.floats(), st.decimals(), st.integers(), st.datetimes()))
def test_any_value_has_a_form(value):
    """Each value has a canonical form, always the same one, and so has each name."""
    assert object_key(value) == object_key(value)
    assert folded(folded(str(value))) == folded(str(value))


@given(st.integers(), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_one_where_they_are_equal(whole, number):
    """Numbers are one fact if they are equal, to the last digit, and else two."""
    assert (object_key(number) == object_key(whole)) == (number == whole)


@durable
async def measure(ctx: Context, said: str) -> None:
    await ctx.memory("acme/road").remember("the road", "is long", said)


async def test_sources_are_added(store_url):
    """Who says the same in other words is one source more, and who says it more exactly is not."""
    async with connect(store_url) as client, client.work([measure], options=QUICK):
        for i, said in enumerate(["5.0 km", "5.0 Kilometers", "5.000 km", "5000 m"]):
            await client.start(measure, said, id=f"m-{i}")
            await client.result(f"m-{i}")
    with database(store_url) as db:
        found = db.rows("SELECT count(*) FROM facts GROUP BY doc ORDER BY doc")
    assert found == [(2,), (2,)]
