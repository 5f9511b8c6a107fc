"""Facts: what somebody said of a subject, when that was true, and when it was known.

- What two sources say alike is one fact (one `doc`) with a row of each. The same run says it once.
- Where a predicate has one value at a time, a newer fact closes the others where their times
  overlap: such a row is gone, and copies of it stand for the times that are left. The copies are
  still the other source's word.
- A fact that is said to be true since a moment in the past, and says nothing of its end, ends where
  a later one begins: it does not close what is newer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory import text_index
from substrate.memory.canonical import folded, object_key
from substrate.memory.outcome import Changed, Outcome, Refusal, Request
from substrate.store.ledger import Ledger
from substrate.values.codec import encode
from substrate.values.ids import root_of
from substrate.values.memory import FactRow, Policy, Space, Trust, memory_id
from substrate.values.records import JsonText


def remember(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Say a fact."""
    key = (folded(ask["subject"]), ask["predicate"])
    standing = ledger.standing(FactRow, space, key)
    value_key = object_key(ask["object"])
    same = [row for row in standing if row.object_key == value_key]
    others = [row for row in standing if row.object_key != value_key]
    is_one = ask["policy"] == Policy.ONE
    begin, end = _times(ask, others if is_one else [], ledger.now(space, by.now))
    if end is not None and end <= begin:
        return _never_true(ask, begin, end)
    ours = [row for row in same if root_of(row.stamp.source) == root_of(by.source)]
    if known := next((row for row in ours if _covers(row, begin, end, ask["confidence"])), None):
        return Changed(_told(known, same, is_new=False), known.table)
    closed: list[int] = []
    added: list[int] = []
    if is_one:
        for row in others:
            if _overlap(row, begin, end):
                closed.append(row.stamp.n)
                # Of the times that the new one does not speak of, the old one goes on to be true.
                added += _cut(ledger, row, begin, end, by)
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    new = FactRow(
        replace(stamp, doc=same[0].stamp.doc) if same else stamp,
        ask["subject"],
        key[0],
        key[1],
        JsonText(encode(ask["object"])),
        value_key,
        ask["confidence"],
        begin,
        end,
    )
    ledger.add(new)
    if not same:
        text_index.enter(ledger, new)
    told = _told(new, [*same, new], is_new=not same)
    return Changed(told, new.table, [*added, stamp.n], closed, [key])


