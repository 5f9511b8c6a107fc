"""Gates in Postgres: asked under the fence, decided once. Each function is one transaction.

Who decides locks the run's row first, as whoever drives the run does for each commit. So a decision
and an expiry, or two decisions, come one after the other, and the second finds the gate closed.
"""

from collections.abc import Sequence

from psycopg import Rollback

from substrate.store import gate_rows, rows, sql
from substrate.store.blobs import offload, offload_payload
from substrate.store.postgres.blobs import insert_blobs
from substrate.store.postgres.fenced_commit import LOCK, write_batch
from substrate.store.postgres.promises import read_promise
from substrate.store.postgres.session import Cursor
from substrate.store.postgres.suspend import suspend_run
from substrate.store.postgres.wake_parent import wake_parent
from substrate.values.errors import GateNotFound
from substrate.values.gates import PROMISE_STATES, Decision, Gate, GateState, LetGo, NewGate
from substrate.values.ids import PromiseId, RunId, part_of, root_of
from substrate.values.records import Checkpoint, Fence, Fenced, Promise, Written

_COLUMNS = ", ".join(gate_rows.NEW_GATE_FIELDS)
_GIVEN = {name: f"%({name})s" for name in gate_rows.NEW_GATE_FIELDS}
_GIVEN |= {"policy": "%(policy)s::json", "tenant": "tenant"}

_INSERT = f"""
INSERT INTO gates ({_COLUMNS})
SELECT {", ".join(_GIVEN.values())}
  FROM runs
 WHERE id = %(run_id)s AND part = %(part)s
    ON CONFLICT (id, part) DO NOTHING
"""

_USE_RULE = """
UPDATE rules
   SET uses_left = uses_left - 1
 WHERE id = %(rule)s AND (uses_left IS NULL OR uses_left > 0)
RETURNING id
"""


async def open_gate(
    db: Cursor, fence: Fence, promise: Promise, new: NewGate, let_go: LetGo | None
) -> tuple[Promise | Fenced, bool] | None:
    """Write a gate and its promise; see `Gates.open`."""
    opened: tuple[Promise | Fenced, bool] | None = None
    async with db.connection.transaction() as transaction:
        if new.uses_rule:
            used = await db.execute(_USE_RULE, {"rule": new.rule})
            if await used.fetchone() is None:
                raise Rollback(transaction)
        checkpoint = Checkpoint(fence, promise)
        light = offload(checkpoint)
        (outcome,) = await write_batch(db, [light], wait=True)
        await insert_blobs(db, light.blobs)
        opened = rows.as_it_stands(checkpoint, outcome), False
        if not isinstance(outcome, Written):
            raise Rollback(transaction)
        row = gate_rows.new_gate(promise, new) | {"part": fence.part}
        await db.execute(_INSERT, row)
        if let_go is not None:
            # The run's row is locked: nobody wakes it between the gate and this.
            seen = (let_go.wake_version, let_go.need, let_go.due_at)
            opened = opened[0], await suspend_run(db, fence, *seen)
    return opened


_CLOSE = """
UPDATE gates
   SET state = %(state)s, decided_at = %(now)s, via = coalesce(%(via)s, via)
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def settle_gate(
    db: Cursor, fence: Fence, promise: Promise, state: GateState, via: str | None
) -> Promise | Fenced:
    """Close a gate that nobody has decided, with its promise; see `Gates.settle`."""
    async with db.connection.transaction():
        checkpoint = Checkpoint(fence, promise)
        (outcome,) = await write_batch(db, [offload(checkpoint)], wait=True)
        if isinstance(outcome, Written):
            given = {"id": promise.id, "part": fence.part, "now": promise.settled_at}
            await db.execute(_CLOSE, given | {"state": state.value, "via": via})
    return rows.as_it_stands(checkpoint, outcome)


_LOCK_RUN = f"""
SELECT status, cancel_requested, deadline_at IS NOT NULL AND deadline_at <= %(now)s,
       EXISTS (SELECT 1
                 FROM promises
                WHERE id = %(run_id)s::text || '#unwind' AND part = %(part)s)
  FROM runs
 WHERE id = %(run_id)s AND part = %(part)s
 {LOCK}
"""

_DECIDE = """
UPDATE gates
   SET state = %(state)s, decided_at = %(now)s, decided_by = %(by)s, via = %(via)s,
       reason = %(reason)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""

