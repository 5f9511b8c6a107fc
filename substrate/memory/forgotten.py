"""Forgetting for good: which rows go, and whose journals have to do with them.

- A note goes whole, since each version has the text of those before it. A fact or a link goes with
  all its rows; what came from one run, without those of other sources.
- A run that has written or read what goes loses all contents of its tree: what it was told, asked
  and answered may say the same anywhere. What its rows say of keys, states, times and costs stays.
- Rows of memory go first, in one commit with the tombstone, so that nobody reads them any more;
  then tree after tree, then the bytes in the file. Begun again it goes on where it was.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from substrate.memory.canonical import folded, object_key
from substrate.memory.text_index import text_of
from substrate.memory.told import along_with, is_about, words_of
from substrate.memory.writes import TAKE_BACK, WRITES
from substrate.store.memory_rows import TABLES, Look
from substrate.store.store import Store
from substrate.values.errors import NotForgotten, RunNotFound
from substrate.values.forgetting import Cut, Forget, ForgetKind, Forgetting, Tombstone
from substrate.values.ids import RunId, root_of
from substrate.values.memory import (
    Counter,
    FactRow,
    LinkRow,
    NoteRow,
    Row,
    SaidRow,
    Space,
    memory_id,
)
from substrate.values.records import Promise

_READS = frozenset(
    {"note", "notes", "facts", "links", "recall", "walk", "path", "changes", "dispute"}
)
_STEPS = _READS | frozenset(WRITES) | {TAKE_BACK}
_NAMED = ("subject", "subject_key", "a", "a_key", "b", "b_key", "start", "to", "topic", "voter")
_TRIES = 20  # in which somebody else writes there meanwhile
_ALL = 10_000_000
_SHORTEST = 20  # characters: what is shorter tells little of anybody, and stands everywhere
_LONGEST = 60
_MOST_TEXTS = 200
_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # what JSON writes otherwise, the more often it is nested


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What goes, as it was found."""

    asked: Forget
    cuts: Sequence[Cut]
    rows: Sequence[Row]
    #: Other rows of the namespaces: what may mention it.
    others: Sequence[Row]
    #: Of which trees the rows speak: who said, wrote or took back.
    roots: frozenset[RunId]


async def look(store: Store, asked: Forget) -> Forgetting:
    """Return what would be forgotten; nothing is changed."""
    chosen = await _choose(store, asked)
    found = await _search(store, _Search.of(chosen))
    counts: dict[str, int] = {}
    for row in chosen.rows:
        counts[row.table] = counts.get(row.table, 0) + 1
    return _told(None, counts, chosen, found)


async def forget(store: Store, asked: Forget, *, everywhere: bool) -> Forgetting:
    """Forget it, when what was begun before has ended; see `Client.forget`."""
    for begun in await store.forgetting.unfinished():
        await _finish(store, begun)
    for _ in range(_TRIES):
        chosen = await _choose(store, asked)
        found = await _search(store, _Search.of(chosen))
        if everywhere:
            found = await found.with_elsewhere(store)
        if found.living:
            raise NotForgotten(
                f"nothing was changed: {_some(found.living)} may go on, and has to do with what "
                "is to be forgotten; end it (`cancel`, or `discard` where it is dead or paused), "
                "then forget again"
            )
        id_ = uuid4().hex
        roots = sorted(found.touched)
        begun = Tombstone(id_, asked.tenant, asked.kind, chosen.cuts, roots)
        now = store.clock.now_ms()
        if await store.forgetting.begin(begun, now):
            counts, left = await _finish(store, begun)
            return _told(id_, counts, chosen, found, left)
    raise NotForgotten(
        f"nothing was changed: {asked.namespace!r} is written all the time; stop its writers, then "
        "forget again"
    )


