"""An embedder without a model: the pieces of words, counted in so many places by their hash.

It knows no meaning. It finds words in another form or with a mistake, in any language.
"""

import re
import unicodedata
from collections.abc import Sequence
from zlib import crc32

from substrate.values.errors import Misuse

_WORD = re.compile(r"\w+")
_LENGTHS = (3, 4, 5)


class HashedNgrams:
    """Vectors of a text's n-grams of 3 to 5 characters. Needs numpy.

    Args:
        dimension: How many numbers a vector has.

    Raises:
        Misuse: it is less than 1, or more than 16,384.

    Example:
        >>> HashedNgrams(256).name
        'hashed-ngrams:256'
    """

    #: How much of a hit's worth is by these vectors: see `substrate.memory.fusion`.
    weight: float = 0.3

    def __init__(self, dimension: int = 512) -> None:
        if not 1 <= dimension <= 16_384:
            raise Misuse(f"dimension={dimension!r} is none; give 1 to 16384")
        #: How many numbers a vector has.
        self.dimension: int = dimension
        #: What tells it from others.
        self.name: str = f"hashed-ngrams:{dimension}"

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return a vector of each text.

        Args:
            texts: Which.
        """
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Sequence[float]:
        counts = [0.0] * self.dimension
        for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
            bounded = f"<{word}>"
            for length in _LENGTHS:
                for at in range(len(bounded) - length + 1):
                    place = crc32(bounded[at : at + length].encode())
                    # A sign of its own, so that what shares a place does not add up.
                    counts[place % self.dimension] += 1 if place >> 31 else -1
        return [abs(each) ** 0.5 * (1 if each > 0 else -1) for each in counts]
