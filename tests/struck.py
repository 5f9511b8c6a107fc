"""At which commits of a run a test kills its process: at some of them on each store.

What a run commits is decided above the stores, so it is the same on both: on SQLite a process is
killed at every other commit, or at fewer where a run has many, and on PostgreSQL, where that takes
three times as long, at half as many. Each commit that is struck is struck on both of its sides, and
what is there before the third commit is what was there after the second: so, with every other one,
SQLite is left in every state there is.

`make kills` sets a variable by which each commit is struck, of all these runs and on both stores.
"""

import os
from collections.abc import Iterator
from itertools import count

__all__ = ["EACH", "least", "struck"]

EACH = "OSTINATO_KILL_AT_EACH_COMMIT"
"""The variable."""
_FIRST = {"sqlite": 1, "postgresql": 2}
_TIMES = {"sqlite": 1, "postgresql": 2}


def struck(url: str, stride: int = 2) -> Iterator[int]:
    """Yield the numbers of the commits of a store at which to kill, from its first.

    `stride` is the distance from one to the next on SQLite.
    """
    store = url.partition(":")[0]
    return count(1) if os.environ.get(EACH) else count(_FIRST[store], stride * _TIMES[store])


def least(url: str, commits: int, stride: int = 2) -> int:
    """Return how many of so many commits are struck at least."""
    return commits // (stride * _TIMES[url.partition(":")[0]])
