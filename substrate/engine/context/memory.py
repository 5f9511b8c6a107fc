"""`ctx.memory`: notes, facts and links in a namespace, written and read by a run.

- A write and its promise are one commit: a crash leaves both or neither. What it decides stands in
  `substrate.memory`; here it becomes a step.
- A read is a step, too: it records what it found, and the number of the namespace at which. A
  replay gets that, whatever has been written since.
- With ``undo=True`` a write is taken back where the run is undone, so far as nobody has written
  since.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from substrate.engine.context.operation_types import Operation
from substrate.engine.context.pending import Pending
from substrate.engine.context.scope import Scope
from substrate.engine.failure import Raised, encode_failure, error_of, failure_of
from substrate.engine.function.function import Durable
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import RequestedCall
from substrate.engine.step.undo import Undo
from substrate.memory import asks
from substrate.memory.canonical import folded
from substrate.memory.outcome import Refusal, Request
from substrate.memory.shown import (
    Fact,
    Link,
    Note,
    fact_of,
    facts_json,
    link_of,
    links_json,
    note_of,
    notes_json,
)
from substrate.memory.writes import TAKE_BACK, decided, wanted_by
from substrate.store.ledger import Ledger, MemoryWrite
from substrate.store.memory_rows import Look
from substrate.store.transaction import TX_LIMIT
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, Failure, MemoryRefused, NoteChanged, Paused
from substrate.values.memory import FactRow, LinkRow, NoteRow, Policy, Space, Trust
from substrate.values.records import Effect, Fence, JsonText, Kind, Promise, PromiseState

T = TypeVar("T")

Known = int | datetime
"""As of what: a number of the namespace, or a moment at which it was known."""

_ANYTHING: Any = object()
_UNDO = Undo("memory.take_back", 1, {}, TX_LIMIT.total_seconds())


class Memory:
    """A namespace, for one context. Made by `Context.memory`."""

    def __init__(self, scope: Scope, space: Space, trust: Trust, *, undo: bool) -> None:
        self._scope: Scope = scope
        self._space: Space = space
        self._trust: Trust = trust
        self._undo: bool = undo

    @property
    def namespace(self) -> str:
        """Its name."""
        return self._space.ns

    def write_note(self, name: str, text: str, *, over: int = 0) -> Operation[int]:
        """Write a whole note, over the version that was read; return its new version.

        Args:
            name: Its name, up to 200 characters.
            text: Its text, up to 64 KB.
            over: The version that it replaces; 0 where there is no such note.

        Raises:
            NoteChanged: another version stands. It has that one's text, to be merged.

        Example:
            >>> @durable
            ... async def plan(ctx: Context) -> str:
            ...     memory = ctx.memory("acme/anna")
            ...     version = await memory.write_note("plan", "See the harbour.")
            ...     await memory.write_note("plan", "See the museum.", over=version)
            ...     note = await memory.note("plan")
            ...     return f"{note.version}: {note.text}"
            >>> await drive(plan)
            '2: See the museum.'
        """
        ask = asks.note(name, self._trust, text=asks.text(text), version=asks.version(over))
        return self._write("write_note", ask, _version)

    def append_note(self, name: str, text: str) -> Operation[int]:
        """Put a text at the end of a note, on a line of its own; return its new version.

        The note is made where it is not there. Who appends loses nobody's text, so this needs no
        version: use it for logs.

        Args:
            name: The note's name.
            text: What is put there.
        """
        return self._write(
            "append_note", asks.note(name, self._trust, text=asks.text(text)), _version
        )

    def edit_note(self, name: str, old: str, new: str) -> Operation[int]:
        """Put a text in the place of one that stands exactly once in a note; return its version.

        Args:
            name: The note's name.
            old: The text that stands there.
            new: What stands there then.

        Raises:
            MemoryRefused: it stands there more than once, or not at all.
        """
        changes = {"old": asks.text(old, "old"), "new": asks.text(new, "new")}
        return self._write("edit_note", asks.note(name, self._trust, **changes), _version)

    def insert_note(self, name: str, line: int, text: str) -> Operation[int]:
        """Put a text behind a line of a note; return its new version.

        Args:
            name: The note's name.
            line: The number of the line, from 1; 0 is before the first.
            text: What is put there.

        Raises:
            MemoryRefused: the note has no such line.
        """
        ask = asks.note(name, self._trust, text=asks.text(text), line=asks.version(line))
        return self._write("insert_note", ask, _version)

    def delete_note(self, name: str, *, over: int | None = None) -> Operation[int]:
        """Delete a note; return the version that says so.

        Its versions stay, and are found as of then.

        Args:
            name: The note's name.
            over: Only where it still has this version.

        Raises:
            NoteChanged: another version stands.
        """
        version = None if over is None else asks.version(over)
        ask = asks.note(name, self._trust, version=version)
        return self._write("delete_note", ask, _version)

    def rename_note(self, name: str, to: str) -> Operation[int]:
        """Give a note a name that no other one has; return its version there.

        Args:
            name: The note's name.
            to: The other one.

        Raises:
            MemoryRefused: there is no such note, or one of the other name.
        """
        ask = asks.note(name, self._trust, to=asks.check_name(to, "to"))
        return self._write("rename_note", ask, _version)

    def note(self, name: str, *, as_of: Known | None = None) -> Operation[Note | None]:
        """Return a note, or None.

        Args:
            name: Its name.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        asked = {"name": asks.check_name(name), **_known(as_of)}

        def first(value: Any) -> Note | None:
            return note_of(value["found"][0]) if value["found"] else None

        look = Look(self._space, NoteRow.table, {"name": name})
        return self._read("note", asked, look, notes_json, first)

    def notes(self, *, as_of: Known | None = None) -> Operation[list[Note]]:
        """Return the notes of the namespace, a thousand at most.

        Args:
            as_of: As they were known then: a number of the namespace, or a moment.
        """
        look = Look(self._space, NoteRow.table, {})
        return self._read("notes", _known(as_of), look, notes_json, partial(_each, note_of))

    def remember(
        self,
        subject: str,
        predicate: str,
        object: Any,
        *,
        policy: Policy | Literal["one", "many"] = Policy.MANY,
        confidence: float = 1.0,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
    ) -> Operation[str]:
        """Keep a fact; return its id.

        What this run has said already is not said twice. What another one has said alike gets one
        source more. Alike is what has the same canonical form: case, blanks and the spelling of
        numbers and moments make no difference.

        Args:
            subject: Of whom or what.
            predicate: What is said: ``lives_in``.
            object: The value: JSON, or what `ctx.step` could return without a type.
            policy: ``one``: at a time the predicate has one value, and where this one overlaps
                others in time, they are closed. ``many``: it closes nothing.
            confidence: From 0 to 1.
            valid_from: Since when it is true; from now on, if not told otherwise.
            valid_to: Until when. Not told: it still is, or ends where a later one begins.

        Raises:
            MemoryRefused: it would end before it begins.

        Example:
            >>> @durable
            ... async def move(ctx: Context) -> list[str]:
            ...     memory = ctx.memory("acme/anna")
            ...     await memory.remember("Anna", "lives in", "Bonn", policy="one")
            ...     await memory.remember("Anna", "lives in", "Kiel", policy="one")
            ...     return [fact.object for fact in await memory.facts("anna")]
            >>> await drive(move)
            ['Kiel']
        """
        ask = {
            **asks.fact(subject, predicate),
            "object": asks.check_object(object),
            "policy": asks.policy(policy),
            **asks.claim(confidence, valid_from, valid_to, self._trust),
        }
        return self._write("remember", ask, _id)

    def retract(
        self, subject: str, predicate: str, object: Any = _ANYTHING
    ) -> Operation[list[str]]:
        """Say no more what is said of a subject; return the ids of what is gone.

        It is known still as of earlier.

        Args:
            subject: Of whom or what.
            predicate: What was said.
            object: The value that goes; all, if not told otherwise.
        """
        ask = {**asks.fact(subject, predicate), "trust": self._trust.value}
        if object is not _ANYTHING:
            ask["object"] = asks.check_object(object)
        return self._write("retract", ask, _retracted)

    def facts(
        self,
        subject: str | None = None,
        predicate: str | None = None,
        *,
        at: datetime | Literal["any"] | None = None,
        as_of: Known | None = None,
    ) -> Operation[list[Fact]]:
        """Return facts, a thousand rows at most, in the order in which they were said.

        Args:
            subject: Of this subject only.
            predicate: Of this predicate only.
            at: Those that are true at this moment; now, if not told otherwise. ``any``: whenever.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        where: dict[str, Any] = {}
        if subject is not None:
            where["subject_key"] = folded(asks.check_name(subject, "subject"))
        if predicate is not None:
            where["predicate"] = asks.check_predicate(predicate)
        asked = {**where, "at": _at(at), **_known(as_of)}
        look = Look(self._space, FactRow.table, where)
        return self._read("facts", asked, look, facts_json, partial(_each, fact_of))

    def link(
        self,
        a: str,
        rel: str,
        b: str,
        *,
        confidence: float = 1.0,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
    ) -> Operation[str]:
        """Keep that one thing has to do with another; return the link's id.

        As with `remember`: this run says it once, and another one's word is one source more.

        Args:
            a: From where.
            rel: How: ``works_for``.
            b: Whereto.
            confidence: From 0 to 1.
            valid_from: Since when it is true; from now on, if not told otherwise.
            valid_to: Until when. Not told: it still is.

        Raises:
            MemoryRefused: it would end before it begins.
        """
        claim = asks.claim(confidence, valid_from, valid_to, self._trust)
        return self._write("link", {**asks.link(a, rel, b), **claim}, _id)

    def unlink(self, a: str, rel: str, b: str) -> Operation[list[str]]:
        """Say no more that one thing has to do with another; return the ids of what is gone.

        Args:
            a: From where.
            rel: How.
            b: Whereto.
        """
        ask = {**asks.link(a, rel, b), "trust": self._trust.value}
        return self._write("unlink", ask, _retracted)

    def links(
        self,
        a: str | None = None,
        rel: str | None = None,
        b: str | None = None,
        *,
        at: datetime | Literal["any"] | None = None,
        as_of: Known | None = None,
    ) -> Operation[list[Link]]:
        """Return links, a thousand rows at most, in the order in which they were said.

        Args:
            a: From this thing only.
            rel: Of this kind only.
            b: To this thing only.
            at: Those that are true at this moment; now, if not told otherwise. ``any``: whenever.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        where: dict[str, Any] = {}
        for name, end in (("a", a), ("b", b)):
            if end is not None:
                where[f"{name}_key"] = folded(asks.check_name(end, name))
        if rel is not None:
            where["rel"] = asks.check_predicate(rel, "rel")
        asked = {**where, "at": _at(at), **_known(as_of)}
        look = Look(self._space, LinkRow.table, where)
        return self._read("links", asked, look, links_json, partial(_each, link_of))

    def say(self, text: str, speaker: str = "agent") -> Operation[str]:
        """Keep what was said, to be found again; return its id.

        Args:
            text: What, up to 64 KB.
            speaker: Who said it.
        """
        said = {"text": asks.text(text), "speaker": asks.check_name(speaker, "speaker")}
        return self._write("say", {**said, "trust": self._trust.value}, _id)

    def _write(self, name: str, ask: Mapping[str, Any], read: Callable[[Any], T]) -> Operation[T]:
        asked = self._asked(name, ask)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            promise = replace(self._scope.new_promise(asked), effect=Effect.TRANSACTIONAL)
            return _in_flight(
                self._scope.execution,
                lambda: _keep(self._scope.execution, promise, self._space, undo=self._undo),
            )

        return Pending(self._scope, asked, live, partial(_outcome, read))

    def _read(
        self,
        name: str,
        ask: Mapping[str, Any],
        look: Look,
        as_json: Callable[[Sequence[Any]], Any],
        read: Callable[[Any], T],
    ) -> Operation[T]:
        asked = self._asked(name, ask)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            promise = replace(self._scope.new_promise(asked), effect=Effect.PURE)
            execution = self._scope.execution
            when = replace(look, **_when(ask, execution.now_ms))
            return _in_flight(execution, lambda: _look(execution, promise, when, as_json))

        return Pending(self._scope, asked, live, partial(_outcome, read))

    def _asked(self, name: str, ask: Mapping[str, Any]) -> RequestedCall:
        shown = JsonText(encode({"namespace": self._space.ns, **ask}))
        return RequestedCall(self._scope.next_key(name), Kind.STEP, name, shown)


