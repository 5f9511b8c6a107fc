"""How the rows of memory correspond to values, the same for every dialect.

Each table has the columns of a `Stamp` and the fields of its own row, under their names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from substrate.store.rows import Row as Found
from substrate.store.rows import as_it_stands
from substrate.values.codec import decode
from substrate.values.errors import CheckpointRefused
from substrate.values.memory import (
    BallotRow,
    Counter,
    DecisionRow,
    FactRow,
    LinkRow,
    MotionRow,
    NoteRow,
    PolicyRow,
    Posting,
    Row,
    SaidRow,
    Space,
    Stamp,
    TermCount,
    Trust,
)
from substrate.values.records import (
    Checkpoint,
    CommitResult,
    Fenced,
    JsonText,
    Promise,
    Written,
)

SPACE_COLUMNS = ("tenant", "ns", "branch", "part")
"""Which namespace a row is of: what every statement names first."""

_STAMP = tuple(field.name for field in fields(Stamp))[1:]  # the first is the space
_TYPES = {
    "trust": "text",
    "source": "text",
    "writer": "text",
    "gone_by": "text",
    "part": "integer",
    "tenant": "text",
    "ns": "text",
    "branch": "text",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One of the tables that rows of memory are kept in."""

    #: Its name.
    name: str
    #: What its rows are.
    row: type[Row]
    #: The columns that only it has, with their types in Postgres.
    own: Mapping[str, str]
    #: Those of them that make the key, under which rows that stand are looked for.
    key: Sequence[str]

    @property
    def columns(self) -> Sequence[str]:
        """What is written of a row."""
        return [*SPACE_COLUMNS, *_STAMP, *self.own]

    @property
    def read(self) -> str:
        """What is read of a row, for `row_of`."""
        names = [*SPACE_COLUMNS[:3], *_STAMP, *self.own]
        return ", ".join(f"{self.name}.{name}" for name in names)

    @property
    def types(self) -> Mapping[str, str]:
        """The types of what is written, in Postgres."""
        return {name: self.own.get(name) or _TYPES.get(name, "bigint") for name in self.columns}


_TIMES = {"confidence": "double precision", "valid_from": "bigint", "valid_to": "bigint"}

NOTES = Table(
    "notes",
    NoteRow,
    {"name": "text", "version": "bigint", "body": "text", "words": "bigint"},
    ["name"],
)
FACTS = Table(
    "facts",
    FactRow,
    {
        "subject": "text",
        "subject_key": "text",
        "predicate": "text",
        "object": "json",
        "object_key": "text",
        **_TIMES,
    },
    ["subject_key", "predicate"],
)
LINKS = Table(
    "links",
    LinkRow,
    {"a": "text", "a_key": "text", "rel": "text", "b": "text", "b_key": "text", **_TIMES},
    ["a_key", "rel", "b_key"],
)
HISTORY = Table("history", SaidRow, {"speaker": "text", "body": "text"}, ["n"])
POLICIES = Table(
    "policies",
    PolicyRow,
    {"predicate": "text", "policy": "text", "voters": "json", "need": "bigint"},
    ["predicate"],
)
DECISIONS = Table(
    "decisions",
    DecisionRow,
    {
        "subject": "text",
        "subject_key": "text",
        "predicate": "text",
        "policy": "text",
        "object": "json",
        "object_key": "text",
        "over_n": "bigint",
        "decided_by": "text",
        "reason": "text",
    },
    ["subject_key", "predicate"],
)
MOTIONS = Table(
    "motions",
    MotionRow,
    {
        "topic": "text",
        "topic_key": "text",
        "voters": "json",
        "need": "bigint",
        "expires_at": "bigint",
        "state": "text",
        "object": "json",
        "object_key": "text",
    },
    ["topic_key"],
)
BALLOTS = Table(
    "ballots",
    BallotRow,
    {"topic_key": "text", "voter": "text", "object": "json", "object_key": "text"},
    ["topic_key"],
)

TABLES = (NOTES, FACTS, LINKS, HISTORY, POLICIES, DECISIONS, MOTIONS, BALLOTS)
BY_NAME: Mapping[str, Table] = {table.name: table for table in TABLES}

INDEXES = ("terms",)
"""What is derived of texts: rows by `doc`, from one number of the namespace to `gone_n`."""

DERIVED = (*INDEXES, "term_counts", "vectors", "embedders")
"""Whatever is derived of texts, and how far that has come."""

IS_DECLARED = (POLICIES.name, DECISIONS.name)
"""Tables that have no row of a namespace in which no policy was declared."""

