"""What a write does to the index for full text, in its own transaction.

A word stands in a text from one number of the namespace to another, as the text's rows do. So what
was found then can be found again. An index that is made anew from the rows is the same.
"""

from typing import Any

from substrate.memory.words import counted
from substrate.store.ledger import Ledger
from substrate.values.codec import decode
from substrate.values.memory import FactRow, NoteRow, Posting, SaidRow


def text_of(row: "NoteRow | FactRow | SaidRow") -> str:
    """Return what is indexed of a row."""
    if isinstance(row, FactRow):
        said = " ".join(_leaves(decode(row.object)))
        return f"{row.subject} {row.predicate.replace('_', ' ')} {said}"
    return row.body or ""


def enter(ledger: Ledger, row: "NoteRow | FactRow | SaidRow") -> int:
    """Put a text into the index; return how many words it has."""
    terms, stamp = counted(text_of(row)), row.stamp
    total = sum(terms.values())
    for term, tf in terms.items():
        ledger.post(Posting(stamp.space, term, stamp.doc, stamp.n, tf, total, row.table))
    ledger.count(stamp.space, 1 if total else 0, total)
    return total


def leave(ledger: Ledger, row: "NoteRow | FactRow | SaidRow", gone_n: int) -> None:
    """Take a text out of the index."""
    terms, stamp = counted(text_of(row)), row.stamp
    total = row.words if isinstance(row, NoteRow) else sum(terms.values())
    for term in terms:
        ledger.unpost(stamp.space, term, stamp.doc, gone_n)
    ledger.count(stamp.space, -1 if terms else 0, -total if terms else 0)


def change(ledger: Ledger, old: NoteRow, new: NoteRow) -> int:
    """Change a note's text in the index; return how many words the index says that it has.

    Only words that come, go or stand there more often are written, so a line that is added to a
    long note costs as much as the line. When the length has changed by a quarter, all are.
    """
    before, after = counted(old.body or ""), counted(new.body or "")
    total, stamp = sum(after.values()), new.stamp
    if not before or not after or 4 * abs(total - old.words) > old.words:
        leave(ledger, old, stamp.n)
        return enter(ledger, new)
    for term in before:
        if before[term] != after.get(term):
            ledger.unpost(stamp.space, term, stamp.doc, stamp.n)
    for term, tf in after.items():
        if before.get(term) != tf:
            ledger.post(Posting(stamp.space, term, stamp.doc, stamp.n, tf, old.words, new.table))
    return old.words


def _leaves(value: Any) -> list[str]:
    """Return the texts and numbers in a value."""
    if isinstance(value, dict):
        return [leaf for name, each in value.items() for leaf in [str(name), *_leaves(each)]]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [] if value is None or isinstance(value, bool | bytes) else [str(value)]