async def _in_flight(execution: Execution, work: Callable[[], Awaitable[Promise]]) -> Promise:
    """Do the work of a step: a run that is let go waits until it is done."""
    await execution.lifecycle.begin_step()
    try:
        return await work()
    finally:
        execution.lifecycle.end_step()


async def _keep(execution: Execution, promise: Promise, space: Space, *, undo: bool) -> Promise:
    """Commit a write together with its promise; return the promise's row."""
    if undo:
        # Before the commit: if this task is cancelled during it, the row may exist all the same.
        record = replace(_UNDO, arguments={"namespace": space.ns})
        promise = replace(promise, undo=record.to_json())

    def write_of(fence: Fence, masked: Promise) -> MemoryWrite:
        # Of the record, in which secrets are hidden: so no table has what the journal has not.
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


async def _look(
    execution: Execution, promise: Promise, look: Look, as_json: Callable[[Sequence[Any]], Any]
) -> Promise:
    """Read, and commit what was found, and at which number."""
    retry, memory = execution.access.retry_until_reachable, execution.services.store.memory
    try:
        counter = await retry(lambda: memory.counter(look.space))
        # As of the number that is recorded: what is written meanwhile is not of this read.
        n = counter.last_n if look.as_of is None else look.as_of
        found = await retry(lambda: memory.rows(replace(look, as_of=n)))
    except CheckpointRefused as error:  # a row that somebody else has written
        execution.lifecycle.drain_and_raise(Paused(failure_of(error)))
    value = {"n": n, "found": as_json(found)}
    return await execution.recorder.write(
        replace(
            promise,
            state=PromiseState.RESOLVED,
            value=JsonText(encode(value)),
            settled_at=execution.now_ms,
        )
    )


