"""SQLite for a model: one statement that can only read, within a deadline.

What keeps a query harmless, each on its own:

- the file is opened read-only, and an authorizer allows nothing but reading: read-only alone
  would let ``VACUUM INTO`` and ``ATTACH`` make files;
- a progress handler stops the statement at its deadline; where it computes inside of one function,
  which nothing interrupts, the process that it runs in is ended (`process`);
- the database of the kit itself is refused, by what is in it, under whatever name;
- `MAX_VALUE` bounds every value that the statement reads or makes, `MAX_HEAP` all memory that
  SQLite takes, and the process's limits what a sort writes to temporary files.

Everything goes through apsw, of a version that the kit knows to be sound.

Limits: R-tree tables can't be read, since SQLite itself prepares writes to open them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import apsw

from skills.sql.answer import Answer, Json, QueryFailed, to_cell
from skills.sql.schema import Column, Table, column_hint, table_hint

Parameters = list[Json] | dict[str, Json] | None

MAX_VALUE = 1_000_000
"""Bytes of the longest text, blob or row that a statement may read or make."""

MAX_HEAP = 128 * 2**20
"""Bytes of memory that SQLite may take. It is a limit of the whole process."""

LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: MAX_VALUE,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}

COUNTED = 10_000
"""How many rows of a table are counted; of a larger one it is only said that it is larger."""

PROGRESS_STEPS = 1_000
"""Instructions of SQLite's machine between two looks at the time: microseconds."""

_READS = frozenset(
    {apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE}
)
_READING_PRAGMAS = frozenset(
    {
        *("table_list", "table_info", "table_xinfo", "foreign_key_list"),
        *("index_list", "index_info", "index_xinfo"),
        *("data_version", "page_size"),  # full-text tables ask for these when they are opened
    }
)
# Possessive and atomic, so that a failure is found in one pass whatever the text.
_BLANK = re.compile(r"(?:[\s;]++|--[^\n]*+|/\*(?>.*?(?:\*/|\Z)))*+", re.DOTALL)

ONLY_READING = "only reading is allowed: one SELECT, VALUES, WITH … SELECT or EXPLAIN"

_TABLES = """
SELECT name, type FROM pragma_table_list
WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') AND name NOT GLOB 'sqlite_*'
ORDER BY name
"""

_COLUMNS = """
SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?)
WHERE hidden <> 1
ORDER BY cid
"""

# Of the kit's own database: together no other has these, whatever the file is called.
_OF_THE_KIT = """
SELECT count(*) = 3 FROM sqlite_schema
WHERE type = 'table' AND name IN ('runs', 'promises', 'signals')
    AND sql LIKE '%part%' AND (name <> 'promises' OR sql LIKE '%fingerprint%')
"""

_FOREIGN_KEYS = """
SELECT "table", group_concat("from", ', ' ORDER BY seq), group_concat("to", ', ' ORDER BY seq)
FROM pragma_foreign_key_list(?)
GROUP BY id
ORDER BY id
"""


@contextmanager
def reading(url: str, seconds: float) -> Iterator["Database"]:
    """Provide the database for one question. Raises `QueryFailed`, or `TimeoutError` in time."""
    until = monotonic() + seconds
    apsw.hard_heap_limit(MAX_HEAP)
    connection = _open(url.removeprefix("sqlite:///"))
    try:
        connection.authorizer = _authorize
        for kind, most in LIMITS.items():
            connection.limit(kind, most)
        # Half of the time, so that "database is locked" is heard before the deadline.
        connection.set_busy_timeout(int(seconds * 500))
        connection.set_progress_handler(lambda: monotonic() > until, PROGRESS_STEPS)
        _refuse_the_kits(connection)
        yield Database(connection)
    except apsw.InterruptError:
        raise TimeoutError from None
    except apsw.NoMemError:
        raise MemoryError from None
    except apsw.Error as error:
        raise QueryFailed(f"the database can't be read: {error}") from None
    finally:
        connection.close(True)


