"""A line that is slow, away or struck down costs the runs that lie on it, and no others."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from substrate import Client, Context, RunStatus, WorkerOptions, durable
from substrate.engine.run.committer import Committer
from substrate.engine.worker.worker import Worker
from substrate.store.store import Store
from substrate.values.errors import StoreError
from substrate.values.records import Written
from tests.databases import create_database, drop_database
from tests.processes import Process
from tests.proxies import Proxy, proxy_to
from tests.split import ids_on, split
from tests.stores import LIMIT_S, checkpoint, claimed, database, eventually

FAST = WorkerOptions(
    lease=timedelta(seconds=1),
    poll=timedelta(milliseconds=30),
    shutdown_grace=timedelta(seconds=1),
)
EACH = 5
"""How many runs lie on each line."""

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    """Count from nothing."""
    calls.clear()


async def note(run_id: str, number: int) -> int:
    """Count a call."""
    calls[f"{run_id} {number}"] += 1
    return number


@durable
async def child(ctx: Context, number: int) -> int:
    """Do one step."""
    return await ctx.step(note, ctx.run_id, number)


@durable
async def family(ctx: Context) -> int:
    """Do what runs do: steps, children, a sleep, a signal."""
    first = await ctx.step(note, ctx.run_id, 1)
    others = await ctx.gather(*(ctx.spawn(child, number) for number in (2, 3)))
    await ctx.sleep(0.01)
    told = await ctx.receive("go", int)
    return first + sum(others) + told + await ctx.step(note, ctx.run_id, 4)


@durable
async def patient(ctx: Context) -> int:
    """Do a step, wait for a signal, do another."""
    first = await ctx.step(note, ctx.run_id, 1)
    await ctx.receive("go", int)
    return first + await ctx.step(note, ctx.run_id, 2)


ALL = [family, child, patient]


@dataclass(slots=True)
class Ways:
    """Two lines, and the ways to put trouble on the second."""

    urls: tuple[str, str]
    direct: tuple[str, str]
    proxy: Proxy | None

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Let the second line answer nothing in the block."""
        if self.proxy is None:
            with database(self.direct[1]) as db:
                db.rows("BEGIN IMMEDIATE")
                yield
                db.rows("ROLLBACK")
        else:
            self.proxy.is_silent = True
            self.proxy.fall_silent()
            yield
            self.proxy.is_silent = False


@pytest.fixture(params=["sqlite", "postgres"])
async def ways(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_dsn: str
) -> AsyncIterator[Ways]:
    """Provide two empty databases, of each kind."""
    if request.param == "sqlite":
        one, two = (f"sqlite:///{tmp_path / name}.db" for name in ("one", "two"))
        yield Ways((one, two), (one, two), None)
        return
    one, two = (create_database(postgres_dsn) for _ in range(2))
    async with proxy_to(two) as proxy:
        yield Ways((one, proxy.url), (one, two), proxy)
    for url in (one, two):
        drop_database(postgres_dsn, url)


@asynccontextmanager
async def working(store: Store, **options: Any) -> AsyncIterator[Worker]:
    """Let a worker drive what lies on its lines for the block."""
    worker = Worker(store, ALL, options=FAST, **options)
    await worker.open()
    try:
        yield worker
    finally:
        await worker.close()


def ids() -> tuple[list[str], list[str]]:
    """Return ids of runs on the first line, and on the second."""
    here, there = (list(islice(ids_on(line), EACH)) for line in (0, 1))
    return here, there


async def all_of(client: Client, of: list[str]) -> list[Any]:
    """Return what these runs come to."""
    async with asyncio.timeout(LIMIT_S):
        return await asyncio.gather(*(client.result(id_) for id_ in of))


async def all_wait(client: Client, of: list[str]) -> bool:
    """Return whether each of these `patient` runs has recorded its first step, and waits."""
    rows = [await client.journal(id_) for id_ in of]
    return all(len(each) == 3 for each in rows)


