"""What every operation on a namespace is made of: a write, a read, and how each is recorded."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from substrate.engine.context.memory_step import (
    Find,
    When,
    in_flight,
    keep,
    look_up,
    outcome_of,
)
from substrate.engine.context.operation_types import Operation
from substrate.engine.context.pending import Pending
from substrate.engine.context.scope import Scope
from substrate.engine.run.mismatch import RequestedCall
from substrate.memory import asks
from substrate.memory.embedder import Embedder
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.codec import encode
from substrate.values.memory import Space, Trust
from substrate.values.records import Effect, JsonText, Kind, Promise

T = TypeVar("T")

Known = int | datetime
"""As of what: a number of the namespace, or a moment at which it was known."""


class MemoryBase:
    """A namespace, for one context."""

    def __init__(
        self, scope: Scope, space: Space, trust: Trust, *, undo: bool, embed: Embedder | None = None
    ) -> None:
        self._scope: Scope = scope
        self._space: Space = space
        self._trust: Trust = trust
        self._undo: bool = undo
        self._embed: Embedder | None = embed

    @property
    def namespace(self) -> str:
        """Its name."""
        return self._space.ns

    def _write(self, name: str, ask: Mapping[str, Any], read: Callable[[Any], T]) -> Operation[T]:
        asked = self._asked(name, ask)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            promise = replace(self._scope.new_promise(asked), effect=Effect.TRANSACTIONAL)
            return in_flight(
                self._scope.execution,
                lambda: keep(self._scope.execution, promise, self._space, undo=self._undo),
            )

        return Pending(self._scope, asked, live, partial(outcome_of, read))

    def _read(
        self,
        name: str,
        ask: Mapping[str, Any],
        look: Look,
        as_json: Callable[[Sequence[Any]], Any],
        read: Callable[[Any], T],
    ) -> Operation[T]:
        async def find(memory: Memories, when: When) -> Any:
            bounded = replace(look, as_of=when.n, at=when.at)
            return as_json(await memory.rows(bounded))

        return self._find(name, ask, find, read)

    def _find(
        self, name: str, ask: Mapping[str, Any], find: Find, read: Callable[[Any], T]
    ) -> Operation[T]:
        asked = self._asked(name, ask)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            promise = replace(self._scope.new_promise(asked), effect=Effect.PURE)
            execution = self._scope.execution
            return in_flight(execution, lambda: look_up(execution, promise, self._space, ask, find))

        return Pending(self._scope, asked, live, partial(outcome_of, read))

    def _asked(self, name: str, ask: Mapping[str, Any]) -> RequestedCall:
        shown = JsonText(encode({"namespace": self._space.ns, **ask}))
        return RequestedCall(self._scope.next_key(name), Kind.STEP, name, shown)


def known_of(as_of: Known | None) -> dict[str, Any]:
    """Return as of what a read is made, as it is recorded."""
    if isinstance(as_of, datetime):
        return {"known_at": asks.moment(as_of, "as_of")}
    return {} if as_of is None else {"as_of": asks.version(as_of, "as_of")}


def at_of(at: datetime | Literal["any"] | None) -> int | str | None:
    """Return when what is read has to be true, as it is recorded."""
    return "any" if at == "any" else asks.moment(at, "at")


def each_of(read: Callable[[Any], T], value: Any) -> list[T]:
    """Return what a read has found."""
    return [read(each) for each in value["found"]]


def id_of(value: Any) -> str:
    """Return the id that a write has recorded."""
    return str(value["id"])
