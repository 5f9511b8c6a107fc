"""A run's journal as readers look at it: what cannot be read of a row is left out, and told.

The row stops its own run, which says so; it keeps nobody from looking at that, or at others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from substrate.agent.grant import Grant
from substrate.agent.history.accepted import accepted_in
from substrate.agent.history.rows import (
    calls_of,
    check_of,
    confidence_of,
    cut_of,
    input_of,
    invalid_of,
    is_tool_call,
    model_call_of,
    passed_over_of,
    prompt_version_of,
    system_prompt_of,
    tool_of,
    words_of,
)
from substrate.agent.history.undo import decision_of, is_decision
from substrate.agent.history.usage import usage_from, usage_of
from substrate.agent.history.waits import wait_of
from substrate.engine.client import Client
from substrate.engine.run.attempts import failed_in
from substrate.engine.run.unreadable import is_readable, legible, misformed
from substrate.models.messages import Usage
from substrate.values.codec import decode
from substrate.values.errors import Failure
from substrate.values.ids import PromiseId
from substrate.values.records import JsonText, Kind, Promise, Run

ODD = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What a reader raises for a row that holds JSON of ours in a form that nobody writes there."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as far as they can be read."""

    #: Each without what cannot be read of it.
    read: Sequence[Promise]
    #: What that is: row and column.
    unreadable: Sequence[Failure]


def legible_rows(rows: Sequence[Promise]) -> Rows:
    """Return rows without the columns that cannot be read, and which these are."""
    read, unreadable = [], []
    for each in rows:
        row, failures = legible(each)
        for column, probe in _PROBES.items():
            if getattr(row, column) is None:
                continue
            try:
                probe(row)
            except ODD:
                failures.append(misformed(row, column))
                left_out: dict[str, Any] = {column: None}
                row = replace(row, **left_out)
        read.append(row)
        unreadable += failures
    return Rows(read, unreadable)


async def read_journal(client: Client, run: Run) -> Sequence[Promise]:
    """Return what a run has recorded, in order."""
    return (await read_rows(client, run)).read


async def read_rows(client: Client, run: Run) -> Rows:
    """Return what a run has recorded, in order, and what of it cannot be read."""
    return legible_rows(await client.store.journal(run.id))


async def read_own(client: Client, run: Run) -> Rows:
    """Return the promise of a run's outcome, if it has one, and what of it cannot be read."""
    own = await client.store.promise(run.id)
    return legible_rows([] if own is None else [own])


async def read_usages(client: Client, run: Run) -> Sequence[tuple[PromiseId, JsonText]]:
    """Return what each promise of a run, and of all below it, has used."""
    return readable_usages(await client.store.usages(f"{run.id}#"))


def readable_usages(
    found: Iterable[tuple[PromiseId, JsonText]],
) -> Sequence[tuple[PromiseId, JsonText]]:
    """Return those of what promises have used that can be read."""
    return [(id_, used) for id_, used in found if is_readable(used) and _is_usage(used)]


def _is_usage(used: JsonText) -> bool:
    try:
        _check(usage_from(decode(used)))
    except ODD:
        return False
    return True


def _check(usage: Usage) -> None:
    counts = [getattr(usage, each.name) for each in fields(usage) if each.name != "cost_usd"]
    cost: object = usage.cost_usd
    is_sum = cost is None or (isinstance(cost, Decimal) and cost.is_finite())
    if not is_sum or not all(isinstance(each, int) for each in counts):
        raise TypeError("no usage")


def _probe_input(row: Promise) -> None:
    if row.kind in (Kind.TIMER, Kind.SIGNAL):
        due_at = input_of(row).get("due_at")
        if not isinstance(due_at, int | None):
            raise TypeError("no moment")
    model_call_of(row)
    if is_tool_call(row) and not isinstance(tool_of(row)[0], str):
        raise TypeError("no name")


def _probe_attempts(row: Promise) -> None:
    for each in failed_in(row):
        if not all(isinstance(each.get(name, 0), int) for name in ("at", "n", "waited_ms")):
            raise TypeError("no attempt")
    wait = wait_of(replace(row, input=None))
    if wait is not None and wait.until is not None:
        _ = wait.series, wait.last_attempt, wait.until + 0


def _probe_value(row: Promise) -> None:
    if is_decision(row) and row.value is not None:
        _ = [key + "" for key in decision_of(row).keys]
        return
    accepted_in([row])
    for each in calls_of(row):
        if not isinstance(each["name"], str) or not isinstance(each.get("arguments", {}), dict):
            raise TypeError("no call")
    for probe in (words_of, check_of, cut_of, passed_over_of, invalid_of, prompt_version_of):
        probe(row)
    if (sure := confidence_of(row)) is not None:
        _ = sure.is_enough, f"{sure.value:g}{sure.least:g}", sure.missing.strip()
    system_prompt_of(row)


_PROBES: Mapping[str, Callable[[Promise], object]] = {
    "input": _probe_input,
    "attempts": _probe_attempts,
    "value": _probe_value,
    "usage": lambda row: _check(usage_of(row)),
    "granted": lambda row: Grant.from_json(row.granted or JsonText("{}")).to_json(),
}
"""By column, the readings that a page makes of it: each either succeeds for a row, or raises."""