async def test_two_lines_as_one(ways: Ways):
    """Runs of two lines do what runs do, and each tree lies whole in the database of its line."""
    here, there = ids()
    async with split(*ways.urls) as store, working(store):
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(family, id=id_)
        for id_ in (*here, *there):
            await client.signal(id_, "go", 10)

        assert await all_of(client, [*here, *there]) == [20] * 2 * EACH

        assert set(calls.values()) == {1}
        for url, roots in zip(ways.direct, (here, there), strict=True):
            with database(url) as db:
                found = db.rows("SELECT DISTINCT root_id FROM runs")
                assert {row[0] for row in found} == set(roots)
                assert db.value("SELECT count(*) FROM runs WHERE status = 'done'") == 3 * EACH
                owners = db.value("SELECT count(*) FROM workers")
                assert owners == 1


async def test_a_stalled_line(ways: Ways, record_property: Callable[[str, object], None]):
    """While one line answers nothing for longer than a lease, the others' runs go on as before."""
    here, there = ids()
    async with split(*ways.urls) as store, working(store) as worker:
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(patient, id=id_)
        await eventually(lambda: all_wait(client, [*here, *there]))

        with ways.stalled():
            began = time.monotonic()
            for id_ in here:
                await client.signal(id_, "go", 1)
            assert await all_of(client, here) == [3] * EACH
            took = time.monotonic() - began
            await eventually(lambda: not worker.lines[1].is_alive)

            # A lease later, what is new on the first line is driven as well.
            more = list(islice(ids_on(0, name="more"), EACH))
            for id_ in more:
                await client.start(family, id=id_)
                await client.signal(id_, "go", 10)
            assert await all_of(client, more) == [20] * EACH
            assert worker.lines[0].is_alive
            assert not any(calls[f"{id_} 2"] for id_ in there)

        for id_ in there:
            await eventually(lambda id_=id_: sent(client, id_))
        assert await all_of(client, there) == [3] * EACH

    assert took < 1.0
    assert set(calls.values()) == {1}  # nothing that was committed is done again
    record_property(f"{EACH} runs beside a stalled line, seconds", round(took, 3))


async def answers(client: Client, id_: str) -> bool:
    """Return whether the line of a run can be asked again."""
    try:
        await client.get(id_)
    except StoreError:
        return False
    return True


async def sent(client: Client, id_: str) -> bool:
    """Send a signal; return whether the line took it."""
    try:
        await client.signal(id_, "go", 1, dedup="once")
    except StoreError:
        return False
    return True


async def test_a_line_that_is_struck_down(postgres_dsn: str):
    """A line whose server has thrown everybody out comes back with all that was acknowledged."""
    here, there = ids()
    one, two = (create_database(postgres_dsn) for _ in range(2))
    name = two.rpartition("/")[2].partition("?")[0]
    async with split(one, two) as store, working(store):
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(patient, id=id_)
        await eventually(lambda: all_wait(client, [*here, *there]))

        with psycopg.connect(postgres_dsn, autocommit=True) as server:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            for id_ in here:
                await client.signal(id_, "go", 1)
            assert await all_of(client, here) == [3] * EACH
            with pytest.raises(StoreError):
                await client.signal(there[0], "go", 1)
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())

        for id_ in there:
            await eventually(lambda id_=id_: sent(client, id_))
        assert await all_of(client, there) == [3] * EACH
    assert set(calls.values()) == {1}
    for url in (one, two):
        drop_database(postgres_dsn, url)


async def test_a_line_that_is_away_at_first(ways: Ways):
    """A worker that finds one of its lines away begins with the others, and takes that one up."""
    here, there = ids()
    async with split(*ways.urls) as store:
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(patient, id=id_)
            await client.signal(id_, "go", 1)
        async with AsyncExitStack() as stack:
            with ways.stalled():
                worker = await stack.enter_async_context(working(store))
                assert await all_of(client, here) == [3] * EACH
                assert not worker.lines[1].is_alive
            await eventually(lambda: answers(client, there[0]))
            assert await all_of(client, there) == [3] * EACH


