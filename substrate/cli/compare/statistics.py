"""How the versions of a prompt did, in figures with 95 % confidence intervals. Pure.

A share has a Wilson interval, a mean Student's, which holds for means of more than a few dozen
runs whatever their distribution is. Nothing is said of a difference between versions: intervals
that do not overlap say it.

Invariants: what is not known (a price, a score) is left out of its mean and counted as left out; a
mean of fewer than two has no interval.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean

from substrate.installed import how_to_add
from substrate.values.errors import Misuse

CONFIDENCE = 0.95


class StatsMissing(Misuse):
    """Intervals need scipy, which is not installed. Nothing was read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run came to under its version. None is what is not known, or not yet."""

    #: The run.
    run_id: str
    #: The version of the prompt that it was given.
    version: str
    #: Why it ended, in a word.
    reason: str | None = None
    #: What the run and all below it cost.
    cost_usd: Decimal | None = None
    #: How many tokens they read and wrote.
    tokens: int = 0
    #: How long it took, in seconds, its waits included.
    latency_s: float | None = None
    #: How good its answer was.
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a share, with its confidence interval."""

    #: The mean or the share; None where nothing is known.
    value: float | None
    #: The lower end of the interval; None where there is none.
    low: float | None
    #: The upper end.
    high: float | None
    #: Of how many runs.
    of: int

    def to_json(self) -> dict[str, float | int | None]:
        """Return it as plain JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "of": self.of}


@dataclass(frozen=True, slots=True)
class Record:
    """How one version did."""

    #: The version's name.
    version: str
    #: How many runs were given it, also those that have not ended.
    runs: int
    #: How many runs ended for each reason, the most frequent first.
    reasons: Mapping[str, int]
    #: The share of runs that answered.
    answered: Estimate
    #: What a run cost.
    cost_usd: Estimate
    #: How many tokens a run took.
    tokens: Estimate
    #: How long a run took, in seconds.
    latency_s: Estimate
    #: How good the answers were.
    score: Estimate


def compare(samples: Sequence[Sample]) -> list[Record]:
    """Return how each version did, by name. Only runs that have ended count in means and shares.

    Raises `StatsMissing`.
    """
    check_stats()
    versions = sorted({each.version for each in samples})
    return [_record(version, [s for s in samples if s.version == version]) for version in versions]


def check_stats() -> None:
    """Raise `StatsMissing` where intervals cannot be computed."""
    try:
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise StatsMissing(
            f"comparing prompts needs scipy ({error}); install it: {how_to_add('stats')}"
        ) from error


def _record(version: str, samples: Sequence[Sample]) -> Record:
    ended = [each for each in samples if each.reason is not None]
    reasons = Counter(each.reason or "" for each in ended)
    costs = (None if each.cost_usd is None else float(each.cost_usd) for each in ended)
    return Record(
        version=version,
        runs=len(samples),
        reasons=dict(reasons.most_common()),
        answered=share(reasons["answered"], len(ended)),
        cost_usd=mean(costs),
        tokens=mean(float(each.tokens) for each in ended),
        latency_s=mean(each.latency_s for each in ended),
        score=mean(each.score for each in ended),
    )


def share(count: int, of: int) -> Estimate:
    """Return a share with Wilson's interval."""
    from scipy import stats

    if of == 0:
        return Estimate(None, None, None, 0)
    interval = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / of, float(interval.low), float(interval.high), of)


def mean(values: Iterable[float | None]) -> Estimate:
    """Return the mean of what is known, with Student's interval."""
    from scipy import stats

    known = [each for each in values if each is not None]
    if len(known) < 2:
        return Estimate(known[0] if known else None, None, None, len(known))
    middle, error = fmean(known), float(stats.sem(known))
    if error == 0:
        return Estimate(middle, middle, middle, len(known))
    low, high = stats.t.interval(CONFIDENCE, len(known) - 1, loc=middle, scale=error)
    return Estimate(middle, float(low), float(high), len(known))
