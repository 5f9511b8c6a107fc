"""What forgetting asks of a database: rows of memory that go, and journals that are emptied.

Each method is one transaction, and may be done again: what is gone is not counted twice. The rows
of memory go first, with the tombstone that says what is left to do, so nobody reads them while the
journals are emptied, one tree after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from substrate.store.backend import Backend
from substrate.values.forgetting import Cut, ForgetKind, Tombstone
from substrate.values.ids import RunId
from substrate.values.records import Promise, RunStatus
from substrate.values.tags import FORGOTTEN

_PAGE = 500

ENDED = (RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELLED)
"""Runs of which nothing goes on. A dead one may be resumed, so it is not among them."""

TEXTS = ("input", "value", "error", "attempts", "undo")
"""What is emptied of a promise, beside its fingerprint. What it used and was granted is numbers."""


class Forgettings:
    """What is forgotten in a store: `Store.forgetting`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._db = backend.db
        self._sql = backend.sql.forget

    async def roots(self, tenant: str, after: str) -> Sequence[RunId]:
        """Return the roots of a tenant's trees of runs behind this one, some hundreds, in order."""
        return await self._db.scan(self._sql.read_roots, tenant, after, _PAGE)

    async def open_runs(self, root: RunId) -> Sequence[RunId]:
        """Return the runs of a tree that may go on; dead ones are among them."""
        return await self._db.read(self._sql.read_open_runs, root)

    async def promises(self, root: RunId, after: str) -> Sequence[Promise]:
        """Return the promises of a tree behind this id, some hundreds, whole."""
        return await self._db.scan(self._sql.read_tree, root, after, _PAGE)

    async def beside(self, root: RunId) -> Sequence[str]:
        """Return what else a tree has of texts: in its inbox, and of its gates and rules."""
        return await self._db.scan(self._sql.read_beside, root)

    async def begin(self, tombstone: Tombstone, now: int) -> bool:
        """Delete what goes of memory, and write the tombstone.

        Returns False where a namespace has changed since that was chosen: then nothing was done.
        """
        return await self._db.write(self._sql.begin_forgetting, tombstone, now)

    async def empty(self, id_: str, root: RunId) -> bool | None:
        """Take contents out of a tree that has ended; return whether that was all of it.

        Some hundreds of its promises at a time, so that nobody waits for it long. None: it lives.
        """
        return await self._db.write(self._sql.empty_tree, id_, root, _PAGE)

    async def unfinished(self) -> Sequence[Tombstone]:
        """Return what has begun and not ended, the oldest first."""
        return await self._db.read(self._sql.read_unfinished)

    async def scrub(self) -> Sequence[str]:
        """Take what is gone out of the files, as far as that can be; return what is left there."""
        return await self._backend.scrub()

    async def end(self, id_: str, now: int) -> Mapping[str, int]:
        """Say that nothing is left to do; return what is counted."""
        return await self._db.write(self._sql.end_forgetting, id_, now)


def row_of(tombstone: Tombstone, counts: Mapping[str, int], now: int) -> dict[str, Any]:
    """Return a tombstone as what is written of it when it begins."""
    return {
        "id": tombstone.id,
        "tenant": tombstone.tenant,
        "kind": tombstone.kind.value,
        "left_to_do": _left_to_do(tombstone),
        "counts": orjson.dumps(counts).decode(),
        "now": now,
    }


def _left_to_do(tombstone: Tombstone) -> str:
    cuts = [
        {
            "namespace": each.ns,
            "to": each.last_n,
            "numbers": None if each.numbers is None else list(each.numbers),
        }
        for each in tombstone.cuts
    ]
    return orjson.dumps({"cuts": cuts, "runs": list(tombstone.roots)}).decode()


def tombstone_of(id_: str, tenant: str, kind: str, left: str) -> Tombstone:
    """Make a tombstone of its row."""
    what = orjson.loads(left)
    cuts = [Cut(each["namespace"], each["to"], each["numbers"]) for each in what["cuts"]]
    return Tombstone(id_, tenant, ForgetKind(kind), cuts, what["runs"])


def added(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return both counts together, without what is none."""
    names = sorted({*counts, *more})
    return {name: total for name in names if (total := counts.get(name, 0) + more.get(name, 0))}


def mark(id_: str) -> str:
    """Return what stands in the place of a content."""
    return orjson.dumps({FORGOTTEN: id_}).decode()


EMPTIED = f'{{"{FORGOTTEN}"'
"""How a mark begins: what begins so was emptied."""


def bounds(root: RunId) -> dict[str, str]:
    """Return the ranges of the ids of a tree: the root's own, what is below it, its branches."""
    return {
        "root": root,
        "below": f"{root}#",
        "beyond": f"{root}$",  # the character after #
        "branch": f"{root}~",
        "last": f"{root}\x7f",  # the one after ~
    }
