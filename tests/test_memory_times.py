"""Of a predicate with one value at a time, each moment has the value that was said of it last."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from substrate.memory.outcome import Changed, Request
from substrate.memory.writes import decided
from substrate.store.ledger import Ledger
from substrate.values.memory import Counter, FactRow, Space

SPACE = Space("", "acme")
KEY = ("anna", "lives_in")
DAYS = 12

saying = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, DAYS - 1),
    st.one_of(st.none(), st.integers(1, DAYS)),
    st.integers(0, 3),
).filter(lambda said: said[2] is None or said[1] < said[2])


def say(ledger: Ledger, n: int, said: Any) -> Changed:
    """Say where she lives from one day to another, as a step of some run."""
    value, begin, end, run = said
    ask = {
        "subject": "Anna",
        "predicate": "lives_in",
        "object": value,
        "policy": "one",
        "confidence": 1.0,
        "valid_from": begin + 1,
        "valid_to": None if end is None else end + 1,
        "trust": "user",
    }
    outcome = decided(ledger, SPACE, "remember", ask, Request(f"run-{run}#remember.{n}", 1000 + n))
    assert isinstance(outcome, Changed)
    return outcome


def values(ledger: Ledger) -> list[set[str]]:
    """Return what stands of each day."""
    rows = ledger.standing(FactRow, SPACE, KEY)
    return [
        {
            row.object.strip('"')
            for row in rows
            if row.valid_from <= day + 1 and (row.valid_to is None or row.valid_to > day + 1)
        }
        for day in range(DAYS)
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(saying, max_size=7))
def test_one_value_at_a_time(sayings: list[Any]) -> None:
    """No day has two values; what is said from one day to another is so on each of them."""
    ledger = Ledger([Counter(SPACE)], [])
    for n, said in enumerate(sayings):
        before = values(ledger)
        say(ledger, n, said)
        value, begin, end, _ = said
        after = values(ledger)
        assert all(len(each) <= 1 for each in after)
        assert after[begin] == {value}
        if end is not None:
            assert after[begin:end] == [{value}] * (end - begin)
            assert after[:begin] + after[end:] == before[:begin] + before[end:]
        else:
            assert after[:begin] == before[:begin]


@settings(max_examples=300, deadline=None)
@given(st.lists(saying, max_size=6))
def test_undone_newest_first(sayings: list[Any]) -> None:
    """Each undo gives every day back what it had before, and the index what it had."""
    ledger = Ledger([Counter(SPACE)], [])
    before, done = [], []
    for n, said in enumerate(sayings):
        before.append((values(ledger), index(ledger)))
        done.append(say(ledger, n, said))
    for n in reversed(range(len(done))):
        ask = dict(done[n].record["touched"])
        decided(ledger, SPACE, "take_back", ask, Request(f"undo#{n}", 2000 + n))
        assert (values(ledger), index(ledger)) == before[n]


def index(ledger: Ledger) -> Any:
    """Return what stands in the index: each word of each fact, and how many texts there are."""
    (counter,) = ledger.counters
    standing = {p.term: 1 for p in ledger.posted if p.gone_n is None}
    return sorted(standing), counter.docs, counter.words
