"""What a call cost, from the price list that genai-prices carries. Nothing is fetched.

Invariant: an unknown price is None, never 0: not for a model the list does not know, nor for usage
that cannot be. The list is large and loads when the first price is asked for; an adapter asks
while it connects, away from the event loop.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from substrate.models.frame import canonical
from substrate.models.messages import Json, ReplyPart, Request, Usage, recorded
from substrate.values.codec import encode


def priced(
    usage: Usage,
    provider: str | None,
    model: str,
    tier: str | None = None,
    *,
    address: str | None = None,
    billed: float | str | None = None,
) -> Usage:
    """Return the usage with what it cost in US dollars.

    `tier` is the service tier that the provider says it served, where tiers have prices. A server
    whose provider has no name here is looked up by its `address`. What a gateway says that it
    `billed` is taken as it is.
    """
    if billed is not None:
        return replace(usage, cost_usd=Decimal(str(billed)))
    return replace(usage, cost_usd=_cost(usage, provider, model, tier, address))


def priced_at(usage: Usage, read: float, written: float) -> Usage:
    """Return the usage at so many dollars for a million tokens read, and for one written."""
    per_token = (Decimal(str(each)) / 1_000_000 for each in (read, written))
    costs = zip((usage.input_tokens, usage.output_tokens), per_token, strict=True)
    return replace(usage, cost_usd=sum((n * each for n, each in costs), Decimal(0)))


def estimated(
    request: Request,
    parts: Sequence[ReplyPart],
    provider: str | None,
    model: str,
    address: str | None = None,
) -> Usage:
    """Return usage where nobody counted: four characters are a token."""
    usage = Usage(
        input_tokens=tokens(canonical(request)),
        output_tokens=tokens([recorded(part) for part in parts]),
    )
    return priced(usage, provider, model, address=address)


def tokens(said: Json) -> int:
    """Return about how many tokens a JSON value makes: four characters each."""
    return len(encode(said)) // 4


def context_window(provider: str, model: str) -> int | None:
    """Return how many tokens a model holds, or None where the list does not say."""
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    try:
        return calc_price(Tokens(), model, provider_id=provider).model.context_window
    except (LookupError, ValueError):
        return None


def load(provider: str) -> None:
    """Load the price list, so that the first reply does not wait for it."""
    _cost(Usage(), provider, "", None, None)


def _cost(
    usage: Usage, provider: str | None, model: str, tier: str | None, address: str | None
) -> Decimal | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    counted = Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
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
