"""The JSON that ``--json`` prints: one document on standard output, with keys that stay.

A run: ``id, parent, status, function, version, queue, generation, claims, crashes,
cancel_requested, turns, steps, usage, tree_usage, created_at_ms, deadline_at_ms, ended_at_ms``;
`usage` holds tokens, and ``cost_usd`` as a decimal string, null where a price is not known;
`tree_usage` is that of the run and all below it. A promise: ``key, kind, name, state, effect,
claim, seq, created_at_ms, settled_at_ms, duration_ms, input, value, error, attempts, usage``;
payloads are as stored.

An answer is a run with ``answer, value, reason, detail, error``, `value` for an agent whose answers
have a type. `show` adds ``journal``, its promises; ``waits``, what is open (``key, kind, name,
until_ms, run, status, wants``: run and status of a child, and of a signal the JSON Schema of its
type, where it has one); ``inbox``, the signals that nobody took (``name, dedup, value, sent_at_ms,
is_late``); ``missing``, the function that no worker knows, where the run waits for one; and
``mended``, what was mended in the last model call before it was sent (``key, model, version,
rules``: each with its ``rule`` and the ``places``), which a promise that is a model call has, too.
`signal` prints ``run, name, counts, key, waits``: whether it counted, and which wait was open for
it. In `runs` each has ``question``, and ``asks`` (``run, name, until_ms``): what it and all below
it ask, and to which run the answer goes; ``gate, summary`` besides, where it is one; a dead letter
has ``error``. `approvals` prints ``gates``, each with ``gate`` (its short name), ``id, run, root,
kind, tool, summary, digest, policy, state, by, via, why, rule``, and what is shown whole
(``arguments``, or ``question`` and ``wants``); `approve`, `deny` and `answer`
print that gate and ``counts``; `rules list` prints ``rules``, `add` and `remove` the rule. `cancel`
and `discard` print the run. ``--version`` prints ``version, origin``, the latter empty for a kit
from an index.

`doctor` prints ``state`` (the worst there is: ok, warn or fail) and ``checks`` (``about, state,
said, remedy``); `crash` ``answers, store, status, waits, commits`` (``method, writes``), ``kills,
unreached, effects`` (``effect, name, calls, cut_off, called_again, unknown, ok``) and ``cases``,
those with faults or doubts (``commit, side, writes, faults, doubts, folder``); ``worker --check``
``host, workers``.

What cannot be read of a run, since its rows were edited by hand, is null, and ``unreadable`` lists
it (``row, column, message``; in a signal of the inbox, the columns).

A command that fails prints ``{"error": {"type", "message"}}``, with ``run`` beside it where it
waited for one that failed or is paused.
"""

import json
from collections.abc import Sequence
from typing import Any

from substrate.agent.history.questions import Question
from substrate.agent.history.run import RunHistory
from substrate.agent.history.untaken import UntakenSignal
from substrate.agent.history.waits import Wait
from substrate.cli.format import visible_json
from substrate.cli.streams import write
from substrate.values.errors import Failure
from substrate.values.gates import Gate, Rule, code_of
from substrate.values.records import JsonText, Kind, Promise

Document = dict[str, Any]


def of_run(history: RunHistory) -> Document:
    """Return a run, the sums of its journal, and what it and all below it have used."""
    run, totals = history.run, history.totals
    return {
        "id": run.id,
        "parent": run.parent_id,
        "status": run.status.value,
        "function": run.function,
        "version": run.version,
        "queue": run.queue,
        "generation": run.generation,
        "claims": run.epoch,
        "crashes": run.crashes,
        "cancel_requested": run.cancel_requested,
        "turns": totals.turns,
        "steps": totals.steps,
        "usage": totals.usage.to_json(),
        "tree_usage": history.tree_usage.to_json(),
        "created_at_ms": run.created_at,
        "deadline_at_ms": run.deadline_at,
        "ended_at_ms": run.ended_at,
    }


