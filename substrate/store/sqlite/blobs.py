"""Blobs in SQLite: kept with the row that refers to them, in its transaction."""

from collections.abc import Iterable, Sequence

import apsw

from substrate.store.blobs import open_blob, opened_blobs
from substrate.values.ids import RunId, part_of, root_of
from substrate.values.records import Blob

_INSERT_BLOB = """
INSERT INTO blobs (root_id, hash, part, tenant, data)
SELECT id, :hash, part, tenant, :data
  FROM runs
 WHERE id = :root_id AND part = :part
    ON CONFLICT (root_id, hash, part) DO NOTHING
"""


def insert_blobs(db: apsw.Connection, blobs: Sequence[Blob]) -> None:
    """Keep blobs in their trees."""
    for blob in blobs:
        row = {"root_id": blob.root_id, "hash": blob.hash, "data": blob.data}
        db.execute(_INSERT_BLOB, row | {"part": part_of(blob.root_id)})


_SELECT_BLOB = """
SELECT data
  FROM blobs
 WHERE root_id = ? AND hash = ? AND part = ?
"""


def read_blob(db: apsw.Connection, run_id: RunId, digest: str) -> bytes | None:
    """Return what is kept in the run's tree under this hash, or None."""
    root = root_of(run_id)
    row = db.execute(_SELECT_BLOB, (root, digest, part_of(root))).fetchone()
    return open_blob(row[0]) if row else None


def read_blobs(db: apsw.Connection, any_id: str, digests: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of those blobs of the id's tree that are there and whole, by hash."""
    root = root_of(any_id)
    found = []
    for digest in digests:
        row = db.execute(_SELECT_BLOB, (root, digest, part_of(root))).fetchone()
        if row is not None:
            found.append((digest, row[0]))
    return opened_blobs(found)
