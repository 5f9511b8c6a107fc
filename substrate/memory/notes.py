"""Notes: named texts that agents edit, one version after the other.

Nobody overwrites what he has not seen: a whole text is written over a version that is named, and
who names an older one gets the newer text back, to merge. An edit of a part is made to the text as
it is, in the transaction that writes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory import text_index
from substrate.memory.outcome import Changed, Outcome, Refusal, Request
from substrate.store.ledger import Ledger
from substrate.values.memory import NoteRow, Space, Trust, memory_id

LONGEST = 64 * 1024
"""How many bytes of UTF-8 the text of a note may have."""


def write(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Write a whole text, over the version that is given; 0 is a note that is not there."""
    return _changed(ledger, space, ask, by, lambda text: ask["text"], over=ask["version"])


def append(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Put a text at the end, on a line of its own; the note is made where it is not there."""

    def appended(text: str | None) -> str:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text or ''}{gap}{ask['text']}"

    return _changed(ledger, space, ask, by, appended, over=None)


def substitute(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Put a text in the place of another one, which stands there exactly once."""

    def substituted(text: str | None) -> str | Refusal:
        if text is None:
            return _missing(ask["name"])
        at = text.find(ask["old"])
        # From the next character on: "aa" stands twice in "aaa".
        if at < 0 or text.find(ask["old"], at + 1) >= 0:
            how_often = "does not stand" if at < 0 else "stands more than once"
            return Refusal(
                "MemoryRefused",
                f"{ask['old']!r:.200} {how_often} in the note {ask['name']!r}; give a text that "
                "stands there exactly once",
            )
        return f"{text[:at]}{ask['new']}{text[at + len(ask['old']) :]}"

    return _changed(ledger, space, ask, by, substituted, over=None)


def insert(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Put a text behind a line; 0 is before the first."""

    def inserted(text: str | None) -> str | Refusal:
        if text is None:
            return _missing(ask["name"])
        lines = text.split("\n")
        if ask["line"] > len(lines):
            return Refusal(
                "MemoryRefused",
                f"the note {ask['name']!r} has {len(lines)} lines, so nothing stands behind line "
                f"{ask['line']}; give 0 to {len(lines)}",
            )
        # The end of its own last line would be a line more.
        new = ask["text"].removesuffix("\n")
        return "\n".join([*lines[: ask["line"]], new, *lines[ask["line"] :]])

    return _changed(ledger, space, ask, by, inserted, over=None)


def delete(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Delete a note: its versions stay, and nobody finds it any more."""
    return _changed(
        ledger,
        space,
        ask,
        by,
        lambda text: None if text is not None else _missing(ask["name"]),
        over=ask.get("version"),
    )


def rename(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Give a note another name, which none has."""
    old, there = current(ledger, space, ask["name"]), current(ledger, space, ask["to"])
    if old is None or old.body is None:
        return _missing(ask["name"])
    if there is not None and there.body is not None:
        return Refusal("MemoryRefused", f"there is a note {ask['to']!r} already; name another one")
    _close(ledger, old, by)
    closed = [old.stamp.n]
    if there is not None:  # deleted: its versions go on
        ledger.close(there, by.now, by.source)
        closed.append(there.stamp.n)
    trust = Trust(ask["trust"])
    row = _row(ledger, space, ask["to"], old.body, there, by=by, trust=trust)
    version = max(old.version, 0 if there is None else there.version) + 1
    row = replace(row, version=version, stamp=replace(row.stamp, prior=old.stamp.n))
    row = replace(row, words=text_index.enter(ledger, row))
    mark = _row(ledger, space, old.name, None, old, by=by, trust=trust)
    for each in (row, mark):
        ledger.add(each)
    added = [row.stamp.n, mark.stamp.n]
    return Changed(_told(row), row.table, added, closed, [(old.name,), (row.name,)])


def current(ledger: Ledger, space: Space, name: str) -> NoteRow | None:
    """Return the version that stands, which may say that the note was deleted."""
    found = ledger.standing(NoteRow, space, (name,))
    return found[-1] if found else None


def _changed(
    ledger: Ledger,
    space: Space,
    ask: Mapping[str, Any],
    by: Request,
    edit: Callable[[str | None], "str | Refusal | None"],
    *,
    over: int | None,
) -> Outcome:
    name, old = ask["name"], current(ledger, space, ask["name"])
    text = None if old is None else old.body
    if over is not None and over != (0 if old is None or text is None else old.version):
        return _lost(name, old)
    body = edit(text)
    if isinstance(body, Refusal):
        return body
    if body is not None and len(body.encode()) > LONGEST:
        return Refusal(
            "MemoryRefused",
            f"the note {name!r} would have {len(body.encode())} bytes, and a note ends at "
            f"{LONGEST}; begin another one, or shorten it",
        )
    if old is not None and body == text:
        return Changed(_told(old), old.table)
    if old is not None:
        ledger.close(old, by.now, by.source)
    row = _row(ledger, space, name, body, old, by=by, trust=Trust(ask["trust"]))
    words = text_index.enter(ledger, row) if old is None else text_index.change(ledger, old, row)
    row = replace(row, words=words if body is not None else 0)
    ledger.add(row)
    closed = [] if old is None else [old.stamp.n]
    return Changed(_told(row), row.table, [row.stamp.n], closed, [(name,)])


def _row(
    ledger: Ledger,
    space: Space,
    name: str,
    body: str | None,
    old: NoteRow | None,
    *,
    by: Request,
    trust: Trust,
) -> NoteRow:
    stamp = ledger.stamp(space, by.now, by.source, trust)
    if old is not None:
        stamp = replace(stamp, doc=old.stamp.doc, prior=old.stamp.n)
    return NoteRow(stamp, name, 1 if old is None else old.version + 1, body, 0)


def _close(ledger: Ledger, row: NoteRow, by: Request) -> None:
    """Close a note's row, and take its text out of the index."""
    text_index.leave(ledger, row, ledger.close(row, by.now, by.source))


def take_back(
    ledger: Ledger, written: Sequence[NoteRow], closed: Sequence[NoteRow], by: Request
) -> bool:
    """Undo a write: what it wrote stands no more, and what it replaced stands again.

    Nothing is done where somebody has written since. `written` and `closed` are its rows as they
    are by now.
    """
    added = [row for each in written if (row := _still(ledger, each))]
    if not written or len(added) < len(written):
        return False
    before = {row.name: row for row in closed}
    for row in added:
        _close(ledger, row, by)
        old = before.get(row.name)
        # Without one before it a mark takes its place, so that the versions of the name go on.
        body, trust = (None, row.stamp.trust) if old is None else (old.body, old.stamp.trust)
        back = _row(ledger, row.stamp.space, row.name, body, row, by=by, trust=trust)
        if old is not None:
            stamp = replace(back.stamp, source=old.stamp.source, prior=old.stamp.n)
            back = replace(back, stamp=stamp)
        ledger.add(replace(back, words=text_index.enter(ledger, back)))
    return True


def _still(ledger: Ledger, row: NoteRow) -> NoteRow | None:
    """Return the version that says this still, as its source's word; None where none does.

    That is another row where it had been replaced, and an undo has put it back.
    """
    found = current(ledger, row.stamp.space, row.name)
    if found is None or (found.stamp.source, found.body) != (row.stamp.source, row.body):
        return None
    return found


def _told(row: NoteRow) -> dict[str, Any]:
    stamp = row.stamp
    return {
        "id": memory_id(stamp.space, stamp.n),
        "name": row.name,
        "version": row.version,
    }


def _missing(name: str) -> Refusal:
    return Refusal("MemoryRefused", f"there is no note {name!r}; list the notes for their names")


def _lost(name: str, old: NoteRow | None) -> Refusal:
    if old is None or old.body is None:
        message = f"there is no note {name!r} any more; write it with over=0 to begin it anew"
        return Refusal("NoteChanged", message, {"name": name, "version": 0, "text": None})
    return Refusal(
        "NoteChanged",
        f"the note {name!r} has version {old.version} by now, written by {old.stamp.writer!r}; "
        "merge its text, which this error has, and write it over that version",
        {"name": name, "version": old.version, "text": old.body},
    )
