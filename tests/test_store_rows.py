"""What is written to a row is what is read from it, field by field."""

from dataclasses import fields, replace
from typing import Any

import apsw
import psycopg
import pytest

from substrate.store import rows
from substrate.store.blobs import PAYLOADS
from substrate.values.ids import RunId
from substrate.values.records import (
    Checkpoint,
    Effect,
    JsonText,
    Kind,
    OnDead,
    Owner,
    Promise,
    PromiseState,
    Run,
    RunStatus,
    Written,
)
from tests.stores import NOW, OWNER, claimed, database, opened, promise

RUN = Run(
    id=RunId("run"),
    root_id=RunId("the root"),
    parent_id=RunId("the parent"),
    function="function",
    version=2,
    queue="queue",
    status=RunStatus.RUNNING,
    epoch=3,
    lease_owner=Owner("owner"),
    wake_version=4,
    crashes=5,
    cancel_requested=True,
    deadline_at=6,
    last_seq=7,
    seed=8,
    generation=9,
    generation_seq=10,
    exited_epoch=11,
    generation_at=12,
    created_at=13,
    ended_at=14,
    on_dead=OnDead.WAIT,
    tenant="tenant",
)


def whole(run_id: str, key: str) -> Promise:
    """Return a promise whose every field has a value of its own."""
    return replace(
        promise(run_id, key, PromiseState.REJECTED),
        kind=Kind.TIMER,
        name="name",
        created_at=NOW - 3,
        settled_at=NOW - 2,
        effect=Effect.ONCE,
        fingerprint="fingerprint",
        **{name: JsonText(f'"{name}"') for name in PAYLOADS},
    )


async def test_a_promise(store_url: str):
    """Each field of a promise comes back as it was written, alone and in a batch."""
    async with opened(store_url) as store:
        claim = await claimed(store)
        alone, first, second = (whole("run", f"{key}.0") for key in "abc")

        outcomes = [*await store.commit([Checkpoint(claim.fence, alone)])]
        batch = [Checkpoint(claim.fence, each) for each in (first, second)]
        outcomes += await store.commit(batch)
        journal = await store.journal(RunId("run"), after=1)

    written = [each.seq for each in outcomes if isinstance(each, Written)]
    expected = zip((alone, first, second), written, strict=True)
    assert journal == [replace(each, seq=seq, epoch=1) for each, seq in expected]
    assert journal[0] == alone.written(written[0], 1)
    assert None not in rows.values_of(journal[0])


async def test_a_run(store_url: str):
    """Each field of a run is read from the column of its name."""
    async with opened(store_url) as store:
        await claimed(store, owner=OWNER)
        with database(store_url) as db:
            for field in fields(Run):
                value: Any = getattr(RUN, field.name)
                if not db.is_postgres and isinstance(value, bool):
                    value = int(value)
                db.rows(f"UPDATE runs SET {field.name} = :value WHERE id = 'run'", value=value)
        run = await store.get(RunId("run"))

    assert run == RUN
    assert isinstance(run.status, RunStatus)
    assert isinstance(run.on_dead, OnDead)
    assert run.cancel_requested is True


@pytest.mark.parametrize(
    "table, change",
    [
        ("runs", "origin_id = 'old'"),
        ("runs", "origin_seq = 3"),
        ("runs", "origin_id = 'old', origin_seq = -1"),
        ("promises", "began = -1"),
        ("promises", "began = 9007199254740992"),
    ],
)
async def test_half_a_branch_is_refused(store_url: str, table: str, change: str):
    """A branch has both its origin and its change number, and a number is within its bounds."""
    async with opened(store_url) as store:
        await claimed(store)
        refused = (apsw.ConstraintError, psycopg.errors.CheckViolation)
        with database(store_url) as db, pytest.raises(refused):
            db.rows(f"UPDATE {table} SET {change} WHERE id = 'run'")


def test_payloads_come_last():
    """The payloads of a row are its last columns, in one order: blobs are looked for there."""
    assert rows.PROMISE_FIELDS[rows.PAYLOADS] == PAYLOADS
