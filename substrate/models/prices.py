"""What a call cost, from the price list that genai-prices carries. Nothing is fetched.

Invariants: an unknown price is None, never 0: not for a model the list does not know, nor for usage
that cannot be. What nobody counted is estimated (see `tokens.estimate`). The list is large and
loads when the first price is asked for; an adapter asks while it connects, away from the event
loop.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from math import isfinite

from substrate.models.messages import Json, Usage
from substrate.models.request import Request
from substrate.models.tokens import estimate, tokens


def priced(
    usage: Usage,
    provider: str | None,
    model: str,
    tier: str | None = None,
    *,
    address: str | None = None,
    billed: Json = None,
    hourly_tokens: int = 0,
) -> Usage:
    """Return the usage with what it cost in US dollars.

    `tier` is the service tier that the provider says it served, where tiers have prices. A server
    whose provider has no name here is looked up by its `address`. What a gateway says that it
    `billed` is taken as it is. `hourly_tokens` are those written to a cache that lasts an hour,
    which Anthropic charges more for.
    """
    if isinstance(billed, int | float | str) and (cost := _dollars(billed)) is not None:
        return replace(usage, cost_usd=cost)
    cost = _cost(usage, provider, model, tier=tier, address=address, hourly_tokens=hourly_tokens)
    return replace(usage, cost_usd=cost)


def priced_at(usage: Usage, read: float, written: float) -> Usage:
    """Return the usage at so many dollars for a million tokens read, and for one written."""
    per_token = (Decimal(str(each)) / 1_000_000 for each in (read, written))
    costs = zip((usage.input_tokens, usage.output_tokens), per_token, strict=True)
    return replace(usage, cost_usd=sum((n * each for n, each in costs), Decimal(0)))


def counted(usage: Usage, request: Request, written: Json, provider: str | None = None) -> Usage:
    """Return the usage with an estimate where nobody counted, since nothing is free.

    `written` is what the model wrote, any JSON; `provider` the one whose rules for pictures hold.
    No request is read in 0 tokens, and nothing is written in 0. Input includes what was cached,
    also where a gateway tells them apart.
    """
    read = usage.input_tokens or estimate(request, provider)
    output = usage.output_tokens or (tokens(written) if written else 0)
    return replace(
        usage,
        input_tokens=max(read, usage.cached_tokens + usage.cache_write_tokens),
        output_tokens=output,
    )


def counts_in(record: Json) -> dict[str, Json]:
    """Return what a provider counted, without what it left blank; nothing, if it is no object."""
    return {k: v for k, v in record.items() if v is not None} if isinstance(record, dict) else {}


def number(counts: Json, *path: str) -> int:
    """Return the count at a path of names; 0 where there is none, or what is there is no count."""
    for name in path:
        counts = counts.get(name) if isinstance(counts, dict) else None
    is_count = isinstance(counts, int | float) and isfinite(counts) and counts > 0
    return int(counts) if is_count else 0


def context_window(provider: str, model: str) -> int | None:
    """Return how many tokens a model holds, or None where the list does not say."""
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    try:
        return calc_price(Tokens(), model, provider_id=provider).model.context_window
    except (LookupError, ValueError):
        return None


def per_million(provider: str, model: str) -> tuple[Decimal, Decimal] | None:
    """Return US dollars for a million tokens read and one written; None for an unknown price."""
    million = 1_000_000
    read = _cost(Usage(input_tokens=million), provider, model)
    written = _cost(Usage(output_tokens=million), provider, model)
    return None if read is None or written is None else (read, written)


def known_models(provider: str) -> Sequence[str]:
    """Return the models of a provider that the list knows, by name."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        found = get_snapshot().find_provider(None, provider, None)
    except LookupError:
        return []
    return sorted(model.id for model in found.models)


def load(provider: str) -> None:
    """Load the price list, so that the first reply does not wait for it."""
    _cost(Usage(), provider, "")


def is_loaded() -> bool:
    """Whether the price list is there, so that a price is a look-up."""
    return "genai_prices.data" in sys.modules


def _cost(
    usage: Usage,
    provider: str | None,
    model: str,
    *,
    tier: str | None = None,
    address: str | None = None,
    hourly_tokens: int = 0,
) -> Decimal | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    counted = Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        **({"cache_write_1h_tokens": hourly_tokens} if hourly_tokens else {}),
    )
    context = {"service_tier": tier} if tier else None
    try:
        if provider is not None:
            price = calc_price(counted, model, provider_id=provider, price_context=context)
        elif address is not None:
            price = calc_price(counted, model, provider_api_url=address, price_context=context)
        else:
            return None
    except (LookupError, ValueError):  # no such model, or more cached than was sent
        return None
    return price.total_price


def _dollars(billed: float | str) -> Decimal | None:
    try:
        cost = Decimal(str(billed))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and cost >= 0 else None
