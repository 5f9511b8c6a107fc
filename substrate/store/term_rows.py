"""How words and texts are asked for, the same for every dialect: see `substrate.memory.ranking`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from substrate.values.memory import Space


@dataclass(frozen=True, slots=True)
class Query:
    """In which texts of a namespace words are looked for."""

    space: Space
    #: In which tables these are.
    tables: Sequence[str]
    #: As of which number.
    as_of: int


class Stood(NamedTuple):
    """That a word stood in a text. A tuple, since thousands of them are made for one question."""

    term: str
    doc: int
    tf: int
    #: How many words the text has.
    words: int
    source_table: str


@dataclass(frozen=True, slots=True)
class Score:
    """How well a text answers a question."""

    table: str
    doc: int
    score: float


def in_space(parameter: str) -> str:
    """Return the condition that a row is of a namespace; a parameter is written so."""
    names = ("tenant", "ns", "branch", "part")
    return " AND ".join(f"{name} = {parameter.replace('name', name)}" for name in names)
