"""How well recall finds, on questions that people asked: pinned, so that no change makes it worse.

The set and its origin: `tests/judged/README.md`. `make recall` prints the whole table.
"""

import pytest

from tests.judged import judged
from tests.judged.found import found_by_words, keep
from tests.judged.scores import interval, ndcg, recall
from tests.stores import opened


def test_the_set_is_what_it_says():
    """There are over 200 questions in each half, each asked once, and none stands in its answer."""
    some = judged()
    assert len({each.question for each in some}) == len(some) == 472
    assert sum(each.is_held_out for each in some) == 225
    assert not any(each.question in each.answer for each in some)


@pytest.mark.parametrize(
    "places, expected",
    [("abc", (1, 1)), ("bca", (0.5, 1)), ("bcdefghijka", (0, 0)), ("bc", (0, 0))],
)
def test_scores(places, expected):
    """The first place counts whole, the third half, and what is below the tenth not at all."""
    assert (ndcg(list(places), "a"), recall(list(places), "a")) == expected


def test_intervals():
    """An interval holds its mean, is the same each time, and has no width where all are equal."""
    assert str(interval([0.5] * 9)) == "0.500 [0.500, 0.500]"
    found = interval([0, 1] * 50)
    assert found == interval([0, 1] * 50)
    assert 0.35 < found.low < found.mean == 0.5 < found.high < 0.65


async def test_full_text(sqlite_url):
    """Full text finds as well as it did when it was last measured."""
    async with opened(sqlite_url) as store:
        await keep(store, judged())
        held_out = await found_by_words(store, [each for each in judged() if each.is_held_out])
    scores = {
        name: round(interval([score(each.names, each.asked.name) for each in held_out]).mean, 3)
        for name, score in (("nDCG@10", ndcg), ("recall@10", recall))
    }
    assert scores == {"nDCG@10": 0.672, "recall@10": 0.84}
