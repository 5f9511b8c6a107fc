"""Importing a namespace: what happened there happens here, under the same numbers.

- The file is read to its end and checked before anything is written, and what is wrong is told with
  its line. Who said it, when, and what has become of it stay as they were: no run of this database
  has said it, so no promise is settled.
- Then it is written in stretches, each in one commit, that leave the namespace as it once was. So
  what was cut off is a namespace that has not come so far yet, and the same import goes on there.
- So a namespace takes a file only if what it has is what the file begins with. A second import adds
  nothing, and what was forgotten here since does not come back.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from substrate.memory import text_index
from substrate.memory.exported import STRETCH, happened
from substrate.memory.lines import (
    LONGEST_LINE,
    End,
    Gone,
    Header,
    Line,
    line_of,
    moment_of_line,
    number_of_line,
    read_line,
)
from substrate.store.ledger import Adopted, Key, Ledger, Wanted
from substrate.store.memory import Memories
from substrate.store.memory_rows import BY_NAME, Look
from substrate.values.errors import MemoryRefused, Misuse
from substrate.values.memory import (
    BallotRow,
    DecisionRow,
    FactRow,
    MotionRow,
    NoteRow,
    PolicyRow,
    Row,
    SaidRow,
    Space,
)

_AHEAD_MS = 24 * 3600 * 1000
_SINGLE = (NoteRow, PolicyRow, DecisionRow, MotionRow, BallotRow)
Progress = Callable[[int, int], None]


def header_of(file: BinaryIO) -> Header:
    """Return what a file says that it is, or raise `Misuse`."""
    file.seek(0)
    _, line = next(_lines(file, Space("", "-")), (1, None))
    if not isinstance(line, Header):
        raise Misuse("line 1: no export begins so")
    return line


async def imported(
    memory: Memories, file: BinaryIO, space: Space, now: int, progress: Progress
) -> int:
    """Import a file into a namespace; return how many of its numbers were new there.

    `progress` is told after each commit how far it has come, and how far it goes. Raises `Misuse`
    for a line that no export has, with nothing written, and `MemoryRefused` where the namespace has
    something else, or somebody has written there meanwhile.
    """
    header = header_of(file)
    await asyncio.to_thread(_check, file, space, header, now)
    counter = await memory.counter(space)
    began = min(counter.last_n, header.n)
    await _expect_the_same(memory, file, space, began)
    if space.ns != header.namespace:
        await _expect_not_forgotten(memory, file, replace(space, ns=header.namespace))
    last_n = counter.last_n
    for lines, upto in _batches(file, space, began, header.n):
        if not await memory.adopt(await _adopted(memory, space, lines, last_n, upto)):
            raise MemoryRefused(
                f"somebody has written in {space.ns!r} meanwhile, so the import has ended at "
                f"number {last_n}; import it again: it goes on if that was the same import"
            )
        last_n = upto
        progress(last_n, header.n)
    return header.n - began


def _lines(file: BinaryIO, space: Space) -> Iterator[tuple[int, Line]]:
    """Yield each line with its number, or raise `Misuse`, which names that."""
    file.seek(0)
    at = 0
    while text := file.readline(LONGEST_LINE + 1):
        at += 1
        try:
            yield at, read_line(text, space)
        except Misuse as error:
            raise Misuse(f"line {at}: {error}") from None


def _happened(file: BinaryIO, space: Space) -> Iterator[tuple[int, Row | Gone]]:
    for at, line in _lines(file, space):
        if not isinstance(line, Header | End):
            yield at, line


def _check(file: BinaryIO, space: Space, header: Header, now: int) -> None:
    """Read a file to its end; raise `Misuse` for what a database would refuse in its middle."""
    order, ended = _Order(header, now), 0
    for at, line in _lines(file, space):
        try:
            if ended or (at > 1 and isinstance(line, Header)):
                raise Misuse("another export begins here")
            if isinstance(line, End):
                if line.lines != at:
                    raise Misuse(f"the export had {line.lines} lines, and this is line {at}")
                ended = at
            elif not isinstance(line, Header):
                order.take(line)
        except Misuse as error:
            raise Misuse(f"line {at}: {error}") from None
    if not ended:
        raise Misuse("the file ends before its line with 'end'; export it anew")


class _Order:
    """What has been read so far, as far as the next line has to fit to it.

    Of each row that stands, and of each text, it has two numbers: some 200 bytes.
    """

    def __init__(self, header: Header, now: int) -> None:
        self._header = header
        self._latest = now + _AHEAD_MS
        self._n, self._row_n, self._at = 0, 0, -(1 << 62)
        self._standing: dict[int, int] = {}
        self._texts: dict[int, int] = {}
        self._single: set[int] = set()

    def take(self, line: Row | Gone) -> None:
        n, at = number_of_line(line), moment_of_line(line)
        if n < self._n or n <= self._row_n or n > self._header.n:
            raise Misuse(
                f"n={n} is not in its order: behind {self._row_n}, and {self._header.n} at most"
            )
        if at < self._at or at > self._latest:
            raise Misuse(f"the moment {at} is before that of an earlier line, or in the future")
        if isinstance(line, Gone):
            self._end(line)
        else:
            self._begin(line)
            self._row_n = n
        self._n, self._at = n, at

    def _begin(self, row: Row) -> None:
        value = row.object_key if isinstance(row, FactRow) else ""
        says = hash((row.table, row.key, value))
        if self._texts.setdefault(row.stamp.doc, says) != says:
            raise Misuse(f"doc={row.stamp.doc} says something else in an earlier line")
        mark = hash((row.table, *row.key, row.voter if isinstance(row, BallotRow) else ""))
        if isinstance(row, _SINGLE):
            if mark in self._single:
                raise Misuse(f"another one of {row.key[0]!r:.200} stands, and one does at a time")
            self._single.add(mark)
        self._standing[row.stamp.n] = mark ^ hash(row.table)

    def _end(self, gone: Gone) -> None:
        mark = self._standing.pop(gone.row_n, None)
        if mark is None:
            raise Misuse(f"gone={gone.row_n} is no row that stands there")
        self._single.discard(mark ^ hash(gone.table))


async def _expect_the_same(memory: Memories, file: BinaryIO, space: Space, upto: int) -> None:
    """Raise `MemoryRefused` where a namespace is not what a file begins with."""
    ours = happened(memory, space, upto)
    for at, line in _happened(file, space):
        if number_of_line(line) > upto:
            break
        mine = await anext(ours, None)
        if mine is None or line_of(mine) != line_of(line):
            raise _differs(space, f"not what line {at} says")
    if (mine := await anext(ours, None)) is not None:
        raise _differs(space, f"a change {number_of_line(mine)} that is not in the file")


def _differs(space: Space, what: str) -> MemoryRefused:
    return MemoryRefused(
        f"{space.ns!r} has {what}: it is another one, or something was forgotten or written there "
        "since; import it into a namespace of which there is nothing, with into"
    )


async def _expect_not_forgotten(memory: Memories, file: BinaryIO, own: Space) -> None:
    """Raise `MemoryRefused` where what was exported here was forgotten here since."""
    upto = (await memory.counter(own)).last_n
    there = (row async for row in happened(memory, own, upto) if not isinstance(row, Gone))
    mine = await anext(there, None)
    for at, line in _happened(file, own):
        if isinstance(line, Gone) or line.stamp.n > upto:
            continue
        while mine is not None and mine.stamp.n < line.stamp.n:
            mine = await anext(there, None)
        if mine is None or mine.stamp.n > line.stamp.n:
            raise MemoryRefused(
                f"line {at}: {own.ns!r} has had a row {line.stamp.n}, and has it no more: it was "
                "forgotten since; export it as it is now, and import that"
            )
        if line_of(mine) != line_of(line):
            return  # another database's namespace has the same name


def _batches(
    file: BinaryIO, space: Space, began: int, last_n: int
) -> Iterator[tuple[Sequence[Row | Gone], int]]:
    """Yield what goes into each commit, and to which number; what has one number goes together."""
    batch: list[Row | Gone] = []
    for _, line in _happened(file, space):
        n = number_of_line(line)
        if n <= began:
            continue
        if len(batch) >= STRETCH and n > number_of_line(batch[-1]):
            yield batch, number_of_line(batch[-1])
            batch = []
        batch.append(line)
    if batch or began < last_n:
        yield batch, last_n


async def _adopted(
    memory: Memories, space: Space, lines: Sequence[Row | Gone], began: int, upto: int
) -> Adopted:
    """Return what one commit writes, if the namespace still is where it began."""
    keys: dict[str, set[Key]] = {FactRow.table: set(), NoteRow.table: set()}
    numbers: dict[str, list[int]] = {}
    for line in lines:
        if isinstance(line, Gone):
            if line.row_n <= began:
                numbers.setdefault(line.table, []).append(line.row_n)
        elif isinstance(line, NoteRow) or (
            isinstance(line, FactRow) and line.stamp.doc < line.stamp.n
        ):
            keys[line.table].add(line.key)
    for table, found in keys.items():
        # Whether it was the last that says so, all that stand of it tell.
        asked = numbers.pop(table, [])
        look = Look(space, table, {}, {"n": asked}, limit=len(asked))
        found |= {row.key for row in (await memory.rows(look) if asked else ())}

    def decide(ledger: Ledger) -> bool:
        if ledger.last_n(space) != began:
            return False
        # What comes before what goes by it: its text may go on in what comes.
        for line in sorted(lines, key=lambda each: (number_of_line(each), isinstance(each, Gone))):
            if isinstance(line, Gone):
                _end(ledger, space, line)
            else:
                _begin(ledger, line)
        ledger.advance(space, upto)
        return True

    wanted = {table: sorted(found) for table, found in keys.items()}
    return Adopted(Wanted(space, wanted, numbers), decide)


def _begin(ledger: Ledger, row: Row) -> None:
    """Write a row, and its text into the index."""
    space = row.stamp.space
    if isinstance(row, NoteRow):
        versions = ledger.standing(NoteRow, space, row.key)
        old = versions[-1] if versions else None
        words = text_index.change(ledger, old, row) if old else text_index.enter(ledger, row)
        row = replace(row, words=0 if row.body is None else words)
    elif isinstance(row, FactRow):
        standing = ledger.standing(FactRow, space, row.key)
        if all(each.stamp.doc != row.stamp.doc for each in standing):
            text_index.enter(ledger, row)
    elif isinstance(row, SaidRow):
        text_index.enter(ledger, row)
    elif isinstance(row, PolicyRow):
        ledger.declare(space)
    ledger.adopt(row)


def _end(ledger: Ledger, space: Space, gone: Gone) -> None:
    """Let a row stand no more; with the last one of its text that leaves the index."""
    row = ledger.row(BY_NAME[gone.table].row, space, gone.row_n)
    if row is None:
        raise Misuse(f"{space.ns}#{gone.row_n} does not stand")
    ledger.adopt_end(row, gone.n, gone.at, gone.by)
    if not isinstance(row, NoteRow | SaidRow | FactRow):
        return
    # A note's next version has changed its text in the index; a fact's other sources still say it.
    left = ledger.standing(type(row), space, row.key)
    if all(each.stamp.doc != row.stamp.doc for each in left):
        text_index.leave(ledger, row, gone.n)
