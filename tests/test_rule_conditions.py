"""A condition of a rule lets nothing through that it cannot judge, whatever the arguments are."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from substrate.agent.rule_condition import RuleCondition
from substrate.agent.rules import (
    Judged,
    judge,
    judged_arguments,
    judged_by_schema,
    read_rule,
)
from substrate.agent.tool import tool
from substrate.values.errors import Misuse
from substrate.values.ids import RunId

NAN = float("nan")


def moment(hour: int, minute: int, hours: int = 0) -> datetime:
    """Return a moment of Christmas Eve in a zone so many hours from Greenwich."""
    return datetime(2026, 12, 24, hour, minute, tzinfo=timezone(timedelta(hours=hours)))


class Money(BaseModel):
    """An amount that has several names, and perhaps more fields."""

    model_config = ConfigDict(populate_by_name=True, extra="allow")

    cents: int = Field(alias="amount", serialization_alias="sum")


@dataclass
class Point:
    """A point."""

    x: Decimal


@pytest.mark.parametrize(
    "text, arguments, holds",
    [
        ("cents < 2000", {"cents": 1999}, True),
        ("cents < 2000", {"cents": 2000}, False),
        ("cents <= 2000", {"cents": Decimal("2000.00")}, True),
        ("cents = 0.1", {"cents": Decimal("0.1")}, True),
        ("cents < 2000", {"cents": "1"}, None),
        ("cents < 2000", {"cents": True}, None),
        ("cents < 2000", {"cents": NAN}, None),
        ("cents > 2000", {"cents": Decimal("NaN")}, None),
        ("cents = 2000", {"cents": Decimal("sNaN")}, None),
        ("cents != 2000", {"cents": NAN}, None),
        ("cents > 2000", {"cents": 10**5000}, True),
        ("cents > 2000", {"cents": float("inf")}, True),
        ("cents < 2000", {"cents": None}, None),
        ("cents = null", {"cents": None}, True),
        ("cents != 3", {"cents": None}, True),
        ("cents < 2000", {"cents": [1]}, None),
        ("cents < 2000", {}, False),
        ("x.y = 1", {"x": {"y": 1}}, True),
        ("x.y = 1", {"x": {"a": 1}}, None),
        ("x.y != 1", {"x": {"a": 1}}, None),
        ("x.y != 1", {"x": 5}, None),
        ("x.y != 1", {"x": None}, None),
        ("x.y > 1", {"x": [{"y": 5}]}, None),
        ("x.0.y > 1", {"x": [{"y": 5}]}, True),
        ("x.3.y > 1", {"x": [{"y": 5}]}, None),
        ('s starts "/srv/"', {"s": "/srv/x"}, True),
        ('s starts "/srv/"', {"s": 3}, None),
        ('s has "x"', {"s": "axb"}, True),
        ('s has "x"', {"s": ["x"]}, True),
        ('s has "x"', {"s": [1]}, None),
        ('c in ["EUR", "CHF"]', {"c": "EUR"}, True),
        ('c in ["EUR", "CHF"]', {"c": "USD"}, False),
        ('c in ["EUR", 1]', {"c": "USD"}, None),
        ("a = 1 and b = 2", {"a": 1, "b": 2}, True),
        ("a = 1 and b = 2", {"a": 1, "b": "2"}, None),
        ("a = 1 and b = 2", {"a": 3, "b": "2"}, False),
        ("", {}, True),
        ("due < 2026-12-24", {"due": date(2026, 12, 23)}, True),
        ("due < 2026-12-24", {"due": date(2026, 12, 24)}, False),
        ("due = 2026-12-24", {"due": date(2026, 12, 24)}, True),
        ("due < 2026-12-24T10:00:00Z", {"due": date(2026, 12, 23)}, None),
        ("due < 20261224", {"due": date(2026, 12, 23)}, None),
        ("due < soon", {"due": date(2026, 12, 23)}, None),
        ("due != null", {"due": date(2026, 12, 23)}, True),
        ('due in ["2026-12-23", "2026-12-24"]', {"due": date(2026, 12, 24)}, True),
        ('due starts "2026-12"', {"due": date(2026, 12, 24)}, True),
        ('days has "2026-12-24"', {"days": [date(2026, 12, 24)]}, True),
        ("at < 2026-12-24T10:00:00+01:00", {"at": moment(8, 59)}, True),
        ("at < 2026-12-24T10:00:00+01:00", {"at": moment(9, 30)}, False),
        ("at < 2026-12-24T10:00:00+01:00", {"at": moment(4, 30, hours=-5)}, False),
        ("at = 2026-12-24T10:00:00+01:00", {"at": moment(4, 0, hours=-5)}, True),
        ("at < 2026-12-24T10:00:00", {"at": moment(8, 0)}, None),
        ("at < 2026-12-24T10:00:00", {"at": moment(8, 0).replace(tzinfo=None)}, True),
        ("at <= 2026-12-24", {"at": moment(23, 59)}, True),
        ("at <= 2026-12-23", {"at": moment(0, 1, hours=9)}, False),
        ("at = 2026-12-24", {"at": moment(0, 1, hours=9)}, True),
        ("opens < 09:05", {"opens": time(9)}, True),
        ("opens < 09:05+01:00", {"opens": time(9)}, None),
        ("lasts <= PT5M", {"lasts": timedelta(minutes=5)}, True),
        ("lasts <= 300", {"lasts": timedelta(minutes=5)}, None),
        ("note < 2026-12-24", {"note": "2026-1"}, True),
    ],
)
def test_a_condition(text: str, arguments: Any, *, holds: bool | None) -> None:
    """It holds, does not, or cannot be judged."""
    assert RuleCondition.parse(text).holds(arguments) is holds


@pytest.mark.parametrize(
    "text",
    [
        "cents <",
        "= 3",
        "cents < 3 or x = 1",
        "x = 1 and",
        "x in 3",
        "x in [1,",
        "x < true",
        'x = "a',
        "x == 3",
        "x = 1 y = 2",
        "and x = 1",
        "x starts 3",
        "x.",
        "é = 1",
    ],
)
def test_what_is_no_condition(text: str) -> None:
    """It is refused where it is written."""
    with pytest.raises(Misuse):
        RuleCondition.parse(text)


@pytest.mark.parametrize("name", ["cents", "amount", "sum", "tip"])
@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_a_field_by_each_of_its_names(name: str, verdict: str) -> None:
    """A field of a model is found by its name and its aliases, and one that is extra by its own."""
    money = Money.model_validate({"amount": 5000, "tip": 5000})
    arguments = judged_arguments({"money": money})
    rule = read_rule(f"{verdict} refund where money.{name} > 100", by="ada", now=1)
    call = Judged("refund", arguments, RunId("a"), "agent", 1)
    assert judge([rule], call) == rule


def test_a_dataclass() -> None:
    """Its fields are found as those of a model are."""
    assert judged_arguments({"at": Point(Decimal("3.5"))}) == {"at": {"x": Decimal("3.5")}}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside),
    max_leaves=5,
)


@given(VALUES, st.sampled_from(["x", "x.y", "x.0"]), st.sampled_from(["=", "!=", "<", ">"]))
def test_what_no_comparison_answers(value: Any, field: str, op: str) -> None:
    """Whatever the argument is, a rule that cannot be judged denies, and does not allow."""
    condition = f"{field} {op} 7"
    call = Judged("refund", {"x": value}, RunId("a"), "agent", 1)
    allowed = judge([read_rule(f"allow refund where {condition}", by="a", now=1)], call)
    denied = judge([read_rule(f"deny refund where {condition}", by="a", now=1)], call)
    if RuleCondition.parse(condition).holds({"x": value}) is None:
        assert allowed is None
        assert denied is not None
    else:
        assert (allowed is None) == (denied is None)


@tool(approve=True)
def book(at: datetime, until: date | None = None) -> str:
    """Book a room."""
    return "booked"


@pytest.mark.parametrize(
    "text, speaks",
    [
        ("deny book where at < 2026-12-24T10:00:00+01:00", False),
        ("deny book where at < 2026-12-24T11:00:00+01:00", True),
        ("deny book where until > 2026-12-31", False),
        ("deny book where until >= 2026-12-31", True),
    ],
)
def test_dates_of_a_tool(text: str, *, speaks: bool) -> None:
    """They are compared as its types say, and by its schema where its code is not there."""
    given = {"at": "2026-12-24T04:30:00-05:00", "until": "2026-12-31"}
    rule = read_rule(text, by="ada", now=1)
    for arguments in (
        judged_arguments(book.check(given)),
        judged_by_schema(given, book.spec.parameters),
    ):
        call = Judged("book", arguments, RunId("a/1"), "agent", 2)
        assert (judge([rule], call) is rule) is speaks
