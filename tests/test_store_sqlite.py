"""What holds of the SQLite store alone: one file, one writer, and an event loop to be kept free."""

import asyncio

from substrate.values.records import Written
from tests.stores import checkpoint, claimed, database, eventually, opened


async def test_cancelled_while_it_waits(sqlite_url: str):
    """A write that is cancelled while it waits for another process is not made; the next one is."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)
        with database(sqlite_url) as rival:
            rival.rows("BEGIN IMMEDIATE")
            first = asyncio.create_task(store.commit([checkpoint(claim.fence, "first.0")]))
            second = asyncio.create_task(store.commit([checkpoint(claim.fence, "second.0")]))
            await asyncio.wait([first, second], timeout=0.02)
            first.cancel()
            await eventually(first.done)
            assert not second.done()
            rival.rows("ROLLBACK")

        assert isinstance((await second)[0], Written)
        assert first.cancelled()
        rows = await store.journal(claim.run.id)
        assert [row.key for row in rows] == ["run", "second.0"]


async def test_waiting_leaves_the_loop_free(sqlite_url: str):
    """While a write waits for another process, everything else of this process goes on."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)
        with database(sqlite_url) as rival:
            rival.rows("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.commit([checkpoint(claim.fence, "a.0")]))

            async with asyncio.timeout(5):
                for _ in range(100):
                    assert await store.get(claim.run.id) == claim.run
                    await asyncio.sleep(0)

            assert not writing.done()
            rival.rows("ROLLBACK")
        assert await writing == [Written(2)]


async def test_long_read_holds_nobody_up(sqlite_url: str):
    """While a long journal is read, short reads and writes of the same store go on."""
    async with opened(sqlite_url) as store:
        claim = await claimed(store)
        steps = [checkpoint(claim.fence, f"a.{i}", f'"{i:02000}"') for i in range(8000)]
        await store.commit(steps)
        reading = asyncio.create_task(store.journal(claim.run.id))
        await eventually(store.backend._file._scanning.locked)

        run = await store.get(claim.run.id)
        outcomes = await store.commit([checkpoint(claim.fence, "b.0")])

        assert not reading.done()
        assert (run.last_seq, outcomes) == (8001, [Written(8002)])
        assert len(await reading) in (8001, 8002)  # it may have begun to look after the commit
