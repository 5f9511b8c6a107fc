"""What `Store` is built on: a database, how work is done in it, and its statements.

A `Store` says what each operation is; the three protocols here say what a dialect brings for it:

- `Database` runs a function in one transaction. A function is given what it works with first, a
  connection or a cursor, and then its own arguments. SQLite's are plain functions, since one may
  have to run in a thread as a whole; Postgres's are coroutines.
- `Dialect` is those functions, by the module that they stand in. Both dialects have the same
  modules, and mypy compares each function with its signature here.
- `Backend` holds both, and does what the dialects truly do in different ways.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

from substrate.store.broken import Stuck
from substrate.store.ledger import Adopted, MemoryWrite
from substrate.store.memory_rows import Answers, Look
from substrate.store.rows import Claimed, Row
from substrate.store.term_rows import Query, Score, Stood
from substrate.store.transaction import Call
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.store.way_rows import Ways
from substrate.values.clock import Clock
from substrate.values.forgetting import Tombstone
from substrate.values.gates import Decision, Gate, GateState, LetGo, NewGate, Rule
from substrate.values.ids import PromiseId, RunId
from substrate.values.memory import Counter, Space, TermCount
from substrate.values.memory import Row as MemoryRow
from substrate.values.records import (
    Checkpoint,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    Kind,
    NewRun,
    OwnedRun,
    Owner,
    Promise,
    ReceivedSignal,
    Run,
    RunFilter,
    RunStatus,
    Signal,
    Sketch,
    Unread,
)

T = TypeVar("T")
P = ParamSpec("P")

Answer: TypeAlias = T | Awaitable[T]
"""What a function of a dialect returns: at once on SQLite, awaited on Postgres."""

Work: TypeAlias = Callable[Concatenate[Any, P], Answer[T]]
"""A function of a dialect. Only its own database knows what its first argument is."""

CLOSED = "the client is closed; use it inside its own block of `async with connect(…)`"
"""What `StoreUnusable` says of a store that was closed."""


class HeartbeatConnection(Protocol):
    """A worker's sign of life. Blocking, on a connection of its own, for one thread only."""

    def beat(self) -> int | None:
        """Prolong the lease; return the database's time in ms, None when declared dead."""
        ...

    def stop(self) -> None:
        """Strike the worker off and close the connection."""
        ...


