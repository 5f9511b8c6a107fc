"""PostgreSQL databases that have the kit's tables and no row, to be had again and again.

Most tests want an empty store, and do not care who made its tables. To make them takes four times
as long as to take the rows out, so a database whose tables are as they were made is kept.

So is one connection to it, while the test runs, too: a new one costs the server ten times what is
asked through it here. It is idle then, holds no lock, and has a name of its own (`KEPT`), by which
a test that counts connections leaves it out.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from substrate.store.connect import open_store
from tests.postgres import create_database, drop_database

__all__ = ["KEPT", "Migrated", "make_tables"]

KEPT = "kept by the tests"
"""The `application_name` of the connection that is kept."""

LARGE = 128 * 1024
"""Bytes of a table from which on it is made anew, so that what was deleted does not pile up."""


@dataclass(slots=True)
class Migrated:
    """A database, and what it looked like when its tables had been made."""

    url: str
    looks: str
    stamp: str
    """What says at a glance that nothing is defined otherwise; see `_STAMP_AND_FILLED`."""
    kept: psycopg.Connection[Any]
    """The connection that is kept."""

    @classmethod
    def make(cls, dsn: str) -> "Migrated":
        """Create a database on a server, with the kit's tables in it."""
        url = create_database(dsn)
        make_tables(url)
        kept = _connection(url)
        return cls(url, _looks(kept), _stamp_and_filled(kept)[0], kept)

    def cleared(self) -> bool:
        """End its connections and take all rows out; return whether it is as it was made."""
        try:
            if not _alone(self.kept):  # the test has ended all connections
                self.kept.close()
                self.kept = _connection(self.url)
                self.kept.execute(_END_CONNECTIONS)
            return self._cleared()
        except psycopg.Error:
            return False

    def _cleared(self) -> bool:
        stamp, filled = _stamp_and_filled(self.kept)
        # Only what has moved is looked at closely: that takes as long as all the rest.
        if stamp != self.stamp and _looks(self.kept) != self.looks:
            return False
        self.stamp = stamp
        for name in filled["some"]:
            self.kept.execute(SQL("DELETE FROM {}").format(Identifier(name)))
        for name in filled["many"]:
            self.kept.execute(SQL("TRUNCATE {}").format(Identifier(name)))
        return True

    def drop(self, dsn: str) -> None:
        """Drop the database."""
        self.kept.close()
        drop_database(dsn, self.url)


def _connection(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, application_name=KEPT)


def _alone(connection: psycopg.Connection[Any]) -> bool:
    """End all other connections to the database; return whether this one has not been ended."""
    try:
        connection.execute(_END_CONNECTIONS)
    except psycopg.OperationalError:
        return False
    return True


def make_tables(url: str) -> None:
    """Make the kit's tables in a database, of whichever kind."""

    async def make() -> None:
        await (await open_store(url)).close()

    asyncio.run(make())


def _looks(connection: psycopg.Connection[tuple[str, ...]]) -> str:
    """Return one text for all that is defined in a database, and for the migrations applied."""
    (found,) = connection.execute(_LOOKS).fetchall()
    return found[0]


def _stamp_and_filled(connection: psycopg.Connection[Any]) -> tuple[str, dict[str, list[str]]]:
    """Return the stamp of a database, and which of its tables have some rows, and which many."""
    stamp, some, many = connection.execute(_STAMP_AND_FILLED, {"large": LARGE}).fetchall()[0]
    return stamp, {"some": some, "many": many}


_END_CONNECTIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# What template0 brings has a number below 16384. Where a row has no more than settings of how it
# is stored or used, those are left out: they change by themselves.
_LOOKS = """
WITH own AS (SELECT * FROM pg_class WHERE oid >= 16384), told (what) AS (
  SELECT ROW(nspname, nspacl, nspowner)::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
  UNION ALL SELECT ROW(relname, relnamespace, relkind, relowner, relpersistence, relrowsecurity,
    relacl, reloptions, relchecks, relhasrules, relhastriggers)::text FROM own
  UNION ALL SELECT ROW(own.relname, attnum, attname, atttypid, attnotnull, attacl, attoptions,
    attstattarget)::text
    FROM pg_attribute JOIN own ON own.oid = attrelid AND own.relkind <> 't' AND attnum > 0
  UNION ALL SELECT ROW(relname, pg_get_expr(adbin, adrelid))::text
    FROM pg_attrdef JOIN own ON own.oid = adrelid
  UNION ALL SELECT ROW(conname, contype, convalidated, pg_get_constraintdef(one.oid))::text
    FROM pg_constraint AS one WHERE oid >= 16384
  UNION ALL SELECT ROW(pg_get_indexdef(indexrelid), indisvalid)::text
    FROM pg_index JOIN own ON own.oid = indexrelid AND own.relnamespace = 'public'::regnamespace
  UNION ALL SELECT ROW(tgname, tgenabled, relname)::text
    FROM pg_trigger JOIN own ON own.oid = tgrelid
  UNION ALL SELECT ROW(proname, prosrc, proacl)::text FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT ROW(typname, typtype)::text FROM pg_type WHERE oid >= 16384
  UNION ALL SELECT ROW(stxname)::text FROM pg_statistic_ext
  UNION ALL SELECT ROW(polname)::text FROM pg_policy
  UNION ALL SELECT ROW(setrole, setconfig)::text FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT ROW(defaclrole, defaclacl)::text FROM pg_default_acl
  UNION ALL SELECT ROW(evtname)::text FROM pg_event_trigger
  UNION ALL SELECT ROW(pubname)::text FROM pg_publication
  UNION ALL SELECT ROW(extname)::text FROM pg_extension
  UNION ALL SELECT ROW(datacl, datconnlimit, datallowconn)::text
    FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT ROW(version, sha256)::text FROM ostinato_migrations
) SELECT md5(string_agg(what, chr(10) ORDER BY what)) FROM told
"""

# Whatever is defined, altered, granted or dropped makes rows of the catalog or takes them away, and
# each new row has a transaction of its own, later than all that there were.
_CATALOG = (
    "pg_class WHERE oid >= 16384",
    "pg_attribute WHERE attrelid >= 16384",
    "pg_constraint WHERE oid >= 16384",
    "pg_index WHERE indexrelid >= 16384",
    "pg_proc WHERE oid >= 16384",
    "pg_type WHERE oid >= 16384",
    *("pg_attrdef", "pg_namespace", "pg_trigger", "pg_rewrite", "pg_statistic_ext", "pg_policy"),
    *("pg_default_acl", "pg_event_trigger", "pg_publication", "pg_extension"),
    "pg_database WHERE datname = current_database()",
    "pg_db_role_setting JOIN pg_database ON setdatabase = oid WHERE datname = current_database()",
    "ostinato_migrations",
)
_STAMPS = " UNION ALL ".join(
    f"SELECT {each.split()[0]}.xmin::text::bigint AS x FROM {each}" for each in _CATALOG
)
_STAMP_AND_FILLED = f"""
WITH filled AS (
  SELECT relname::text, pg_relation_size(oid) AS size FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'ostinato_migrations'
    AND pg_relation_size(oid) > 0
)
SELECT (SELECT count(*) || ' ' || sum(x) FROM ({_STAMPS}) AS stamps),
  ARRAY(SELECT relname FROM filled WHERE size <= %(large)s),
  ARRAY(SELECT relname FROM filled WHERE size > %(large)s)
"""
