"""`Model`: a provider and a model by name, and how they are reached.

``Model("anthropic:claude-sonnet-5-5")`` is a value: making one opens nothing, reads nothing and
imports no SDK. The first `answer` loads the provider's adapter, in a thread, since an SDK takes
seconds to import.

Invariant: a client belongs to the event loop that it was made on, so each loop has adapters of its
own, which are closed when it ends, or earlier by `disconnect`.
"""

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from substrate.models.messages import Delta, Json, Message, Reply, Request, ToolSpec
from substrate.models.scripted import Script, Scripted
from substrate.values.errors import BadRequest, Misuse

__all__ = ["PROVIDERS", "Delta", "Model", "Provider", "Script", "disconnect"]


class Provider(Protocol):
    """What an adapter is: a question, an answer, and the connections they go over.

    `answer` makes exactly one attempt (its SDK's retries are off), streams, requires the
    provider's terminal marker, and raises only `ModelError`; what `on_delta` raises passes
    through. The reply names the model as it was asked for, and its usage carries the cost.
    """

    async def answer(self, model: str, request: Request, on_delta: Delta) -> Reply:
        """Ask the model once."""
        ...

    async def close(self) -> None:
        """Close the connections. Nothing may be asked afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """Where a provider's adapter is, and what it needs to be reached."""

    module: str
    key: str
    extra: str


PROVIDERS: Mapping[str, _Known] = {
    "anthropic": _Known("substrate.models.anthropic", "ANTHROPIC_API_KEY", "anthropic"),
    "openai": _Known("substrate.models.openai", "OPENAI_API_KEY", "openai"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model by ``provider:name``.

    `script` belongs to the provider ``scripted``, the offline model: a list of turns, or a
    function from the request to a reply. `offline` answers in this model's place while its
    provider's key is not set, which the command line says in one line.

    `settings` go to the provider as they are (``temperature``, ``reasoning``, …), under what the
    request itself says; ``tools`` among them, such as a search that the provider runs, join the
    request's own. ``read_timeout`` is ours: the seconds of silence after which a call counts as
    stalled (120). A model that thinks for longer without a word needs more.

    Raises `Misuse` for an unknown provider, a name without one, or a setting that cannot be.
    """

    id: str
    offline: "Model | None" = None
    script: Script | None = None
    max_output_tokens: int = 4096
    settings: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name now, so that a typo is found at start-up and not in the night."""
        known = ", ".join(sorted((*PROVIDERS, "scripted")))
        if ":" not in self.id or not self.name:
            raise Misuse(
                f"{self.id!r} is not a model; write provider:name, provider one of {known}"
            )
        if self.provider not in PROVIDERS and self.provider != "scripted":
            raise Misuse(f"{self.id!r}: no provider {self.provider!r}; known are {known}")
        if (self.provider == "scripted") != (self.script is not None):
            raise Misuse(f"{self.id!r}: script= and the provider 'scripted' go together")
        if isinstance(self.script, str):
            raise Misuse(f"script={self.script!r} is text; give a list of turns, even of one")
        patience = self.settings.get("read_timeout", 1)
        if not isinstance(patience, int | float) or not isfinite(patience) or patience <= 0:
            raise Misuse(f"read_timeout={patience!r} must be a number of seconds above 0")

    @property
    def provider(self) -> str:
        """The part before the colon."""
        return self.id.partition(":")[0]

    @property
    def name(self) -> str:
        """The part after the colon."""
        return self.id.partition(":")[2]

    @property
    def missing_key(self) -> str | None:
        """The environment variable that must be set before this model can answer, or None."""
        if self.provider == "scripted":
            return None
        key = PROVIDERS[self.provider].key
        return None if os.environ.get(key) else key

    def available(self) -> "Model":
        """Return this model, or the one that answers in its place while its key is missing."""
        return self.offline if self.missing_key and self.offline else self

    def request(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> Request:
        """Return a request with this model's parameters: its settings and its longest output."""
        return Request(system, messages, tools, self.max_output_tokens, self.settings)

    async def answer(self, request: Request, on_delta: Delta = lambda text: None) -> Reply:
        """Ask once, with no retry, exactly what the request says; see `request`.

        Raises `ModelError`; `BadRequest` when the key is missing.
        """
        model = self.available()
        if key := model.missing_key:
            raise BadRequest(
                f"{model.id}: {key} is not set; export it, or give Model(…, offline=…) "
                "a scripted model to go on without"
            )
        adapter = await _adapter(model)
        return await adapter.answer(model.name, request, on_delta)


async def disconnect() -> None:
    """Close the connections to all providers that the running event loop has opened.

    `asyncio.run` does so by itself when it ends; the next `answer` opens new ones.
    """
    if opened := _opened.get(asyncio.get_running_loop()):
        await opened.closing.aclose()


async def _adapter(model: Model) -> Provider:
    """Load the provider's adapter on first use, and keep it with its connections."""
    if model.script is not None:
        return Scripted(model.script)
    adapters = (await _of_this_loop()).adapters
    if model.provider not in adapters:
        adapter = await asyncio.to_thread(_connect, model)
        adapters.setdefault(model.provider, adapter)  # another task may have been quicker
    return adapters[model.provider]


@dataclass(frozen=True, slots=True)
class _Opened:
    """The adapters of one event loop, and the generator that closes them."""

    adapters: dict[str, Provider]
    closing: AsyncGenerator[None, None]


_opened: WeakKeyDictionary[AbstractEventLoop, _Opened] = WeakKeyDictionary()


async def _of_this_loop() -> _Opened:
    loop = asyncio.get_running_loop()
    if loop not in _opened:
        adapters: dict[str, Provider] = {}
        _opened[loop] = _Opened(adapters, _close_at_the_end(adapters))
        await anext(_opened[loop].closing)
    return _opened[loop]


async def _close_at_the_end(adapters: Mapping[str, Provider]) -> AsyncGenerator[None, None]:
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


def _connect(model: Model) -> Provider:
    known = PROVIDERS[model.provider]
    try:
        return cast(Provider, import_module(known.module).connect())
    except ImportError as error:
        raise BadRequest(
            f"{model.id}: {error}; install it with pip install 'ostinato[{known.extra}]'"
        ) from error