def of_promise(promise: Promise) -> Document:
    """Return a row of a journal."""
    settled = promise.settled_at
    return {
        "key": promise.key,
        "kind": promise.kind.value,
        "name": promise.name,
        "state": promise.state.value,
        "effect": promise.effect.value if promise.effect else None,
        "claim": promise.epoch,
        "seq": promise.seq,
        "created_at_ms": promise.created_at,
        "settled_at_ms": settled,
        "duration_ms": None if settled is None else settled - promise.created_at,
        "input": _plain(promise.input),
        "value": _plain(promise.value),
        "error": _plain(promise.error),
        "attempts": _plain(promise.attempts) or [],
        "usage": _plain(promise.usage),
        "granted": _plain(promise.granted),
    }


def of_wait(wait: Wait) -> Document:
    """Return what a run waits for; a step between two attempts has those that failed."""
    promise = wait.promise
    return {
        "key": promise.key,
        "kind": promise.kind.value,
        "name": promise.name,
        "until_ms": wait.until,
        "run": promise.id if promise.kind is Kind.CHILD else None,
        "status": wait.status.value if wait.status else None,
        "wants": dict(wait.wanted.schema) or None,
        **({} if promise.kind is not Kind.STEP else _attempts(wait)),
    }


def of_question(question: Question) -> Document:
    """Return what a run asks: to which run the answer goes, under which name, until when."""
    wait = question.wait
    asked = {"run": question.run_id, "name": wait.promise.name, "until_ms": wait.until}
    if wait.promise.kind is Kind.GATE:
        return {**asked, "gate": code_of(wait.promise.id), "summary": wait.summary}
    return asked


def of_gate(gate: Gate, promise: Promise | None = None) -> Document:
    """Return a gate; with its promise, what was shown too."""
    shown = _plain(promise.input) if promise is not None else None
    names = ("arguments", "question", "error", "wants")
    more = {name: shown[name] for name in names if name in shown} if shown else {}
    return {
        **more,
        "gate": gate.code,
        "id": gate.id,
        "run": gate.run_id,
        "root": gate.root_id,
        "run_status": gate.run_status.value,
        "kind": gate.kind.value,
        "tool": gate.tool,
        "summary": gate.summary,
        "digest": gate.digest,
        "policy": _plain(gate.policy),
        "state": gate.state.value,
        "asked_at_ms": gate.asked_at,
        "until_ms": gate.expires_at,
        "decided_at_ms": gate.decided_at,
        "by": gate.decided_by,
        "via": gate.via,
        "why": gate.reason,
        "rule": gate.rule,
    }


def of_rule(rule: Rule) -> Document:
    """Return a standing rule."""
    return {
        "rule": rule.id,
        "verdict": rule.verdict.value,
        "tool": rule.tool,
        "where": rule.condition or None,
        "root": rule.root_id,
        "agent": rule.agent,
        "uses_left": rule.uses_left,
        "until_ms": rule.expires_at,
        "why": rule.reason,
        "by": rule.created_by,
        "created_at_ms": rule.created_at,
    }


def of_unreadable(failures: Sequence[Failure]) -> Document:
    """Return which rows and columns of a run cannot be read; nothing where all can."""
    found = [
        {"row": each.details["row"], "column": each.details["column"], "message": each.message}
        for each in failures
    ]
    return {"unreadable": found} if found else {}


def of_signal(signal: UntakenSignal) -> Document:
    """Return a signal that nobody has taken."""
    received = signal.received
    return {
        "name": received.name,
        "dedup": received.dedup,
        "value": json.loads(received.value) if signal.is_readable else None,
        "sent_at_ms": received.sent_at,
        "is_late": signal.is_late,
        **({} if signal.is_readable else {"unreadable": ["value"]}),
    }


def of_error(type_: str, message: str, **more: Any) -> Document:
    """Return what went wrong; `more` stands beside type and message."""
    return {"error": {"type": type_, "message": message, **more}}


def print_document(document: Document) -> None:
    """Print the one document of a command."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    write(f"{visible_json(text)}\n")


def _attempts(wait: Wait) -> Document:
    series, last = wait.series, wait.last_attempt
    why = {"type": last.get("type"), "message": last.get("message")}
    return {"attempts": series.count, "since_ms": series.since, "last": why}


def _plain(text: JsonText | None) -> Any:
    """Return a payload as stored, the codec's tags included."""
    return None if text is None else json.loads(text)
