"""Many agree on one value under a key: proposed, voted on, and decided once.

The room is `substrate.memory.motions`.
"""

from datetime import timedelta
from typing import Any

import pytest

from substrate import Context, MemoryRefused, Misuse, RunFailed, WorkerOptions, connect, durable
from tests.runs import QUICK
from tests.stores import database, eventually

NS = "acme/release"
VOTERS = ["ann", "bob", "cid"]
AT_ONCE = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=20),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)


@durable
async def proposes(ctx: Context, topic: str, value: Any, options: dict[str, Any]) -> list[Any]:
    motion = await ctx.memory(NS).propose(topic, value, **options)
    return [motion.state, motion.value, motion.need, motion.voters]


@durable
async def votes(ctx: Context, topic: str, voter: str, value: Any) -> list[Any]:
    motion = await ctx.memory(NS).vote(topic, value, voter=voter)
    return [motion.state, motion.value, motion.votes]


@durable
async def waits(ctx: Context, topic: str) -> list[Any]:
    motion = await ctx.memory(NS).outcome(topic)
    return [motion.state, motion.value, motion.votes]


FUNCTIONS = [proposes, votes, waits]


class Runs:
    """Runs one after the other, each with an id of its own."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._count = 0

    async def __call__(self, function: Any, *args: Any) -> Any:
        self._count += 1
        await self._client.start(function, *args, id=f"run-{self._count}")
        return await self._client.result(f"run-{self._count}")


@pytest.mark.parametrize("options", [QUICK, AT_ONCE], ids=["warm", "suspended"])
async def test_it_passes_once(store_url, options):
    """The vote that is enough closes it; all who wait get that, and who votes later is told so."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=options):
        run = Runs(client)
        for i in range(3):
            await client.start(waits, "1.4", id=f"w-{i}")
        assert await run(proposes, "1.4", "ship", {"voters": VOTERS}) == ["open", "ship", 2, VOTERS]
        assert await run(votes, "1.4", "ann", "wait") == ["open", "ship", {"ann": "wait"}]
        assert await run(votes, "1.4", "ann", "Ship") == ["open", "ship", {"ann": "Ship"}]
        passed = ["passed", "Ship", {"ann": "Ship", "bob": "ship"}]
        assert await run(votes, "1.4", "bob", "ship") == passed
        assert await run(votes, "1.4", "cid", "wait") == passed
        assert await run(votes, "1.4", "bob", "wait") == passed
        assert await run(proposes, "1.4", "wait", {"voters": ["x"]}) == [
            "passed",
            "Ship",
            2,
            VOTERS,
        ]
        assert [await client.result(f"w-{i}") for i in range(3)] == [passed] * 3
        assert await run(waits, "1.4") == passed
    with database(store_url) as db:
        states = db.rows("SELECT state, gone_n IS NULL FROM motions ORDER BY n")
        assert db.value("SELECT count(*) FROM ballots WHERE gone_n IS NULL") == 2
    assert [(state, bool(stands)) for state, stands in states] == [
        ("open", False),
        ("passed", True),
    ]


async def test_it_fails(store_url):
    """Once no value can have enough votes any more, it has failed."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        await run(proposes, "1.4", "ship", {"voters": VOTERS, "need": 3})
        assert (await run(votes, "1.4", "ann", "ship"))[0] == "open"
        assert (await run(votes, "1.4", "bob", "wait"))[0] == "failed"
        assert (await run(votes, "1.4", "cid", "ship"))[0] == "failed"
        assert (await run(waits, "1.4"))[0] == "failed"


@pytest.mark.parametrize("options", [QUICK, AT_ONCE], ids=["warm", "suspended"])
async def test_its_time_is_over(store_url, options):
    """Where its time is over it is closed once, by whoever comes first, and no vote counts."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=options):
        run = Runs(client)
        await run(proposes, "1.4", "ship", {"voters": VOTERS, "timeout": 0.1})
        for i in range(4):
            await client.start(waits, "1.4", id=f"w-{i}")
        ended = [await client.result(f"w-{i}") for i in range(4)]
        assert ended == [["expired", "ship", {}]] * 4
        assert await run(votes, "1.4", "ann", "ship") == ended[0]
        # Nobody waits for this one: the vote that comes too late closes it.
        await run(proposes, "1.5", "ship", {"voters": ["ann"], "timeout": 0.001})
        with database(store_url) as db:
            ends = db.value("SELECT expires_at FROM motions WHERE topic = '1.5'")
        await eventually(lambda: client.store.clock.now_ms() > ends)
        late = await run(votes, "1.5", "ann", "ship")
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM motions WHERE state = 'expired'") == 2
    assert late == ["expired", "ship", {}]


