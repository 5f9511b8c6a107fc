"""Undone newest first, notes and links come to what they were, and so does the index."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from substrate.memory.outcome import Changed, Outcome, Refusal, Request
from substrate.memory.words import counted
from substrate.memory.writes import decided
from substrate.store.ledger import Ledger
from substrate.values.memory import Counter, LinkRow, NoteRow, Space

SPACE = Space("", "acme")
NAMES = "abc"
ALWAYS = {"confidence": 1.0, "valid_from": None, "valid_to": None}

name = st.sampled_from(NAMES)
text = st.sampled_from(["", "x", "one two", "two three four five six", "two " + "more " * 9])


def write(kind: str, **given: Any) -> Any:
    """Return a strategy for writes of a kind."""
    return st.tuples(st.just(kind), st.fixed_dictionaries(given))


of_notes = st.one_of(
    write("append_note", name=name, text=text),
    write("write_note", name=name, text=text),
    write("edit_note", name=name, old=st.just("two"), new=st.just("2")),
    write("insert_note", name=name, line=st.integers(0, 2), text=text),
    write("delete_note", name=name, version=st.none()),
    write("rename_note", name=name, to=name),
)
of_links = st.one_of(
    write("link", a=name, rel=st.just("r"), b=name),
    write("unlink", a=name, rel=st.just("r"), b=name),
)


def notes(ledger: Ledger) -> dict[str, str]:
    """Return the texts of the notes that stand; each name has one version at most."""
    found = {}
    for each in NAMES:
        rows = ledger.standing(NoteRow, SPACE, (each,))
        assert len(rows) <= 1
        found |= {row.name: row.body for row in rows if row.body is not None}
    return found


def check_index(ledger: Ledger) -> None:
    """Check that the index has the words of the notes that stand, each once, and counts them."""
    stands = [each for each in ledger.posted if each.gone_n is None]
    rows = [row for each in NAMES for row in ledger.standing(NoteRow, SPACE, (each,))]
    words = {(r.stamp.doc, term): n for r in rows for term, n in counted(r.body or "").items()}
    assert {(each.doc, each.term): each.tf for each in stands} == words
    assert len(stands) == len(words)
    (counter,) = ledger.counters
    assert counter.docs == len({doc for doc, _ in words})
    assert counter.words == sum({each.doc: each.words for each in stands}.values())


def links(ledger: Ledger) -> set[tuple[str, str, str]]:
    """Return the links that stand, and who said so."""
    keys = [(a, "r", b) for a in NAMES for b in NAMES]
    rows = [row for key in keys for row in ledger.standing(LinkRow, SPACE, key)]
    return {(row.a, row.b, row.stamp.source) for row in rows}


def do(ledger: Ledger, n: int, kind: str, ask: dict[str, Any]) -> Outcome:
    """Do one write; a whole text is written over the version that stands."""
    if kind == "write_note":
        rows = ledger.standing(NoteRow, SPACE, (ask["name"],))
        stands = rows and rows[0].body is not None
        ask = ask | {"version": rows[0].version if stands else 0}
    by = Request(f"run-{n % 2}#write.{n}", 1000 + n)
    return decided(ledger, SPACE, kind, ask | {"trust": "agent"} | ALWAYS, by)


def undo(ledger: Ledger, n: int, done: Outcome) -> None:
    """Undo what a write has changed."""
    if isinstance(done, Changed):
        touched = done.record["touched"]
        decided(ledger, SPACE, "take_back", touched, Request(f"undo#{n}", 2000 + n))


@settings(max_examples=300, deadline=None)
@given(st.lists(of_notes, max_size=9))
def test_notes(writes: list[Any]) -> None:
    """Whatever was written, renamed and deleted, each undo gives back what there was."""
    ledger = Ledger([Counter(SPACE)], [])
    before, done = [], []
    for n, each in enumerate(writes):
        before.append(notes(ledger))
        done.append(do(ledger, n, *each))
        check_index(ledger)
        if isinstance(done[-1], Refusal):
            assert notes(ledger) == before[-1]
    for n in reversed(range(len(done))):
        undo(ledger, n, done[n])
        check_index(ledger)
        assert notes(ledger) == before[n]


@settings(max_examples=300, deadline=None)
@given(st.lists(of_links, max_size=9))
def test_links(writes: list[Any]) -> None:
    """Whoever has linked and unlinked, each undo gives back what there was."""
    ledger = Ledger([Counter(SPACE)], [])
    before, done = [], []
    for n, each in enumerate(writes):
        before.append(links(ledger))
        done.append(do(ledger, n, *each))
    for n in reversed(range(len(done))):
        undo(ledger, n, done[n])
        assert links(ledger) == before[n]
