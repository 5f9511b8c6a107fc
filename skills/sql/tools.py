"""Two tools for a database: `query_sql` reads it, `describe_schema` says what is in it.

Each is made for one database URL, which the model never sees. ``sqlite:///path`` goes through
apsw, ``postgresql://…`` through psycopg, both in processes of the tool's own (`process`). Nothing
is opened before a call, and the database is closed after it. What keeps a query harmless is told in
`process`, `sqlite` and `postgres`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Field

from skills.sql.answer import QueryFailed
from skills.sql.process import Processes, Question, longest
from substrate.agent.tool import Tool, tool
from substrate.installed import how_to_add
from substrate.models.messages import Json
from substrate.store.database_url import PostgresUrl
from substrate.values.errors import BadDatabaseUrl, Misuse

SLACK = timedelta(seconds=5)
"""How much longer than its own deadlines a call may take before the kit ends it from outside."""

Parameters = list[Json] | dict[str, Json] | None


class Dialect(StrEnum):
    """The databases that can be read, as the model knows them."""

    SQLITE = "SQLite"
    POSTGRES = "PostgreSQL"

    @property
    def driver(self) -> str:
        """The module of this skill that reads it."""
        return self.name.lower()


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

    Statements run in processes of the tool's own, four at a time; a fifth waits for one of them,
    up to twice `timeout`. A statement has `timeout`, 256 MB of memory, and as much of each
    temporary file; whatever it does, the worker and its other tools are not touched.

    A PostgreSQL role that could write is refused at the first call; the message says how to make
    one that can only read.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user:password@host/name``; not for the model.
        max_rows: How many rows an answer has, at most.
        timeout: How long a statement may take.
        name: The tool's, by which the model tells two databases apart.

    Raises:
        BadDatabaseUrl: the URL names no SQLite file and no PostgreSQL server.
        Misuse: `max_rows` or `timeout` is not positive.

    Example:
        >>> query_sql("sqlite:///shop.db", max_rows=50).name
        'query_sql'
    """
    dialect = _dialect(url)
    if max_rows < 1:
        raise Misuse(f"max_rows={max_rows!r} must be 1 or more")
    _check_timeout(timeout)
    processes = Processes(f"ostinato-{name}", dialect.driver)

    @tool(
        name=name,
        description=f"Run one read-only {dialect} statement and return its rows: at most "
        f"{max_rows}, in {timeout.total_seconds():g} s. Ask for what you need: filter, aggregate "
        "and name the columns.",
        effect="pure",
        timeout=_whole(timeout),
    )
    async def run(
        sql: Annotated[str, Field(description=f"One {dialect} SELECT.")],
        parameters: Annotated[
            Parameters, Field(description=f"Values for placeholders: {PLACEHOLDERS[dialect]}.")
        ] = None,
    ) -> dict[str, Json]:
        asked = {"sql": sql, "parameters": parameters, "max_rows": max_rows}
        with _discreet(url, dialect):
            answer: dict[str, Json] = await processes.ask(
                Question(_place(url, dialect), "query", asked, timeout)
            )
        return answer

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

    Args:
        url: ``sqlite:///path`` or ``postgresql://user:password@host/name``; not for the model.
        timeout: How long looking may take.
        name: The tool's, by which the model tells two databases apart.

    Example:
        >>> describe_schema("sqlite:///shop.db").name
        'describe_schema'
    """
    dialect = _dialect(url)
    _check_timeout(timeout)
    processes = Processes(f"ostinato-{name}", dialect.driver)

    @tool(
        name=name,
        description=f"Describe a {dialect} database: tables and views with their columns, types, "
        "keys and estimated number of rows. Look here before you write SQL.",
        effect="pure",
        timeout=_whole(timeout),
    )
    async def run(
        tables: Annotated[
            list[str] | None, Field(description="Only these; leave out for all.")
        ] = None,
    ) -> dict[str, Json]:
        asked = {"wanted": tables}
        with _discreet(url, dialect):
            described: dict[str, Json] = await processes.ask(
                Question(_place(url, dialect), "tables", asked, timeout)
            )
        return described

    return run


def _dialect(url: str) -> Dialect:
    """Return the kind of database; the message of a refusal has no password in it."""
    if not isinstance(url, str):
        raise BadDatabaseUrl(
            f"the database URL is {url!r}, and not a text; is the variable set that it comes from?"
        )
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        PostgresUrl.read(url)  # or psycopg's words about a part of it would tell another
        return Dialect.POSTGRES
    if scheme != "sqlite":
        raise BadDatabaseUrl(  # nothing of it is quoted: its password may stand anywhere in it
            f"what was given as a database URL ({len(url)} characters) is none that is known; "
            "use sqlite:///path or postgresql://user:password@host/name"
        )
    if not rest.startswith("/") or rest in {"/", "/:memory:"} or "?" in rest:
        raise BadDatabaseUrl(
            "the sqlite:// URL names no file, or has options, of which there are none; "
            "use sqlite:///relative.db or sqlite:////absolute.db"
        )
    return Dialect.SQLITE


def _check_timeout(timeout: timedelta) -> None:
    if timeout <= timedelta(0):
        raise Misuse(f"timeout={timeout!r} must be more than nothing")


def _whole(timeout: timedelta) -> timedelta:
    """Return how long a call may take: as long again as its statement, where it has to wait."""
    return longest(timeout) + SLACK


@contextmanager
def _discreet(url: str, dialect: Dialect) -> Iterator[None]:
    """Take what is secret in the URL out of what is said of it: that goes to the model."""
    try:
        yield
    except QueryFailed as error:
        if dialect is Dialect.SQLITE:
            raise
        raise QueryFailed(PostgresUrl.read(url).hide_in(str(error))) from None


def _place(url: str, dialect: Dialect) -> str:
    """Return the URL as a process of ours needs it; raise `QueryFailed` where it could not read."""
    if dialect is Dialect.SQLITE:
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).absolute()}"
    if find_spec("psycopg") is None:
        raise QueryFailed(
            f"the package 'psycopg' is not installed; PostgreSQL needs it: {how_to_add('postgres')}"
        )
    return url
