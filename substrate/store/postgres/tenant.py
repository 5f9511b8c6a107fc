"""Whose rows of memory a transaction sees, where row-level security binds its user.

A policy compares with a setting, which is said for one transaction and forgotten at its end. So no
connection takes a tenant along to what is done on it next, and a transaction pooler may stand
between. Where there is no tenant nothing is said, and rows of tenants are not seen.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from substrate.store.postgres.session import Cursor

_SET_TENANT = "SELECT pg_catalog.set_config('ostinato.tenant', %(tenant)s::text, true)"

_NO_SORT = "SET LOCAL enable_sort = off"


@asynccontextmanager
async def of_tenant(db: Cursor, tenant: str) -> AsyncIterator[None]:
    """Let the block see the rows of a tenant, in one transaction, where there is a tenant."""
    if not tenant:
        yield
        return
    async with db.connection.transaction():
        await say_tenant(db, tenant)
        yield


@asynccontextmanager
async def in_index_order(db: Cursor, tenant: str) -> AsyncIterator[None]:
    """Let the block see the rows of a tenant, by the index that has them in the order asked for.

    Where a table has no statistics yet, after many writes at once say, each index looks as good as
    another: all begin with the namespace, and one of them is read as a whole. A statement that asks
    for the order of the right one, where no sort may be, is given that one.
    """
    async with db.connection.transaction():
        await db.execute(_NO_SORT)
        await say_tenant(db, tenant)
        yield


async def say_tenant(db: Cursor, tenant: str) -> None:
    """Let the rest of this transaction see the rows of a tenant, where there is one."""
    if tenant:
        await db.execute(_SET_TENANT, {"tenant": tenant})
