"""Providers: which there are, what each needs to be reached, and the adapters that reach them.

An adapter's module imports its provider's SDK, which takes seconds; so it is loaded by the first
call of one of its models, in a thread.

Invariants: a client belongs to the event loop that it was made on. So each loop has adapters of its
own, one for each address; they are closed when it ends, or earlier by `disconnect`. Each adapter is
asked through a `KeyHidingProvider`, which hides the keys that its server was shown. Before it
connects, the logs of its SDK hide them, too.
"""

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from substrate.engine.event_loop import check_loop
from substrate.installed import how_to_add
from substrate.models.messages import Reply
from substrate.models.providers.address import Address
from substrate.models.providers.keys import KeyHidingProvider, hide_in, secrets_of
from substrate.models.providers.logs import hide_in_logs
from substrate.models.request import OnText, Request
from substrate.values.errors import BadRequest, ModelError
from substrate.values.mask import Mask


class Provider(Protocol):
    """What an adapter is: a question, an answer, and the connections they go over.

    `answer` makes exactly one attempt (its SDK's retries are off), streams, requires the
    provider's terminal marker, and raises only `ModelError`; what `on_delta` raises passes
    through. The reply names the model as it was asked for, and its usage carries the cost.
    """

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask the model once."""
        ...

    async def close(self) -> None:
        """Close the connections. Nothing may be asked afterwards."""
        ...


class Embeds(Protocol):
    """An adapter that makes vectors of texts, too. It raises only `ModelError`."""

    async def embed(
        self, model: str, texts: Sequence[str], dimension: int
    ) -> Sequence[Sequence[float]]:
        """Return the vectors of texts, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """Where a provider's adapter is, the SDK that it imports, and what it needs to be reached."""

    #: The adapter's.
    module: str
    #: The extra of the kit with which the SDK comes.
    extra: str
    #: The SDK's package.
    sdk: str
    #: The variables of which one must be set, unless the next says otherwise.
    keys: tuple[str, ...]
    #: Variables with a base URL whose server may ask for no key; so may a model's own.
    addresses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The variable that holds the key."""
        return self.keys[0]

    @property
    def is_installed(self) -> bool:
        """Whether its SDK is there. Nothing of it is loaded."""
        try:
            return find_spec(self.sdk) is not None
        except ModuleNotFoundError:  # not even the package that it would be in
            return False

    def missing_key(self, address: Address) -> str | None:
        """Return the variable that must be set before the provider can be asked, or None."""
        if address.key_name:
            return None if address.key else address.key_name
        is_open = self.addresses and (address.base_url or any(map(os.environ.get, self.addresses)))
        is_set = is_open or any(map(os.environ.get, self.keys))
        return None if is_set else self.key


PROVIDERS: Mapping[str, Known] = {
    "anthropic": Known(
        "substrate.models.providers.anthropic.client",
        "anthropic",
        "anthropic",
        ("ANTHROPIC_API_KEY",),
    ),
    "google": Known(
        "substrate.models.providers.google.client",
        "google",
        "google.genai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    "groq": Known("substrate.models.providers.groq.client", "groq", "groq", ("GROQ_API_KEY",)),
    "openai": Known(
        "substrate.models.providers.openai.client", "openai", "openai", ("OPENAI_API_KEY",)
    ),
    "openai-chat": Known(
        "substrate.models.providers.openai_chat.client",
        "openai",
        "openai",
        ("OPENAI_CHAT_API_KEY", "OPENAI_API_KEY"),
        ("OPENAI_CHAT_BASE_URL", "OPENAI_BASE_URL"),
    ),
}


async def adapter_of(provider: str, address: Address) -> Provider:
    """Return the running loop's adapter for an address, loading it on first use.

    Raises `BadRequest` when the provider's SDK is not installed, or the address cannot be used.
    """
    adapters = (await _of_this_loop()).adapters
    if (provider, address) not in adapters:
        # In a thread: an SDK takes seconds to import, and other runs go on meanwhile.
        adapter = await asyncio.to_thread(_connect, provider, address)
        adapters.setdefault((provider, address), adapter)  # another task may have been quicker
    return adapters[provider, address]


async def disconnect() -> None:
    """Close the connections to all providers that the running event loop has opened.

    `asyncio.run` does so by itself when it ends; the next `answer` opens new ones.
    """
    check_loop()
    if opened := _opened.get(asyncio.get_running_loop()):
        await opened.closing.aclose()


Adapters = dict[tuple[str, Address], Provider]


@dataclass(frozen=True, slots=True)
class _Opened:
    """The adapters of one event loop, and the generator that closes them."""

    adapters: Adapters
    closing: AsyncGenerator[None, None]


_opened: WeakKeyDictionary[AbstractEventLoop, _Opened] = WeakKeyDictionary()


async def _of_this_loop() -> _Opened:
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        adapters: Adapters = {}
        _opened[loop] = _Opened(adapters, _close_at_the_end(adapters))
        await anext(_opened[loop].closing)
    return _opened[loop]


async def _close_at_the_end(adapters: Adapters) -> AsyncGenerator[None, None]:
    """Wait, then close the adapters.

    A loop that ends closes the generators that were begun on it (`loop.shutdown_asyncgens`), which
    is the last moment at which its connections can be closed.
    """
    try:
        yield
    finally:
        _opened.pop(asyncio.get_running_loop(), None)
        for adapter in adapters.values():
            await adapter.close()


def _connect(provider: str, address: Address) -> Provider:
    known, secrets = PROVIDERS[provider], frozenset(secrets_of(address))
    keys = Mask(secrets)
    try:
        module = import_module(known.module)
        hide_in_logs(secrets)
        return KeyHidingProvider(cast(Provider, module.connect(address)), keys)
    except ModelError as error:
        hide_in(error, keys)
        raise
    except ImportError as error:
        raise BadRequest(
            f"{provider}: {error}; install its SDK: {how_to_add(known.extra)}"
        ) from error
