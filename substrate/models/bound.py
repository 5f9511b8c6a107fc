"""How much a call may cost before it is made, and how long its answer may be to keep that.

A call costs what it reads and what it writes. The first is estimated (see `tokens`), the second is
at most the longest answer that it is asked for. So a call that has an `Allowance` is asked for no
longer an answer than that pays for, and is not made where it pays for none.

Invariants: what is put into a cache is dearer than what is read on, and nobody knows before how
much that is, so it is taken to be all; a price that is not known bounds nothing in dollars.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from substrate.models.allowance import Allowance
from substrate.models.messages import Json, Reply, Usage
from substrate.models.request import Request
from substrate.models.tokens import estimate, estimate_of
from substrate.values.errors import ModelError, Unaffordable

LEAST_OUTPUT = 16
"""No answer is asked for that has room for fewer tokens: some providers refuse that."""

LONGEST_OUTPUT = 131_072
"""No model writes more tokens than these in one answer, so nobody is held to as many."""

LIMIT_SETTINGS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
"""The settings that limit an answer in place of ours, by their providers' names."""

_MILLION = 1_000_000
_TOO_LONG = re.compile(r"max\w*[ _]?tokens|maximum context", re.IGNORECASE)
_TOO_SHORT = re.compile(r"at least|greater|minimum|>=", re.IGNORECASE)

Priced = Callable[[Usage], Usage]
"""Gives a usage its cost."""


def within(request: Request, provider: str, priced: Priced) -> Request:
    """Return the request for no longer an answer than its allowance pays for.

    Raises `Unaffordable` where it pays for none.
    """
    allowed = request.allowance
    if allowed is None:
        return request
    longest = longest_output(request, allowed, provider, priced)
    own = own_limit(request)
    if longest >= (LONGEST_OUTPUT if own is None else own):
        return request
    settings = {key: each for key, each in request.settings.items() if key not in LIMIT_SETTINGS}
    return replace(request, max_output_tokens=longest, settings=settings)


def longest_output(request: Request, allowed: Allowance, provider: str, priced: Priced) -> int:
    """Return how many tokens may be written in a call that may use this; `Unaffordable` for none.

    No more than `LONGEST_OUTPUT`.
    """
    read = _read(request, allowed, provider)
    room = LONGEST_OUTPUT
    if allowed.tokens is not None:
        room = min(room, allowed.tokens - read)
    if allowed.usd is not None:
        room = min(room, _room(allowed.usd, read, priced))
    if allowed.is_used_up or room < _least(request.settings):
        raise Unaffordable(f"what is left of the budget, {allowed}, does not pay for a call")
    return room


def own_limit(request: Request) -> int | None:
    """Return the longest answer that the model's own settings ask for; None where they do not."""
    if request.max_output_tokens is not None:
        return request.max_output_tokens
    given = (request.settings.get(each) for each in LIMIT_SETTINGS)
    return next((each for each in given if isinstance(each, int)), None)


def says_too_long(error: ModelError) -> bool:
    """Whether a model was refused since it cannot write as long an answer as it was asked for."""
    said = f"{error} {error.body or ''}"
    return _TOO_LONG.search(said) is not None and _TOO_SHORT.search(said) is None


def _read(request: Request, allowed: Allowance, provider: str) -> int:
    """Return about how many tokens a call reads."""
    if allowed.counted is None:
        return estimate(request, provider)
    # All up to the last reply was read once, and counted; that takes no walk through all of it.
    read = allowed.counted
    for message in reversed(request.messages):
        read += estimate_of(message, provider)
        if isinstance(message, Reply):
            break
    return read


def _least(settings: Mapping[str, Json]) -> int:
    """Return what the shortest answer takes: more than the thinking that the settings ask for."""
    thinking = settings.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return LEAST_OUTPUT + (budget if isinstance(budget, int) else 0)


def _room(usd: Decimal, read: int, priced: Priced) -> int:
    """Return how many tokens may be written for so much once the request is read."""
    reading = priced(Usage(read)).cost_usd
    writing = priced(Usage(read, _MILLION)).cost_usd
    if reading is None or writing is None:
        return LONGEST_OUTPUT
    caching = priced(Usage(read, cache_write_tokens=read)).cost_usd
    left, per_million = usd - max(reading, caching or reading), writing - reading
    if left < 0 or per_million <= 0:
        return -1 if left < 0 else LONGEST_OUTPUT
    return int(min(left * _MILLION / per_million, Decimal(LONGEST_OUTPUT)))
