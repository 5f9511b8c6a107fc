"""A run's journal as readers look at it: what cannot be read of a row is left out.

The row stops its own run, which says so; it keeps nobody from looking at that, or at others.
"""

from collections.abc import Sequence

from substrate.engine.client import Client
from substrate.engine.run.unreadable import is_readable, legible
from substrate.values.ids import PromiseId
from substrate.values.records import JsonText, Promise, Run


async def read_journal(client: Client, run: Run) -> Sequence[Promise]:
    """Return what a run has recorded, in order."""
    return [legible(promise) for promise in await client.store.journal(run.id)]


async def read_own(client: Client, run: Run) -> Promise | None:
    """Return the promise of a run's outcome, if it has one."""
    own = await client.store.promise(run.id)
    return None if own is None else legible(own)


async def read_usages(client: Client, run: Run) -> Sequence[tuple[PromiseId, JsonText]]:
    """Return what each promise of a run, and of all below it, has used."""
    found = await client.store.usages(f"{run.id}#")
    return [(id_, used) for id_, used in found if is_readable(used)]
