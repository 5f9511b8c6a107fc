"""A signal waits for its waiter, counts once, is taken once and in order, and wakes its run."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from substrate.store.store import Store
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId
from substrate.values.records import (
    Checkpoint,
    Fenced,
    JsonText,
    PromiseState,
    ReceivedSignal,
    RunStatus,
)
from tests.stores import (
    LANE,
    OTHER,
    Database,
    claimed,
    database,
    end,
    new_run,
    opened,
    received,
    signal,
    take,
    waiting,
)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


async def test_early_signal(store: Store):
    """A signal sent before anybody waits is there for who comes later."""
    await store.start(new_run())
    assert await store.send_signal(signal(value='{"ok":true}'))
    (claim,) = await store.claim(LANE, 1, OTHER)

    taken = await take(store, claim.fence, waiting())

    assert taken == (await store.journal(claim.run.id))[-1]
    assert (taken.state, taken.value, taken.epoch) == (PromiseState.RESOLVED, '{"ok":true}', 1)


async def test_nothing_to_take(store: Store):
    """Without a signal of its name a wait stays as it is, and nothing is written."""
    claim = await claimed(store)
    await store.send_signal(signal(name="other"))
    before = await store.get(claim.run.id)

    assert await take(store, claim.fence, waiting()) is None
    assert await store.get(claim.run.id) == before


async def test_signal_counts_once(store: Store, db: Database):
    """Sending the same dedup again changes nothing: no second signal, no wake-up."""
    claim = await claimed(store)

    first = await store.send_signal(signal(value="1"))
    again = await store.send_signal(signal(value="2"))
    other_name = await store.send_signal(signal(name="stop"))

    assert (first, again, other_name) == (True, False, True)
    assert db.rows("SELECT name, value FROM signals ORDER BY n") == [("go", "1"), ("stop", "1")]
    assert (await store.get(claim.run.id)).wake_version == 2


async def test_simultaneous_senders(store_url: str):
    """Of many who send one dedup at once, one is told that it counts."""
    async with opened(store_url) as one, opened(store_url) as two:
        await one.start(new_run())
        sent = await asyncio.gather(
            *(s.send_signal(signal()) for s in (one, two) for _ in range(8))
        )

    assert sorted(sent) == [False] * 15 + [True]


async def test_order(store: Store):
    """Signals are taken in the order in which they were sent."""
    claim = await claimed(store)
    for i in range(3):
        await store.send_signal(signal(value=str(i), dedup=f"{9 - i}"))

    taken = [await take(store, claim.fence, waiting(key=f"go.{i}")) for i in range(4)]

    assert [row.value for row in taken[:3]] == ["0", "1", "2"]
    assert taken[3] is None


async def test_taken_once(store: Store):
    """Of several waits that look at one signal at once, one gets it."""
    claim = await claimed(store)
    await store.send_signal(signal())

    taken = await asyncio.gather(
        *(take(store, claim.fence, waiting(key=f"go.{i}")) for i in range(6))
    )

    assert len([row for row in taken if row is not None]) == 1
    assert len(await store.journal(claim.run.id)) == 2


async def test_every_waiter_gets_one(store: Store):
    """Several signals and as many waits at once: each wait gets a signal of its own."""
    claim = await claimed(store)
    for i in range(6):
        await store.send_signal(signal(value=str(i), dedup=str(i)))

    taken = await asyncio.gather(
        *(take(store, claim.fence, waiting(key=f"go.{i}")) for i in range(6))
    )

    assert sorted(row.value for row in taken) == [str(i) for i in range(6)]


async def test_settled_wait_takes_nothing(store: Store, db: Database):
    """A wait that was settled first, say by its timeout, leaves the signal to the next."""
    claim = await claimed(store)
    await store.send_signal(signal())
    expired = replace(waiting(), state=PromiseState.EXPIRED, settled_at=1)
    await store.commit([Checkpoint(claim.fence, expired)])

    late = await take(store, claim.fence, waiting())
    next_ = await take(store, claim.fence, waiting(key="go.1"))

    assert late.state is PromiseState.EXPIRED
    assert next_.state is PromiseState.RESOLVED
    assert db.value("SELECT taken_by FROM signals") == "run#go.1"


async def test_lost_claim_takes_nothing(store: Store, db: Database):
    """A claim that was taken over takes no signal, which stays for its successor."""
    claim = await claimed(store)
    await store.send_signal(signal())
    await store.release([claim.fence])
    (successor,) = await store.claim(LANE, 1, OTHER)

    assert await take(store, claim.fence, waiting()) == Fenced()
    assert db.value("SELECT taken_by FROM signals") is None
    assert (await take(store, successor.fence, waiting())).epoch == 2


async def test_what_another_wait_took(store: Store, db: Database):
    """A wait whose signal another wait took meanwhile is not settled, and nothing is written."""
    claim = await claimed(store)
    await store.send_signal(signal(dedup="1"))
    await store.send_signal(signal(dedup="2"))
    await store.take_signals(claim.fence, received(waiting(key="go.0")), ["1"])
    before = await store.get(claim.run.id)

    late = await store.take_signals(claim.fence, received(waiting(key="go.1")), ["2", "1"])

    assert late == waiting(key="go.1")
    assert await store.get(claim.run.id) == before
    assert db.rows("SELECT dedup, taken_by FROM signals ORDER BY n") == [
        ("1", "run#go.0"),
        ("2", None),
    ]


async def test_what_was_never_sent(store: Store):
    """A wait is not settled with a signal that is not there; the row stays as it is."""
    claim = await claimed(store)
    await store.commit([Checkpoint(claim.fence, waiting())])

    late = await store.take_signals(claim.fence, received(waiting()), ["unknown"])

    assert late == (await store.journal(claim.run.id))[-1]
    assert late.state is PromiseState.PENDING


async def test_simultaneous_takers(store_url: str):
    """Of many who take one signal at once, each for a wait of its own, one gets it."""
    async with opened(store_url) as one, opened(store_url) as two:
        claim = await claimed(one)
        await one.send_signal(signal())

        taken = await asyncio.gather(
            *(
                (one, two)[i % 2].take_signals(claim.fence, received(waiting(key=f"go.{i}")), ["d"])
                for i in range(12)
            )
        )

        assert len([row for row in taken if row.is_settled]) == 1
        assert len(await one.journal(claim.run.id)) == 2


async def test_take_again(store: Store):
    """Who takes again, not knowing whether it has, gets what it has taken."""
    claim = await claimed(store)
    await store.send_signal(signal())

    first = await store.take_signals(claim.fence, received(waiting()), ["d"])

    assert await store.take_signals(claim.fence, received(waiting(), "2"), ["d"]) == first


async def test_take_several(store: Store):
    """One promise takes several signals at once."""
    claim = await claimed(store)
    for i in range(3):
        await store.send_signal(signal(dedup=str(i)))

    taken = await store.take_signals(claim.fence, received(waiting(), "[0,2]"), ["0", "2"])

    assert taken == (await store.journal(claim.run.id))[-1]
    assert [one.dedup for one in await store.inbox(claim.run.id, "go")] == ["1"]


async def test_refused_signal(store: Store):
    """A wait that stays open refuses the signals it takes: nobody sees them untaken any more."""
    claim = await claimed(store)
    await store.send_signal(signal(value="0", dedup="bad"))
    await store.send_signal(signal(value="1", dedup="good"))

    for _ in range(2):
        refused = await store.take_signals(claim.fence, waiting(), ["bad"])
        assert refused.state is PromiseState.PENDING
    taken = await take(store, claim.fence, waiting())

    assert taken.value == "1"
    assert await store.inbox(claim.run.id) == []


async def test_what_it_took_before(store: Store):
    """A promise may count on signals that it took while it stayed open: they are its own."""
    claim = await claimed(store)
    for dedup in ("1", "2"):
        await store.send_signal(signal(dedup=dedup))
    await store.take_signals(claim.fence, waiting(), ["1"])

    taken = await store.take_signals(claim.fence, received(waiting()), ["1", "2"])

    assert taken.state is PromiseState.RESOLVED
    assert await store.inbox(claim.run.id) == []


async def test_expiry_takes_nothing(store: Store):
    """A wait may be settled without a signal; what arrives later stays in the inbox."""
    claim = await claimed(store)
    expired = replace(waiting(), state=PromiseState.EXPIRED, settled_at=1)
    await store.send_signal(signal())

    taken = await store.take_signals(claim.fence, expired, [])

    assert taken.state is PromiseState.EXPIRED
    assert [one.dedup for one in await store.inbox(claim.run.id)] == ["d"]


async def test_inbox(store: Store):
    """The inbox shows what was sent, in order, by name or all, and who took it."""
    claim = await claimed(store)
    other = await claimed(store, "other")
    await store.send_signal(signal(dedup="z", value='{"b":1}'))
    await store.send_signal(signal(name="stop", dedup="a"))
    await store.send_signal(signal(dedup="b"))
    await store.send_signal(signal("other"))
    await store.take_signals(claim.fence, received(waiting()), ["z"])

    every = await store.inbox(claim.run.id, untaken=False)

    first = every[0]
    assert first == ReceivedSignal("go", "z", 2, JsonText('{"b":1}'), first.sent_at, "run#go.0")
    assert [(one.dedup, one.n) for one in every] == [("z", 2), ("a", 3), ("b", 4)]
    assert [one.dedup for one in await store.inbox(claim.run.id)] == ["a", "b"]
    assert [one.dedup for one in await store.inbox(claim.run.id, "go")] == ["b"]
    assert [one.dedup for one in await store.inbox(claim.run.id, "go", untaken=False)] == ["z", "b"]
    assert len(await store.inbox(other.run.id)) == 1


async def test_what_is_given_back(store: Store):
    """What a wait has taken can go back into the inbox, for the next; only by who holds the run."""
    claim = await claimed(store)
    await store.send_signal(signal())
    taken = await take(store, claim.fence, waiting())
    stale = replace(claim.fence, epoch=0)

    assert not await store.return_signals(stale, taken.id)
    assert await store.inbox(claim.run.id, "go") == []
    assert await store.return_signals(claim.fence, taken.id)
    assert len(await store.inbox(claim.run.id, "go")) == 1
    again = await take(store, claim.fence, waiting(key="go.1"))
    assert again.value == "1"
    assert await store.return_signals(claim.fence, taken.id)
    assert await store.inbox(claim.run.id, "go") == []


async def test_signal_wakes(store: Store, db: Database):
    """A signal makes a suspended run ready, whatever else it waits for, and moves its version."""
    claim = await claimed(store)
    db.suspend(claim.run.id, need=3)

    await store.send_signal(signal())

    run = await store.get(claim.run.id)
    assert (run.status, run.wake_version) == (RunStatus.READY, 1)
    assert [again.run.id for again in await store.claim(LANE, 1, OTHER)] == [claim.run.id]


async def test_running_run_learns_of_it(store: Store):
    """The owner of a running run sees by its inbox that something came."""
    claim = await claimed(store)
    await store.send_signal(signal())

    (inbox,) = await store.owned_runs(claim.fence.owner)

    assert inbox.wake_version == claim.run.wake_version + 1
    assert (await store.get(claim.run.id)).status is RunStatus.RUNNING


async def test_unknown_run(store: Store):
    """A signal to a run that nobody started raises."""
    with pytest.raises(RunNotFound, match="'nobody'"):
        await store.send_signal(signal("nobody"))


async def test_ended_run(store: Store):
    """A run that has ended takes no new signal; who repeats an old one is told it was there."""
    claim = await claimed(store)
    await store.send_signal(signal())
    await store.commit([end(claim)])

    with pytest.raises(RunEnded, match="'run' is done; it takes no signal 'go'"):
        await store.send_signal(signal(dedup="new"))
    assert await store.send_signal(signal()) is False


async def test_paused_run_takes_signals(store: Store):
    """A run that waits for a person still takes signals, and stays paused."""
    claim = await claimed(store)
    await store.commit([end(claim, RunStatus.PAUSED)])

    assert await store.send_signal(signal())
    assert (await store.get(RunId("run"))).status is RunStatus.PAUSED
