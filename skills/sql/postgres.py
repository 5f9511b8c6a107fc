"""PostgreSQL for a model: one SELECT, as a role that could not write if it tried.

A read-only transaction alone is no boundary: whoever may send any statement can end it, and a
superuser's SELECT reads files and starts programs. So, each on its own:

- the role is asked first what it may do (`power`);
- the statement names no function that acts (`acting`);
- it is declared as a cursor over the extended protocol: PostgreSQL takes one SELECT there, or
  VALUES, and nothing else;
- the transaction is read-only and never committed;
- ``statement_timeout`` ends it on the server, and the deadline of `process` on this side;
- the server cuts each value before it sends it (`bounded`), and few rows are asked for at once.

Every setting is local to the transaction, so a pooler in between hands none of them on.

Limits: functions and views that somebody made in the database do what they do, with their owner's
rights (``SECURITY DEFINER``) or the role's, so give the role none that acts. What a statement costs
the server is bounded by its time, and by ``temp_file_limit`` where the role may set that.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Connection, Error, RawServerCursor, ServerCursor, errors
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.types.string import TextLoader

from skills.sql.acting import refuse_acting
from skills.sql.answer import Answer, Json, QueryFailed, TooDeep, cut, to_cell
from skills.sql.bounded import bounded, totals
from skills.sql.power import refuse_power
from skills.sql.schema import Column, Table, column_hint, table_hint

Parameters = list[Json] | dict[str, Json] | None

FETCHED = 20
"""Rows asked for at once, of few columns."""

CELLS = 500
"""Values asked for at once, if that is more than those of one row."""

MAX_TABLES = 5_000
"""How many tables are looked at."""

ONE_SELECT = "only one SELECT, VALUES, TABLE or WITH … SELECT can be run"

# As the server writes them: Python's own dates end at the year 9999 and know no infinity.
_AS_TEXT = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric")

_PATH = "SELECT pg_catalog.current_schemas(false)"

# No name of these statements is looked up where others may create.
_ONLY_CATALOG = "SET LOCAL search_path = pg_catalog, pg_temp"
_OWN_PATH = "SET LOCAL search_path TO DEFAULT"

_SETTINGS = """
SELECT
    set_config('statement_timeout', %s, true),
    set_config('idle_in_transaction_session_timeout', '60s', true),
    set_config('client_min_messages', 'error', true),
    set_config('datestyle', 'ISO, YMD', true),
    set_config('max_parallel_workers_per_gather', '0', true),
    CASE WHEN pg_size_bytes(current_setting('work_mem')) > pg_size_bytes('16MB')
        THEN set_config('work_mem', '16MB', true) END
"""

_TEMPORARY = """
SELECT set_config('temp_file_limit', '1GB', true)
WHERE current_setting('temp_file_limit') = '-1'
    AND has_parameter_privilege(current_user, 'temp_file_limit', 'SET')
"""

_TABLES = """
SELECT
    space.nspname::text,
    relation.relname::text,
    quote_ident(space.nspname),
    quote_ident(relation.relname),
    CASE relation.relkind
        WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        ELSE 'table'
    END,
    CASE WHEN relation.relkind IN ('r', 'p', 'm') AND relation.reltuples >= 0
        THEN 'about ' || relation.reltuples::bigint
    END,
    ARRAY(
        SELECT ARRAY[
            quote_ident(attname),
            format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
        ]
        FROM pg_catalog.pg_attribute
        WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
            AND has_column_privilege(relation.oid, attnum, 'SELECT')
        ORDER BY attnum
    ),
    ARRAY(
        SELECT ARRAY[pg_get_constraintdef(one.oid), other.relname, other_space.nspname]
        FROM pg_catalog.pg_constraint AS one
        LEFT JOIN pg_catalog.pg_class AS other ON other.oid = one.confrelid
        LEFT JOIN pg_catalog.pg_namespace AS other_space ON other_space.oid = other.relnamespace
        WHERE conrelid = relation.oid AND contype IN ('p', 'f')
        ORDER BY contype DESC, conname
    )
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS space ON space.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relation.relispartition
    AND NOT starts_with(space.nspname, 'pg_') AND space.nspname <> 'information_schema'
    AND has_schema_privilege(space.oid, 'USAGE')
    AND has_any_column_privilege(relation.oid, 'SELECT')
ORDER BY space.nspname, relation.relname
LIMIT %s
"""


@contextmanager
def reading(url: str, seconds: float) -> Iterator["Database"]:
    """Provide the database for one question, in a transaction that is never committed.

    Raises `QueryFailed`, or `TimeoutError` when the server stopped the statement. While it lasts,
    SIGTERM is taken as psycopg takes Ctrl-C: the statement is cancelled on the server.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _connect(url) as connection:
            connection.read_only = True
            database = Database(connection, max(1, int(seconds * 1000)))
            refuse_power(connection)
            yield database
    except errors.QueryCanceled:
        raise TimeoutError from None
    except Error as error:
        raise QueryFailed(f"the database can't be read: {_said(error)}") from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    try:
        connection = Connection.connect(url, prepare_threshold=None, client_encoding="UTF8")
    except errors.ProgrammingError:
        # Its message quotes the URL, and the password in it would go to the model.
        raise QueryFailed(
            "the database URL can't be understood; it has the form "
            "postgresql://user:password@host:port/name, with %-codes for special characters"
        ) from None
    try:
        yield connection
    finally:
        connection.close()


