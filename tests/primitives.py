"""Everything that a store is asked for, once: for tests of what a database allows to whom."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from substrate import Client, RunStatus
from substrate.store.memory_rows import TABLES as MEMORY_TABLES
from substrate.store.memory_rows import Look
from substrate.store.store import Store
from substrate.store.term_rows import Query
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.values.codec import decode, encode
from substrate.values.gates import Decision, GateState, Rule, RuleVerdict, code_of
from substrate.values.ids import RunId
from substrate.values.memory import Space
from substrate.values.records import (
    Adopted,
    JsonText,
    Kind,
    Promise,
    PromiseState,
    Run,
    Written,
)
from tests.everything import FUNCTIONS, LIMITS, RESULT, SIGNALS, everything
from tests.memories import SPACE, TABLES, memory_write
from tests.stores import (
    LANE,
    NOW,
    OTHER,
    OWNER,
    checkpoint,
    claimed,
    crash,
    end,
    gate_promise,
    new_gate,
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
"""The methods of a store; those of its gates are asked in `ask`, those of its memory in `keep`."""


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
    await ask(opened)
    await keep(opened)
    never_asked = METHODS - store.calls.keys()
    assert not never_asked, never_asked


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


async def ask(store: Store) -> None:
    """Ask people, decide, let a rule decide, and look at what is open."""
    claim = await claimed(store, "asking")
    gates, made = store.gates, new_gate()
    first, second, third = (gate_promise(claim, f"gate.{i}") for i in range(3))
    assert not (await gates.open(claim.fence, first, made)).is_settled  # type: ignore[union-attr]
    await gates.open(claim.fence, second, made)
    assert await gates.pending()
    assert await gates.of_tree(claim.run.id)
    (gate,) = await gates.by_code(code_of(first.id))
    decision = Decision(gate.id, gate.digest, GateState.APPROVED, LONG, "ada", "test")
    assert (await gates.decide(decision))[1]
    assert not (await gates.decide(decision))[1]
    over = replace(second, state=PromiseState.EXPIRED, settled_at=NOW)
    await gates.settle(claim.fence, over, GateState.EXPIRED, via="timeout")
    assert await gates.get(second.id)
    rule = Rule("abcd0000", RuleVerdict.ALLOW, "*", "", None, None, 1, None, None, "ada", NOW)
    await gates.add_rule(rule)
    allowed = replace(made, state=GateState.AUTO_APPROVED, rule=rule.id, uses_rule=True)
    settled = replace(third, state=PromiseState.RESOLVED, settled_at=NOW, value=LONG)
    await gates.open(claim.fence, settled, allowed)
    assert [each.uses_left for each in await gates.rules()] == [0]
    assert await gates.remove_rule(rule.id)


async def keep(store: Store) -> None:
    """Write memory of every kind, over what is there, take some of it back, and read it."""
    claim = await claimed(store, "keeping")
    memory, written = store.memory, {}
    for i, (name, ask) in enumerate(KEPT):
        outcome = await memory.write(memory_write(claim.fence, f"kept.{i}", name, **ask))
        assert isinstance(outcome, Promise)
        written[i] = decode(outcome.value or JsonText("null"))["touched"]
    for i in range(len(KEPT) - 1, -1, -1):
        await memory.write(memory_write(claim.fence, f"back.{i}", "take_back", **written[i]))
    space = Space("", SPACE)
    assert (await memory.counter(space)).last_n > len(KEPT)
    assert [each.space for each in await memory.counters("acme")] == [space]
    told = {"one": 1.0, "two": 1.0}
    found = await memory.rank(Query(space, TABLES, 2**53 - 1), told, 2.0, 9)
    assert [score.doc for score in found] == []
    assert await memory.rank(Query(space, TABLES, 1), told, 2.0, 9)
    counts = await memory.term_counts(space, list(told))
    assert {each.term for each in counts if each.docs == 0} == told.keys()
    (first,) = await memory.best(Query(space, TABLES, 1), [("one", 1)], 9)
    assert await memory.stood(Query(space, TABLES, 1), {"one": [first[0].doc]}) == first[:1]
    known = KnownEmbedder(space, "a", 2, 1)
    vectors = [Vector(1, 0, "facts", bytes(4)), Vector(2, 0, "notes", bytes(4))]
    assert await memory.vectors.add(known, vectors)
    assert await memory.vectors.add(replace(known, last_n=2), vectors)
    assert not await memory.vectors.add(replace(known, model="b"), vectors)
    assert await memory.vectors.embedder(space) == replace(known, last_n=2)
    assert await memory.vectors.behind(space, 1) == vectors[1:]
    assert await memory.rows(Look(space, "facts", {}, {"doc": range(99), "subject_key": ["a"]}))
    assert await memory.rows(Look(space, "facts", {}, since=1))
    assert await memory.number_at(space, 0) == 0
    for table in [each.name for each in MEMORY_TABLES]:
        assert await memory.rows(Look(space, table, {}))
        assert not await memory.rows(Look(space, table, {}, as_of=0))
        assert await memory.rows(Look(space, table, {}, as_of=2**53 - 1, after=0))
        assert await memory.rows(Look(space, table, {}, as_of=2**53 - 1, gone_after=0))
        # Deleted notes leave a mark, so that their versions go on.
        now = {"at": NOW + 10} if table in ("facts", "links") else {}
        standing = await memory.rows(Look(space, table, {}, as_of=2**53 - 1, **now))
        assert len(standing) == (2 if table == "notes" else 0)
    n = (await memory.counter(space)).last_n
    assert await memory.follow(space, claim.run.id, n - 1) == n
    assert await memory.follow(space, claim.run.id, n) == n
    assert not await memory.due_followers(9)
    name, ask = KEPT[9]
    await memory.write(memory_write(claim.fence, "more.0", name, **ask))
    assert await memory.due_followers(9) == [claim.run.id]
    assert await store.wake_followers() == 1
    assert not await memory.due_followers(9)
    assert await store.commit([end(claim)])


async def forget(store: Store) -> None:
    """Forget what was kept, a part first, then whatever else there is."""
    client = Client(store)
    assert (await client.forget(SPACE, note="a")).counts["notes"] > 2
    assert (await client.forget(SPACE, subject="A")).counts["facts"] > 1
    left = {"history": 2, "motions": 1, "policies": 3, "terms": 2, "embedders": 1}
    known = KnownEmbedder(Space("", SPACE), "b", 2)
    await store.memory.vectors.begin(known)
    assert await store.memory.vectors.add(known, [Vector(9, 0, "history", bytes(4))])
    assert (await client.forget(SPACE)).counts == left | {"vectors": 1}


SAID = {"trust": "user", "confidence": 1.0, "valid_from": None, "valid_to": None}
DECLARED: dict[str, Any] = {"voters": [], "need": 0, "instead_of": None, "trust": "user"}
KEPT: list[tuple[str, dict[str, Any]]] = [
    ("write_note", {"name": "a", "text": "one two", "version": 0, "trust": "user"}),
    ("edit_note", {"name": "a", "old": "two", "new": "2", "trust": "agent"}),
    ("rename_note", {"name": "a", "to": "b", "trust": "agent"}),
    ("delete_note", {"name": "b", "version": None, "trust": "agent"}),
    ("remember", {"subject": "A", "predicate": "p", "object": "x", "policy": "one", **SAID}),
    ("remember", {"subject": "A", "predicate": "p", "object": "y", "policy": "one", **SAID}),
    ("retract", {"subject": "a", "predicate": "p", "trust": "agent"}),
    ("link", {"a": "A", "rel": "r", "b": "B", **SAID}),
    ("unlink", {"a": "A", "rel": "r", "b": "B", "trust": "agent"}),
    ("say", {"text": "hello", "speaker": "user", "trust": "user"}),
    ("declare", {"predicate": "q", "policy": "latest", **DECLARED}),
    ("remember", {"subject": "A", "predicate": "q", "object": "x", "policy": None, **SAID}),
    ("remember", {"subject": "A", "predicate": "q", "object": "y", "policy": None, **SAID}),
    ("remember", {"subject": "A", "predicate": "q", "object": "z", "policy": None, **SAID}),
    ("declare", {"predicate": "q", "policy": "ask", **DECLARED, "instead_of": "latest"}),
    (
        "decide",
        {
            "subject": "A",
            "predicate": "q",
            "object": "x",
            "over": 2**53 - 1,
            "by": "ada",
            "reason": "so",
            "trust": "user",
        },
    ),
    (
        "propose",
        {
            "topic": "T",
            "object": 1,
            "voters": ["a", "b", "c"],
            "need": 2,
            "timeout_ms": 10**6,
            "trust": "user",
        },
    ),
    ("vote", {"topic": "T", "object": 1, "voter": "a", "trust": "user"}),
    ("vote", {"topic": "T", "object": 2, "voter": "a", "trust": "user"}),
    ("outcome", {"topic": "T"}),
]


async def look(store: Any) -> None:
    """Ask for all that can be read."""
    await store.write_rate_limit("a-model", JsonText("{}"))
    await store.write_rate_limit("a-model", JsonText("[]"))
    assert [told for _, told, _ in await store.rate_limits(0)] == ["[]"]
    assert await store.list()
    assert await store.list(RunStatus.DONE)
    assert await store.sketches(["everything"], "model")
    await store.open_rows(["everything"])
    await store.count_workers("h")
    await store.asked(["everything"])
    assert await store.journal(RunId("everything"))
    assert await store.settled_outside(RunId("everything"), 0)
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
