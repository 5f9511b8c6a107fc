"""At which commits of a run a test kills its process: at every other one of each store.

What a run commits is decided above the stores, so it is the same on both. Each commit is struck
on both of its sides, one on SQLite and the next on PostgreSQL. And each store is left in every
state there is, since what is there before the third commit is what was there after the second.
"""

from collections.abc import Iterator
from itertools import count

__all__ = ["struck"]

_FIRST = {"sqlite": 1, "postgresql": 2}


def struck(url: str, stride: int = 2) -> Iterator[int]:
    """Yield the numbers of the commits of a store at which to kill, from its first."""
    return count(_FIRST[url.partition(":")[0]], stride)
