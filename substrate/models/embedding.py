"""A provider's embedder, with the kit's failures, keys and waits."""

import asyncio
from collections.abc import Sequence
from typing import cast

from substrate.models.providers.address import Address
from substrate.models.providers.registry import Embeds, adapter_of
from substrate.values.errors import Misuse, ModelError

_PROVIDERS = ("openai", "google")
_TRIES = 4
_LONGEST_WAIT_S = 30.0


class Embedding:
    """Vectors of a provider's model.

    What passes by itself (a rate, a server that is busy, a connection that breaks) is tried again,
    three times at most, for as long as the provider says, up to 30 seconds. What it costs counts
    into no budget.

    Args:
        model: The provider and its model: ``openai:text-embedding-3-small``, or
            ``google:gemini-embedding-001``.
        dimension: How many numbers a vector is to have.

    Raises:
        Misuse: the provider makes none, or the model is not named.

    Example:
        >>> Embedding("openai:text-embedding-3-small", 512).name
        'openai:text-embedding-3-small:512'
    """

    #: How much of a hit's worth is by these vectors: see `substrate.memory.fusion`.
    weight: float = 0.7

    def __init__(self, model: str, dimension: int) -> None:
        provider, _, name = model.partition(":")
        if provider not in _PROVIDERS or not name:
            told = " or ".join(map(repr, _PROVIDERS))
            raise Misuse(f"{model!r:.100} names no embedding; give {told}, a colon and its model")
        if not 1 <= dimension <= 16_384:
            raise Misuse(f"dimension={dimension!r} is none; give 1 to 16384")
        #: How many numbers a vector has.
        self.dimension: int = dimension
        #: What tells it from others.
        self.name: str = f"{model}:{dimension}"
        self._provider: str = provider
        self._model: str = name

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return a vector of each text.

        Args:
            texts: Which.
        """
        adapter = cast("Embeds", await adapter_of(self._provider, Address()))
        for tried in range(1, _TRIES + 1):
            try:
                return await adapter.embed(self._model, texts, self.dimension)
            except ModelError as error:
                wait = error.retry_after or 2.0 ** (tried - 1)
                if not error.retryable or tried == _TRIES or wait > _LONGEST_WAIT_S:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")
