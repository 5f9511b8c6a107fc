"""Gates in SQLite: asked under the fence, decided once.

Each function runs inside one transaction that its caller opened, and SQLite has one writer at a
time. So a decision and an expiry, or two decisions, come one after the other, and the second finds
the gate closed.
"""

from collections.abc import Sequence

import apsw

from substrate.store import gate_rows, rows, sql
from substrate.store.blobs import offload, offload_payload
from substrate.store.sqlite.blobs import insert_blobs
from substrate.store.sqlite.fenced_commit import write_checkpoint
from substrate.store.sqlite.promises import read_promise
from substrate.store.sqlite.suspend import suspend_run
from substrate.store.sqlite.wake_parent import wake_parent
from substrate.values.errors import GateNotFound
from substrate.values.gates import PROMISE_STATES, Decision, Gate, GateState, LetGo, NewGate
from substrate.values.ids import PromiseId, RunId, part_of, root_of
from substrate.values.records import Checkpoint, Fence, Fenced, Promise, Written

_COLUMNS = ", ".join(gate_rows.NEW_GATE_FIELDS)
_GIVEN = {name: f":{name}" for name in gate_rows.NEW_GATE_FIELDS} | {"tenant": "tenant"}

_INSERT = f"""
INSERT INTO gates ({_COLUMNS})
SELECT {", ".join(_GIVEN.values())}
  FROM runs
 WHERE id = :run_id AND part = :part
    ON CONFLICT (id, part) DO NOTHING
"""

_IS_USABLE = """
SELECT 1
  FROM rules
 WHERE id = :rule AND (uses_left IS NULL OR uses_left > 0)
"""

_USE_RULE = """
UPDATE rules
   SET uses_left = uses_left - 1
 WHERE id = :rule
"""


def open_gate(
    db: apsw.Connection, fence: Fence, promise: Promise, new: NewGate, let_go: LetGo | None
) -> tuple[Promise | Fenced, bool] | None:
    """Write a gate and its promise; see `Gates.open`."""
    if new.uses_rule and db.execute(_IS_USABLE, {"rule": new.rule}).fetchone() is None:
        return None
    checkpoint = Checkpoint(fence, promise)
    outcome = write_checkpoint(db, offload(checkpoint))
    if isinstance(outcome, Written):
        row = gate_rows.new_gate(promise, new) | {"part": fence.part}
        db.execute(_INSERT, row)
        if new.uses_rule:
            db.execute(_USE_RULE, {"rule": new.rule})
    is_let_go = (
        isinstance(outcome, Written)
        and let_go is not None
        and suspend_run(db, fence, let_go.wake_version, let_go.need, let_go.due_at)
    )
    return rows.as_it_stands(checkpoint, outcome), is_let_go


_CLOSE = """
UPDATE gates
   SET state = :state, decided_at = :now, via = coalesce(:via, via)
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def settle_gate(
    db: apsw.Connection, fence: Fence, promise: Promise, state: GateState, via: str | None
) -> Promise | Fenced:
    """Close a gate that nobody has decided, with its promise; see `Gates.settle`."""
    checkpoint = Checkpoint(fence, promise)
    outcome = write_checkpoint(db, offload(checkpoint))
    if isinstance(outcome, Written):
        given = {"id": promise.id, "part": fence.part, "now": promise.settled_at}
        db.execute(_CLOSE, given | {"state": state.value, "via": via})
    return rows.as_it_stands(checkpoint, outcome)


_SELECT_RUN = """
SELECT status, cancel_requested, deadline_at IS NOT NULL AND deadline_at <= :now,
       EXISTS (SELECT 1
                 FROM promises
                WHERE id = :run_id || '#unwind' AND part = :part)
  FROM runs
 WHERE id = :run_id AND part = :part
"""

_DECIDE = """
UPDATE gates
   SET state = :state, decided_at = :now, decided_by = :by, via = :via, reason = :reason
 WHERE id = :id AND part = :part AND state = 'pending'
"""

_SETTLE = """
UPDATE promises
   SET state = :state, value = :value, settled_at = :now, seq = :seq
 WHERE id = :id AND part = :part AND state = 'pending'
