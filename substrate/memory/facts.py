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
from substrate.memory.decisions import policy_of
from substrate.memory.outcome import Changed, Outcome, Refusal, Request, is_retraction
from substrate.memory.spans import Span, holds, joined, without
from substrate.store.ledger import Ledger
from substrate.values.codec import encode
from substrate.values.ids import root_of
from substrate.values.memory import FactRow, Policy, PolicyRow, Space, Trust, memory_id
from substrate.values.records import JsonText


def remember(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Say a fact."""
    key = (folded(ask["subject"]), ask["predicate"])
    standing = ledger.standing(FactRow, space, key)
    value_key = object_key(ask["object"])
    same = [row for row in standing if row.object_key == value_key]
    others = [row for row in standing if row.object_key != value_key]
    declared = policy_of(ledger, space, key[1])
    if declared is not None and ask["policy"] not in (None, declared.policy):
        return _not_declared(ask, declared)
    is_one = (declared.policy if declared else ask["policy"]) == Policy.ONE
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


def _not_declared(ask: Mapping[str, Any], declared: PolicyRow) -> Refusal:
    return Refusal(
        "MemoryRefused",
        f"{ask['predicate']!r} is declared as {declared.policy!r} in this namespace, by "
        f"{declared.stamp.source}, and not as {ask['policy']!r}; leave policy= out, or declare it "
        "anew",
    )


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
    """Undo a write: its own word stands no more; what it closed stands again.

    Not for times of which something else was said since, and not where its value, or whatever was
    said since, was retracted. `written` and `closed` are its rows as they are by now. Of another
    source nothing is retracted.
    """
    keys = sorted({(row.stamp.space, row.key) for row in (*written, *closed)})
    last = max([row.stamp.n for row in written] + [row.stamp.gone_n or 0 for row in closed])
    known = [row for space, key in keys for row in ledger.known(FactRow, space, key)]
    ours = {row.stamp.writer for row in written if row.stamp.source == row.stamp.writer}
    own = [row for row in known if row.stamp.gone_n is None and row.stamp.source in ours]
    # First ours goes, then it is asked what stands: our own word must not count as a newer one.
    for row in own:
        close(ledger, row, by)
    since = [row for space, key in keys for row in ledger.known(FactRow, space, key)]
    ended = [row for row in since if (row.stamp.gone_n or 0) > last and _is_ended(row, since)]
    newer = [row for row in since if row.stamp.gone_n is None and _said_in(ledger, row) > last]
    newer += [row for row in ended if row.stamp.source in ours or _said_in(ledger, row) > last]
    again = False
    beneath: list[tuple[FactRow, Span]] = []
    for each in closed:
        # Our write had left the other times of it standing.
        kept = [_span(row) for row in written if row.stamp.prior == each.stamp.n]
        for old in _instead(each, since):
            if any(row.object_key == old.object_key for row in ended):
                continue
            lost = without([_span(old)], kept)
            beneath += [(old, span) for span in lost]
            over = newer if old is each else [*newer, *_said_since(ledger, each, closed, since)]
            others = [_span(row) for row in over if row.object_key != old.object_key]
            again |= _again(ledger, old, without(lost, others), by)
    hidden = [row for row in since if row.stamp.source in ours and _is_hidden(row, since)]
    for row in hidden:
        _give_up(ledger, row, beneath, by)
    return bool(own or hidden) or again


def _said_since(
    ledger: Ledger, row: FactRow, closed: Sequence[FactRow], since: Sequence[FactRow]
) -> list[FactRow]:
    """Return what was said after a row, closed with it, and will stand again as well."""
    return [
        each
        for each in closed
        if _said_in(ledger, each) > row.stamp.n and not _instead_of(each, since)
    ]


def _is_hidden(row: FactRow, since: Sequence[FactRow]) -> bool:
    """Whether a row of ours was closed by a run that may be undone, and would put it back."""
    stamp = row.stamp
    is_of_another = stamp.gone_by is not None and root_of(stamp.gone_by) != root_of(stamp.source)
    return is_of_another and not is_retraction(stamp) and not _instead_of(row, since)


def _give_up(
    ledger: Ledger, row: FactRow, beneath: Sequence[tuple[FactRow, Span]], by: Request
) -> None:
    """Say what has to stand instead of a row of ours where an undo would put that back.

    Such rows are gone as soon as they are written, and never seen.
    """
    found = [(old, _common(span, _span(row))) for old, span in beneath]
    for old, span in found:
        if span is not None:
            _trace(ledger, old, span, row, by)
    if not any(span for _, span in found):
        _trace(ledger, row, _span(row), row, by)


def _trace(ledger: Ledger, old: FactRow, span: Span, row: FactRow, by: Request) -> None:
    stamp = ledger.stamp(old.stamp.space, by.now, by.source, old.stamp.trust)
    stamp = replace(stamp, doc=old.stamp.doc, source=old.stamp.source, prior=row.stamp.n)
    trace = replace(old, stamp=stamp, valid_from=span[0], valid_to=span[1])
    ledger.add(trace)
    ledger.close(trace, by.now, by.source)


def _instead_of(row: FactRow, since: Sequence[FactRow]) -> list[FactRow]:
    """Return what the undo of a row's own run has said to stand instead of it."""
    return [
        each
        for each in since
        if each.stamp.prior == row.stamp.n and each.stamp.writer == each.stamp.gone_by
    ]


def _instead(old: FactRow, since: Sequence[FactRow]) -> list[FactRow]:
    """Return what would stand again: a row, or what was beneath it if its own run was undone."""
    traces = _instead_of(old, since)
    if not traces:
        return [old]
    said = [trace for trace in traces if trace.stamp.source != old.stamp.source]
    return [row for trace in said for row in _instead(trace, since)]


def _common(one: Span, other: Span) -> Span | None:
    ends = [end for end in (one[1], other[1]) if end is not None]
    begin, end = max(one[0], other[0]), min(ends, default=None)
    return (begin, end) if end is None or begin < end else None


def _said_in(ledger: Ledger, row: FactRow) -> int:
    """Return in which change a row was said: what was cut since is no newer for that."""
    prior = row.stamp.prior
    while prior is not None:
        before = ledger.row(FactRow, row.stamp.space, prior)
        if before is None:  # it was gone before any change that counts here
            return prior
        if before.stamp.source != row.stamp.source:  # it stands instead of a later one
            return 0
        row, prior = before, before.stamp.prior
    return row.stamp.n


def _is_ended(row: FactRow, since: Sequence[FactRow]) -> bool:
    """Whether somebody has retracted a row, and that was not undone."""
    said = (row.stamp.n, row.stamp.source)
    is_back = any((each.stamp.prior, each.stamp.source) == said for each in since)
    return is_retraction(row.stamp) and not is_back


def _again(ledger: Ledger, old: FactRow, spans: Sequence[Span], by: Request) -> bool:
    """Let what an earlier row says stand again for these times, as its source's word."""
    standing = ledger.standing(FactRow, old.stamp.space, old.key)
    same = [row for row in standing if row.object_key == old.object_key]
    # What is left of it meets what comes back: together they are one row.
    rest = [row for row in same if row.stamp.source == old.stamp.source]
    whole = joined([*spans, *map(_span, rest)])
    back = [span for span in whole if any(holds(span, each) for each in spans)]
    back = [span for span in back if not any(holds(_span(row), span) for row in rest)]
    if not back:
        return False
    for row in rest:
        if any(holds(span, _span(row)) for span in back):
            close(ledger, row, by)
    for span in back:
        standing = ledger.standing(FactRow, old.stamp.space, old.key)
        there = [row for row in standing if row.object_key == old.object_key]
        row = _copy(ledger, old, span, by, there[0].stamp.doc if there else None)
        if not there:
            text_index.enter(ledger, row)
    return True


def _span(row: FactRow) -> Span:
    return row.valid_from, row.valid_to


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
        left.append(_copy(ledger, row, (row.valid_from, begin), by).stamp.n)
    if end is not None and (row.valid_to is None or row.valid_to > end):
        left.append(_copy(ledger, row, (end, row.valid_to), by).stamp.n)
    standing = ledger.standing(FactRow, row.stamp.space, row.key)
    if all(each.stamp.doc != row.stamp.doc for each in standing):
        text_index.leave(ledger, row, gone_n)
    return left


def _copy(ledger: Ledger, row: FactRow, span: Span, by: Request, doc: int | None = None) -> FactRow:
    stamp = ledger.stamp(row.stamp.space, by.now, by.source, row.stamp.trust)
    doc = row.stamp.doc if doc is None else doc
    stamp = replace(stamp, doc=doc, source=row.stamp.source, prior=row.stamp.n)
    copy = replace(row, stamp=stamp, valid_from=span[0], valid_to=span[1])
    ledger.add(copy)
    return copy


def _told(row: FactRow, same: Sequence[FactRow], *, is_new: bool) -> dict[str, Any]:
    sources = {root_of(each.stamp.source) for each in same}
    return {
        "id": memory_id(row.stamp.space, row.stamp.n),
        "is_new": is_new,
        "sources": len(sources),
    }