async def test_closed_while_a_line_is_away(ways: Ways):
    """A worker closes in its time though one of its lines answers nothing."""
    here, _ = ids()
    async with split(*ways.urls) as store:
        client = Client(store)
        with ways.stalled():
            async with working(store):
                await client.start(patient, id=here[0])
                await eventually(lambda: all_wait(client, here[:1]))
                began = time.monotonic()
            took = time.monotonic() - began
        run = await client.get(here[0])

    assert run.status in (RunStatus.SUSPENDED, RunStatus.READY)  # whether it waited by then
    assert run.lease_owner is None
    assert took < 15


async def test_a_share_of_the_lines(ways: Ways):
    """A worker with a share of the lines drives what lies there, and leaves the rest to others."""
    here, there = ids()
    async with split(*ways.urls) as store:
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(patient, id=id_)
            await client.signal(id_, "go", 1)
        async with working(store, lines=[1]) as worker:
            assert await all_of(client, there) == [3] * EACH
            assert list(worker.lines) == [1]
            assert {run.id for run in await client.list(RunStatus.READY)} == set(here)
            assert not worker.takes("default/patient/1", here[0])
        async with working(store, lines=[0]):
            assert await all_of(client, here) == [3] * EACH
    assert set(calls.values()) == {1}


async def test_one_place_for_all_lines(ways: Ways):
    """An idle run of one line makes room for one that is ready on another: places are shared."""
    here, there = ids()
    one_place = WorkerOptions(concurrency=1, poll=FAST.poll)
    async with split(*ways.urls) as store:
        client = Client(store)
        worker = Worker(store, ALL, options=one_place)
        await worker.open()
        try:
            await client.start(patient, id=here[0])
            await eventually(lambda: calls[f"{here[0]} 1"])
            await client.start(patient, id=there[0])
            await eventually(lambda: calls[f"{there[0]} 1"])
            for id_ in (here[0], there[0]):
                await client.signal(id_, "go", 1)
            assert await all_of(client, [here[0], there[0]]) == [3, 3]
            assert worker.running <= 1
        finally:
            await worker.close()


async def test_committers(ways: Ways):
    """What is written on one line is acknowledged while the other line answers nothing."""
    here, there = ids()
    async with split(*ways.urls) as store:
        claims = [await claimed(store, id_) for id_ in (here[0], there[0])]
        committers = [Committer(store.on_line(line)) for line in store.lines]
        with ways.stalled():
            held = asyncio.create_task(committers[1].commit(checkpoint(claims[1].fence, "a.0")))
            async with asyncio.timeout(LIMIT_S):
                for number in range(20):
                    outcome = await committers[0].commit(checkpoint(claims[0].fence, f"a.{number}"))
                    assert isinstance(outcome, Written)
            assert not held.done()
        async with asyncio.timeout(LIMIT_S):
            assert isinstance(await held, Written)
        for committer in committers:
            await committer.close()


def work_until_killed(urls: tuple[str, str]) -> None:
    """Be a worker process on both lines until killed."""

    async def forever() -> None:
        async with split(*urls) as store, working(store):
            await asyncio.Event().wait()

    asyncio.run(forever())


async def test_a_worker_that_is_killed(ways: Ways):
    """The runs that a killed process had on each of its lines are taken over by another."""
    here, there = ids()
    async with split(*ways.urls) as store:
        client = Client(store)
        for id_ in (*here, *there):
            await client.start(patient, id=id_)
        process = Process(target=work_until_killed, args=(ways.urls,))
        process.start()
        try:
            await eventually(lambda: all_wait(client, [*here, *there]))
        finally:
            process.kill()
            process.join()
        async with working(store):
            for id_ in (*here, *there):
                await client.signal(id_, "go", 1)
            assert await all_of(client, [*here, *there]) == [3] * 2 * EACH
    assert set(calls) == {f"{id_} 2" for id_ in (*here, *there)}
