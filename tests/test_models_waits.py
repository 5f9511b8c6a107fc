"""Whatever way a provider says how long to wait, that is how long we wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from substrate.models.limits.headers import (
    LONGEST_WAIT_S,
    RemainingLimit,
    allowances,
    go_duration,
    retry_after,
)

NOW = datetime(2026, 11, 20, 11, 36, 7, tzinfo=UTC)
DATED = {"date": "Fri, 20 Nov 2026 11:36:07 GMT"}
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def gemini(delay: object, message: str = "Quota exceeded.") -> dict:
    """Return an error body with a google.rpc.RetryInfo."""
    details = [{"@type": "type.googleapis.com/google.rpc.Help"}]
    details.append({"@type": RETRY_INFO, "retryDelay": delay})
    return {"error": {"code": 429, "message": message, "details": details}}


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("1s", 1),
        ("6m0s", 360),
        ("840ms", 0.84),
        ("59.9s", 59.9),
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("45.837906927s", 45.837906927),
        ("10h17m5.72s", 37025.72),
        ("1h", 3600),
        ("0s", 0),
        ("", None),
        (None, None),
        ("soon", None),
        ("12", None),
        ("1m2", None),
        ("-3s", None),
    ],
)
def test_durations(text, seconds):
    """A duration is read as Go and protobuf write it."""
    assert go_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "headers, body, seconds",
    [
        ({}, {}, None),
        ({"retry-after": "7"}, {}, 7),
        ({"retry-after": "0.5"}, {}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "6500"}, {}, 6.5),
        ({"retry-after": "7", "retry-after-ms": "soon"}, {}, 7),
        ({"retry-after": "soon"}, {}, None),
        ({"retry-after": "Fri, 20 Nov 2026 11:36:37 GMT", **DATED}, {}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 11:36:37 GMT"}, {}, 30),
        (
            {
                "retry-after": "Fri, 20 Nov 2026 12:00:00 GMT",
                "date": "Fri, 20 Nov 2026 11:59:50 GMT",
            },
            {},
            10,
        ),
        ({"retry-after": "Fri, 20 Nov 2015 11:36:37 GMT"}, {}, 0),
        ({}, gemini("58s"), 58),
        ({}, gemini("45.837906927s"), 45.837906927),
        ({}, gemini(None, "Please retry in 58.934310785s."), 58.934310785),
        ({}, gemini("9s", "Please retry in 10h17m5.72s."), 37025.72),
        ({"retry-after": "2"}, gemini("58s"), 58),
        ({"retry-after": "60"}, gemini("58s"), 60),
        ({}, {"message": "Limit 6000. Please try again in 7.66s. Visit us."}, 7.66),
        ({}, {"message": "Please try again in 6m0s."}, 360),
        ({}, "try again in 840ms", 0.84),
        ({}, {"message": "Please try again in a moment."}, None),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7.66s",
                "x-ratelimit-remaining-requests": "14",
                "x-ratelimit-reset-requests": "2m59.56s",
            },
            {},
            7.66,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-20T11:36:19Z",
                "anthropic-ratelimit-requests-remaining": "9",
                "anthropic-ratelimit-requests-reset": "2026-11-20T12:36:07Z",
            },
            {},
            12,
        ),
        (
            {
                "retry-after": "3",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7.66s",
            },
            {},
            3,
        ),
    ],
)
def test_what_is_asked(headers, body, seconds):
    """Headers, details and prose are read; the longer of two counts, resets where nothing does."""
    expected = None if seconds is None else pytest.approx(seconds)
    assert retry_after(headers, body, NOW) == expected


def test_allowances():
    """What is left of each limit is read from either family of headers, and nothing by half."""
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
        "anthropic-ratelimit-output-tokens-remaining": "400",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-20T11:36:17+00:00",
        "anthropic-ratelimit-tokens-remaining": "17",
        **DATED,
    }

    assert allowances(headers, NOW) == [
        RemainingLimit("output-tokens", 400, None, 10.0),
        RemainingLimit("requests", 14370, 14400, pytest.approx(179.56)),
    ]


words = some.text(max_size=12)
dates = some.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT"))
stamps = some.datetimes().map(lambda when: when.isoformat())
NAMES = [
    *("retry-after", "retry-after-ms", "date"),
    *("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"),
    *("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
]
json_values = some.recursive(
    some.none() | some.integers() | words,
    lambda each: some.lists(each, max_size=3) | some.dictionaries(words, each, max_size=3),
    max_leaves=6,
)


@given(
    some.dictionaries(some.sampled_from(NAMES), words | dates | stamps | some.just("0")),
    json_values | words.map(gemini) | words.map(lambda said: gemini("1s", f"retry in {said}")),
)
def test_anything_can_be_read(headers, body):
    """Whatever a server writes, the wait is one that can be waited, or none."""
    wait = retry_after(headers, body, NOW)

    assert wait is None or timedelta(0) <= timedelta(seconds=wait) <= timedelta(days=31)


@pytest.mark.parametrize("text", ["1e300", "99999999999", "-3", "nan", "inf", "-inf", "9" * 400])
def test_strange_numbers(text):
    """A wait that nobody can mean is bounded, or counts as not said."""
    assert retry_after({"retry-after": text}, {}, NOW) in (None, 0.0, LONGEST_WAIT_S)
    assert retry_after({}, gemini(f"{text}s"), NOW) in (None, 0.0, LONGEST_WAIT_S)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": str(int(NOW.timestamp()) + 90)},
        {"retry-after": str((int(NOW.timestamp()) + 90) * 1000)},
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": str(int(NOW.timestamp()) + 90),
        },
    ],
)
def test_a_moment_in_the_place_of_seconds(headers):
    """A number that can only be a moment is read as one, by the server's clock."""
    late = format_datetime(NOW + timedelta(seconds=30), usegmt=True)

    assert retry_after(headers, {}, NOW) == 90
    assert retry_after({**headers, "date": late}, {}, NOW) == 60