class Database(Protocol):
    """A database that runs functions of its dialect, each in one transaction."""

    async def read(self, work: Work[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run a short query."""
        ...

    async def scan(self, work: Work[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run a query that may be long, so that it keeps nobody else waiting."""
        ...

    async def write(self, work: Work[P, T], /, *args: P.args, **named: P.kwargs) -> T:
        """Run what changes rows, and commit it."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Backend(Protocol):
    """One dialect's database, open."""

    #: The database's time, as well as it is known here.
    clock: Clock
    #: Where the functions of `sql` are run.
    db: Database
    #: What is run there.
    sql: "Dialect"
    #: Whether a write keeps every other write waiting. Then a look is worth it before a write that
    #: mostly finds nothing to do.
    has_one_writer: bool

    async def is_long(self, run_id: RunId, after: int) -> bool:
        """Return whether a run's journal has so much above a seq that it is to be scanned."""
        ...

    async def commit(self, batch: Sequence[Checkpoint], *, wait: bool) -> Sequence[CommitResult]:
        """See `Store.commit`; long payloads are in blobs already."""
        ...

    async def transact(self, fence: Fence, call: Call) -> Promise | Fenced:
        """See `Store.transact`."""
        ...

    async def recover(self, now: int, stuck: Stuck) -> Sequence[RunId]:
        """See `Store.recover`."""
        ...

    def heartbeat(self, owner: Owner, lease: timedelta) -> HeartbeatConnection:
        """See `Store.heartbeat`."""
        ...

    async def scrub(self) -> Sequence[str]:
        """See `Forgettings.scrub`."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """The modules of a dialect whose functions a `Store` runs."""

    below: "Below"
    blobs: "Blobs"
    ending: "Ending"
    followers: "Followers"
    forget: "Forget"
    gates: "Gates"
    lanes: "Lanes"
    memory: "Memory"
    promises: "Promises"
    rate_limits: "RateLimits"
    rules: "Rules"
    runs: "Runs"
    signals: "Signals"
    sketches: "Sketches"
    spent: "Spent"
    suspend: "Suspend"
    terms: "Terms"
    vectors: "Vectors"
    ways: "Walked"


class Below(Protocol):
    """A run and those below it."""

    def ready_below(
        self, db: Any, run_id: RunId, lanes: Sequence[str], limit: int, /
    ) -> Answer[Sequence[RunId]]: ...


class Blobs(Protocol):
    """Payloads too long for a row."""

    def read_blob(self, db: Any, run_id: RunId, digest: str, /) -> Answer[bytes | None]: ...


class Ending(Protocol):
    """The end of a run, and of a generation of it."""

    def finish_run(
        self, db: Any, done: Checkpoint, heard: Collection[str], /
    ) -> Answer[CommitResult | Unread]: ...

    def continue_run(
        self, db: Any, fence: Fence, input_: JsonText, now: int, /
    ) -> Answer[bool]: ...

    def cancel_run(self, db: Any, run_id: RunId, now: int, /) -> Answer[Run]: ...

    def open_below(self, db: Any, run_id: RunId, /) -> Answer[Sequence[RunId]]: ...

    def cancel_these(
        self, db: Any, ids: Sequence[RunId], now: int, /
    ) -> Answer[Sequence[RunId]]: ...

    def cancelled_run(self, db: Any, run_id: RunId, now: int, /) -> Answer[Run]: ...

    def discard_run(self, db: Any, run_id: RunId, now: int, /) -> Answer[Run]: ...


class Followers(Protocol):
    """Runs that wait for the next change of a namespace."""

    def follow(self, db: Any, space: Space, run_id: RunId, after: int, /) -> Answer[int]: ...

    def due_followers(
        self, db: Any, limit: int, without: Sequence[RunId], /
    ) -> Answer[Sequence[RunId]]: ...

    def wake_followers(
        self, db: Any, ids: Sequence[RunId], now: int, /
    ) -> Answer[Sequence[RunId]]: ...


class Forget(Protocol):
    """What is forgotten for good."""

    def read_roots(
        self, db: Any, tenant: str, after: str, limit: int, /
    ) -> Answer[Sequence[RunId]]: ...

    def read_open_runs(self, db: Any, root: RunId, /) -> Answer[Sequence[RunId]]: ...

    def read_tree(
        self, db: Any, root: RunId, after: str, limit: int, /
    ) -> Answer[Sequence[Promise]]: ...

    def read_beside(self, db: Any, root: RunId, /) -> Answer[Sequence[str]]: ...

    def empty_tree(self, db: Any, id_: str, root: RunId, limit: int, /) -> Answer[bool | None]: ...

    def begin_forgetting(self, db: Any, tombstone: Tombstone, now: int, /) -> Answer[bool]: ...

    def read_unfinished(self, db: Any, /) -> Answer[Sequence[Tombstone]]: ...

    def end_forgetting(self, db: Any, id_: str, now: int, /) -> Answer[Mapping[str, int]]: ...


class Gates(Protocol):
    """Questions to people."""

    def open_gate(
        self, db: Any, fence: Fence, promise: Promise, new: NewGate, let_go: LetGo | None, /
    ) -> Answer[tuple[Promise | Fenced, bool] | None]: ...

    def settle_gate(
        self, db: Any, fence: Fence, promise: Promise, state: GateState, via: str | None, /
    ) -> Answer[Promise | Fenced]: ...

    def decide_gate(
        self, db: Any, decision: Decision, now: int, /
    ) -> Answer[tuple[Gate, bool]]: ...

    def read_gate(self, db: Any, gate_id: PromiseId, /) -> Answer[Gate | None]: ...

    def open_gates(
        self, db: Any, limit: int, root_id: RunId | None, /
    ) -> Answer[Sequence[Gate]]: ...

    def gates_of_tree(self, db: Any, root_id: RunId, /) -> Answer[Sequence[Gate]]: ...

    def gates_by_code(self, db: Any, code: str, limit: int, /) -> Answer[Sequence[Gate]]: ...


class Lanes(Protocol):
    """Which lanes workers know, and which have runs."""

    def write_lanes(self, db: Any, owner: Owner, lanes: Sequence[str], /) -> Answer[None]: ...

    def known_lanes(self, db: Any, /) -> Answer[frozenset[str] | None]: ...

    def count_workers(self, db: Any, host: str, /) -> Answer[int]: ...

    def ready_lanes(self, db: Any, limit: int, /) -> Answer[Sequence[str]]: ...

    def lanes_with_ready(
        self, db: Any, lanes: Sequence[str], without: Sequence[RunId], /
    ) -> Answer[frozenset[str]]: ...


class Memory(Protocol):
    """What agents keep."""

    def write_memory(self, db: Any, batch: Sequence[MemoryWrite], /) -> Answer[Answers]: ...

    def adopt_memory(self, db: Any, adopted: Adopted, /) -> Answer[Answers | None]: ...

    def read_counter(self, db: Any, space: Space, /) -> Answer[Counter | None]: ...

    def read_number_at(self, db: Any, space: Space, known_at: int, /) -> Answer[int]: ...

    def read_counters(
        self, db: Any, tenant: str, first: str, end: str, limit: int, /
    ) -> Answer[Sequence[Counter]]: ...

    def read_rows(self, db: Any, look: Look, /) -> Answer[Sequence[MemoryRow]]: ...


class Promises(Protocol):
    """Journals."""

    def read_promise(self, db: Any, any_id: str, /) -> Answer[Promise | None]: ...

    def read_promises(self, db: Any, ids: Sequence[str], /) -> Answer[Mapping[str, Promise]]: ...

    def read_journal(self, db: Any, run_id: RunId, after: int, /) -> Answer[Sequence[Promise]]: ...

    def read_usages(
        self, db: Any, prefix: str, skipping: Sequence[str], /
    ) -> Answer[Sequence[tuple[PromiseId, JsonText]]]: ...

    def has_open_runs(self, db: Any, prefix: str, /) -> Answer[bool]: ...

    def read_open(
        self, db: Any, prefix: str, kind: Kind, limit: int, /
    ) -> Answer[Sequence[Promise]]: ...


class Sketches(Protocol):
    """Runs as lists tell of them."""

    def list_runs(
        self, db: Any, status: RunStatus | None, limit: int, also: RunFilter, /
    ) -> Answer[Sequence[Row]]: ...

    def read_sketches(
        self, db: Any, ids: Sequence[RunId], name: str, /
    ) -> Answer[Mapping[RunId, Sketch]]: ...

    def read_open(
        self, db: Any, ids: Sequence[RunId], /
    ) -> Answer[Mapping[RunId, tuple[Promise, ...]]]: ...

    def read_asked(
        self, db: Any, ids: Sequence[RunId], /
    ) -> Answer[Mapping[RunId, tuple[Promise, ...]]]: ...


class RateLimits(Protocol):
    """Limits of providers."""

    def write_rate_limit(
        self, db: Any, name: str, report: JsonText, now: int, /
    ) -> Answer[None]: ...

    def read_rate_limits(
        self, db: Any, since: int, /
    ) -> Answer[Sequence[tuple[str, JsonText, int]]]: ...


class Rules(Protocol):
    """What people have decided of calls to come."""

    def add_rule(self, db: Any, rule: Rule, /) -> Answer[None]: ...

    def read_rules(self, db: Any, /) -> Answer[Sequence[Rule]]: ...

    def remove_rule(self, db: Any, rule_id: str, /) -> Answer[bool]: ...


class Runs(Protocol):
    """The life of a run."""

    def insert_run(
        self, db: Any, new: NewRun, now: int, owner: Owner | None, /
    ) -> Answer[Run | None]: ...

    def read_run(self, db: Any, run_id: RunId, /) -> Answer[Run | None]: ...

    def existing_run(self, db: Any, run_id: RunId, /) -> Answer[Run]: ...

    def ready_runs(
        self, db: Any, lane: str, limit: int, without: Sequence[RunId], /
    ) -> Answer[Sequence[RunId]]: ...

    def claim_runs(
        self, db: Any, lane: str, limit: int, owner: Owner, without: Sequence[RunId], /
    ) -> Answer[Sequence[Claimed]]: ...

    def claim_these(
        self, db: Any, lane: str, ids: Sequence[RunId], owner: Owner, /
    ) -> Answer[Sequence[Claimed]]: ...

    def read_owned_runs(self, db: Any, owner: Owner, /) -> Answer[Sequence[OwnedRun]]: ...

    def release_runs(
        self, db: Any, fences: Sequence[Fence], now: int, /, *, is_crash: bool
    ) -> Answer[Sequence[RunId]]: ...

    def reopen_run(
        self, db: Any, run_id: RunId, accepted: Promise | None, now: int, /
    ) -> Answer[Run]: ...


class Signals(Protocol):
    """Inboxes."""

    def send_signal(self, db: Any, signal: Signal, now: int, /) -> Answer[bool]: ...

    def read_inbox(
        self, db: Any, run_id: RunId, name: str | None, only: Mapping[str, int | None], /
    ) -> Answer[Sequence[ReceivedSignal]]: ...

    def take_signals(
        self, db: Any, fence: Fence, promise: Promise, dedups: Sequence[str], /
    ) -> Answer[Promise | Fenced]: ...

    def return_signals(self, db: Any, fence: Fence, promise: PromiseId, /) -> Answer[bool]: ...


class Spent(Protocol):
    """Runs that have no next number."""

    def pause_spent(self, db: Any, run_id: RunId, /) -> Answer[str | None]: ...


class Suspend(Protocol):
    """Runs that wait."""

    def suspend_run(
        self, db: Any, fence: Fence, wake_version: int, need: int, due_at: int | None, /
    ) -> Answer[bool]: ...

    def next_due_at(self, db: Any, /) -> Answer[int | None]: ...

    def due_runs(
        self, db: Any, now: int, limit: int, without: Sequence[RunId], /
    ) -> Answer[Sequence[RunId]]: ...

    def wake_due_runs(
        self, db: Any, now: int, limit: int, without: Sequence[RunId], /
    ) -> Answer[Sequence[RunId]]: ...

    def wake_these(self, db: Any, now: int, ids: Sequence[RunId], /) -> Answer[Sequence[RunId]]: ...

    def count_ready(self, db: Any, lanes: Sequence[str], limit: int, /) -> Answer[int]: ...

    def read_settled_outside(
        self, db: Any, run_id: RunId, after: int, /
    ) -> Answer[Sequence[Promise]]: ...


class Terms(Protocol):
    """The index for full text."""

    def read_term_counts(
        self, db: Any, space: Space, terms: Sequence[str], /
    ) -> Answer[Sequence[TermCount]]: ...

    def read_best(
        self, db: Any, query: Query, streams: Sequence[tuple[str, int]], limit: int, /
    ) -> Answer[Sequence[Sequence[Stood]]]: ...

    def read_stood(
        self, db: Any, query: Query, wanted: Mapping[str, Sequence[int]], /
    ) -> Answer[Sequence[Stood]]: ...

    def rank(
        self, db: Any, query: Query, weights: Mapping[str, float], average: float, limit: int, /
    ) -> Answer[Sequence[Score]]: ...


class Vectors(Protocol):
    """What embedders made of texts."""

    def read_embedder(self, db: Any, space: Space, /) -> Answer[KnownEmbedder | None]: ...

    def read_vectors(self, db: Any, space: Space, after: int, /) -> Answer[Sequence[Vector]]: ...

    def begin_vectors(self, db: Any, known: KnownEmbedder, /) -> Answer[None]: ...

    def add_vectors(
        self, db: Any, known: KnownEmbedder, vectors: Sequence[Vector], /
    ) -> Answer[bool]: ...


class Walked(Protocol):
    """Links, as a walk follows them."""

    def read_ways(self, db: Any, ways: Ways, /) -> Answer[Sequence[tuple[str, int]]]: ...
