"""What is compared of a run: its rows, what it waits for, and its answer, as hashes."""

import json
from hashlib import sha256
from typing import Any

from substrate.agent.history.questions import read_questions
from substrate.cli.crash.plan import RUN
from substrate.engine.client import Client
from substrate.store.store import Store
from substrate.values.gates import GateState
from substrate.values.ids import RunId
from substrate.values.records import Kind, Promise, Run

UNKNOWN = "OutcomeUnknown"
"""The type of the error of a call of which nobody knows whether it happened."""


async def tree_of(store: Store) -> dict[str, Any]:
    """Return what is recorded of the run and of all below it, by id."""
    found: dict[str, Any] = {}
    ahead = [RUN]
    while ahead:
        for row in await store.journal(ahead.pop()):
            found[row.id if row.kind is not Kind.RUN else f"{row.run_id}#{row.key}"] = _row(row)
            if row.kind is Kind.CHILD:
                ahead.append(RunId(row.id))
    return found


def _row(row: Promise) -> list[Any]:
    """Return what is compared of a row; see `judge.Rows`."""
    error = json.loads(row.error or "{}").get("type")
    value = row.value if row.kind is Kind.STEP else None  # of a run: what it used, too
    came_to = sha256(f"{value} {error}".encode()).hexdigest()[:16]
    effect = row.effect.value if row.effect else None
    return [row.kind.value, row.state.value, came_to, error == UNKNOWN, effect, row.name]


async def waits_of(client: Client, run: Run) -> list[str]:
    """Return what a run that has not ended asks or waits for, by key."""
    if run.status.has_ended:
        return []
    asked = await read_questions(client, run, await client.journal(run.id))
    gates = await client.store.gates.of_tree(RUN)
    ids = {each.wait.promise.id for each in asked}
    ids |= {gate.id for gate in gates if gate.state is GateState.PENDING}
    if ids:
        return sorted(id_.partition("#")[2] for id_ in ids)
    open_rows = (row for row in await client.journal(run.id) if not row.is_settled)
    return sorted(row.key for row in open_rows if row.kind is not Kind.RUN)


def answer_of(answer: dict[str, Any] | None, value: Any) -> str:
    """Return what of an answer is compared, as a hash: what it used may differ after a kill."""
    kept = value if answer is None else [answer.get(each) for each in ("text", "value", "reason")]
    return sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