async def test_a_storm_of_votes(store_url):
    """However many vote and propose at once, from several processes, there is one outcome."""
    voters = [f"v{i}" for i in range(24)]
    async with (
        connect(store_url) as one,
        connect(store_url) as two,
        one.work(FUNCTIONS, options=QUICK),
        two.work(FUNCTIONS, options=QUICK),
    ):
        for i in range(4):
            await one.start(proposes, "x", i, {"voters": voters}, id=f"p-{i}")
            await one.start(waits, "x", id=f"w-{i}")
        proposed = [await one.result(f"p-{i}") for i in range(4)]
        for i, voter in enumerate(voters):
            await (one, two)[i % 2].start(votes, "x", voter, i % 5 > 0, id=f"run-{voter}")
        seen = [await one.result(f"run-{voter}") for voter in voters]
        ended = [await one.result(f"w-{i}") for i in range(4)]
    assert len({str(each) for each in proposed}) == 1
    assert len({str(each) for each in ended}) == 1
    state, value, cast = ended[0]
    assert (state, value) == ("passed", True)
    assert sum(cast.values()) == 13  # the one that was enough, and none more
    assert all(each == ended[0] for each in seen if each[0] != "open")


@durable
async def votes_wrongly(ctx: Context) -> list[str]:
    memory, told = ctx.memory(NS), []
    for topic, voter in [("nothing", "ann"), ("1.4", "eve")]:
        try:
            await memory.vote(topic, 1, voter=voter)
        except MemoryRefused as error:
            told.append(str(error))
    for options in MISTAKES:
        try:
            memory.propose("1.6", 1, **options)
        except Misuse as error:
            told.append(str(error))
    return told


MISTAKES: list[dict[str, Any]] = [
    {"voters": []},
    {"voters": "ann"},
    {"voters": ["a", "a"]},
    {"voters": ["a", ""]},
    {"voters": ["a"], "need": 0},
    {"voters": ["a"], "need": 2},
    {"voters": ["a"], "need": 1.0},
    {"voters": ["a"], "timeout": 0},
    {"voters": ["a"], "timeout": -1},
    {"voters": ["a"], "timeout": timedelta(days=99_999)},
]


async def test_who_has_no_vote(store_url):
    """A vote on nothing, or of somebody who has none, is refused, and so is a motion of nobody."""
    async with (
        connect(store_url) as client,
        client.work([*FUNCTIONS, votes_wrongly], options=QUICK),
    ):
        run = Runs(client)
        await run(proposes, "1.4", "ship", {"voters": VOTERS})
        told = await run(votes_wrongly)
    assert "nobody has proposed 'nothing'" in told[0]
    assert "'eve' has no vote" in told[1]
    assert len(told) == 2 + len(MISTAKES)
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM motions") == 1
        assert db.value("SELECT count(*) FROM ballots") == 0


@durable
async def fickle(ctx: Context, topic: str) -> list[Any]:
    """Vote in a child that is undone."""
    try:
        await ctx.spawn(undone, topic)
    except RunFailed:
        return [topic]
    return []


@durable
async def undone(ctx: Context, topic: str) -> None:
    memory = ctx.memory(NS, undo=True)
    await memory.vote(topic, "ship", voter="ann")
    await memory.propose(f"{topic} again", 1, voters=["ann"])
    raise ValueError("never mind")


async def test_an_undone_vote(store_url):
    """A vote that is undone counts no more while it is open; an outcome stands."""
    functions = [*FUNCTIONS, fickle, undone]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        run = Runs(client)
        await run(proposes, "1.4", "ship", {"voters": VOTERS})
        await run(proposes, "1.5", "ship", {"voters": VOTERS})
        await run(votes, "1.5", "bob", "ship")
        await run(fickle, "1.4")
        await run(fickle, "1.5")
        assert await run(votes, "1.4", "bob", "ship") == ["open", "ship", {"bob": "ship"}]
        assert (await run(waits, "1.5"))[0] == "passed"
    with database(store_url) as db:
        stands = db.rows("SELECT topic, state FROM motions WHERE gone_n IS NULL ORDER BY topic")
    assert stands == [("1.4", "open"), ("1.5", "passed")]
