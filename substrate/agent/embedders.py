"""The embedders that the kit has, by their names."""

import re

from substrate.memory.embedder import Embedder
from substrate.memory.hashed_ngrams import HashedNgrams
from substrate.memory.mini_lm import MiniLM
from substrate.models.embedding import Embedding
from substrate.values.errors import Misuse

_PROVIDED = re.compile(r"((?:openai|google):.{1,200}):([0-9]{1,5})")
_HASHED = re.compile(r"hashed-ngrams(?::([0-9]{1,5}))?")


def embedder_named(name: str) -> Embedder:
    """Return the embedder of a name, or raise `Misuse`."""
    if found := _HASHED.fullmatch(name):
        return HashedNgrams(int(found[1] or 512))
    if name == MiniLM.name:
        return MiniLM()
    if found := _PROVIDED.fullmatch(name):
        return Embedding(found[1], int(found[2]))
    raise Misuse(
        f"{name!r:.100} names no embedder; use {MiniLM.name!r}, 'hashed-ngrams:512', or a "
        "provider's with its dimension: 'openai:text-embedding-3-small:512'"
    )
