"""At which commits of a run a test kills its process: at some of them on each store.

What a run commits is decided above the stores, so it is the same on both: on SQLite a process is
killed at every other commit, or at fewer where a run has many; on PostgreSQL, where that takes
three times as long, at a third as many, but at more of a run that uses every primitive, and of
those that have many commits. Each commit that is struck is struck on both of its sides, and what is
there before the third commit is what was there after the second: so, with every other one, SQLite
is left in every state there is.

`make kills` sets a variable by which each commit is struck, of all these runs and on both stores.
"""

import os
from collections.abc import Iterator
from itertools import count

__all__ = ["EACH", "least", "struck"]

EACH = "OSTINATO_KILL_AT_EACH_COMMIT"
"""The variable."""


def struck(url: str, stride: int = 2, *, times: int = 3) -> Iterator[int]:
    """Yield the numbers of the commits of a store at which to kill, from its first.

    `stride` is the distance from one to the next on SQLite; it is so many times on PostgreSQL.
    """
    if os.environ.get(EACH):
        return count(1)
    is_sqlite = url.startswith("sqlite")
    return count(1 if is_sqlite else 2, stride * (1 if is_sqlite else times))


def least(url: str, commits: int, stride: int = 2) -> int:
    """Return how many of so many commits are struck at least, `times` being 3."""
    return commits // (stride * (1 if url.startswith("sqlite") else 3))
