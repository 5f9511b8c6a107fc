"""What a `Model` may be: each check raises `Misuse`, at start-up and not in the night. Pure."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from substrate.models.messages import Reply, Text, Thinking, ToolCall
from substrate.models.request import OURS
from substrate.values.clock import seconds_of
from substrate.values.errors import Misuse
from substrate.values.near import did_you_mean
from substrate.values.number import is_amount, is_number, is_whole

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]{0,199}")

_TURNS = (str, Reply, Text, Thinking, ToolCall, Mapping, Sequence)

TURNS = "say(…), call(…), text, a list of these, {tool: {argument: value}}, or a Reply"
"""What a script may hold, as an error says it."""

LONGEST_PATIENCE = timedelta(days=3650)
"""How long a provider may be waited for at most."""


def check_id(id: object, known: Collection[str]) -> None:
    """See that an id is ``provider:name``, of a provider that is known."""
    provider, colon, name = id.partition(":") if isinstance(id, str) else ("", "", "")
    listed = ", ".join(sorted(known))
    if not colon or not name:
        raise Misuse(f"{id!r:.200} is not a model; write provider:name, provider one of {listed}")
    if provider not in known:
        near = did_you_mean(provider, known) or f"; known are {listed}"
        raise Misuse(f"{id!r}: no provider {provider!r}{near}")


def check_script(id: str, script: object, *, is_scripted: bool) -> None:
    """See that a script is there for a provider that follows one, and for no other."""
    if is_scripted != (script is not None):
        raise Misuse(
            f"{id!r}, script={script!r:.200}: script= and the provider 'scripted' go together; "
            "a cassette is made by cassette()"
        )
    if isinstance(script, str):
        raise Misuse(f"script={script!r:.200} is text; give a list of turns, even of one")
    if script is None or (callable(script) and not isinstance(script, type)):
        return
    if isinstance(script, bytes) or not isinstance(script, Sequence):
        raise Misuse(
            f"script={script!r:.200} is no script; give a list of turns, or a function from the "
            "request to a turn"
        )
    for turn in script:
        if isinstance(turn, bytes) or not isinstance(turn, _TURNS):
            raise Misuse(f"script= holds {turn!r:.200}, which is no turn; write {TURNS}")


def check_settings(settings: object) -> None:
    """See that settings have names, and that those that are ours are seconds."""
    if not isinstance(settings, Mapping) or not all(isinstance(each, str) for each in settings):
        raise Misuse(f'settings={settings!r:.200} has no names; write {{"temperature": 0.2}}')
    for name in OURS:
        limit = settings.get(name, 1)
        if not is_number(limit) or limit <= 0:
            raise Misuse(f"{name}={limit!r:.60} must be a number of seconds above 0; write 600")


def check_output(max_output_tokens: object) -> None:
    """See that an answer may have a token."""
    if max_output_tokens is None:
        return
    if not is_whole(max_output_tokens) or max_output_tokens < 1:  # type: ignore[operator]
        raise Misuse(
            f"max_output_tokens={max_output_tokens!r:.60} must be a whole number from 1 on; leave "
            "it out for as many as the model can write"
        )


def check_patience(patience: timedelta | float) -> None:
    """See that a patience is none at all, or up to ten years."""
    if not 0 <= seconds_of(patience, "patience") <= LONGEST_PATIENCE.total_seconds():
        raise Misuse(
            f"patience={patience!r} must be seconds, or a timedelta, from 0 to "
            f"{LONGEST_PATIENCE.days} days; 0 pauses at the first failure"
        )


def check_base_url(id: str, base_url: object) -> None:
    """See that an address is one of HTTP. It is not shown: it may hold a login."""
    if base_url is None:
        return
    if not isinstance(base_url, str):
        kind = type(base_url).__name__
        raise Misuse(f"base_url= of {id!r} is {kind} and no text; write http://host:port/path")
    try:
        parts = urlsplit(base_url)
        has_port = parts.port is None or parts.port > 0  # one that is no number raises
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and has_port
    except ValueError:
        is_address = False
    if not is_address or any(each.isspace() for each in base_url):
        raise Misuse(
            f"base_url= of {id!r} is no URL ({len(base_url)} characters); "
            "write http://host:port/path"
        )


def check_key(id: str, key: object) -> None:
    """See that it can name an environment variable. It is not shown: some give the key itself."""
    if key is not None and not (isinstance(key, str) and _VARIABLE.fullmatch(key)):
        raise Misuse(
            f"key= of {id!r} names no environment variable; write its name, such as "
            'key="MY_API_KEY", and never the key itself'
        )


def check_fallback(fallback: object, is_one: Callable[[object], bool]) -> None:
    """See that a fallback is a list, each of which can be asked."""
    if isinstance(fallback, str):
        raise Misuse(f"fallback={fallback!r:.200} is text; give a list of models, even of one")
    if isinstance(fallback, bytes) or not isinstance(fallback, Sequence):
        raise Misuse(f"fallback={fallback!r:.200} is no list; give a list of models, even of one")
    for each in fallback:
        if not is_one(each):
            raise Misuse(
                f"fallback= holds {each!r:.200}, which is no model; write its name, "
                "a Model(…) or a Fallback(…)"
            )


def check_price(price: object) -> None:
    """See that a price is two amounts of money."""
    if price is None:
        return
    is_pair = isinstance(price, tuple | list) and len(price) == 2
    if not is_pair or not all(is_amount(each) and each >= 0 for each in price):  # type: ignore[attr-defined]
        raise Misuse(
            f"price={price!r:.200} must be two numbers of dollars, 0 or more: for a million tokens "
            "read, and written; write price=(3, 15)"
        )
