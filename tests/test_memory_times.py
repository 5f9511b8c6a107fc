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


spans = st.tuples(st.integers(0, DAYS - 1), st.integers(1, DAYS)).map(
    lambda days: (days[0], days[0] + days[1])
)
said_until = st.tuples(st.sampled_from("abc"), spans).map(lambda said: (said[0], *said[1]))
doubtful = spans.map(lambda span: ("a", *span))
taken_back = st.sampled_from(["all", "b", "c"])


def do(ledger: Ledger, n: int, said: Any, run: str) -> Changed:
    """Say something as a run, or say no more what is said."""
    if isinstance(said, tuple):
        return say(ledger, n, (*said[:3], run))
    about = {"subject": "Anna", "predicate": "lives_in"}
    ask = about if said == "all" else about | {"object": said}
    outcome = decided(ledger, SPACE, "retract", ask, Request(f"run-{run}#retract.{n}", 1000 + n))
    assert isinstance(outcome, Changed)
    return outcome


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(said_until, max_size=3),
    st.lists(doubtful, min_size=1, max_size=2),
    st.lists(st.one_of(said_until, taken_back), max_size=4),
)
def test_undone_while_others_go_on(before: Any, doubted: Any, since: Any) -> None:
    """Undone after others have said more, each day has what it would have without the run.

    Whoever has said no more what somebody says has said so for good.
    """
    with_it, without_it = (Ledger([Counter(SPACE)], []) for _ in range(2))
    for n, said in enumerate(before):
        for ledger in (with_it, without_it):
            do(ledger, n, said, f"before-{n}")
    done = [do(with_it, 10 + n, said, "doubted") for n, said in enumerate(doubted)]
    for n, said in enumerate(since):
        changed = do(with_it, 20 + n, said, f"since-{n}")
        if isinstance(said, tuple) or changed.closed:  # else it met nothing that it could end
            do(without_it, 20 + n, said, f"since-{n}")
    for n, each in reversed(list(enumerate(done))):
        ask = dict(each.record["touched"])
        decided(with_it, SPACE, "take_back", ask, Request(f"run-doubted#undo.{n}", 2000 + n))
    assert values(with_it) == values(without_it)
    assert index(with_it)[0] == index(without_it)[0]


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(said_until, max_size=2),
    st.tuples(
        doubtful, st.lists(said_until, max_size=2), doubtful, st.lists(said_until, max_size=2)
    ),
    st.sampled_from([(0, 1), (1, 0)]),
)
def test_two_that_are_undone(before: Any, between: Any, order: Any) -> None:
    """Of two runs that are undone, in whatever order, neither one's word comes back."""
    first, since, second, later = between
    with_them, without_them = (Ledger([Counter(SPACE)], []) for _ in range(2))
    for n, said in enumerate(before):
        for ledger in (with_them, without_them):
            do(ledger, n, said, f"before-{n}")
    done = [do(with_them, 10, first, "first")]
    for n, said in enumerate(since):
        for ledger in (with_them, without_them):
            do(ledger, 20 + n, said, f"since-{n}")
    done.append(do(with_them, 30, ("d", *second[1:]), "second"))
    for n, said in enumerate(later):
        for ledger in (with_them, without_them):
            do(ledger, 40 + n, said, f"later-{n}")
    for n in order:
        ask = dict(done[n].record["touched"])
        run = ("first", "second")[n]
        decided(with_them, SPACE, "take_back", ask, Request(f"run-{run}#undo.{n}", 2000 + n))
    assert values(with_them) == values(without_them)
    assert index(with_them)[0] == index(without_them)[0]
