"""What a call cost, from the price list that genai-prices carries. Nothing is fetched.

Invariant: an unknown price is None, never 0: not for a model the list does not know, nor for usage
that cannot be. The list is large and loads when the first price is asked for; an adapter asks
while it connects, away from the event loop.
"""

from dataclasses import replace
from decimal import Decimal

from substrate.models.messages import Usage


def priced(usage: Usage, provider: str, model: str, tier: str | None = None) -> Usage:
    """Return the usage with what it cost in US dollars.

    `tier` is the service tier that the provider says it served, where tiers have prices.
    """
    return replace(usage, cost_usd=_cost(usage, provider, model, tier))


def load(provider: str) -> None:
    """Load the price list, so that the first reply does not wait for it."""
    _cost(Usage(), provider, "", None)


def _cost(usage: Usage, provider: str, model: str, tier: str | None) -> Decimal | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    tokens = Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        return calc_price(
            tokens,
            model,
            provider_id=provider,
            price_context={"service_tier": tier} if tier else None,
        ).total_price
    except (LookupError, ValueError):  # no such model, or more cached than was sent
        return None
