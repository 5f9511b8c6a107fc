"""How links are asked for, the same for every dialect: see `substrate.memory.walk`."""

from collections.abc import Sequence
from dataclasses import dataclass

from substrate.values.memory import Space


@dataclass(frozen=True, slots=True)
class Ways:
    """Whither the links of some things lead, one link for each of what they lead to."""

    space: Space
    #: The things, by their keys.
    keys: Sequence[str]
    #: From a to b, or from b to a.
    is_out: bool
    #: Over links of this kind only.
    rel: str | None
    #: As of which number.
    as_of: int
    #: When the links have to be true, in ms; None: whenever.
    at: int | None
    #: How many things are told, the first ones by their keys.
    limit: int

    @property
    def ends(self) -> tuple[str, str]:
        """The columns of where one is, and of whither it leads."""
        return ("a_key", "b_key") if self.is_out else ("b_key", "a_key")