class Database:
    """What can be asked over a connection. Between questions it sees ``pg_catalog`` alone."""

    def __init__(self, connection: Connection, milliseconds: int) -> None:
        self._connection = connection
        self._milliseconds = milliseconds
        row = connection.execute(_PATH).fetchone()
        self._path: list[str] = row[0] if row else []
        self._begin()

    def query(self, sql: str, parameters: Parameters, max_rows: int) -> Answer:
        """Run one SELECT and return its answer, or raise `QueryFailed`."""
        refuse_acting(self._connection, sql)
        self._connection.execute(_OWN_PATH)
        try:
            return self._select(sql, parameters, max_rows)
        except errors.QueryCanceled:
            raise
        except Error as error:
            raise self._explained(error, sql) from None

    def tables(self) -> list[Table]:
        """Return every table and view that the role may read, in the order of their names."""
        rows = self._connection.execute(_TABLES, [MAX_TABLES]).fetchall()
        found: dict[str, str] = {}  # in which schema of the path a bare name is found
        for schema in self._path:
            for space, name, *_ in rows:
                if space == schema:
                    found.setdefault(name, space)
        return [_table(row, found) for row in rows]

    def _begin(self) -> None:
        """Set up the transaction that the next statement begins."""
        self._connection.execute(_ONLY_CATALOG)
        self._connection.execute(_SETTINGS, [str(self._milliseconds)])
        if self._connection.info.server_version >= 150000:
            self._connection.execute(_TEMPORARY)

    def _select(self, sql: str, parameters: Parameters, max_rows: int) -> Answer:
        # $1 is PostgreSQL's own, and leaves the % of a LIKE alone; names are psycopg's.
        kind = ServerCursor if isinstance(parameters, dict) else RawServerCursor
        answer = Answer(max_rows)
        with kind(self._connection, "shape") as cursor:
            cursor.execute(sql.encode(), parameters or None)
            columns = list(cursor.description or ())
        answer.name([column.name for column in columns])
        types = [column.type_code for column in columns]
        with kind(self._connection, "answer") as cursor:
            cursor.execute(bounded(sql, types).encode(), parameters or None)
            few = max(1, min(FETCHED, CELLS // max(1, len(types))))
            read = _reader(self._connection, types)
            while rows := cursor.fetchmany(few):
                if not all(answer.take(read(cells)) for [cells] in rows):
                    break
        return answer

    def _explained(self, error: Error, sql: str) -> QueryFailed:
        """Return the error with what helps to write the next statement."""
        said = _said(error)
        if isinstance(
            error, errors.SyntaxError | errors.FeatureNotSupported | errors.ReadOnlySqlTransaction
        ):
            return QueryFailed(f"{said}; {ONE_SELECT}")
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
            self._connection.rollback()
            self._begin()
            known = self.tables()
            is_table = isinstance(error, errors.UndefinedTable)
            hint = table_hint(known) if is_table else column_hint(sql, known)
            return QueryFailed(f"{said}; {hint}")
        return QueryFailed(said)


def _reader(
    connection: Connection, types: Sequence[int]
) -> Callable[[Sequence[str | None]], list[Json]]:
    """Return what makes a row's cells of the texts that `bounded` gives."""
    for kind in _AS_TEXT:
        connection.adapters.register_loader(kind, TextLoader)
    transformer = Transformer(connection)
    loaders = [transformer.get_loader(oid, Format.TEXT) for oid in types]

    def read(cells: Sequence[str | None]) -> list[Json]:
        each = zip(loaders, totals(cells), strict=True)
        return [_cell(loader, text, total) for loader, (text, total) in each]

    return read


def _cell(loader: Any, text: str | None, total: int | None) -> Json:
    if text is None:
        return None
    try:
        value = loader.load(text.encode())
        if total is None or isinstance(value, bytes):
            return to_cell(value, total)
    except (Error, ValueError, RecursionError, TooDeep, OverflowError):
        pass  # a value that Python has no form for, or that was cut, is shown as it is written
    return cut(text, total=total)


def _said(error: Error) -> str:
    """Return the server's own words, without the statement that they were said about."""
    diagnostics = error.diag
    parts = [diagnostics.message_primary, diagnostics.message_detail, diagnostics.message_hint]
    said = "; ".join(cut(part) for part in parts if part) or cut(str(error).strip())
    return said or f"{type(error).__name__}, and what the server says of it is too long to be read"


def _table(row: Sequence[Any], found: dict[str, str]) -> Table:
    schema, bare, space, name, kind, rows, columns, keys = row
    shown = name if found.get(bare) == schema else f"{space}.{name}"
    return Table(
        shown,
        kind,
        tuple(Column(*column) for column in columns),
        tuple(_key(*key, found=found) for key in keys),
        rows,
    )


def _key(key: str, other: str | None, schema: str | None, *, found: dict[str, str]) -> str:
    """Return a key as it is written where a bare name finds the table that it refers to."""
    if other is None or found.get(other) != schema:
        return key
    before, refers, after = key.partition(" REFERENCES ")
    _, _, after = after.partition(".") if not after.startswith('"') else after.partition('".')
    return f"{before}{refers}{after}"