_SETTLE = """
UPDATE promises
   SET state = %(state)s, value = %(value)s::json, settled_at = %(now)s, seq = %(seq)s
 WHERE id = %(id)s AND part = %(part)s AND state = 'pending'
"""


async def decide_gate(db: Cursor, decision: Decision, now: int) -> tuple[Gate, bool]:
    """Decide a gate; see `Gates.decide`."""
    gate_id = decision.gate_id
    part, run_id = part_of(gate_id), RunId(gate_id.rpartition("#")[0])
    asked = {"id": gate_id, "run_id": run_id, "part": part, "now": now}
    async with db.connection.transaction():
        run = await (await db.execute(_LOCK_RUN, asked)).fetchone()
        gate = await read_gate(db, gate_id)
        if run is None or gate is None:
            raise GateNotFound(f"no gate has the id {gate_id!r}")
        if gate.state is not GateState.PENDING:
            promise = await read_promise(db, gate_id)
            if promise and gate_rows.is_same_decision(gate, promise.value, decision):
                return gate, False
            raise gate_rows.closed(gate)
        gate_rows.check_takes(gate, run, decision, now)
        seq = await wake_parent(db, run_id, now)
        if seq is None:
            raise gate_rows.ended(gate, "has no next change number")
        value, blobs = offload_payload(root_of(gate_id), decision.value)
        await insert_blobs(db, blobs)
        await db.execute(_DECIDE, asked | gate_rows.decided(decision))
        state = PROMISE_STATES[decision.state].value
        await db.execute(_SETTLE, asked | {"state": state, "value": value, "seq": seq})
        found = await read_gate(db, gate_id)
    return found or gate, True


_SELECT_ONE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.id = %(id)s AND gates.part = %(part)s
"""


async def read_gate(db: Cursor, gate_id: PromiseId) -> Gate | None:
    """Return one gate, or None."""
    row = await (
        await db.execute(_SELECT_ONE, {"id": gate_id, "part": part_of(gate_id)})
    ).fetchone()
    return gate_rows.gate(row) if row else None


def _select_open(of: str) -> str:
    return f"""
{gate_rows.SELECT_GATES}
 WHERE gates.state = 'pending'
   AND (NOT runs.cancel_requested
        OR starts_with(gates.id, gates.run_id || '#{rows.UNDO}'::text))
   AND runs.status <> ALL (%(ended)s::text[])
   {of}
 ORDER BY gates.asked_at, gates.id
 LIMIT %(limit)s
"""


_SELECT_OPEN = _select_open("")
_SELECT_OPEN_OF_TREE = _select_open("AND gates.root_id = %(root_id)s AND gates.part = %(part)s")


async def open_gates(db: Cursor, limit: int, root_id: RunId | None) -> Sequence[Gate]:
    """Return the open gates of one tree, oldest first; of all trees, where none is named."""
    asked = {"ended": list(gate_rows.TAKES_NO_DECISION), "limit": limit}
    statement = _SELECT_OPEN
    if root_id is not None:
        asked |= {"root_id": root_id, "part": part_of(root_id)}
        statement = _SELECT_OPEN_OF_TREE
    return gate_rows.gates(await (await db.execute(statement, asked)).fetchall())


_SELECT_OF_TREE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.root_id = %(root_id)s AND gates.part = %(part)s
 ORDER BY gates.asked_at, gates.id
"""


async def gates_of_tree(db: Cursor, root_id: RunId) -> Sequence[Gate]:
    """Return all gates of a tree, oldest first."""
    asked = {"root_id": root_id, "part": part_of(root_id)}
    return gate_rows.gates(await (await db.execute(_SELECT_OF_TREE, asked)).fetchall())


_SELECT_BY_CODE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.code >= %(first)s AND gates.code < %(end)s
 ORDER BY gates.asked_at DESC
 LIMIT %(limit)s
"""


async def gates_by_code(db: Cursor, code: str, limit: int) -> Sequence[Gate]:
    """Return the gates whose code begins so, newest first."""
    first, end = sql.range_of(code)
    asked = {"first": first, "end": end, "limit": limit}
    return gate_rows.gates(await (await db.execute(_SELECT_BY_CODE, asked)).fetchall())