def retract(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Say no more what was said of a subject: every source's rows of it, or of one value."""
    key = (folded(ask["subject"]), ask["predicate"])
    found = ledger.standing(FactRow, space, key)
    if "object" in ask:
        value_key = object_key(ask["object"])
        found = [row for row in found if row.object_key == value_key]
    for row in found:
        close(ledger, row, by)
    gone = [row.stamp.n for row in found]
    ids = [memory_id(space, n) for n in gone]
    return Changed({"retracted": ids}, FactRow.table, [], gone, [key])


def close(ledger: Ledger, row: FactRow, by: Request) -> None:
    """Let a row stand no more; with the last one of its fact its text leaves the index."""
    gone_n = ledger.close(row, by.now, by.source)
    left = ledger.standing(FactRow, row.stamp.space, row.key)
    if all(each.stamp.doc != row.stamp.doc for each in left):
        text_index.leave(ledger, row, gone_n)


def take_back(
    ledger: Ledger, written: Sequence[FactRow], closed: Sequence[FactRow], by: Request
) -> bool:
    """Undo a write: its own word stands no more; what it closed stands again, if nothing is newer.

    `written` and `closed` are its rows as they are by now. Of another source nothing is retracted.
    """
    ours = {row.stamp.writer for row in written if row.stamp.source == row.stamp.writer}
    own = [row for row in _standing(ledger, [*written, *closed]) if row.stamp.source in ours]
    # First ours goes, then it is asked what stands: our own word must not count as a newer one.
    for row in own:
        close(ledger, row, by)
    last = max([row.stamp.n for row in written] + [row.stamp.gone_n or 0 for row in closed])
    left = _standing(ledger, [*written, *closed])
    again = [old for old in closed if not _is_overtaken(old, left, last)]
    # What our write had left of a row would say twice what the row says once it stands again.
    for row in left:
        if any(_is_of(old, row) for old in again):
            close(ledger, row, by)
    for old in again:
        _again(ledger, old, by)
    return bool(own or again)


def _is_of(old: FactRow, row: FactRow) -> bool:
    """Whether a row is what was left of another one."""
    is_same = (row.stamp.doc, row.stamp.source) == (old.stamp.doc, old.stamp.source)
    return is_same and _overlap(row, old.valid_from, old.valid_to)


def _is_overtaken(old: FactRow, standing: Sequence[FactRow], last: int) -> bool:
    """Whether something else was said since of the times for which a row would stand again."""
    return any(
        row.stamp.n > last
        and row.object_key != old.object_key
        and _overlap(row, old.valid_from, old.valid_to)
        for row in standing
    )


def _standing(ledger: Ledger, rows: Sequence[FactRow]) -> list[FactRow]:
    """Return what stands of what these rows speak of."""
    keys = {(row.stamp.space, row.key) for row in rows}
    return [row for space, key in sorted(keys) for row in ledger.standing(FactRow, space, key)]


def _again(ledger: Ledger, old: FactRow, by: Request) -> None:
    """Let what an earlier row says stand again, as its source's word."""
    standing = ledger.standing(FactRow, old.stamp.space, old.key)
    is_known = any(row.stamp.doc == old.stamp.doc for row in standing)
    row = _copy(ledger, old, old.valid_from, old.valid_to, by)
    if not is_known:
        text_index.enter(ledger, row)


def _times(ask: Mapping[str, Any], others: Sequence[FactRow], now: int) -> tuple[int, int | None]:
    """Return since when and until when it is true: what is not said follows from what stands."""
    begin: int = now if ask["valid_from"] is None else ask["valid_from"]
    if ask["valid_to"] is not None:
        return begin, ask["valid_to"]
    later = [row.valid_from for row in others if row.valid_from > begin]
    return begin, min(later, default=None)


def _never_true(ask: Mapping[str, Any], begin: int, end: int) -> Refusal:
    return Refusal(
        "MemoryRefused",
        f"the fact {ask['subject']!r:.200} {ask['predicate']!r} would end ({end} ms) before it "
        f"begins ({begin} ms); give valid_from, too, and an end behind it",
    )


def _overlap(row: FactRow, begin: int, end: int | None) -> bool:
    return (row.valid_to is None or row.valid_to > begin) and (end is None or row.valid_from < end)


def _covers(row: FactRow, begin: int, end: int | None, confidence: float) -> bool:
    """Whether a row says all of it already."""
    ends_later = row.valid_to is None or (end is not None and end <= row.valid_to)
    return row.valid_from <= begin and ends_later and row.confidence == confidence


def _cut(ledger: Ledger, row: FactRow, begin: int, end: int | None, by: Request) -> Sequence[int]:
    """Let a row stand for the times outside of these only; return the numbers of its copies."""
    gone_n = ledger.close(row, by.now, by.source)
    left = []
    if row.valid_from < begin:
        left.append(_copy(ledger, row, row.valid_from, begin, by).stamp.n)
    if end is not None and (row.valid_to is None or row.valid_to > end):
        left.append(_copy(ledger, row, end, row.valid_to, by).stamp.n)
    standing = ledger.standing(FactRow, row.stamp.space, row.key)
    if all(each.stamp.doc != row.stamp.doc for each in standing):
        text_index.leave(ledger, row, gone_n)
    return left


def _copy(ledger: Ledger, row: FactRow, begin: int, end: int | None, by: Request) -> FactRow:
    stamp = ledger.stamp(row.stamp.space, by.now, by.source, row.stamp.trust)
    stamp = replace(stamp, doc=row.stamp.doc, source=row.stamp.source, prior=row.stamp.n)
    copy = replace(row, stamp=stamp, valid_from=begin, valid_to=end)
    ledger.add(copy)
    return copy


def _told(row: FactRow, same: Sequence[FactRow], *, is_new: bool) -> dict[str, Any]:
    sources = {root_of(each.stamp.source) for each in same}
    return {
        "id": memory_id(row.stamp.space, row.stamp.n),
        "is_new": is_new,
        "sources": len(sources),
    }
