"""What JSON is made of a value reads back as the value, and nothing else is taken for it."""

import json
import math
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from substrate import Misuse, Retry, WorkerOptions
from substrate.values.clock import seconds_of, to_ms
from substrate.values.codec import LONGEST, decode, encode, is_long
from substrate.values.errors import NotEncodable

HIGH, LOW = "\ud83d", "\ude00"

TEXT = st.text(st.one_of(st.characters(), st.sampled_from([HIGH, LOW, "\0", "$", "\\", '"'])))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=st.just(UTC)).map(lambda when: when.replace(fold=0)),
)
VALUES = st.recursive(
    LEAVES, lambda each: st.lists(each) | st.dictionaries(TEXT, each), max_leaves=20
)


@given(VALUES)
def test_values_read_back(value):
    """Whatever a value holds of what JSON can and cannot say, it reads back as it was."""
    text = encode(value)

    assert decode(text) == value
    assert repr(decode(text)) == repr(_sorted(value))
    assert encode(decode(text)) == text


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in decode(encode(value))}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("text", [HIGH + LOW, LOW + HIGH, HIGH + HIGH + LOW, f"a{HIGH}{LOW}\0"])
def test_two_surrogates_stay_two(text):
    """Two surrogates in a row do not become the one character that they would be in JSON."""
    assert [ord(each) for each in decode(encode(text))] == [ord(each) for each in text]
    assert list(decode(encode({text: 1}))) == [text]


def test_text_written_before_reads_on():
    """Text with lone surrogates in the form of older journals is read as ever."""
    assert decode(r'{"$text":"\\ud83d and \\u0000"}') == "\ud83d and \0"


@pytest.mark.parametrize("nan", [math.nan, math.inf, -math.inf])
def test_nan_beside_none(nan):
    """NaN and infinity are kept wherever they stand, also beside None."""
    for value in (nan, [None, nan], {"a": [1, None, {"b": nan}]}, [[1.0], [None, [nan]]]):
        assert repr(decode(encode(value))) == repr(value)
    assert repr(decode(encode((None, (nan,))))) == repr([None, [nan]])


def test_none_takes_no_slow_path():
    """A value with None in it is written as fast as one without, but for a look for NaN."""
    said = [{"role": "user", "text": "$5 for you", "call": None, "n": 1.5} for _ in range(2000)]

    assert encode(said) == orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
    assert decode(encode(said)) == said


@pytest.mark.parametrize(
    "value, told",
    [
        ({"n": [1, 2**20_000]}, r"value\['n'\]\[1\] is an integer of 20001 bits"),
        (
            [datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))],
            r"value\[0\] is .* outside of the years 1 to 9999",
        ),
        (datetime(2026, 1, 1), "without a time zone"),  # noqa: DTZ001 - that is the misuse
        ({1: "a"}, "text keys only"),
        ({"it": {1, 2}}, r"value\['it'\] is set"),
    ],
)
def test_what_cannot_be_kept(value, told):
    """What JSON cannot hold is refused, and the error says where in the value it is."""
    with pytest.raises(NotEncodable, match=told):
        encode(value)


class Text(str):  # noqa: SLOT000 - as people write them
    def __str__(self) -> str:
        return "another"


class Whole(int):
    def __int__(self) -> int:
        return 9

    __index__ = __int__


class Broken(float):
    def __float__(self) -> float:
        return 9.0


class Price(Decimal):
    def __str__(self) -> str:
        return "9 EUR"


class Day(date):
    def isoformat(self) -> str:
        return "today"


class Nanoseconds(datetime):
    def isoformat(self, *how: Any) -> str:
        return super().isoformat(*how).replace("+00:00", "789+00:00")


@pytest.mark.parametrize(
    "value, plain",
    [
        (Text("a"), "a"),
        ({Text("k"): Text("a\0")}, {"k": "a\0"}),
        (Whole(3), 3),
        (Whole(2**70), 2**70),
        (Broken(1.5), 1.5),
        (Price("2.0"), Decimal("2.0")),
        (Day(2026, 1, 2), date(2026, 1, 2)),
    ],
)
def test_a_subclass_is_kept_by_what_it_is(value, plain):
    """Of a subclass of a plain type its value is kept, whatever its own methods say of it."""
    assert str(decode(encode([value]))) == str([plain])


def test_a_subclass_that_holds_more_is_refused():
    """A datetime of another library that says more than one of Python's is refused, not cut."""
    with pytest.raises(NotEncodable, match="is a Nanoseconds that says more than a datetime holds"):
        encode({"at": Nanoseconds(2026, 1, 1, 1, 2, 3, 123456, tzinfo=UTC)})


