"""Everything that a store is asked for, once: for tests of what a database allows to whom."""

import asyncio
from pathlib import Path
from typing import Any

from substrate import Client, RunStatus
from substrate.store.store import Store
from substrate.values.codec import encode
from substrate.values.ids import RunId
from substrate.values.records import Adopted, JsonText, Kind, Run, Written
from tests.everything import FUNCTIONS, LIMITS, RESULT, SIGNALS, everything
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    checkpoint,
    claimed,
    crash,
    new_run,
    received,
    signal,
    waiting,
)
from tests.troubled import TroubledStore

LONG = JsonText(encode({"text": "x" * 40_000}))
METHODS = {name for name in vars(Store) if not name.startswith("_")} - {
    "clock",
    "heartbeat",
    "close",
    "line_of",
    "on_line",
}


async def every_primitive(opened: Store, folder: Path, past: str | None = None) -> None:
    """Drive a run of every primitive, and what people and other workers do to runs.

    Whoever calls this has made a table `entries`, for the transactional step. `past` is the URL by
    which a test goes past the store, where that is not the store's own.
    """
    store: Any = TroubledStore(opened)
    if past is not None:
        store.url = past
    await drive(Client(store), folder)
    await lose(store)
    await end_some(store)
    await look(store)
    assert METHODS - store.calls.keys() == set()


async def drive(client: Client, folder: Path) -> None:
    """Drive a run of every primitive to its end."""
    (folder / "times").mkdir(exist_ok=True)
    async with asyncio.timeout(60), client.work(FUNCTIONS, options=LIMITS):
        await client.start(everything, str(folder), 0, id="everything")
        for name, value, dedup in SIGNALS:
            await client.signal("everything", name, value, dedup)
        assert await client.result("everything") == RESULT


async def lose(store: Any) -> None:
    """Have a run taken back from three workers that died, then give it up."""
    await store.start(new_run("lost", input=LONG))
    for _ in range(2):
        await crash(store)
    await store.wake_due()
    await crash(store)
    dead: Run = await store.get(RunId("lost"))
    assert dead.status is RunStatus.DEAD
    assert (await store.resume(RunId("lost"))).status is RunStatus.READY
    (claim,) = await store.claim(LANE, 1, OTHER)
    assert claim.input == LONG
    assert await store.release([claim.fence]) == 1


async def end_some(store: Any) -> None:
    """Commit what is long, take signals and give them back, begin anew, be cancelled."""
    claim = await claimed(store, "ended")
    long = checkpoint(claim.fence, "long.0", LONG)
    assert await store.commit([long]) == [Written(2)]
    assert await store.commit([long], wait=True) != [Written(2)]
    assert isinstance((await store.commit([long]))[0], Adopted)
    assert await store.send_signal(signal("ended"))
    assert not await store.send_signal(signal("ended"))
    wait = waiting("ended")
    assert (await store.take_signals(claim.fence, received(wait), ["d"])).is_settled
    assert await store.return_signals(claim.fence, wait.id)
    assert await store.continue_as(claim.fence, LONG)
    assert (await store.cancel(RunId("ended"))).cancel_requested
    await claimed(store, "asleep")
    paused = await claimed(store, "paused")
    await store.commit([checkpoint(paused.fence, "run", status=RunStatus.PAUSED)])
    assert (await store.discard(RunId("paused"))).status is RunStatus.CANCELLED


async def look(store: Any) -> None:
    """Ask for all that can be read."""
    await store.write_rate_limit("a-model", JsonText("{}"))
    await store.write_rate_limit("a-model", JsonText("[]"))
    assert [told for _, told, _ in await store.rate_limits(0)] == ["[]"]
    assert await store.list()
    assert await store.list(RunStatus.DONE)
    assert await store.journal(RunId("everything"))
    assert await store.settled_children(RunId("everything"), 0)
    assert (await store.promise(RunId("everything"))).is_settled
    assert await store.promises(["everything", "lost"])
    await store.usages("everything#", ["model"])
    assert not await store.has_open_runs("everything#")
    assert not await store.open_promises("everything#", Kind.SIGNAL)
    assert await store.inbox(RunId("everything"), untaken=False)
    assert await store.inbox(RunId("ended"), "go", limit=1)
    assert await store.count_ready([LANE], 10)
    assert await store.count_ready_below(RunId("lost"), [LANE], 10)
    assert await store.claim_below(RunId("lost"), LANE, 10, OTHER)
    await store.write_lanes(OTHER, [LANE])
    assert await store.known_lanes() is not None
    await store.ready_lanes()
    assert await store.owned_runs(OWNER)
    assert await store.next_due_at() is None
    assert await store.blob(RunId("ended"), "0" * 64) is None
    claim = await claimed(store, "settled")
    assert await store.read_back([checkpoint(claim.fence, "a.0")]) == [None]
