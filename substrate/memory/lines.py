"""An exported namespace, line by line: one JSON object each, in the order of what happened.

::

    {"ostinato_memory":1,"namespace":"acme/anna","n":3}
    {"n":1,"kind":"facts","doc":1,"subject":"Anna","predicate":"lives_in","object":"Bonn",…}
    {"gone":1,"kind":"facts","n":3,"at":1764400000000,"by":"report/2#remember.0"}
    {"end":4}

A row comes at its number, and what became of it at the number by which it was gone. So whoever
reads up to any line knows what was known then, and holds no more than that line. What follows from
a row (canonical forms, words of the index, vectors) is not in a line: it is made anew.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from substrate.memory import asks
from substrate.memory.canonical import folded, object_key
from substrate.store.memory_rows import BY_NAME
from substrate.values.codec import decode, encode
from substrate.values.errors import Forgotten, InvalidId, Misuse, NotEncodable
from substrate.values.memory import (
    DecisionRow,
    FactRow,
    LinkRow,
    MotionRow,
    MotionState,
    NoteRow,
    Policy,
    Row,
    Space,
    Stamp,
    Trust,
    check_namespace,
)
from substrate.values.number import is_whole
from substrate.values.records import JsonText

VERSION = 1
LONGEST_LINE = 2_000_000
"""Bytes: more than any row has."""

_GIVEN = ("doc", "recorded_at", "source", "writer", "trust", "prior")
_MADE = frozenset(("subject_key", "object_key", "a_key", "b_key", "words"))
_LONGEST_ID = 1000


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: what was exported, and how far it had come."""

    namespace: str
    n: int


@dataclass(frozen=True, slots=True)
class Gone:
    """That a row counted no more."""

    table: str
    #: The row's number.
    row_n: int
    #: By which change, when in ms, and by which promise.
    n: int
    at: int
    by: str


@dataclass(frozen=True, slots=True)
class End:
    """The last line: how many there are, with it."""

    lines: int


Line = Header | Row | Gone | End

Reader = Callable[[Mapping[str, Any], str], Any]
"""Reads what stands in a line under a name."""


def number_of_line(line: Row | Gone) -> int:
    """Return at which number of the namespace it happened."""
    return line.n if isinstance(line, Gone) else line.stamp.n


def moment_of_line(line: Row | Gone) -> int:
    """Return when it happened, in ms."""
    return line.at if isinstance(line, Gone) else line.stamp.recorded_at


def own_fields(table: str) -> Sequence[str]:
    """Return what a line has of a row beside its stamp."""
    return [name for name in BY_NAME[table].own if name not in _MADE]


def line_of(line: Line) -> bytes:
    """Return a line as it is written, with its end."""
    if isinstance(line, Header):
        said: dict[str, Any] = {
            "ostinato_memory": VERSION,
            "namespace": line.namespace,
            "n": line.n,
        }
    elif isinstance(line, End):
        said = {"end": line.lines}
    elif isinstance(line, Gone):
        said = {"gone": line.row_n, "kind": line.table, "n": line.n, "at": line.at, "by": line.by}
    else:
        said = {"n": line.stamp.n, "kind": line.table}
        said |= {name: getattr(line.stamp, name) for name in _GIVEN}
        for name in own_fields(line.table):
            value = getattr(line, name)
            is_json = BY_NAME[line.table].own[name] == "json"
            # Written anew: a database may have other blanks in it.
            said[name] = orjson.Fragment(encode(decode(value))) if is_json else value
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def read_line(text: bytes, space: Space) -> Line:
    """Return what a line says, of this namespace; raise `Misuse` for what no export writes."""
    if len(text) > LONGEST_LINE:
        raise Misuse(f"it has more than {LONGEST_LINE} bytes")
    try:
        said = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"it is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise Misuse(f"{said!r:.60} is no object")
    for first, read in _READ.items():
        if first in said:
            return read(said, space)
    raise Misuse(f"it has {', '.join(map(repr, said)) or 'nothing'}, and no 'n'")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _header(said: Mapping[str, Any], space: Space) -> Header:
    if said["ostinato_memory"] != VERSION:
        raise Misuse(
            f"version {said['ostinato_memory']!r:.60}: this kit reads {VERSION}; use a later one"
        )
    _expect(said, "ostinato_memory", "namespace", "n")
    try:
        return Header(check_namespace(said["namespace"]), _whole(said, "n", 0))
    except InvalidId as error:
        raise Misuse(str(error)) from None


def _end(said: Mapping[str, Any], space: Space) -> End:
    _expect(said, "end")
    return End(_whole(said, "end"))


def _gone(said: Mapping[str, Any], space: Space) -> Gone:
    _expect(said, "gone", "kind", "n", "at", "by")
    row_n, n = _whole(said, "gone"), _whole(said, "n")
    if n <= row_n:
        raise Misuse(f"n={n} is not behind {row_n}, the row that is gone by it")
    return Gone(_kind(said), row_n, n, _moment(said, "at"), _id(said, "by"))