def test_an_object_that_cannot_be_shown():
    """A value whose own text raises is refused like any other."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(NotEncodable, match="its __str__ raises RuntimeError"):
        encode([Broken()])


def test_a_value_ends_at_64_mb():
    """A value of more than 64 MB is refused, with its size and where to put it."""
    with pytest.raises(NotEncodable, match=r"is 67 MB of JSON, and a value ends at 67 MB; put it"):
        encode(["x" * LONGEST])
    assert len(encode("x" * (LONGEST - 2))) == LONGEST


@pytest.mark.parametrize(
    "text",
    [
        '{"$text":5}',
        r'{"$text":"a\"b"}',
        '{"$text":[5]}',
        '{"$bytes":"a b"}',
        '{"$bytes":"YQ"}',
        '{"$bytes":null}',
        '{"$int":"1_000"}',
        '{"$int":" 7"}',
        '{"$int":7}',
        '{"$float":"NaN"}',
        '{"$float":"1.5"}',
        '{"$decimal":"1_0"}',
        '{"$decimal":1}',
        '{"$date":"20260101"}',
        '{"$datetime":"2026-01-01T00:00:00"}',
        '{"$datetime":"2026-01-01"}',
        '{"$map":5}',
        '{"$map":[[1,2]]}',
        '{"$map":[["a",1],["a",2]]}',
        '{"$map":[["a"]]}',
        '{"$map":[["a",1]]}',
        '{"$map":[["$b",1],["$a",2]]}',
        '{"$map":[[{"$text":"a"},1],["$",2]]}',
        '{"$text":"plain"}',
        r'{"$text":"\\u0041\\u0000"}',
        r'{"$text":"\\ud83d\\ude00"}',
        r'{"$text":["\\u0000"]}',
        '{"$text":[]}',
        '{"$bytes":"YR=="}',
        '{"$int":"7"}',
        '{"$int":"٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧٧"}',
        '{"$int":"%s"}' % ("9" * 5000),
        '{"$decimal":"1e999999999"}',
        '{"$decimal":"1E+9999999999999999999"}',
        '{"$datetime":"2026-01-01T05:00:00+05:00"}',
        '{"$datetime":"0001-01-01T00:00:00+05:00"}',
        '{"$a":1,"b":2}',
        '{"b":[{"$int":"99999999999999999999","$text":"a"}]}',
        '{"$new":"a"}',
        '{"a" : {"$new" : "a"}}',
    ],
)
def test_tags_are_read_strictly(text):
    """A tag that holds what is never written there is refused, not guessed at."""
    with pytest.raises(ValueError, match="update the kit"):
        decode(text)


@given(st.sampled_from(["$text", "$bytes", "$int", "$decimal", "$date", "$datetime"]), TEXT)
def test_what_is_read_is_what_would_be_written(tag, content):
    """Whatever text a tag holds: it is refused, or is the text that its value is written as."""
    text = orjson.dumps({tag: json.dumps(content)[1:-1]}).decode()
    try:
        value = decode(text)
    except ValueError:
        return
    assert encode(value) == text


def test_texts_that_look_like_tags():
    """A text that looks like a tag, and an object with one, are what they are."""
    for value in ['"$int":', {"a": '{"$int":"5"}'}, {"$int": "5"}, {"$x": 1, "$y": 2}, ['"$"']]:
        assert decode(encode(value)) == value
    assert json.loads(encode({"price": "$5"})) == {"price": "$5"}


def test_keys_that_look_like_tags():
    """A key that begins with a dollar is found whatever its length and what else stands in it."""
    for key in ("$", "$a", "$" + "a" * 99, "$" + "a" * 5000, '$"', "$\\", '$\\":'):
        for value in ({key: 1}, [{"a": {key: [b"x"]}}], {"a": '"$b":', key: "$5"}):
            assert decode(encode(value)) == value


def test_json_in_json_in_json():
    """Text that is JSON with tags itself is written in time that grows with its length only."""
    text = encode([{"raw": b"0123456789" * 5}] * 20_000)
    before = time.process_time()

    assert decode(encode(encode([text, {"a": text}]))) == encode([text, {"a": text}])
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    "value, expected",
    [
        ("x" * 100, False),
        ("x" * 70_000, True),
        ([0] * 20_000, True),
        ([{"a": "x" * 40_000}, {"b": b"y" * 40_000}], True),
        ({"a": [1, 2, 3]}, False),
        (date(2026, 1, 1), False),
        (Decimal(1), False),
    ],
)
def test_long_values_are_told_apart(value, expected):
    """Whether a value is long is known before it is written."""
    assert is_long(value) is expected


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, 1e18, 10**400, timedelta.max, "5", True, None, b"1"]
)
def test_durations_that_are_none(bad):
    """What is no time to wait is refused with a word that says so."""
    with pytest.raises(Misuse, match="is no duration"):
        seconds_of(bad)


def test_durations():
    """A duration is seconds or a timedelta, wherever one is asked for."""
    assert (seconds_of(2), seconds_of(timedelta(minutes=1)), seconds_of(0.5)) == (2.0, 60.0, 0.5)
    assert WorkerOptions(lease=1.0).lease == timedelta(seconds=1)
    assert Retry(initial=0.5, max_delay=60).initial == timedelta(seconds=0.5)
    with pytest.raises(Misuse, match="is no duration"):
        WorkerOptions(poll=math.inf)
    with pytest.raises(Misuse, match="is no duration"):
        Retry(max_delay="60")


class Nothing(Enum):
    AT_ALL = None


@pytest.mark.parametrize("value", [Nothing.AT_ALL, [Nothing.AT_ALL], {"a": (Nothing.AT_ALL,)}])
def test_a_member_that_stands_for_none(value):
    """An enum member whose value is None is written as that, wherever it stands."""
    assert "null" in encode(value)


def test_moments_without_a_zone():
    """A naive datetime is Misuse, as all that a call is refused for."""
    with pytest.raises(Misuse, match=r"has no time zone; use datetime.now\(UTC\)"):
        to_ms(datetime(2027, 1, 1))  # noqa: DTZ001 - that is the misuse
    with pytest.raises(Misuse, match="is no moment"):
        to_ms("2027-01-01")