async def _finish(store: Store, tombstone: Tombstone) -> tuple[Mapping[str, int], Sequence[str]]:
    """Do what is left to do of a forgetting; return what is counted, and what is left in files."""
    now = store.clock.now_ms()
    # What was read between the search and the deletion has an id, as all that was read has.
    found = await _search(store, _Search.again(tombstone))
    living: list[RunId] = []
    for root in sorted(found.touched):
        while not (is_all := await store.forgetting.empty(tombstone.id, root)):
            if is_all is None:
                living += await store.forgetting.open_runs(root)
                break
    if living:
        raise NotForgotten(
            f"{_some(living)} has read what is forgotten, and may go on: the rows of memory are "
            "gone, its journal is not; end it (`cancel`, or `discard` where it is dead or paused), "
            "then forget again"
        )
    left = await store.forgetting.scrub()
    return await store.forgetting.end(tombstone.id, max(now, store.clock.now_ms())), left


def _told(
    id_: str | None,
    counts: Mapping[str, int],
    chosen: _Chosen,
    found: "_Found",
    left: Sequence[str] = (),
) -> Forgetting:
    return Forgetting(
        id_,
        counts,
        sorted(found.touched),
        found.living,
        sorted(found.elsewhere),
        _mentions(chosen),
        left,
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return ", ".join(map(repr, ids[:5])) + more


async def _choose(store: Store, asked: Forget) -> _Chosen:
    """Look which rows go."""
    cuts, gone, others = [], [], []
    async for counter in _spaces(store, asked):
        rows = [row async for row in _rows(store, counter)]
        if asked.kind is ForgetKind.NAMESPACE:
            cuts.append(Cut(counter.space.ns, counter.last_n))
            gone += rows
            continue
        numbers = _numbers(asked, rows)
        if not numbers and asked.kind is ForgetKind.RUN:
            continue
        chosen = [row for row in rows if row.stamp.n in numbers]
        docs = sorted({row.stamp.doc for row in chosen if not isinstance(row, LinkRow)})
        cuts.append(Cut(counter.space.ns, counter.last_n, sorted(numbers), docs))
        gone += chosen
        others += [row for row in rows if row.stamp.n not in numbers]
    roots = {root_of(id_) for row in gone for id_ in _said_by(row)}
    if asked.run is not None:
        # What came from a run may be there without it; where neither is, its id was mistyped.
        if not gone and await store.get(asked.run) is None:
            raise RunNotFound(f"there is no run {asked.run!r}; `runs` lists those there are")
        roots.add(asked.run)
    return _Chosen(asked, cuts, gone, others, frozenset(roots))


async def _spaces(store: Store, asked: Forget) -> AsyncIterator[Counter]:
    """Yield the namespaces in which something may go."""
    if asked.run is None and not asked.is_below:
        yield await store.memory.counter(Space(asked.tenant, asked.namespace))
        return
    for counter in await store.memory.counters(asked.namespace, _ALL, asked.tenant):
        ns = counter.space.ns
        is_within = ns == asked.namespace or ns.startswith(f"{asked.namespace}/")
        if not counter.space.branch and (asked.run is not None or is_within):
            yield counter


async def _rows(store: Store, counter: Counter) -> AsyncIterator[Row]:
    for table in TABLES:
        for row in await store.memory.rows(Look(counter.space, table.name, {}, limit=_ALL)):
            yield row


def _numbers(asked: Forget, rows: Sequence[Row]) -> set[int]:
    """Return the numbers of the rows that go of a namespace."""
    found: list[Row]
    match asked.kind:
        case ForgetKind.SUBJECT:
            key, value = folded(asked.name), object_key(asked.name)
            found = [row for row in rows if _is_about(row, key, value)]
        case ForgetKind.NOTE:
            found = [row for row in rows if isinstance(row, NoteRow) and row.name == asked.name]
        case ForgetKind.ROW:
            docs = {(row.table, row.stamp.doc) for row in rows if row.stamp.n == asked.n}
            found = [row for row in rows if (row.table, row.stamp.doc) in docs]
        case _:
            found = [row for row in rows if root_of(row.stamp.source) == asked.run]
    numbers = {row.stamp.n for row in found}
    notes = [row for row in rows if isinstance(row, NoteRow)]
    return numbers | _whole_notes(notes, numbers) | set(along_with(rows, numbers))


def _is_about(row: Row, key: str, value: str) -> bool:
    """Whether a row speaks of a subject: it says something of it, or has it as its value."""
    if isinstance(row, FactRow):
        return row.subject_key == key or row.object_key == value
    if isinstance(row, LinkRow):
        return key in (row.a_key, row.b_key)
    return not isinstance(row, NoteRow | SaidRow) and is_about(row, key, value)


def _whole_notes(notes: Sequence[NoteRow], numbers: set[int]) -> set[int]:
    """Return the numbers of all versions of notes of which one goes, under whatever name."""
    group: dict[int, int] = {}

    def top(each: int) -> int:
        while group.setdefault(each, each) != each:
            each = group[each]
        return each

    for row in notes:
        for near in (row.stamp.doc, row.stamp.prior or row.stamp.n):
            group[top(near)] = top(row.stamp.n)
    gone = {top(row.stamp.n) for row in notes if row.stamp.n in numbers}
    return {row.stamp.n for row in notes if top(row.stamp.n) in gone}


def _said_by(row: Row) -> Iterator[str]:
    yield row.stamp.source
    yield row.stamp.writer
    if row.stamp.gone_by is not None:
        yield row.stamp.gone_by


def _texts(rows: Iterable[Row]) -> Iterator[str]:
    """Yield what rows say, text by text."""
    for row in rows:
        if isinstance(row, LinkRow):
            yield row.a
            yield row.b
        elif isinstance(row, FactRow):
            yield row.subject
            yield from _strings(orjson.loads(row.object))
        elif isinstance(row, NoteRow | SaidRow):
            yield row.body or ""
        else:
            text, value = words_of(row)
            yield text
            yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _pieces(rows: Iterable[Row]) -> list[str]:
    """Return of each long text a piece that JSON writes as it is, however often it is nested."""
    found = {
        max(_ESCAPED.split(text), key=len)[:_LONGEST] for text in _texts(rows) if len(text) > 9
    }
    long = [each for each in found if len(each.strip()) >= _SHORTEST]
    return sorted(long, key=lambda each: (-len(each), each))[:_MOST_TEXTS]


def _mentions(chosen: _Chosen) -> list[str]:
    """Return the ids of what stays in the namespaces, and has the name or a text of what goes."""
    name = folded(chosen.asked.name) if chosen.asked.kind is ForgetKind.SUBJECT else ""
    pieces = [folded(each) for each in _pieces(chosen.rows)]
    told = []
    for row in chosen.others:
        said = text_of(row) if isinstance(row, NoteRow | FactRow | SaidRow) else None
        text = folded(said or " ".join(_texts([row])))
        if (name and name in text) or any(each in text for each in pieces):
            told.append(memory_id(row.stamp.space, row.stamp.n))
    return told


@dataclass(frozen=True, slots=True)
class _Search:
    """By what a journal is known to have to do with what goes."""

    #: Of which namespaces, up to which number, and which numbers; None: each of them.
    ids: Mapping[str, tuple[int, frozenset[int] | None]]
    roots: frozenset[RunId]
    #: Whose runs are looked through: another tenant's namespaces may have the same names.
    tenant: str
    asked: Forget | None = None
    #: The names of notes that go.
    notes: frozenset[str] = frozenset()
    #: Texts that are looked for elsewhere.
    pieces: Sequence[str] = ()

    @classmethod
    def of(cls, chosen: _Chosen) -> "_Search":
        """By ids, by what was asked, and by texts."""
        notes = frozenset(row.name for row in chosen.rows if isinstance(row, NoteRow))
        pieces = _pieces(chosen.rows)
        tenant = chosen.asked.tenant
        return cls(_ids(chosen.cuts), chosen.roots, tenant, chosen.asked, notes, pieces)

    @classmethod
    def again(cls, tombstone: Tombstone) -> "_Search":
        """By ids alone: the rows are gone."""
        return cls(_ids(tombstone.cuts), frozenset(tombstone.roots), tombstone.tenant)

    @property
    def patterns(self) -> Sequence["re.Pattern[str]"]:
        """How ids are written, in a text or in JSON within one, where an n is the end of a line."""
        return [
            re.compile(rf"(?:(?<![A-Za-z0-9._:@/-])|(?<=\\[bfnrt]))({re.escape(ns)})#(\d{{1,16}})")
            for ns in self.ids
        ]

    def is_id(self, ns: str, n: int) -> bool:
        """Whether this is the id of something that goes."""
        last_n, numbers = self.ids[ns]
        return n <= last_n if numbers is None else n in numbers

    def is_asked(self, promise: Promise) -> bool:
        """Whether a step of memory has asked for what goes, whatever it has found."""
        asked = self.asked
        if asked is None or promise.name not in _STEPS or promise.input is None:
            return False
        try:
            ask = orjson.loads(promise.input)
        except ValueError:
            return False
        if not isinstance(ask, dict) or ask.get("namespace") not in self.ids:
            return False
        # Whoever lost a race for a note was told its text, and no id.
        if asked.kind is ForgetKind.NAMESPACE or not self.notes.isdisjoint(
            each for each in (ask.get("name"), ask.get("to")) if isinstance(each, str)
        ):
            return True
        if asked.kind is not ForgetKind.SUBJECT:
            return False
        names = [ask[each] for each in _NAMED if isinstance(ask.get(each), str)]
        return folded(asked.name) in map(folded, names)


def _ids(cuts: Sequence[Cut]) -> Mapping[str, tuple[int, frozenset[int] | None]]:
    return {
        cut.ns: (cut.last_n, None if cut.numbers is None else frozenset(cut.numbers))
        for cut in cuts
    }


@dataclass(slots=True)
class _Found:
    touched: set[RunId] = field(default_factory=set)
    living: list[str] = field(default_factory=list)
    elsewhere: set[RunId] = field(default_factory=set)

    async def with_elsewhere(self, store: Store) -> "_Found":
        """Return it with the other runs, in which a text stands, among those that are emptied."""
        for root in sorted(self.elsewhere):
            self.living += await store.forgetting.open_runs(root)
        return _Found(self.touched | self.elsewhere, self.living)


async def _search(store: Store, search: _Search) -> _Found:
    """Look through all journals."""
    found = _Found()
    after = ""
    patterns = search.patterns
    while roots := await store.forgetting.roots(search.tenant, after):
        for root in roots:
            is_touched, holds = root in search.roots, False
            if not is_touched:
                is_touched, holds = await _look_through(store, root, search, patterns)
            if is_touched:
                found.touched.add(root)
                found.living += await store.forgetting.open_runs(root)
            elif holds:
                found.elsewhere.add(root)
        after = roots[-1]
    return found


async def _look_through(
    store: Store, root: RunId, search: _Search, patterns: Sequence["re.Pattern[str]"]
) -> tuple[bool, bool]:
    """Return whether a tree has to do with what goes, and whether a text of it stands there."""
    holds = False
    async for promise in _tree(store, root):
        if search.is_asked(promise):
            return True, False
        for text in _payloads(promise):
            if _names(text, search, patterns):
                return True, False
            holds = holds or any(piece in text for piece in search.pieces)
    for text in await store.forgetting.beside(root):
        if _names(text, search, patterns):
            return True, False
        holds = holds or any(piece in text for piece in search.pieces)
    return False, holds


def _names(text: str, search: _Search, patterns: Sequence["re.Pattern[str]"]) -> bool:
    return "#" in text and any(
        search.is_id(each[1], int(each[2])) for way in patterns for each in way.finditer(text)
    )


async def _tree(store: Store, root: RunId) -> AsyncIterator[Promise]:
    after = ""
    while page := await store.forgetting.promises(root, after):
        for promise in page:
            yield promise
        after = page[-1].id


def _payloads(promise: Promise) -> Iterator[str]:
    for text in (promise.input, promise.value, promise.error, promise.attempts, promise.undo):
        if text is not None:
            yield text
