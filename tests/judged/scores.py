"""How good an order is: nDCG@10 and recall@10 of questions that one text answers each."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from statistics import fmean

DEPTH = 10
_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions, and between what 95 % of its bootstrap draws lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ndcg(found: Sequence[str], right: str) -> float:
    """Return how far up the right text stands: 1 for the first place, 0 below the tenth."""
    places = found[:DEPTH]
    return 1 / log2(places.index(right) + 2) if right in places else 0.0


def recall(found: Sequence[str], right: str) -> float:
    """Return whether the right text is among the first ten."""
    return float(right in found[:DEPTH])


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of a question's values with its interval; of differences, a paired one."""
    chance = random.Random(0)
    draws = sorted(fmean(chance.choices(values, k=len(values))) for _ in range(_DRAWS))
    return Interval(fmean(values), draws[_DRAWS // 40], draws[-_DRAWS // 40])
