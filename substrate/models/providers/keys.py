"""The keys that a provider's server is shown, and how they stay out of what it says.

A gateway, a proxy or a provider may repeat the key that it was sent, in a message, a body or a
header; its error is recorded, logged and shown, and kept for months. So every adapter is asked
through `KeyHidingProvider`, which knows what was sent and hides it.

Keys are looked for in the environment: in the variables of the providers, the one that
``Model(…, key=…)`` names, and in what base URLs and proxies have for a login.

Invariants: an error holds no key, nor a piece of one, in any spelling that `Mask` knows; where
what caused it tells one, that is left out. An answer holds no key that is surely one (16 characters
or more, with a digit): a model is not shown the key, but its server is. There it is hidden as a
whole, so that an answer is never changed for a word that is somebody's password, or for how keys
begin. What a server makes of a key (reversed, encrypted, split in pieces) is not known here.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from traceback import format_exception
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from substrate.models.messages import Reply
from substrate.models.providers.address import Address
from substrate.models.request import OnText, Request
from substrate.values.codec import encode
from substrate.values.errors import BadRequest, ModelError, TransportFailed
from substrate.values.mask import Mask

if TYPE_CHECKING:
    from substrate.models.providers.registry import Provider

_PROVIDERS = "ANTHROPIC|OPENAI|OPENAI_CHAT|GROQ|GEMINI|GOOGLE"
_KEY = re.compile(rf"({_PROVIDERS})_(\w+_)?(KEY|TOKEN|SECRET|PASSWORD)")
_HEADERS = re.compile(rf"({_PROVIDERS})_(\w+_)?HEADERS")
_PLACE = re.compile(rf"({_PROVIDERS})_(\w+_)?(URL|ENDPOINT)|(https?|all)_proxy", re.IGNORECASE)
_SCHEME = re.compile(r"\s*(bearer|basic|token)\s+", re.IGNORECASE)
_TELLING = re.compile(r"key|token|secret|passw|pwd|sig|auth|cred", re.IGNORECASE)


LONGEST_MESSAGE = 20_000
"""How many characters of a message an error keeps: looking for keys takes time with each."""

LONGEST_TRACE = 200_000


def secrets_of(address: Address, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield what a server at an address may have been shown, in no order.

    Keys of all providers: what is asked of one may pass through the gateway of another.
    """
    for name, value in environ.items():
        if _KEY.fullmatch(name) or name == address.key_name:
            yield value
            yield _SCHEME.sub("", value)
        elif _HEADERS.fullmatch(name):
            for line in re.split(r"[\n,]", value):
                yield _SCHEME.sub("", line.partition(":")[2])
        elif _PLACE.fullmatch(name):
            yield from keys_in(value)
    if address.base_url:
        yield from keys_in(address.base_url)


def keys_in(url: str) -> Iterator[str]:
    """Yield what is secret in a URL: its user and password, and what its query calls a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    login, at, _ = parts.netloc.rpartition("@")
    if at:
        yield login
        for each in login.split(":", 1):
            yield from (each, unquote(each))
    yield from (value for name, value in parse_qsl(parts.query) if _TELLING.search(name))


class KeyHidingProvider:
    """An adapter that tells no key, whatever its server makes of it."""

    __slots__ = ("_adapter", "_keys")

    def __init__(self, adapter: "Provider", keys: Mask) -> None:
        self._adapter = adapter
        self._keys = keys

    async def close(self) -> None:
        """Close its connections."""
        await self._adapter.close()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask the model once; see `Provider`."""
        words = Words(self._keys, on_delta)
        try:
            reply = await self._adapter.answer(model, request, words.take)
        except ModelError as error:
            hide_in(error, self._keys)
            raise
        except Exception as error:
            if not words.has_failed and self._keys.is_in("".join(format_exception(error))):
                hidden = self._keys.hide(f"{model} fails: {error!r}")
                raise TransportFailed(f"{hidden}; ask again") from None
            raise
        words.end()
        return self._hidden(reply)

    async def embed(
        self, model: str, texts: Sequence[str], dimension: int
    ) -> Sequence[Sequence[float]]:
        """Make vectors of texts; see `Embeds`. Raises `BadRequest` where it makes none."""
        embed = getattr(self._adapter, "embed", None)
        if embed is None:
            raise BadRequest(f"{model!r}: this provider makes no vectors; use openai or google")
        try:
            found: Sequence[Sequence[float]] = await embed(model, texts, dimension)
        except ModelError as error:
            hide_in(error, self._keys)
            raise
        return found

    def _hidden(self, reply: Reply) -> Reply:
        written = encode(record := reply.to_json())
        if self._keys.hide_keys(written) == written:
            return reply
        return Reply.from_json(self._keys.hide_keys_in(record), reply.usage)


def hide_in(error: ModelError, keys: Mask) -> None:
    """Hide keys in an error, and forget what it came from where that tells one."""
    error.args = tuple(
        keys.hide(_within(each)) if isinstance(each, str) else each for each in error.args
    )
    if error.body is not None:
        error.body = keys.hide(error.body)
    whole = "".join(format_exception(error))
    # A trace too long to be looked through counts as one that tells a key.
    if len(whole) > LONGEST_TRACE or keys.is_in(whole):
        error.__cause__ = error.__context__ = None


def _within(message: str) -> str:
    """Return a message without its middle where it is so long that nobody reads it."""
    half = LONGEST_MESSAGE // 2
    return message if len(message) <= 2 * half else f"{message[:half]} … {message[-half:]}"


class Words:
    """Passes on the words of an answer as they come, but for what may be the half of a key."""

    __slots__ = ("_kept", "_keys", "_tell", "has_failed")

    def __init__(self, keys: Mask, tell: OnText) -> None:
        self._keys = keys
        self._tell = tell
        self._kept = ""
        self.has_failed: bool = False

    def take(self, words: str) -> None:
        """Pass words on, as far as they are surely no key."""
        # A key may come in two pieces: what may be the beginning of one waits for the next.
        hidden = self._keys.hide_keys(self._kept + words)
        count = self._keys.begun_at_the_end(hidden)
        self._kept = hidden[len(hidden) - count :]
        self._pass_on(hidden[: len(hidden) - count])

    def end(self) -> None:
        """Pass on what was kept back."""
        kept, self._kept = self._kept, ""
        self._pass_on(self._keys.hide_keys(kept))

    def _pass_on(self, words: str) -> None:
        if not words:
            return
        try:
            self._tell(words)
        except BaseException:
            self.has_failed = True  # the listener's own error passes through as it is
            raise
