"""Two tools for a database: `query_sql` reads it, `describe_schema` says what is in it.

Each is made for one database URL, which the model never sees. ``sqlite:///path`` goes through
apsw, ``postgresql://…`` through psycopg, loaded on first use. Nothing is opened before a call, and
nothing stays open after it. What keeps a query harmless is told in `sqlite` and `postgres`.
"""

from collections.abc import Awaitable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import Field

from skills.sql import sqlite
from skills.sql.answer import QueryFailed
from skills.sql.schema import Table, describe
from substrate.agent.tool import Tool, tool
from substrate.installed import how_to_add
from substrate.models.messages import Json
from substrate.values.errors import BadDatabaseUrl, Misuse

GRACE = timedelta(seconds=5)
"""How much longer than its own deadline a call may take before the kit ends it from outside."""

Parameters = list[Json] | dict[str, Json] | None


class Dialect(StrEnum):
    """The databases that can be read, as the model knows them."""

    SQLITE = "SQLite"
    POSTGRES = "PostgreSQL"


class Driver(Protocol):
    """What reads one kind of database: a module of this skill."""

    def query(
        self, url: str, sql: str, parameters: Parameters, *, max_rows: int, timeout: timedelta
    ) -> Awaitable[dict[str, Json]]:
        """Run one statement, or raise `QueryFailed`."""
        ...

    def tables(self, url: str, *, timeout: timedelta) -> Awaitable[list[Table]]:
        """Return every table and view, or raise `QueryFailed`."""
        ...


PLACEHOLDERS = {
    Dialect.SQLITE: "a list for ?, or an object for :name",
    Dialect.POSTGRES: "a list for $1, $2, or an object for %(name)s, where a plain % is written %%",
}


def query_sql(
    url: str,
    *,
    max_rows: int = 200,
    timeout: timedelta = timedelta(seconds=10),
    name: str = "query_sql",
) -> Tool:
    """Make a tool that runs one reading statement on the database and returns its rows.

    The model gives `sql` and `parameters`; it gets ``{"columns", "rows", "row_count",
    "truncated"}``, and a ``note`` where something was left out: rows beyond `max_rows`, or beyond
    60,000 characters. A value longer than 2,000 characters is cut, bytes are base64, decimals and
    dates are text. What the database says about a mistake goes back to the model, with the tables
    or columns that there are.

    A PostgreSQL role that could write is refused at the first call; the message says how to make
    one that can only read. Give each database's tool a `name` of its own.

    >>> query_sql("sqlite:///shop.db", max_rows=50).name
    'query_sql'

    Raises:
        BadDatabaseUrl: the URL names no SQLite file and no PostgreSQL server.
        Misuse: `max_rows` or `timeout` is not positive.
    """
    dialect = _dialect(url)
    if max_rows < 1:
        raise Misuse(f"max_rows={max_rows!r} must be 1 or more")
    _check_timeout(timeout)

    @tool(
        name=name,
        description=f"Run one read-only {dialect} statement and return its rows: at most "
        f"{max_rows}, in {timeout.total_seconds():g} s. Ask for what you need: filter, aggregate "
        "and name the columns.",
        effect="pure",
        timeout=timeout + GRACE,
    )
    async def run(
        sql: Annotated[str, Field(description=f"One {dialect} SELECT.")],
        parameters: Annotated[
            Parameters, Field(description=f"Values for placeholders: {PLACEHOLDERS[dialect]}.")
        ] = None,
    ) -> dict[str, Json]:
        driver = _driver(dialect)
        return await driver.query(url, sql, parameters, max_rows=max_rows, timeout=timeout)

    return run


def describe_schema(
    url: str,
    *,
    timeout: timedelta = timedelta(seconds=10),
    name: str = "describe_schema",
) -> Tool:
    """Make a tool that tells the tables, columns, keys and row counts of the database.

    The model may name the `tables` that it wants, in whole otherwise. It gets ``{"tables":
    [{"name", "kind", "columns", "keys", "rows"}], "truncated"}``, and in ``omitted`` the names of
    what did not fit into 60,000 characters. Row counts are estimates. The guards and errors are
    those of `query_sql`.
    """
    dialect = _dialect(url)
    _check_timeout(timeout)

    @tool(
        name=name,
        description=f"Describe a {dialect} database: tables and views with their columns, types, "
        "keys and estimated number of rows. Look here before you write SQL.",
        effect="pure",
        timeout=timeout + GRACE,
    )
    async def run(
        tables: Annotated[
            list[str] | None, Field(description="Only these; leave out for all.")
        ] = None,
    ) -> dict[str, Json]:
        return describe(await _driver(dialect).tables(url, timeout=timeout), tables)

    return run


def _dialect(url: str) -> Dialect:
    """Return the kind of database; the message of a refusal has no password in it."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        return Dialect.POSTGRES
    if scheme != "sqlite":
        raise BadDatabaseUrl(
            f"a database URL of the kind {scheme[:20]!r} is not known; "
            "use sqlite:///path or postgresql://user:password@host/name"
        )
    if not rest.startswith("/") or rest in {"/", "/:memory:"}:
        raise BadDatabaseUrl(
            f"{url!r} names no file; use sqlite:///relative.db or sqlite:////absolute.db"
        )
    return Dialect.SQLITE


def _check_timeout(timeout: timedelta) -> None:
    if timeout <= timedelta(0):
        raise Misuse(f"timeout={timeout!r} must be more than nothing")


def _driver(dialect: Dialect) -> Driver:
    if dialect is Dialect.SQLITE:
        return sqlite
    try:
        from skills.sql import postgres  # noqa: PLC0415 - psycopg is loaded for PostgreSQL only
    except ModuleNotFoundError as error:
        raise QueryFailed(
            f"the package {error.name!r} is not installed; "
            f"PostgreSQL needs it: {how_to_add('postgres')}"
        ) from None
    return postgres
