"""What an embedder has to have, and how texts are cut for it.

An embedder makes vectors of texts: what is near in meaning lies near. What it makes follows from
the text alone. Retries are its own affair: what it raises ends the call that asked.
"""

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from substrate.values.errors import Misuse
from substrate.values.number import is_number, is_whole

STRETCH = 1_200
"""Characters of a text that one vector stands for at most."""

LONGEST = 16_384
"""Numbers of a vector."""

_NAME = re.compile(r"[\x21-\x7e]{1,200}")
_OVERLAP = 150
_CUTS = tuple(re.compile(each) for each in (r"\n\s*\n", r"\n", r"[.!?。]\s*", r"\s"))


@runtime_checkable
class Embedder(Protocol):
    """Makes vectors of texts.

    It may have a `weight` from 0 to 1: how much of a hit's worth is by its vectors, and not by
    words. 0.5, if not told otherwise.
    """

    @property
    def name(self) -> str:
        """What tells it from others, with all that its vectors hang on."""
        ...

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return a vector of each text, in order."""
        ...


class EmbedderFailed(Exception):
    """An embedder has raised: the cause is what it raised."""


def check_embedder(embed: object) -> Any:
    """Return it as an embedder, or raise `Misuse`."""
    if embed is None:
        return None
    if not isinstance(embed, Embedder) or isinstance(embed, type):
        raise Misuse(
            f"embed={embed!r:.100} is no embedder; give an object with a name, a dimension and "
            "`async def embed(self, texts)`, such as HashedNgrams()"
        )
    given: Any = embed
    name, dimension, weight = given.name, given.dimension, getattr(embed, "weight", 0.5)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Misuse(f"an embedder's name is {name!r:.220}; give 1 to 200 letters, without blanks")
    if not isinstance(dimension, int) or not is_whole(dimension) or not 1 <= dimension <= LONGEST:
        raise Misuse(f"{name} has dimension={dimension!r:.60}; give a number from 1 to {LONGEST}")
    if not is_number(weight) or not 0 <= weight <= 1:
        raise Misuse(f"{name} has weight={weight!r:.60}; give a number from 0 to 1")
    if find_spec("numpy") is None:  # here, and not when a model recalls something: it cannot help
        raise Misuse(f"embed={name}: vectors are compared by numpy; install it: uv add numpy")
    return embed


def stretches(text: str) -> Iterator[tuple[int, str]]:
    """Yield the stretches of a text, each with where it begins, in characters.

    A long one is cut at a paragraph, a line, a sentence or a word, never before half of its length,
    and the next begins a little before its end.
    """
    start = 0
    while len(text) - start > STRETCH:
        end = start + _cut(text[start : start + STRETCH])
        yield start, text[start:end]
        start = end - _OVERLAP
    yield start, text[start:]


def _cut(text: str) -> int:
    half = len(text) // 2
    for cut in _CUTS:
        ends = [found.end() for found in cut.finditer(text, half)]
        if ends:
            return ends[-1]
    return len(text)