def _outcome(read: Callable[[Any], T], promise: Promise) -> T | Raised[Exception]:
    if promise.state is PromiseState.RESOLVED:
        return read(decode(promise.value or JsonText("null")))
    failure = Failure.from_json(decode(promise.error or JsonText("{}")))
    details = failure.details if isinstance(failure.details, dict) else {}
    if failure.type == NoteChanged.__name__ and "version" in details:
        return Raised(NoteChanged(failure.message, details["version"], details["text"]))
    if failure.type == MemoryRefused.__name__:
        return Raised(MemoryRefused(failure.message))
    return Raised(error_of(promise))


def _known(as_of: Known | None) -> dict[str, Any]:
    if isinstance(as_of, datetime):
        return {"known_at": asks.moment(as_of, "as_of")}
    return {} if as_of is None else {"as_of": asks.version(as_of)}


def _at(at: datetime | Literal["any"] | None) -> int | str | None:
    return "any" if at == "any" else asks.moment(at, "at")


def _when(ask: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Return how a look is bounded in time."""
    bounds = {name: ask[name] for name in ("as_of", "known_at") if name in ask}
    if "at" in ask:
        bounds["at"] = {"any": None, None: now}.get(ask["at"], ask["at"])
    return bounds


def _each(read: Callable[[Any], T], value: Any) -> list[T]:
    return [read(each) for each in value["found"]]


def _id(value: Any) -> str:
    return str(value["id"])


def _version(value: Any) -> int:
    return int(value["version"])


def _retracted(value: Any) -> list[str]:
    return list(value["retracted"])


def _is_undone(value: Any) -> bool:
    return bool(value["is_undone"])


async def _taken_back(ctx: Any, namespace: str, result: Any) -> bool:
    """Undo a write of memory: what it wrote stands no more, what it replaced stands again."""
    memory: Memory = ctx.memory(namespace)
    return await memory._write(TAKE_BACK, result["touched"], _is_undone)  # noqa: SLF001 - as its own


OWN_UNDO: Durable[..., Any] = Durable(_taken_back, _UNDO.name, _UNDO.version)
"""What undoes a write of memory. No function of a user can have its name."""