JSON_COLUMNS = frozenset(("object", "voters"))
"""What is JSON in itself, and goes into the database as it is."""

COUNTER_FIELDS = ("last_n", "last_at", "docs", "words", "declared", "followed")
TERM_TYPES = {
    "tenant": "text",
    "ns": "text",
    "branch": "text",
    "part": "integer",
    "term": "text",
    "doc": "bigint",
    "n": "bigint",
    "source_table": "text",
    "band": "integer",
    "tf": "bigint",
    "words": "bigint",
    "gone_n": "bigint",
}


@dataclass(frozen=True, slots=True)
class Look:
    """Which rows of a table are looked for, in one namespace."""

    space: Space
    table: str
    #: Columns and their values, of which all must be equal.
    where: Mapping[str, Any]
    #: Columns, and the values of which each must have one.
    among: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    #: As of which number; None: whatever has been written, gone or not.
    as_of: int | None = None
    #: Behind which number they were written.
    since: int | None = None
    #: When it has to be true, in ms; None: whenever. Of facts and links.
    at: int | None = None
    #: What has come after this number, in its order.
    after: int | None = None
    #: What has gone after this number, in its order.
    gone_after: int | None = None
    limit: int = 1000

    @property
    def is_of_changes(self) -> bool:
        """Whether changes up to `as_of` are looked for, and not what stood then."""
        return self.after is not None or self.gone_after is not None


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of a batch of writes."""

    #: Of each, in order; None is one that is to be decided again without the others.
    outcomes: Sequence[Promise | Fenced | None]
    #: Whether somebody waits for what has changed.
    is_followed: bool


def space_of(space: Space) -> dict[str, Any]:
    """Return a namespace as parameters."""
    return {
        "tenant": space.tenant,
        "ns": space.ns,
        "branch": space.branch,
        "part": space.part,
    }


def parameters(row: Row) -> dict[str, Any]:
    """Return a row as what is written of it."""
    table = BY_NAME[row.table]
    given = space_of(row.stamp.space)
    given |= {name: getattr(row.stamp, name) for name in _STAMP}
    return given | {name: getattr(row, name) for name in table.own}


def row_of(table: Table, found: Found) -> Row:
    """Make a row of what was read of it; raise `CheckpointRefused` for one that was not ours."""
    tenant, ns, branch, *rest = found
    stamp = dict(zip(_STAMP, rest, strict=False))
    own = dict(zip(table.own, rest[len(_STAMP) :], strict=True))
    try:
        stamp["trust"] = Trust(stamp["trust"])
        for name in JSON_COLUMNS & own.keys():
            decode(own[name])
            own[name] = JsonText(own[name])
    except (ValueError, TypeError) as error:
        raise CheckpointRefused(
            f"{table.name} has a row {ns}#{stamp['n']} that this kit cannot have written: {error}; "
            "restore it from a backup, or set its gone_n, gone_at and gone_by"
        ) from error
    return table.row(Stamp(Space(tenant, ns, branch), **stamp), **own)


def counter_of(found: Found) -> Counter:
    """Make a counter of a row of `namespaces`."""
    tenant, ns, branch, *numbers = found
    return Counter(Space(tenant, ns, branch), *numbers)


def counter_parameters(counter: Counter) -> dict[str, Any]:
    """Return a counter as what is written of it."""
    return space_of(counter.space) | {name: getattr(counter, name) for name in COUNTER_FIELDS}


def posting_parameters(posting: Posting) -> dict[str, Any]:
    """Return a posting as what is written of it."""
    given = {name: getattr(posting, name) for name in TERM_TYPES if hasattr(posting, name)}
    return space_of(posting.space) | given


def count_parameters(count: TermCount) -> dict[str, Any]:
    """Return a word's count as what is written of it."""
    given = {"term": count.term, "docs": count.docs, "bands": count.bands}
    return space_of(count.space) | given


def answers_to(
    checkpoints: Sequence[Checkpoint], outcomes: Sequence[CommitResult], *, is_followed: bool
) -> Answers:
    """Return what became of each write of a batch.

    Where one was not written, none was: what the others decided may rest on what it did.
    """
    is_whole = all(isinstance(outcome, Written) for outcome in outcomes)
    told = [
        None if isinstance(outcome, Written) and not is_whole else as_it_stands(each, outcome)
        for each, outcome in zip(checkpoints, outcomes, strict=True)
    ]
    return Answers(told, is_followed and is_whole)


def by_table(rows: Iterable[Row]) -> Mapping[str, list[dict[str, Any]]]:
    """Return rows as parameters, by their tables."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.table, []).append(parameters(row))
    return found
