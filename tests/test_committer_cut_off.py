"""Connections may be cut and servers may die: what was acknowledged stands, and all is answered."""

import asyncio
import os
import random
import signal
import threading

import psycopg

from substrate.values.records import (
    Adopted,
    Claim,
    Written,
)
from tests.keeper import wait_until
from tests.postgres import postgres, server_pid
from tests.stores import (
    LIMIT_S,
    checkpoint,
    claimed,
    committing,
    database,
    live,
    opened,
)

CUT = r"""
SELECT pg_terminate_backend(pid)
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
   AND state = 'active' AND query ~ '^\s*(-- .*\n\s*)*WITH'
"""


def cut_commits(url: str, times: int, is_over: threading.Event) -> int:
    """End the backends of commits under way, so many times; return how many were met."""
    pause = random.Random(0)
    met = 0
    with database(url) as db:
        while met < times and not is_over.wait(0.02 * pause.random()):
            met += len(db.rows(CUT))
    return met


async def test_cut_in_the_middle_of_commits(postgres_url: str, record_property):
    """However often the connection is cut, what was acknowledged is there, and all of it once."""
    async with committing(postgres_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(12)]
        is_over = threading.Event()
        cutting = asyncio.create_task(asyncio.to_thread(cut_commits, postgres_url, 10, is_over))

        async def write(claim: Claim) -> int:
            i = 0
            while not cutting.done() or i < 20:
                outcome = await committer.commit(checkpoint(claim.fence, f"work.{i}", str(i)))
                if isinstance(outcome, Adopted):  # it was on its way while it was looked for
                    outcome = Written(outcome.promise.seq)
                acknowledged[claim.run.id].append(outcome.seq)
                i += 1
            return i

        acknowledged: dict[str, list[int]] = {claim.run.id: [] for claim in claims}
        try:
            async with asyncio.timeout(2 * LIMIT_S):
                written = await asyncio.gather(*(write(claim) for claim in claims))
        finally:
            is_over.set()

        assert await cutting == 10
        for claim, steps in zip(claims, written, strict=True):
            rows = await store.journal(claim.run.id, after=1)
            assert [row.value for row in rows] == [str(i) for i in range(steps)]
            assert [row.seq for row in rows] == acknowledged[claim.run.id]
        record_property("connections cut in COMMIT, writes that survived", sum(written))


async def test_row_that_kills_connections(postgres_url: str):
    """A row that ends whatever connection writes it takes no other down with it."""
    async with committing(postgres_url) as (store, committer):
        claims = [await claimed(store, f"run-{i}") for i in range(20)]
        with database(postgres_url) as db:
            db.rows(
                "CREATE FUNCTION strike() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF new.name = 'poison' THEN PERFORM pg_terminate_backend(pg_backend_pid());"
                " END IF; RETURN new; END $$"
            )
            db.rows(
                "CREATE TRIGGER strike BEFORE INSERT ON promises"
                " FOR EACH ROW EXECUTE FUNCTION strike()"
            )
            poison = asyncio.create_task(committer.commit(checkpoint(claims[0].fence, "poison.0")))

            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*(live(committer, claim, 3) for claim in claims[1:]))

            assert not poison.done()
            db.rows("DROP TRIGGER strike ON promises")
        async with asyncio.timeout(LIMIT_S):
            assert await poison == Written(2)


async def test_server_gone_and_back():
    """While the server is down every caller waits; when it is back each is answered rightly."""
    with postgres() as dsn:
        async with committing(dsn) as (store, committer):
            claims = [await claimed(store, f"run-{i}") for i in range(10)]
            await live(committer, claims[0], 3)
            os.kill(server_pid(dsn), signal.SIGQUIT)

            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*(live(committer, c, 5, "again") for c in claims))

            assert sorted(run.last_seq for run in await store.list()) == [6] * 9 + [9]


async def test_restart_between_commits():
    """A server that was restarted while nobody wrote costs the next caller nothing."""
    with postgres() as dsn:
        async with opened(dsn) as store:
            claim = await claimed(store)
            old = server_pid(dsn)
            os.kill(old, signal.SIGQUIT)
            assert await asyncio.to_thread(wait_until, lambda: is_back(dsn, old), LIMIT_S)

            assert await store.commit([checkpoint(claim.fence, "a.0")]) == [Written(2)]
            assert (await store.get(claim.run.id)).last_seq == 2


def is_back(dsn: str, old: int) -> bool:
    """Tell whether another server takes connections."""
    try:
        if server_pid(dsn) == old:
            return False
        psycopg.connect(dsn).close()
    except (OSError, psycopg.OperationalError):
        return False
    return True
