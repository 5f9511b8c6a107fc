"""Which of a statement's words are functions that act: they end, hold up, wait or write.

A read-only transaction keeps rows from being written. It lets a function end another session of
the role, take an advisory lock, sleep, or fill the server's log of changes, and PUBLIC may call
these by default. Whether a function does more than compute is what the server itself records of it:
VOLATILE. So a statement that names such a function of PostgreSQL's own, or of an extension, is
refused, but for a few that only tell something; those that run a text as a statement are among
them (``query_to_xml``, ``ts_stat``).

The statement is not parsed, so there is nothing to be led astray: no identifier can be written
without its letters standing in the text, save as ``U&"…"``, which is refused as well. A name that
stands in a text or a comment is refused, too; a text can be given as a parameter.

Where the administrator has taken a function from PUBLIC, the server refuses it, in its own words.
A function that somebody else has made is that person's affair.
"""

import re

from psycopg import Connection

from skills.sql.answer import QueryFailed

_ESCAPED = re.compile(r'U&"', re.IGNORECASE)
# Without `$`, which ends a quoted text too: then a name is found in more places, never in fewer.
_WORD = re.compile(r"[^\W\d]\w*")

_HARMLESS = [
    *("random", "random_normal", "setseed", "gen_random_uuid", "uuidv4", "uuidv7"),
    *("clock_timestamp", "timeofday", "current_query", "pg_is_in_recovery"),
    *("pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size"),
    *("pg_database_size", "pg_tablespace_size", "pg_partition_tree", "pg_partition_ancestors"),
    *("currval", "lastval", "pg_sequence_last_value", "pg_blocking_pids"),
]
"""Volatile since what they tell changes; they change nothing."""

_WRITING = ["txid_current", "pg_current_xact_id"]
"""Said to be stable, and each takes a number that the server then writes to its log of changes."""

# Functions that take `internal` are the server's own: no statement can call one, and `system`, a
# method of TABLESAMPLE, is many a column's name.
_NAMED = """
SELECT string_agg(DISTINCT proname::text, ', ')
FROM pg_catalog.pg_proc AS one
WHERE proname = ANY (%(words)s::name[]) AND proname <> ALL (%(harmless)s::name[])
    AND 'internal'::regtype::oid <> ALL (proargtypes::oid[])
    AND has_schema_privilege(pronamespace, 'USAGE') AND has_function_privilege(oid, 'EXECUTE')
    AND (
        (
            pronamespace = 'pg_catalog'::regnamespace
            AND (provolatile = 'v' OR proname = ANY (%(writing)s::name[]))
        )
        OR EXISTS (
            SELECT FROM pg_catalog.pg_depend
            JOIN pg_catalog.pg_extension AS extension ON extension.oid = refobjid
            WHERE classid = 'pg_proc'::regclass AND objid = one.oid AND deptype = 'e'
                AND refclassid = 'pg_extension'::regclass
                -- These run a text as a statement, and not all of them say that they are volatile.
                AND (provolatile = 'v' OR extname IN ('dblink', 'tablefunc', 'xml2'))
        )
    )
"""


def refuse_acting(connection: Connection, sql: str) -> None:
    """Raise `QueryFailed` for a statement that names a function that acts.

    The connection's search path must be ``pg_catalog`` alone.
    """
    if _ESCAPED.search(sql):
        raise QueryFailed('an identifier written as U&"…" is not taken; write it as it is')
    words = sorted(word for word in set(map(_folded, _WORD.findall(sql))) if word.isascii())
    named = {"words": words, "harmless": _HARMLESS, "writing": _WRITING}
    row = connection.execute(_NAMED.encode(), named).fetchone()
    if row and row[0]:
        raise QueryFailed(
            f"only reading is allowed, and the statement names {row[0]}, which may do more than "
            "read; leave it out, or give a mere text that holds the name in `parameters`"
        )


def _folded(word: str) -> str:
    """Return a word as the server reads it where it stands without quotes."""
    # In a Turkish database of one byte a character, this one becomes a plain i.
    return word.replace("\u0130", "i").lower()
