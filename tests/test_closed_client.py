"""A client that cannot be used where or when it is says so, and what to do."""

from typing import Any

import pytest

from substrate import Context, connect, durable
from substrate.values.errors import StoreUnusable
from tests.stores import database


@durable
async def job(ctx: Context) -> int:
    return 1


async def open_worker(client: Any) -> None:
    """Open a worker, and close it."""
    async with client.work([job]):
        pass


USES = {
    "start": lambda client: client.start(job, id="late"),
    "get": lambda client: client.get("run"),
    "result": lambda client: client.result("run"),
    "signal": lambda client: client.signal("run", "go"),
    "cancel": lambda client: client.cancel("run"),
    "list": lambda client: client.list(),
    "work": open_worker,
}


@pytest.mark.parametrize("use", USES)
async def test_after_it_was_closed(store_url, use):
    """A client that is used after its block raises, opens no connection, and writes nothing."""
    async with connect(store_url) as client:
        await client.start(job, id="run")

    with pytest.raises(StoreUnusable, match="the client is closed; use it inside"):
        await USES[use](client)

    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM runs") == 1
        assert db.value("SELECT count(*) FROM workers") == 0
