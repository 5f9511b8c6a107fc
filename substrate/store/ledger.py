"""The ledger of one transaction of memory: what stands where it writes, and what it changes.

A store locks the namespaces, reads what the writes of a batch speak of, lets each of them decide in
turn, and writes what has changed, with their promises, in one commit. What a write decides is not
the store's affair: see `substrate.memory`.

- Each write sees what those before it in the batch have done.
- Each row that comes has a number of its namespace, and those of one write follow each other. What
  it closes is gone from the first of them on; a write that only closes takes one for that. It is
  committed whole, so a reader is told its last number, and never one in its middle.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from substrate.values.memory import Counter, Posting, Row, Space, Stamp, TermCount, Trust
from substrate.values.records import Fence, Promise

Key: TypeAlias = tuple[str, ...]
T = TypeVar("T", bound=Row)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a write has to know before it decides, all of it in one namespace."""

    space: Space
    #: The standing rows of these keys, by table.
    keys: Mapping[str, Sequence[Key]]
    #: Rows of these numbers, whether they stand or not, by table; and then of the keys also what
    #: was gone since the first of them.
    numbers: Mapping[str, Sequence[int]]
    #: Of which predicate all facts that disagree are wanted, and all that was decided.
    disputes_of: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """One write of memory, and the promise that it settles in the same commit."""

    fence: Fence
    #: The promise, still without its outcome.
    promise: Promise
    wanted: Wanted
    #: Changes the ledger, and returns the promise with its outcome.
    decide: "Callable[[Ledger], Promise]"


@dataclass(frozen=True, slots=True)
class Adopted:
    """Rows that have their numbers and sources already, so no promise is settled with them."""

    wanted: Wanted
    #: Changes the ledger; False where it cannot, and then nothing is written.
    decide: "Callable[[Ledger], bool]"


