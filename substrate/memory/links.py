"""Links: that one thing has to do with another, in what way, and when that was so.

What two sources say alike is one link (one `doc`) with a row of each. There may be many of a kind:
a link closes no other one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory.canonical import folded
from substrate.memory.outcome import Changed, Outcome, Refusal, Request, is_retraction
from substrate.store.ledger import Ledger
from substrate.values.ids import root_of
from substrate.values.memory import LinkRow, Space, Trust, memory_id


def link(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Say that a has to do with b."""
    key = (folded(ask["a"]), ask["rel"], folded(ask["b"]))
    same = ledger.standing(LinkRow, space, key)
    begin = ledger.now(space, by.now) if ask["valid_from"] is None else ask["valid_from"]
    end = ask["valid_to"]
    if end is not None and end <= begin:
        return Refusal(
            "MemoryRefused",
            f"the link {ask['a']!r:.200} {ask['rel']!r} would end ({end} ms) before it begins "
            f"({begin} ms); give valid_from, too, and an end behind it",
        )
    for row in same:
        is_ours = root_of(row.stamp.source) == root_of(by.source)
        ends_later = row.valid_to is None or (end is not None and end <= row.valid_to)
        is_same = row.valid_from <= begin and ends_later and row.confidence == ask["confidence"]
        if is_ours and is_same:
            return Changed(_told(row, is_new=False), row.table)
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    new = LinkRow(
        replace(stamp, doc=same[0].stamp.doc) if same else stamp,
        ask["a"],
        key[0],
        key[1],
        ask["b"],
        key[2],
        ask["confidence"],
        begin,
        end,
    )
    ledger.add(new)
    return Changed(_told(new, is_new=not same), new.table, [stamp.n], [], [key])


def unlink(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Say no more that a has to do with b, whoever said so."""
    key = (folded(ask["a"]), ask["rel"], folded(ask["b"]))
    found = ledger.standing(LinkRow, space, key)
    for row in found:
        ledger.close(row, by.now, by.source)
    gone = [row.stamp.n for row in found]
    ids = [memory_id(space, n) for n in gone]
    return Changed({"retracted": ids}, LinkRow.table, [], gone, [key])


def take_back(
    ledger: Ledger, written: Sequence[LinkRow], closed: Sequence[LinkRow], by: Request
) -> bool:
    """Undo a write: its own word stands no more; what it closed stands again, as its source's.

    Not where somebody has taken it back since.
    """
    last = max([row.stamp.n for row in written] + [row.stamp.gone_n or 0 for row in closed])
    own = [
        each
        for row in written
        for each in ledger.standing(LinkRow, row.stamp.space, row.key)
        if each.stamp.source == row.stamp.source
    ]
    for row in own:
        ledger.close(row, by.now, by.source)
    again = [
        old
        for old in closed
        if all(
            row.stamp.source != old.stamp.source
            for row in ledger.standing(LinkRow, old.stamp.space, old.key)
        )
        and not any(
            (row.stamp.gone_n or 0) > last and is_retraction(row.stamp)
            for row in ledger.known(LinkRow, old.stamp.space, old.key)
        )
    ]
    for old in again:
        stamp = ledger.stamp(old.stamp.space, by.now, by.source, old.stamp.trust)
        stamp = replace(stamp, doc=old.stamp.doc, source=old.stamp.source, prior=old.stamp.n)
        ledger.add(replace(old, stamp=stamp))
    return bool(own or again)


def _told(row: LinkRow, *, is_new: bool) -> dict[str, Any]:
    return {"id": memory_id(row.stamp.space, row.stamp.n), "is_new": is_new}
