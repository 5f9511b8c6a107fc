"""How the rows of vectors correspond to values, the same for every dialect."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from substrate.store.memory_rows import space_of
from substrate.values.memory import Space


@dataclass(frozen=True, slots=True)
class KnownEmbedder:
    """Whose vectors a namespace has."""

    space: Space
    #: The embedder's name.
    model: str
    #: How many numbers a vector has.
    dimension: int
    #: Up to which number of the namespace each text has its vectors.
    last_n: int = 0
    #: How often they were made anew.
    built: int = 1


class Vector(NamedTuple):
    """What an embedder made of a stretch of a text. A tuple, since there are many."""

    #: The row whose text it is.
    n: int
    #: Where in the text it begins, in characters.
    start: int
    source_table: str
    #: Of length 1: float16, the low byte first.
    vector: bytes


def embedder_parameters(known: KnownEmbedder) -> dict[str, Any]:
    """Return it as what is written of it."""
    given = {"model": known.model, "dimension": known.dimension, "last_n": known.last_n}
    return space_of(known.space) | given