class Ledger:
    """What stands, and what was changed: made by a store, changed by writes, then written."""

    def __init__(self, counters: Iterable[Counter], rows: Iterable[Row]) -> None:
        self._counters = {counter.space: counter for counter in counters}
        self._began = {counter.space: counter.last_n for counter in self._counters.values()}
        self._known: dict[tuple[Space, str, int], Row] = {}
        self._standing: dict[tuple[Space, str, Key], list[Row]] = {}
        self._new: set[tuple[Space, str, int]] = set()
        self._gone: set[tuple[Space, str, int]] = set()
        self._postings: dict[tuple[Space, str, int], Posting] = {}
        self._ended: list[Posting] = []
        #: The first number of each write, by who writes.
        self._first: dict[tuple[Space, str], int] = {}
        #: Of these, those that no row has yet: they were taken to close.
        self._free: set[tuple[Space, str]] = set()
        for row in rows:
            self._enter(row)

    def standing(self, kind: type[T], space: Space, key: Key) -> list[T]:
        """Return the rows of a key that are not gone, oldest first."""
        found = self._standing.get((space, kind.table, key), [])
        return [row for row in found if isinstance(row, kind)]

    def known(self, kind: type[T], space: Space, key: Key) -> list[T]:
        """Return the rows of a key that stand, and those that are gone and were asked for."""
        found = (row for place, row in self._known.items() if place[0] == space)
        rows = [row for row in found if isinstance(row, kind) and row.key == key]
        return sorted(rows, key=lambda row: row.stamp.n)

    def keys(self, kind: type[T], space: Space) -> Sequence[Key]:
        """Return the keys of which it is known what stands."""
        return [
            key for place, table, key in self._standing if (place, table) == (space, kind.table)
        ]

    def row(self, kind: type[T], space: Space, n: int) -> T | None:
        """Return the row of a number, whether it stands or not, if it was asked for."""
        found = self._known.get((space, kind.table, n))
        return found if isinstance(found, kind) else None

    def now(self, space: Space, now: int) -> int:
        """Return the moment of a change: never earlier than the last one of the namespace."""
        return max(now, self._counters[space].last_at)

    def stamp(self, space: Space, now: int, source: str, trust: Trust) -> Stamp:
        """Take the next number; return the stamp of a row that says something new."""
        n, at = self._take(space, now, source)
        self._free.discard((space, source))
        return Stamp(space, n, n, at, source, source, trust)

    def add(self, row: Row) -> None:
        """Write a row."""
        self._new.add((row.stamp.space, row.table, row.stamp.n))
        self._enter(row)

    def close(self, row: Row, now: int, by: str) -> int:
        """Let a row stand no more, from the first number of this write on, which is returned."""
        stamp = row.stamp
        if (stamp.space, by) not in self._first:
            self._take(stamp.space, now, by)
            self._free.add((stamp.space, by))
        gone_n, gone_at = self._first[stamp.space, by], self.now(stamp.space, now)
        if stamp.n >= gone_n:  # this write has added it
            gone_n, gone_at = self._take(stamp.space, now, by)
        self._end(row, gone_n, gone_at, by)
        return gone_n

    def last_n(self, space: Space) -> int:
        """Return how far a namespace has come."""
        return self._counters[space].last_n

    def adopt(self, row: Row) -> None:
        """Write a row under the number and the moment that it has already."""
        self.advance(row.stamp.space, row.stamp.n, row.stamp.recorded_at)
        self.add(row)

    def adopt_end(self, row: Row, gone_n: int, gone_at: int, by: str) -> None:
        """Let a row stand no more, by a change that has its number and its moment already."""
        self.advance(row.stamp.space, gone_n, gone_at)
        self._end(row, gone_n, gone_at, by)

    def advance(self, space: Space, n: int, at: int = 0) -> None:
        """Let a namespace have come to a number, at a moment."""
        counter = self._counters[space]
        self._counters[space] = replace(
            counter, last_n=max(counter.last_n, n), last_at=max(counter.last_at, at)
        )

    def count(self, space: Space, docs: int, words: int) -> None:
        """Count texts, and their words, that come into the index or leave it."""
        counter = self._counters[space]
        self._counters[space] = replace(
            counter, docs=max(counter.docs + docs, 0), words=max(counter.words + words, 0)
        )

    def declare(self, space: Space) -> None:
        """Count a policy: from now on it is looked for in this namespace."""
        counter = self._counters[space]
        self._counters[space] = replace(counter, declared=counter.declared + 1)

    def post(self, posting: Posting) -> None:
        """Let a word stand in a text."""
        self._postings[posting.space, posting.term, posting.doc] = posting

    def unpost(self, space: Space, term: str, doc: int, gone_n: int) -> None:
        """Let a word stand in a text no more."""
        was = self._postings.pop((space, term, doc), None)
        if was is None:
            self._ended.append(Posting(space, term, doc, 0, 0, 0, "", gone_n))
        elif was.n < gone_n:
            self._ended.append(replace(was, gone_n=gone_n))

    @property
    def counters(self) -> Sequence[Counter]:
        """The namespaces as they are now; nobody waits for the change that has just come."""
        followed = set(self.followed)
        return [
            replace(counter, followed=0) if counter.space in followed else counter
            for counter in self._counters.values()
        ]

    @property
    def followed(self) -> Sequence[Space]:
        """The namespaces that have changed, and for whose change somebody waits."""
        return [
            space
            for space, counter in self._counters.items()
            if counter.followed and counter.last_n > self._began[space]
        ]

    @property
    def added(self) -> Sequence[Row]:
        """The new rows, in the order of their numbers; some may be gone again."""
        return [self._known[place] for place in sorted(self._new, key=lambda place: place[2])]

    @property
    def gone(self) -> Sequence[Row]:
        """The rows that were there and stand no more."""
        return [self._known[place] for place in sorted(self._gone, key=lambda place: place[2])]

    @property
    def posted(self) -> Sequence[Posting]:
        """The words that have come, also those that are gone again."""
        return [*self._postings.values(), *(each for each in self._ended if each.n)]

    @property
    def ended(self) -> Sequence[Posting]:
        """The words that were there and stand no more."""
        return [each for each in self._ended if not each.n]

    @property
    def counted(self) -> Sequence[TermCount]:
        """In how many more texts each word stands, or how many fewer."""
        found: dict[tuple[Space, str], TermCount] = {}
        posted = [(each, int(each.gone_n is None), 1 << each.band) for each in self.posted]
        for each, docs, bands in (*posted, *((each, -1, 0) for each in self.ended)):
            place = each.space, each.term
            was = found.get(place) or TermCount(*place, 0, 0)
            found[place] = replace(was, docs=was.docs + docs, bands=was.bands | bands)
        return [found[place] for place in sorted(found)]

    def _end(self, row: Row, gone_n: int, gone_at: int, by: str) -> None:
        stamp, table = row.stamp, row.table
        gone = replace(stamp, gone_n=gone_n, gone_at=gone_at, gone_by=by)
        place = (stamp.space, table, stamp.n)
        self._known[place] = replace(row, stamp=gone)
        self._standing[stamp.space, table, row.key].remove(row)
        if place not in self._new:
            self._gone.add(place)

    def _take(self, space: Space, now: int, by: str) -> tuple[int, int]:
        """Return the number of a write's next row, and the moment of it."""
        counter = self._counters[space]
        n = counter.last_n if (space, by) in self._free else counter.last_n + 1
        self._counters[space] = replace(counter, last_n=n, last_at=max(now, counter.last_at))
        self._first.setdefault((space, by), n)
        return n, self._counters[space].last_at

    def _enter(self, row: Row) -> None:
        stamp = row.stamp
        place = (stamp.space, row.table, stamp.n)
        if place in self._known and place not in self._new:
            return
        self._known[place] = row
        if stamp.gone_n is None:
            self._standing.setdefault((stamp.space, row.table, row.key), []).append(row)
