"""How the rows of gates and rules correspond to values, the same for every dialect.

The columns have the names of the fields of `Gate` and `Rule`, and are read in their order. How the
run stands that asks is joined from `runs`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from substrate.store.rows import Row
from substrate.values.codec import decode
from substrate.values.errors import GateChanged, GateClosed
from substrate.values.gates import (
    Decision,
    Gate,
    GateKind,
    GateState,
    NewGate,
    Rule,
    RuleVerdict,
    code_of,
)
from substrate.values.ids import root_of
from substrate.values.records import UNWIND_KEY, JsonText, Promise, RunStatus

GATE_FIELDS = tuple(field.name for field in fields(Gate))
_WRITTEN = GATE_FIELDS[:-1]  # the last is of the run

GATE_COLUMNS = ", ".join([*(f"gates.{name}" for name in _WRITTEN), "runs.status"])
"""What is read of a gate, joined with its run."""

SELECT_GATES = f"""
SELECT {GATE_COLUMNS}
  FROM gates
  JOIN runs ON runs.id = gates.run_id AND runs.part = gates.part
"""
"""What every statement that reads gates begins with."""

NEW_GATE_FIELDS = (*_WRITTEN, "part", "tenant")
"""What is written of a new gate."""

RULE_FIELDS = tuple(field.name for field in fields(Rule))
RULE_COLUMNS = ", ".join(RULE_FIELDS)
"""What is read of a rule, and written."""

TAKES_NO_DECISION = ("done", "failed", "cancelled")
"""How a run stands that asks nothing any more. A dead one may be resumed, and then goes on."""


def gate(row: Row) -> Gate:
    """Make a gate of `GATE_COLUMNS`."""
    given = dict(zip(GATE_FIELDS, row, strict=True))
    given["kind"] = GateKind(given["kind"])
    given["state"] = GateState(given["state"])
    given["run_status"] = RunStatus(given["run_status"])
    return Gate(**given)


def gates(found: Iterable[Row]) -> list[Gate]:
    """Make gates of rows."""
    return [gate(row) for row in found]


def new_gate(promise: Promise, new: NewGate) -> dict[str, Any]:
    """Return the parameters of a new gate's row; its tenant is its run's."""
    is_open = new.state is GateState.PENDING
    return {
        "id": promise.id,
        "code": code_of(promise.id),
        "run_id": promise.run_id,
        "root_id": root_of(promise.id),
        "kind": new.kind.value,
        "tool": new.tool,
        "digest": new.digest,
        "summary": new.summary,
        "policy": new.policy,
        "state": new.state.value,
        "asked_at": promise.created_at,
        "expires_at": new.expires_at,
        "decided_at": None if is_open else promise.settled_at,
        "decided_by": None,
        "via": None if is_open else "rule",
        "reason": None,
        "rule": new.rule,
    }


def rule(row: Row) -> Rule:
    """Make a rule of `RULE_COLUMNS`."""
    given = dict(zip(RULE_FIELDS, row, strict=True))
    given["verdict"] = RuleVerdict(given["verdict"])
    return Rule(**given)


def rule_parameters(rule: Rule) -> Mapping[str, Any]:
    """Return a rule as parameters by the names of its columns."""
    given = {name: getattr(rule, name) for name in RULE_FIELDS}
    return given | {"verdict": rule.verdict.value}


def is_same_decision(gate: Gate, found: JsonText | None, decision: Decision) -> bool:
    """Whether a gate was decided just so already, by the same person: then nothing is lost."""
    return (
        gate.state is decision.state
        and gate.decided_by == decision.by
        and gate.digest == decision.digest
        and found == decision.value
    )


def closed(gate: Gate) -> GateClosed:
    """Return what a decision is told that comes too late: what stands, by whom and since when."""
    by = f" by {gate.decided_by}" if gate.decided_by else ""
    by += f" over {gate.via}" if gate.via else ""
    why = f": {gate.reason}" if gate.reason else ""
    at = "" if gate.decided_at is None else f", at {_moment(gate.decided_at)}"
    return GateClosed(
        f"gate {gate.code} ({gate.summary}) is {gate.state.word} already{by}{why}{at}; this "
        "decision changes nothing",
        gate.state.value,
    )


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def over(gate: Gate) -> GateClosed:
    """Return what a decision is told that comes when the gate's time is over."""
    silence = decode(gate.policy).get("on_timeout")
    means = f", and its policy takes silence as {silence!r}" if silence else ""
    return GateClosed(
        f"the time of gate {gate.code} ({gate.summary}) is over{means}; this changes nothing",
        GateState.EXPIRED.value,
    )


def changed(gate: Gate, digest: str) -> GateChanged:
    """Return what a decision is told that was made for something else than what is asked."""
    return GateChanged(
        f"gate {gate.code} asks about {gate.summary!r} (digest {gate.digest[:12]}), and this "
        f"decision was made for what has the digest {digest[:12]!r}; look at it again, and decide"
    )


def ended(gate: Gate, state: str) -> GateClosed:
    """Return what a decision is told whose run asks nothing any more."""
    return GateClosed(
        f"run {gate.run_id!r} {state}, so gate {gate.code} ({gate.summary}) is withdrawn; this "
        "decision changes nothing",
        GateState.WITHDRAWN.value,
    )


def is_of_undo(gate: Gate) -> bool:
    """Whether an undo of its run asks it, which goes on where all else of the run is over."""
    return gate.id.startswith(f"{gate.run_id}#{UNWIND_KEY}/")


def check_takes(gate: Gate, run: Row, decision: Decision, now: int) -> None:
    """Raise unless an open gate takes this decision now: `GateClosed`, or `GateChanged`.

    Args:
        gate: The gate, which is pending.
        run: How its run stands: its status, whether it was asked to end, whether its time is over,
            whether it is being undone.
        decision: What is to be decided.
        now: The time, in ms.
    """
    if why := _why_no_decision(*run, is_of_undo=is_of_undo(gate)):
        raise ended(gate, why)
    if gate.expires_at is not None and gate.expires_at <= now:
        raise over(gate)  # its run will close it, whenever it is driven
    if gate.digest != decision.digest:
        raise changed(gate, decision.digest)


def _why_no_decision(
    status: str,
    is_cancelled: bool,  # noqa: FBT001 - columns of a row, in their order
    is_over: bool,  # noqa: FBT001
    is_unwound: bool,  # noqa: FBT001
    *,
    is_of_undo: bool,
) -> str | None:
    """Return why a run takes no decision; None where it does. A paused or dead one takes them.

    What an undo asks is asked because the run is to end, so that is no reason.
    """
    if status in TAKES_NO_DECISION:
        return f"is {status}"
    if is_of_undo:
        return None
    if is_cancelled:
        return "was asked to end"
    if is_over:
        return "has run out of time"
    return "has failed and is being undone" if is_unwound else None


def decided(decision: Decision) -> dict[str, Any]:
    """Return a decision as parameters by the names of the gate's columns."""
    return {
        "by": decision.by,
        "via": decision.via,
        "reason": decision.reason,
        "state": decision.state.value,
    }
