"""The steps of memory: a write that is committed with its promise, a read that records its number.

What a write decides stands in `substrate.memory`. It is decided of what the promise records, in
which secrets are hidden, so no table has what the journal has not.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from substrate.engine.failure import Raised, encode_failure, error_of, failure_of
from substrate.engine.run.execution import Execution
from substrate.engine.step.undo import Undo
from substrate.memory.embedder import EmbedderFailed
from substrate.memory.moments import number_of
from substrate.memory.outcome import Refusal, Request
from substrate.memory.writes import decided, wanted_by
from substrate.store.ledger import Ledger, MemoryWrite
from substrate.store.memory import Memories
from substrate.store.transaction import TX_LIMIT
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, Failure, MemoryRefused, NoteChanged, Paused
from substrate.values.memory import Counter, Space
from substrate.values.records import Fence, JsonText, Promise, PromiseState

T = TypeVar("T")

UNDO = Undo("memory.take_back", 1, {}, TX_LIMIT.total_seconds())
"""What undoes a write of memory. No function of a user can have its name."""


@dataclass(frozen=True, slots=True)
class When:
    """As of what a read is made."""

    #: How far the namespace had come.
    counter: Counter
    #: As of which number.
    n: int
    #: When it has to be true, in ms.
    at: int | None


Find = Callable[[Memories, When], Awaitable[Any]]
"""Reads, and returns what was found, as a journal keeps it."""


async def in_flight(execution: Execution, work: Callable[[], Awaitable[Promise]]) -> Promise:
    """Do the work of a step: a run that is let go waits until it is done."""
    await execution.lifecycle.begin_step()
    try:
        return await work()
    finally:
        execution.lifecycle.end_step()


async def keep(execution: Execution, promise: Promise, space: Space, *, undo: bool) -> Promise:
    """Commit a write together with its promise; return the promise's row."""
    if undo:
        # Before the commit: if this task is cancelled during it, the row may exist all the same.
        record = replace(UNDO, arguments={"namespace": space.ns})
        promise = replace(promise, undo=record.to_json())

    def write_of(fence: Fence, masked: Promise) -> MemoryWrite:
        ask = decode(masked.input or JsonText("{}"))
        by = Request(masked.id, execution.now_ms)

        def decide(ledger: Ledger) -> Promise:
            return _decided(ledger, space, masked, ask, by)

        return MemoryWrite(fence, masked, wanted_by(space, masked.name, ask), decide)

    try:
        return await execution.recorder.keep(promise, write_of)
    except CheckpointRefused as error:
        return await execution.recorder.write(
            _rejected(promise, failure_of(error), execution.now_ms)
        )


def _decided(
    ledger: Ledger, space: Space, promise: Promise, ask: Mapping[str, Any], by: Request
) -> Promise:
    """Return the promise with the outcome of its write."""
    outcome = decided(ledger, space, promise.name, ask, by)
    if isinstance(outcome, Refusal):
        failure = Failure(outcome.type, outcome.message, dict(outcome.details))
        return _rejected(promise, failure, by.now)
    return replace(
        promise,
        state=PromiseState.RESOLVED,
        value=JsonText(encode(outcome.record)),
        settled_at=by.now,
    )


def _rejected(promise: Promise, failure: Failure, now: int) -> Promise:
    """Return the promise of a write that has changed nothing, so that nothing is to be undone."""
    return replace(
        promise,
        state=PromiseState.REJECTED,
        error=encode_failure(failure),
        settled_at=now,
        undo=None,
    )


async def look_up(
    execution: Execution, promise: Promise, space: Space, ask: Mapping[str, Any], find: Find
) -> Promise:
    """Read, and commit what was found, and at which number."""
    retry, memory = execution.access.retry_until_reachable, execution.services.store.memory
    try:
        counter = await retry(lambda: memory.counter(space))
        # As of the number that is recorded: what is written meanwhile is not of this read.
        n = await retry(lambda: number_of(memory, counter, ask.get("as_of"), ask.get("known_at")))
        when = When(counter, n, _true_at(ask, max(execution.now_ms, counter.last_at)))
        found = await retry(lambda: find(memory, when))
    except CheckpointRefused as error:  # a row that somebody else has written
        execution.lifecycle.drain_and_raise(Paused(failure_of(error)))
    except (MemoryRefused, EmbedderFailed) as error:
        cause = error.__cause__ if isinstance(error, EmbedderFailed) else error
        failure = failure_of(cause or error)
        return await execution.recorder.write(_rejected(promise, failure, execution.now_ms))
    return await execution.recorder.write(
        replace(
            promise,
            state=PromiseState.RESOLVED,
            value=JsonText(encode({"n": when.n, "found": found})),
            settled_at=execution.now_ms,
        )
    )


def outcome_of(read: Callable[[Any], T], promise: Promise) -> T | Raised[Exception]:
    """Return what a step came to, or the error that it raises, the same on every replay."""
    if promise.state is PromiseState.RESOLVED:
        return read(decode(promise.value or JsonText("null")))
    failure = Failure.from_json(decode(promise.error or JsonText("{}")))
    details = failure.details if isinstance(failure.details, dict) else {}
    if failure.type == NoteChanged.__name__ and "version" in details:
        return Raised(NoteChanged(failure.message, details["version"], details["text"]))
    if failure.type == MemoryRefused.__name__:
        return Raised(MemoryRefused(failure.message))
    return Raised(error_of(promise))


def _true_at(ask: Mapping[str, Any], now: int) -> int | None:
    """Return when what is read has to be true; None: whenever."""
    at = ask.get("at", "any")
    return {"any": None, None: now}.get(at, at)
