"""Runs that write memory, for tests to kill at any commit, and what its tables then hold."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Client, Context, NoteChanged, RunFailed, WorkerOptions, durable
from substrate.memory.outcome import Refusal, Request
from substrate.memory.writes import decided, wanted_by
from substrate.store.connect import open_store
from substrate.store.ledger import Ledger, MemoryWrite
from substrate.testing import Side, kill_at_commit
from substrate.values.codec import encode
from substrate.values.memory import Space
from substrate.values.records import Effect, Fence, JsonText, Promise, PromiseState
from tests.crew import note_reached
from tests.processes import driven
from tests.stores import database, promise

LIMITS = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=40),
    lease=timedelta(seconds=2),
    shutdown_grace=timedelta(seconds=5),
)
TABLES = ("notes", "facts", "links", "history")
BESIDE = ("decisions", "motions")
"""Tables whose rows may come with a write of another one: of a fact, of a vote."""
SPACE = "acme/anna"


@durable
async def learner(ctx: Context, namespace: str) -> list[Any]:
    """Write all four kinds, some side by side, with a child that is undone."""
    memory = ctx.memory(namespace)
    await ctx.gather(
        memory.remember("Anna", "lives in", "Bonn", policy="one"),
        memory.link("Anna", "works for", "ACME"),
        memory.write_note("plan", "one two three"),
    )
    try:
        await memory.write_note("plan", "mine alone")
    except NoteChanged as lost:
        await memory.write_note("plan", f"{lost.text} four", over=lost.version)
    await memory.say("where do you live now?", "user")
    try:
        await ctx.spawn(doubter, namespace)
    except RunFailed as error:
        await memory.append_note("plan", str(error.failure.message))
    await memory.remember("anna", "lives_in", "Kiel", policy="one")
    found = await memory.facts("Anna", at="any")
    note = await memory.note("plan")
    assert note is not None
    return [note.text, *((each.predicate, each.object, len(each.sources)) for each in found)]


@durable
async def doubter(ctx: Context, namespace: str) -> None:
    """Write all four kinds over what is there, then fail, so that it is taken back."""
    memory = ctx.memory(namespace, undo=True)
    await memory.remember("Anna", "lives in", "Hamm", policy="one")
    await ctx.gather(
        memory.link("Anna", "works for", "nobody"),
        memory.unlink("anna", "works_for", "acme"),
        memory.edit_note("plan", "two", "2"),
        memory.say("never mind", "user"),
    )
    await memory.rename_note("plan", "plans")
    await memory.write_note("doubts", "many")
    raise ValueError("never mind")


RESULT = [
    "one two three four\nnever mind",
    ["lives_in", "Bonn", 1],
    ["lives_in", "Kiel", 1],
]
STANDING = {
    "facts": [("Bonn", False), ("Kiel", True)],
    "links": ["ACME"],
    "notes": ["doubts -", "plan one two three four\nnever mind", "plans -"],
    "history": ["where do you live now?"],
}
"""What stands when the run has ended: the child's words are gone, and what it closed is back."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run of `learner`: its database, its id, and a folder of its own."""

    url: str
    run_id: str
    folder: Path

    @property
    def namespace(self) -> str:
        """Where it keeps what it learns: in no other one's namespace, on a shared database."""
        return f"acme/{self.run_id}"

    def drive(self, boundary: int = 0, moment: Side = Side.BEFORE) -> int | None:
        """Drive the run in a process of its own; return the exit code."""
        return driven(_drive, self, boundary, moment)


def _drive(case: Case, boundary: int, moment: Side) -> None:
    os.chdir(case.folder)
    asyncio.run(_run(case, boundary, moment))


async def _run(case: Case, boundary: int, moment: Side) -> None:
    store = kill_at_commit(await open_store(case.url), boundary, moment)
    client = Client(store)
    async with client.work([learner], options=LIMITS):
        await client.start(learner, case.namespace, id=case.run_id)
        assert await client.result(case.run_id) == RESULT, await client.result(case.run_id)
    await store.close()
    note_reached(case.folder, store)


@dataclass(frozen=True, slots=True)
class Counts:
    """What is wrong between the rows of memory and the promises that say they wrote them."""

    #: Rows that a promise has written more than once.
    twice: int
    #: Rows that a promise says it wrote, and that are not there.
    lost: int
    #: Rows whose promise is not there, or has no outcome.
    unfounded: int


def counts(url: str) -> Counts:
    """Compare all rows of memory with all promises."""
    with database(url) as db:
        settled = dict(
            db.rows(
                "SELECT id, value FROM promises WHERE state = 'resolved' AND value IS NOT NULL"
                " AND effect = 'transactional'"
            )
        )
        rows = [
            (table, n, writer)
            for table in (*TABLES, "policies", "ballots", *BESIDE)
            for n, writer in db.rows(f"SELECT n, writer FROM {table}")
        ]
    added = {
        (touched["table"], n, id_) for id_, touched in _touched(settled) for n in touched["added"]
    }
    undone = {id_ for id_ in settled if "/take_back." in id_ or "#unwind/" in id_}
    own = [row for row in rows if row[2] not in undone and row[0] not in BESIDE]
    return Counts(
        twice=len(rows) - len(set(rows)),
        lost=len(added - set(rows)),
        unfounded=len([row for row in own if row not in added])
        + len([row for row in rows if row[2] not in settled]),
    )


def _touched(settled: dict[str, str]) -> Sequence[tuple[str, Any]]:
    import json

    found = [(id_, json.loads(value)) for id_, value in settled.items()]
    return [(id_, value["touched"]) for id_, value in found if "touched" in value]


def standing(url: str, ns: str = SPACE) -> dict[str, list[Any]]:
    """Return what stands in each table of a namespace, by what it says."""
    stands = "WHERE gone_n IS NULL AND ns = :ns ORDER BY"
    with database(url) as db:
        facts = db.rows(f"SELECT object, valid_to FROM facts {stands} valid_from", ns=ns)
        links = db.rows(f"SELECT b FROM links {stands} b", ns=ns)
        notes = db.rows(f"SELECT name, body FROM notes {stands} name", ns=ns)
        history = db.rows(f"SELECT body FROM history {stands} n", ns=ns)
    return {
        "facts": [(said.strip('"'), valid_to is None) for said, valid_to in facts],
        "links": [b for (b,) in links],
        "notes": [f"{name} {'-' if body is None else body}" for name, body in notes],
        "history": [body for (body,) in history],
    }


def memory_write(
    fence: Fence, key: str, name: str, /, *, ns: str = SPACE, **ask: Any
) -> MemoryWrite:
    """Return a write of memory as the engine makes it, without an engine."""
    pending = promise(fence.run_id, key, PromiseState.PENDING)
    pending = replace(pending, name=name, input=JsonText(encode(ask)), effect=Effect.TRANSACTIONAL)
    space = Space("", ns)

    def decide(ledger: Ledger) -> Promise:
        outcome = decided(ledger, space, name, ask, Request(pending.id, pending.created_at))
        assert not isinstance(outcome, Refusal), outcome
        value = JsonText(encode(outcome.record))
        return replace(
            pending, state=PromiseState.RESOLVED, value=value, settled_at=pending.created_at
        )

    return MemoryWrite(fence, pending, wanted_by(space, name, ask), decide)