class Database:
    """What can be asked of an open database."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def query(self, sql: str, parameters: Parameters, max_rows: int) -> Answer:
        """Run one statement and return its answer, or raise `QueryFailed`."""
        try:
            return _select(self._connection, sql, parameters, max_rows)
        except (apsw.InterruptError, apsw.NoMemError):
            raise
        except (apsw.Error, TypeError, KeyError, ValueError) as error:
            raise _explained(error, self._connection, sql) from None

    def tables(self) -> list[Table]:
        """Return every table and view with its row count, in the order of their names."""
        return _tables(self._connection, counted=True)


def _open(path: str) -> apsw.Connection:
    try:
        return apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error as error:
        raise QueryFailed(
            f"the database file {path!r} can't be opened for reading: {error}; "
            "it must exist before the first query"
        ) from None


def _refuse_the_kits(connection: apsw.Connection) -> None:
    """Refuse the database in which the kit keeps its runs: what all of them say stands there."""
    [(is_the_kits,)] = _ask(connection, _OF_THE_KIT)
    if is_the_kits:
        raise QueryFailed(
            "this is the database in which the kit keeps its runs, and what each was told; "
            "give query_sql a database of its own"
        )


def _authorize(
    operation: int, first: str | None, second: str | None, _database: str | None, _by: str | None
) -> int:
    if operation == apsw.SQLITE_PRAGMA:
        # With a value page_size is a setting; the others' values are names of tables.
        reads = first in _READING_PRAGMAS and (first != "page_size" or second is None)
    else:
        reads = operation in _READS
    return apsw.SQLITE_OK if reads else apsw.SQLITE_DENY


def _select(connection: apsw.Connection, sql: str, parameters: Parameters, max_rows: int) -> Answer:
    answer = Answer(max_rows)

    def begin(cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
        if answer.columns:  # what follows the one statement, found blank before it ran
            return True
        if not _BLANK.fullmatch(sql, len(statement)):
            raise QueryFailed("there is more than one statement; send them one by one")
        answer.name([name for name, _type in cursor.get_description()])
        return True

    cursor = connection.cursor()
    cursor.exec_trace = begin
    for row in cursor.execute(sql, parameters or None):
        if not answer.take([to_cell(value) for value in row]):
            break
    if not answer.columns:
        raise QueryFailed("there is no statement; send one SELECT")
    return answer


def _explained(error: Exception, connection: apsw.Connection, sql: str) -> QueryFailed:
    """Return the error with what helps to write the next statement."""
    said = str(error)
    if isinstance(error, apsw.AuthError) or "not authorized" in said:
        return QueryFailed(f"{said}; {ONLY_READING}")
    if "no such table" in said:
        return QueryFailed(f"{said}; {table_hint(_tables(connection))}")
    if "no such column" in said:
        return QueryFailed(f"{said}; {column_hint(sql, _tables(connection))}")
    if isinstance(error, apsw.FullError | apsw.IOError):  # what the system says of a file too large
        return QueryFailed(
            f"{said}: a temporary file is larger than it may be, or can't be written; "
            "sort or compare fewer rows at once, and shorter values"
        )
    if isinstance(error, apsw.TooBigError):
        return QueryFailed(f"{said}: a value or row is longer than {MAX_VALUE} bytes")
    if isinstance(error, UnicodeDecodeError):
        return QueryFailed(f"{said}; a text is not UTF-8: read it with hex() or CAST(… AS BLOB)")
    if isinstance(error, TypeError | KeyError):
        return QueryFailed(
            f"a parameter is wrong: {said}; give a list for ?, an object for :name, "
            "and in them text, numbers, booleans and null only"
        )
    return QueryFailed(said)


def _tables(connection: apsw.Connection, *, counted: bool = False) -> list[Table]:
    return [
        _table(connection, name, kind, counted=counted and kind != "view")
        for name, kind in _ask(connection, _TABLES)
    ]


def _table(connection: apsw.Connection, name: str, kind: str, *, counted: bool) -> Table:
    try:
        columns = _ask(connection, _COLUMNS, name)
        rows = _count(connection, name) if counted else None
    except (apsw.SQLError, apsw.AuthError):
        # A view of something that is gone, or a virtual table that can't be opened for reading.
        return Table(_quoted_if_needed(name), f"{kind}, unreadable", ())
    return Table(
        _quoted_if_needed(name),
        kind,
        tuple(Column(column, f"{of} NOT NULL" if full else of) for column, of, full, _ in columns),
        (*_primary_key(columns), *_foreign_keys(connection, name)),
        rows,
    )


def _primary_key(columns: list[Any]) -> list[str]:
    parts = sorted((place, name) for name, _, _, place in columns if place)
    return [f"PRIMARY KEY ({', '.join(name for _, name in parts)})"] if parts else []


def _foreign_keys(connection: apsw.Connection, name: str) -> list[str]:
    return [
        f"FOREIGN KEY ({ours}) REFERENCES {other}" + (f" ({theirs})" if theirs else "")
        for other, ours, theirs in _ask(connection, _FOREIGN_KEYS, name)
    ]


def _count(connection: apsw.Connection, name: str) -> str:
    # A table's name can't be a parameter.
    counting = f"SELECT count(*) FROM (SELECT 1 FROM {_quoted(name)} LIMIT ?)"
    [(found,)] = _ask(connection, counting, COUNTED + 1)
    return str(found) if found <= COUNTED else f"more than {COUNTED}"


def _ask(connection: apsw.Connection, sql: str, *values: str | int) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_if_needed(name: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_]\w*", name) and name.upper() not in apsw.keywords
    return name if is_plain else _quoted(name)
