"""`ctx.memory`: notes, facts and links in a namespace, written and read by a run.

- A write and its promise are one commit: a crash leaves both or neither. What it decides stands in
  `substrate.memory`; here it becomes a step.
- A read is a step, too: it records what it found, and the number of the namespace at which. A
  replay gets that, whatever has been written since.
- With ``undo=True`` a write is taken back where the run is undone, so far as nobody has written
  since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

from substrate.engine.context.memory_base import Known, at_of, each_of, id_of, known_of
from substrate.engine.context.memory_shared import SharedMemory
from substrate.engine.context.memory_step import UNDO, When
from substrate.engine.context.operation_types import Operation
from substrate.engine.function.function import Durable
from substrate.memory import asks
from substrate.memory.canonical import folded
from substrate.memory.disputes import facts_as_decided
from substrate.memory.fusion import fused
from substrate.memory.recall import Recall, find
from substrate.memory.shown import (
    Fact,
    Hit,
    Link,
    Note,
    Reached,
    fact_of,
    hit_of,
    link_of,
    links_json,
    note_of,
    notes_json,
    reached_of,
)
from substrate.memory.walk import DEEPEST, Walk, path, walk
from substrate.memory.writes import TAKE_BACK
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.errors import Misuse
from substrate.values.memory import FactRow, LinkRow, NoteRow, Policy
from substrate.values.number import check_count

Direction = Literal["out", "in", "both"]
"""Which way links are followed: from a to b, from b to a, or both."""

_ANYTHING: Any = object()
_MOST_REACHED = 500
_MOST_TRIED = 20_000  # things that are reached while a way is looked for


class Memory(SharedMemory):
    """A namespace, for one context. Made by `Context.memory`."""

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
        ask = asks.note(name, self._trust, text=asks.text(text), line=asks.version(line, "line"))
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
        ask = asks.note(name, self._trust, to=asks.note_name(to, "to"))
        return self._write("rename_note", ask, _version)

    def note(self, name: str, *, as_of: Known | None = None) -> Operation[Note | None]:
        """Return a note, or None.

        Args:
            name: Its name.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        asked = {"name": asks.note_name(name), **known_of(as_of)}

        def first(value: Any) -> Note | None:
            return note_of(value["found"][0]) if value["found"] else None

        look = Look(self._space, NoteRow.table, {"name": asked["name"]})
        return self._read("note", asked, look, notes_json, first)

    def notes(self, *, as_of: Known | None = None) -> Operation[list[Note]]:
        """Return the notes of the namespace, a thousand at most.

        Args:
            as_of: As they were known then: a number of the namespace, or a moment.
        """
        look = Look(self._space, NoteRow.table, {})
        return self._read("notes", known_of(as_of), look, notes_json, partial(each_of, note_of))

    def remember(
        self,
        subject: str,
        predicate: str,
        object: Any,
        *,
        policy: Policy | Literal["one", "many"] | None = None,
        confidence: float = 1.0,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
    ) -> Operation[str]:
        """Keep a fact; return its id.

        What this run has said already is not said twice. What another one has said alike gets one
        source more. Alike is what has the same canonical form: case, blanks and the spelling of
        numbers, units, days and moments make no difference.

        Args:
            subject: Of whom or what.
            predicate: What is said: ``lives_in``.
            object: The value: JSON, or what `ctx.step` could return without a type.
            policy: ``one``: at a time the predicate has one value, and where this one overlaps
                others in time, they are closed. ``many``: it closes nothing. If not told, what was
                declared of the predicate, or ``many``: see `declare`.
            confidence: From 0 to 1.
            valid_from: Since when it is true; from now on, if not told otherwise.
            valid_to: Until when. Not told: it still is, or ends where a later one begins. What was
                said without an end is retracted, and said with one.

        Raises:
            MemoryRefused: it would end before it begins, or another policy was declared.

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
        return self._write("remember", ask, id_of)

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

        Where a policy was declared, that is the value that was decided for, or all of them while it
        is open: see `Fact.dispute`. With ``at="any"`` those that were overruled are there as well.

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
        asked = {**where, "at": at_of(at), **known_of(as_of)}
        look = Look(self._space, FactRow.table, where)

        async def find(memory: Memories, when: When) -> Any:
            bounded = replace(look, as_of=when.n, at=when.at)
            keeps_all = when.at is None
            return await facts_as_decided(memory, bounded, when.counter, keeps_all=keeps_all)

        return self._find("facts", asked, find, partial(each_of, fact_of))

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
        return self._write("link", {**asks.link(a, rel, b), **claim}, id_of)

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
        asked = {**where, "at": at_of(at), **known_of(as_of)}
        look = Look(self._space, LinkRow.table, where)
        return self._read("links", asked, look, links_json, partial(each_of, link_of))

    def say(self, text: str, speaker: str = "agent") -> Operation[str]:
        """Keep what was said, to be found again; return its id.

        Args:
            text: What, up to 64 KB.
            speaker: Who said it.
        """
        said = {"text": asks.text(text), "speaker": asks.check_name(speaker, "speaker")}
        return self._write("say", {**said, "trust": self._trust.value}, id_of)

    def recall(
        self,
        question: str,
        k: int = 8,
        *,
        kinds: Sequence[Literal["note", "fact", "said"]] = ("note", "fact", "said"),
        at: datetime | Literal["any"] | None = None,
        as_of: Known | None = None,
    ) -> Operation[list[Hit]]:
        """Return what the namespace has about a question, the best first, by full text.

        The words of the question are joined by "or", and rank by BM25; there is no language of
        queries, and no text can break one. Each hit has the words that it was found by. With an
        embedder (`Context.memory`) a part of a hit's worth is how near it is in meaning; vectors
        that are missing are made first, those of 256 texts at most.

        Args:
            question: Up to 16 KB, of which the first 32 words are looked for.
            k: How many hits at most, up to 100.
            kinds: Of which kinds.
            at: Facts that are true at this moment; now, if not told otherwise. ``any``: whenever.
            as_of: As it was known then: a number of the namespace, or a moment.

        Raises:
            MemoryRefused: the namespace has vectors of another embedder, or far too few. It says by
                which command they are made.
            StepFailed: the embedder has failed.

        Example:
            >>> @durable
            ... async def ask(ctx: Context) -> list[str]:
            ...     memory = ctx.memory("acme/anna")
            ...     await memory.remember("Anna", "prefers", "tea without sugar")
            ...     await memory.write_note("trips", "The harbour of Kiel was full of ships.")
            ...     return [hit.text for hit in await memory.recall("Which ships? (in harbours)")]
            >>> await drive(ask)
            ['trips: The harbour of Kiel was full of ships.']
        """
        asked_for = asks.text(question, "question", asks.LONGEST_VALUE)
        check_count("k", k, 100)
        ask = {"question": asked_for, "k": k, "kinds": asks.kinds(kinds), "at": at_of(at)}

        async def search(memory: Memories, when: When) -> Any:
            looked_for = Recall(self._space, asked_for, k, kinds, when.at)
            if self._embed is None:
                return await find(memory, looked_for, when.counter, when.n)
            return await fused(memory, looked_for, self._embed, when.counter, when.n)

        return self._find("recall", {**ask, **known_of(as_of)}, search, partial(each_of, hit_of))

    def walk(
        self,
        start: str,
        depth: int = 2,
        *,
        rel: str | None = None,
        direction: Direction = "both",
        at: datetime | Literal["any"] | None = None,
        as_of: Known | None = None,
    ) -> Operation[list[Reached]]:
        """Return what links lead to from a thing, the nearest first, 500 things at most.

        Args:
            start: From where; it is not among what is returned.
            depth: Over how many links at most, up to 8.
            rel: Over links of this kind only.
            direction: ``out`` from a to b, ``in`` from b to a, or ``both``.
            at: Links that are true at this moment; now, if not told otherwise. ``any``: whenever.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        ask = {"start": asks.check_name(start, "start"), **_way(depth, rel, direction, at)}
        return self._walk("walk", {**ask, **known_of(as_of)})

    def path(
        self,
        start: str,
        to: str,
        depth: int = 6,
        *,
        rel: str | None = None,
        direction: Direction = "both",
        at: datetime | Literal["any"] | None = None,
        as_of: Known | None = None,
    ) -> Operation[list[Reached]]:
        """Return a shortest way over links from one thing to another; an empty list: there is none.

        Args:
            start: From where.
            to: Whereto: the last step.
            depth: Over how many links at most, up to 8.
            rel: Over links of this kind only.
            direction: ``out`` from a to b, ``in`` from b to a, or ``both``.
            at: Links that are true at this moment; now, if not told otherwise. ``any``: whenever.
            as_of: As it was known then: a number of the namespace, or a moment.

        Raises:
            MemoryRefused: more than 20,000 things are near to each of both, and no way was found
                before; there may be one.
        """
        ends = {"start": asks.check_name(start, "start"), "to": asks.check_name(to, "to")}
        return self._walk("path", {**ends, **_way(depth, rel, direction, at), **known_of(as_of)})

    def _walk(self, name: str, ask: Mapping[str, Any]) -> Operation[list[Reached]]:
        way = {each: ask.get(each) for each in ("start", "depth", "direction", "rel")}
        to = ask.get("to")
        limit = _MOST_REACHED if to is None else _MOST_TRIED

        async def reach(memory: Memories, when: When) -> Any:
            asked = Walk(self._space, **way, at=when.at, limit=limit)  # type: ignore[arg-type]
            if to is None:
                return await walk(memory, asked, when.n)
            return await path(memory, asked, to, when.n)

        return self._find(name, ask, reach, partial(each_of, reached_of))


def _way(
    depth: int, rel: str | None, direction: str, at: datetime | Literal["any"] | None
) -> dict[str, Any]:
    check_count("depth", depth, DEEPEST)
    if direction not in ("out", "in", "both"):
        raise Misuse(f"direction={direction!r} is none; use 'out', 'in' or 'both'")
    rel = None if rel is None else asks.check_predicate(rel, "rel")
    return {"depth": depth, "rel": rel, "direction": direction, "at": at_of(at)}


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


OWN_UNDO: Durable[..., Any] = Durable(_taken_back, UNDO.name, UNDO.version)
"""What undoes a write of memory. No function of a user can have its name."""