"""


def decide_gate(db: apsw.Connection, decision: Decision, now: int) -> tuple[Gate, bool]:
    """Decide a gate; see `Gates.decide`."""
    gate_id = decision.gate_id
    part, run_id = part_of(gate_id), RunId(gate_id.rpartition("#")[0])
    asked = {"id": gate_id, "run_id": run_id, "part": part, "now": now}
    # In one writing transaction: nobody ends the run, or decides, between this look and the writes.
    run = db.execute(_SELECT_RUN, asked).fetchone()
    gate = read_gate(db, gate_id)
    if run is None or gate is None:
        raise GateNotFound(f"no gate has the id {gate_id!r}")
    if gate.state is not GateState.PENDING:
        promise = read_promise(db, gate_id)
        if promise and gate_rows.is_same_decision(gate, promise.value, decision):
            return gate, False  # said again, since its answer was lost on the way
        raise gate_rows.closed(gate)
    gate_rows.check_takes(gate, run, decision, now)
    woken = wake_parent(db, run_id, part, now)
    if woken is None:
        raise gate_rows.ended(gate, "has no next change number")
    value, blobs = offload_payload(root_of(gate_id), decision.value)
    insert_blobs(db, blobs)
    db.execute(_DECIDE, asked | gate_rows.decided(decision))
    state = PROMISE_STATES[decision.state].value
    db.execute(_SETTLE, asked | {"state": state, "value": value, "seq": woken[0]})
    return read_gate(db, gate_id) or gate, True


_SELECT_ONE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.id = ? AND gates.part = ?
"""


def read_gate(db: apsw.Connection, gate_id: PromiseId) -> Gate | None:
    """Return one gate, or None."""
    row = db.execute(_SELECT_ONE, (gate_id, part_of(gate_id))).fetchone()
    return gate_rows.gate(row) if row else None


def _select_open(of: str) -> str:
    return f"""
{gate_rows.SELECT_GATES}
 WHERE gates.state = 'pending'
   AND (NOT runs.cancel_requested
        OR instr(gates.id, gates.run_id || '#{rows.UNDO}') = 1)
   AND runs.status NOT IN (SELECT value FROM json_each(:ended))
   {of}
 ORDER BY gates.asked_at, gates.id
 LIMIT :limit
"""


_SELECT_OPEN = _select_open("")
_SELECT_OPEN_OF_TREE = _select_open("AND gates.root_id = :root_id AND gates.part = :part")


def open_gates(db: apsw.Connection, limit: int, root_id: RunId | None) -> Sequence[Gate]:
    """Return the open gates of one tree, oldest first; of all trees, where none is named."""
    asked = {"ended": sql.id_list(gate_rows.TAKES_NO_DECISION), "limit": limit}
    if root_id is None:
        return gate_rows.gates(db.execute(_SELECT_OPEN, asked).fetchall())
    asked |= {"root_id": root_id, "part": part_of(root_id)}
    return gate_rows.gates(db.execute(_SELECT_OPEN_OF_TREE, asked).fetchall())


_SELECT_OF_TREE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.root_id = :root_id AND gates.part = :part
 ORDER BY gates.asked_at, gates.id
"""


def gates_of_tree(db: apsw.Connection, root_id: RunId) -> Sequence[Gate]:
    """Return all gates of a tree, oldest first."""
    asked = {"root_id": root_id, "part": part_of(root_id)}
    return gate_rows.gates(db.execute(_SELECT_OF_TREE, asked).fetchall())


_SELECT_BY_CODE = f"""
{gate_rows.SELECT_GATES}
 WHERE gates.code >= :first AND gates.code < :end
 ORDER BY gates.asked_at DESC
 LIMIT :limit
"""


def gates_by_code(db: apsw.Connection, code: str, limit: int) -> Sequence[Gate]:
    """Return the gates whose code begins so, newest first."""
    first, end = sql.range_of(code)
    found = db.execute(_SELECT_BY_CODE, {"first": first, "end": end, "limit": limit})
    return gate_rows.gates(found.fetchall())
