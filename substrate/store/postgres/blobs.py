"""Blobs in Postgres: kept with the row that refers to them, in its transaction."""

from collections.abc import Sequence

from substrate.store import sql
from substrate.store.blobs import open_blob, opened_blobs
from substrate.store.postgres.session import Cursor
from substrate.values.ids import RunId, part_of, root_of
from substrate.values.records import Blob

_INSERT_BLOB = """
INSERT INTO blobs (root_id, hash, part, tenant, data)
SELECT id, %(hash)s, part, tenant, %(data)b
  FROM runs
 WHERE id = %(root_id)s AND part = %(part)s
    ON CONFLICT (root_id, hash, part) DO NOTHING
"""


async def insert_blobs(db: Cursor, blobs: Sequence[Blob]) -> None:
    """Keep blobs in their trees.

    The same content may be on its way elsewhere, and then this waits for that transaction. Hence
    one order everywhere, and only after all runs have been locked: nobody waits in a circle.
    """
    new = {(blob.root_id, blob.hash): blob.data for blob in blobs}
    await db.executemany(
        _INSERT_BLOB,
        [
            {"root_id": root, "hash": digest, "part": part_of(root), "data": data}
            for (root, digest), data in sorted(new.items())
        ],
    )


_SELECT_BLOBS = """
SELECT hash, data
  FROM blobs
 WHERE root_id = ANY (%s) AND part = ANY (%s) AND hash = ANY (%s)
"""


async def read_blob(db: Cursor, run_id: RunId, digest: str) -> bytes | None:
    """Return what is kept in the run's tree under this hash, or None."""
    asked = ([root_of(run_id)], [part_of(run_id)], [digest])
    row = await (await db.execute(_SELECT_BLOBS, asked, binary=True)).fetchone()
    return open_blob(row[1]) if row else None


async def read_blobs(db: Cursor, roots: Sequence[str], digests: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of those blobs of these trees that are there and whole, by hash."""
    asked = (roots, sql.parts_of(roots), digests)
    cursor = await db.execute(_SELECT_BLOBS, asked, binary=True)
    return opened_blobs(await cursor.fetchall())
