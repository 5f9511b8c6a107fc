"""What a `Model` may be: each check raises `Misuse`, at start-up and not in the night. Pure."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from math import isfinite
from urllib.parse import urlsplit

from substrate.models.parts import Json
from substrate.models.request import OURS
from substrate.values.clock import seconds_of
from substrate.values.errors import Misuse
from substrate.values.near import did_you_mean

LONGEST_PATIENCE = timedelta(days=3650)
"""How long a provider may be waited for at most."""


def check_id(id: str, known: Collection[str]) -> None:
    """See that an id is ``provider:name``, of a provider that is known."""
    provider, colon, name = id.partition(":")
    listed = ", ".join(sorted(known))
    if not colon or not name:
        raise Misuse(f"{id!r} is not a model; write provider:name, provider one of {listed}")
    if provider not in known:
        near = did_you_mean(provider, known) or f"; known are {listed}"
        raise Misuse(f"{id!r}: no provider {provider!r}{near}")


def check_script(id: str, script: object, *, is_scripted: bool) -> None:
    """See that a script is there for a provider that follows one, and for no other."""
    if is_scripted != (script is not None):
        raise Misuse(
            f"{id!r}: script= and the provider 'scripted' go together; "
            "a cassette is made by cassette()"
        )
    if isinstance(script, str):
        raise Misuse(f"script={script!r} is text; give a list of turns, even of one")


def check_timeouts(settings: Mapping[str, Json]) -> None:
    """See that the settings that are ours are seconds."""
    for name in OURS:
        limit = settings.get(name, 1)
        if not isinstance(limit, int | float) or not isfinite(limit) or limit <= 0:
            raise Misuse(f"{name}={limit!r} must be a number of seconds above 0")


def check_output(max_output_tokens: int | None) -> None:
    """See that an answer may have a token."""
    if max_output_tokens is not None and max_output_tokens < 1:
        raise Misuse(
            f"max_output_tokens={max_output_tokens!r} must be 1 or more, or None for as "
            "many as the model can write"
        )


def check_patience(patience: timedelta | float) -> None:
    """See that a patience is none at all, or up to ten years."""
    if not 0 <= seconds_of(patience) <= LONGEST_PATIENCE.total_seconds():
        raise Misuse(
            f"patience={patience!r} must be seconds, or a timedelta, from 0 to "
            f"{LONGEST_PATIENCE.days} days"
        )


def check_base_url(id: str, base_url: str | None) -> None:
    """See that an address can be taken apart. It is not shown: it may hold a login."""
    try:
        urlsplit(base_url or "")
    except ValueError:
        raise Misuse(
            f"base_url= of {id!r} is no URL ({len(base_url or '')} characters); "
            "write http://host:port/path"
        ) from None


def check_fallback(fallback: object) -> None:
    """See that a fallback is a list."""
    if isinstance(fallback, str):
        raise Misuse(f"fallback={fallback!r} is text; give a list of models, even of one")


def check_price(price: tuple[float, float] | None) -> None:
    """See that a price is two amounts of money."""
    if price is not None and not all(isfinite(each) and each >= 0 for each in price):
        raise Misuse(f"price={price!r} must be two numbers of dollars, 0 or more")