def _row(said: Mapping[str, Any], space: Space) -> Row:
    table = BY_NAME[_kind(said)]
    _expect(said, "n", "kind", *_GIVEN, *own_fields(table.name))
    n = _whole(said, "n")
    stamp = Stamp(
        space,
        n,
        _whole(said, "doc", 1, n),
        _moment(said, "recorded_at"),
        _id(said, "source"),
        _id(said, "writer"),
        Trust(_one_of(said, "trust", Trust)),
        None if said["prior"] is None else _whole(said, "prior", 1, n - 1),
    )
    try:
        own = {name: _OWN[name](said, name) for name in own_fields(table.name)}
        if table.row is NoteRow:
            own["words"] = 0  # the index says, when it has the text
        if table.row is MotionRow:
            own["topic_key"] = folded(own["topic"])
        if table.row in (FactRow, LinkRow):
            _check_span(own)
        own |= {name: _MAKE[name](own) for name in table.own if name in _MAKE}
        return table.row(stamp, **own)
    except (NotEncodable, Forgotten) as error:
        raise Misuse(str(error)) from None


def _check_span(own: Mapping[str, Any]) -> None:
    if own["valid_to"] is not None and own["valid_to"] <= own["valid_from"]:
        raise Misuse(f"valid_to={own['valid_to']} is not behind {own['valid_from']}")


def _expect(said: Mapping[str, Any], *names: str) -> None:
    if missing := [name for name in names if name not in said]:
        raise Misuse(f"it has no {missing[0]!r}")
    if more := [name for name in said if name not in names]:
        raise Misuse(f"it has {more[0]!r:.60}, which no such line has")


def _whole(said: Mapping[str, Any], name: str, least: int = 1, most: int = asks.LAST) -> int:
    value = said[name]
    if type(value) is not int or not is_whole(value) or not least <= value <= most:
        raise Misuse(f"{name}={value!r:.60} is none; a whole number from {least} to {most} is")
    return value


def _moment(said: Mapping[str, Any], name: str) -> int:
    return _whole(said, name, asks.FIRST_MS, asks.LAST_MS)


def _kind(said: Mapping[str, Any]) -> str:
    return _one_of(said, "kind", BY_NAME)


def _one_of(said: Mapping[str, Any], name: str, known: Any) -> str:
    value = said[name]
    if not isinstance(value, str) or value not in list(known):
        raise Misuse(f"{name}={value!r:.60} is none; one of {', '.join(map(str, known))} is")
    return value


def _id(said: Mapping[str, Any], name: str) -> str:
    if not (found := asks.text(said[name], name, _LONGEST_ID)):
        raise Misuse(f"{name} is empty; it is the id of a promise")
    return found


def _maybe(
    read: Callable[[Mapping[str, Any], str], Any],
) -> Callable[[Mapping[str, Any], str], Any]:
    return lambda said, name: None if said[name] is None else read(said, name)


def _name(said: Mapping[str, Any], name: str) -> str:
    return asks.check_name(said[name], name)


def _text(said: Mapping[str, Any], name: str) -> str:
    return asks.text(said[name], name)


def _is_deleted(said: Mapping[str, Any]) -> bool:
    return said["body"] is None and said["kind"] == NoteRow.table


def _policies(said: Mapping[str, Any]) -> Sequence[str]:
    is_decision = said["kind"] == DecisionRow.table
    return [each for each in Policy if each.decides or not is_decision]


def _predicate(said: Mapping[str, Any], name: str) -> str:
    if not (found := asks.check_predicate(said[name], name)):
        raise Misuse(f"{name}={said[name]!r:.60} is none")
    return found


def _confidence(said: Mapping[str, Any], name: str) -> float:
    value = said[name]
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise Misuse(f"confidence={value!r:.60} is none; a number from 0 to 1 is")
    return float(value)


def _object(said: Mapping[str, Any], name: str) -> JsonText:
    try:
        value = decode(json.dumps(said[name], ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{name} is no value: {error}") from None
    return JsonText(encode(asks.check_object(value)))


def _voters(said: Mapping[str, Any], name: str) -> JsonText:
    value = said[name]
    if not isinstance(value, list) or len(value) > asks.MOST_VOTERS:
        raise Misuse(f"voters={value!r:.60} are none; a list of {asks.MOST_VOTERS} at most is")
    return JsonText(encode([asks.check_name(each, "voter") for each in value]))


_READ: Mapping[str, Callable[[Mapping[str, Any], Space], Line]] = {
    "ostinato_memory": _header,
    "end": _end,
    "gone": _gone,
    "n": _row,
}

_OWN: Mapping[str, Reader] = {
    "name": lambda said, name: asks.note_name(said[name]),
    "version": _whole,
    "body": lambda said, name: None if _is_deleted(said) else _text(said, name),
    "subject": _name,
    "predicate": _predicate,
    "object": _object,
    "confidence": _confidence,
    "valid_from": _moment,
    "valid_to": _maybe(_moment),
    "a": _name,
    "rel": _predicate,
    "b": _name,
    "speaker": _name,
    "policy": lambda said, name: _one_of(said, name, _policies(said)),
    "voters": _voters,
    "need": lambda said, name: _whole(said, name, int(said["kind"] == MotionRow.table)),
    "over_n": lambda said, name: _whole(said, name, 1, said["n"]),
    "decided_by": _text,
    "reason": _text,
    "topic": _name,
    "topic_key": lambda said, name: folded(_name(said, name)),
    "expires_at": _maybe(_moment),
    "state": lambda said, name: _one_of(said, name, MotionState),
    "voter": _name,
}

_MAKE: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "subject_key": lambda own: folded(own["subject"]),
    "object_key": lambda own: object_key(decode(own["object"])),
    "a_key": lambda own: folded(own["a"]),
    "b_key": lambda own: folded(own["b"]),
}
