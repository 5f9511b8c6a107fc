"""The rows of the store as frozen values, and what a commit can come to.

These are the only things that pass between the store and the engine. Payloads (input, value,
error, usage, attempts) are JSON text here: who needs the value decodes it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType

from substrate.values.ids import Key, PromiseId, RunId

JsonText = NewType("JsonText", str)
Owner = NewType("Owner", str)
"""A worker's incarnation: a uuid, new at every start of a worker."""


class RunStatus(StrEnum):
    """Where a run is in its life."""

    #: It waits for a worker.
    READY = "ready"
    #: A worker drives it.
    RUNNING = "running"
    #: It waits for a moment, a signal or a child, and holds nothing.
    SUSPENDED = "suspended"
    #: It waits for a person who mends a cause, and goes on from where it is.
    PAUSED = "paused"
    #: It has a result.
    DONE = "done"
    #: It ended with an error.
    FAILED = "failed"
    #: It was asked to end, or was discarded.
    CANCELLED = "cancelled"
    #: It crashed its workers too often, or could not be undone.
    DEAD = "dead"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to the run by itself."""
        return self in (RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.DEAD)

    @property
    def awaits_person(self) -> bool:
        """Whether the run does nothing until somebody mends the cause and resumes it."""
        return self in (RunStatus.PAUSED, RunStatus.FAILED, RunStatus.DEAD)


class PromiseState(StrEnum):
    """`pending`, then one of the others, once."""

    #: It has no outcome yet.
    PENDING = "pending"
    #: It has a value.
    RESOLVED = "resolved"
    #: It has an error.
    REJECTED = "rejected"
    #: It was closed, since its run ended or it lost a race.
    CANCELLED = "cancelled"
    #: A signal did not come in time.
    EXPIRED = "expired"


class Kind(StrEnum):
    """What a promise stands for."""

    #: The outcome of a root run, or the beginning of a generation.
    RUN = "run"
    #: A call of a function, recorded.
    STEP = "step"
    #: A moment that is waited for.
    TIMER = "timer"
    #: A signal that is waited for.
    SIGNAL = "signal"
    #: The outcome of a run that this one spawned.
    CHILD = "child"
    #: A question to a person.
    GATE = "gate"


class Effect(StrEnum):
    """What a step does to the world, and so what a crash in its middle means."""

    #: Nothing: it runs again.
    PURE = "pure"
    #: The same as once, however often it is done under one key: it runs again, with that key.
    IDEMPOTENT = "idempotent"
    #: Something that must not be done twice: nobody knows, and it does not run again.
    ONCE = "once"
    #: Rows in the store's own database: they are there with its outcome, or not at all.
    TRANSACTIONAL = "transactional"


AnyEffect = Literal["pure", "idempotent", "once", Effect.PURE, Effect.IDEMPOTENT, Effect.ONCE]
"""An effect as a word or a member, but for that of a function that is given a transaction."""

Transactional = Literal["transactional", Effect.TRANSACTIONAL]


class OnDead(StrEnum):
    """What a child that would be dead does to its parent."""

    #: The parent is told: its promise is rejected with `RunDead`.
    RAISE = "raise"
    #: The child is paused instead, and the parent waits until a person has resumed or discarded it.
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of a journal. Times are milliseconds since 1970 UTC."""

    #: The run's id, ``#`` and the key; a run's own outcome, and a child's, has the run's id.
    id: PromiseId
    #: In whose journal it stands.
    run_id: RunId
    #: Its name inside the run, such as ``tools.0/search.0``.
    key: Key
    #: What it stands for: a run, a step, a timer, a signal, a child or a gate.
    kind: Kind
    #: The name of what was called, or awaited.
    name: str
    #: Whether it has an outcome, and which.
    state: PromiseState
    #: When it was written first.
    created_at: int
    #: When it had its outcome.
    settled_at: int | None = None
    #: The run's change number at which the row came to be as it is.
    seq: int = 0
    #: The run's change number that its driver knew when this began. It never changes. So what was
    #: open at a change number S began at S or before, and is pending still or has a later `seq`.
    began: int = 0
    #: The claim on the run that wrote it last.
    epoch: int = 0
    #: A step's.
    effect: Effect | None = None
    #: A hash of what was asked for: another one under the same key pauses the run.
    fingerprint: str | None = None
    #: The arguments, or what is awaited, as JSON.
    input: JsonText | None = None
    #: What it came to, as JSON.
    value: JsonText | None = None
    #: Why it has no value: type, message and more, as JSON.
    error: JsonText | None = None
    #: What a model call used: tokens and cost, as JSON.
    usage: JsonText | None = None
    #: The attempts that failed before the outcome, and what is under way while a step with an
    #: intent is called; None when there is nothing to tell.
    attempts: JsonText | None = None
    #: What makes up for the step where it happened, or may have: a function's name, version and
    #: arguments.
    undo: JsonText | None = None
    #: What a child may use of its parent's budget, as JSON: reserved when it is spawned.
    granted: JsonText | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the promise has its one outcome."""
        return self.state is not PromiseState.PENDING

    def written(self, seq: int, epoch: int) -> "Promise":
        """Return it as it was written: `replace` in half the time, since each step does it."""
        return Promise(
            self.id,
            self.run_id,
            self.key,
            self.kind,
            self.name,
            self.state,
            self.created_at,
            self.settled_at,
            seq,
            self.began,
            epoch,
            self.effect,
            self.fingerprint,
            self.input,
            self.value,
            self.error,
            self.usage,
            self.attempts,
            self.undo,
            self.granted,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One row of `runs`. Times are milliseconds since 1970 UTC."""

    #: Yours; a child's is its parent's, ``#`` and the key.
    id: RunId
    #: The run that was started from outside; its own id where it was.
    root_id: RunId
    #: The run that spawned it.
    parent_id: RunId | None
    #: The name of its durable function.
    function: str
    #: The function's version when it was started.
    version: int
    #: Whose workers drive it.
    queue: str
    #: Where it is in its life.
    status: RunStatus
    #: How often it was claimed; the number of the present claim.
    epoch: int
    #: The incarnation of the worker that holds it.
    lease_owner: Owner | None
    #: It moves with every cause of waking.
    wake_version: int
    #: Claims in a row that ended in a crash.
    crashes: int
    #: Whether it was asked to end.
    cancel_requested: bool
    #: When its time is over.
    deadline_at: int | None
    #: The change number of its newest row.
    last_seq: int
    #: What `uuid` and `random` of its context are made from.
    seed: int
    #: Which generation it is in, from 0: see `Context.continue_as`.
    generation: int
    #: The seq above which the present generation's journal begins.
    generation_seq: int
    #: The process that held this claim is known to have ended: none of that claim's calls is under
    #: way. Of other claims, earlier ones too, that says nothing.
    exited_epoch: int
    #: When the present generation began.
    generation_at: int
    #: When it was started.
    created_at: int
    #: When it ended.
    ended_at: int | None
    #: What it does to its parent where it would be dead.
    on_dead: OnDead = OnDead.RAISE
    #: Whose it is, where one database serves several; ``""`` where it serves one.
    tenant: str = ""


OWN_KEY = Key("run")
"""The key under which a root run keeps the promise of its own outcome in its journal."""

UNWIND_KEY = Key("unwind")
"""The key of the decision to undo what a run did; the undos stand in the scope of this name."""

ACCEPTED_SCOPE = "accepted/"
"""What the key of an acceptance begins with: a scope without an ordinal, so no code can ask for it.
"""


GATE = "gate"
"""The name of a gate before a call, in the call's own scope: ``tools.3/refund.0/gate.0``."""


def generation_key(number: int) -> Key:
    """Return the scope of a generation's keys, which is the key of the row that began it too.

    The first generation has neither: its keys stand alone, and the run's own row began it.
    """
    return Key(f"g{number}" if number else "")


def own_promise(run: Run) -> Promise:
    """Return the pending promise of a run's own outcome: a child's stands in its parent's journal.

    A child's run id is its parent's id, ``#``, and the key there.
    """
    is_child = run.parent_id is not None
    return Promise(
        id=PromiseId(run.id),
        run_id=run.parent_id or run.id,
        key=Key(run.id[len(run.parent_id) + 1 :]) if run.parent_id else OWN_KEY,
        kind=Kind.CHILD if is_child else Kind.RUN,
        name=run.function,
        state=PromiseState.PENDING,
        created_at=run.created_at,
    )


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list has, beside those of a status. Nothing given is all that were started."""

    #: Only those of a function of this name, children too.
    function: str | None = None
    #: Only those started at this moment or later, in ms.
    since: int | None = None
    #: Only those started before this moment, in ms.
    until: int | None = None
    #: Only those whose id begins so; one with a ``#`` names children.
    prefix: str = ""
    #: Only those that ask, themselves or below, what nobody has answered.
    is_asking: bool = False

    @property
    def names_children(self) -> bool:
        """Whether children are meant, too."""
        return self.function is not None or "#" in self.prefix


EVERY_RUN = RunFilter()


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a list tells of a run, without the payloads of what is settled."""

    #: What it was started with, as it stands in its row: long ones with a preview only.
    input: JsonText | None
    #: Why it has failed, or is paused.
    error: JsonText | None
    #: How many of its promises are settled.
    settled: int
    #: How many of these are results of steps of a certain name, in no scope.
    named: int
    #: The first of its open promises, and its decision to undo.
    open: tuple[Promise, ...]
    #: What each promise of it, and of all below it, has used.
    used: tuple[tuple[PromiseId, JsonText], ...]


@dataclass(frozen=True, slots=True)
class NewRun:
    """What `start` writes: a run row and the promise of its outcome.

    With `due_at` it is suspended until then, else ready at once. A child's promise is its parent's
    checkpoint, so for a child this is the run row alone. Its deadline is never later than its
    parent's.
    """

    #: Chosen from outside; a child's is its parent's, ``#`` and the key.
    id: RunId
    #: The name of its durable function.
    function: str
    #: That function's version.
    version: int
    #: Whose workers drive it.
    queue: str
    #: The function's arguments, as JSON.
    input: JsonText
    #: A hash of function and arguments: another one under the same id is refused.
    fingerprint: str
    #: What `uuid` and `random` of its context are made from.
    seed: int
    #: By how many minutes it goes behind others of its lane; before them, if below 0.
    priority: int = 0
    #: Whose it is, where one database serves several.
    tenant: str = ""
    #: Not before this moment.
    due_at: int | None = None
    #: When its time is over.
    deadline_at: int | None = None
    #: What it does to its parent where it would be dead.
    on_dead: OnDead = OnDead.RAISE


@dataclass(frozen=True, slots=True)
class Fence:
    """The proof that a run is ours: the commit holds only while both still stand in its row."""

    #: The run.
    run_id: RunId
    #: Its part of the tables, which every key ends with.
    part: int
    #: The number of the claim.
    epoch: int
    #: The worker that has it.
    owner: Owner


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that a worker has just taken, with what it was started with."""

    #: The run, as it is with this claim.
    run: Run
    #: What each of its commits must prove.
    fence: Fence
    #: What its present generation was begun with, as JSON.
    input: JsonText


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes too long for a row, known by the sha256 of what they hold. Kept once per tree."""

    #: In whose tree it is kept.
    root_id: RunId
    #: The sha256 of the content, in hexadecimal.
    hash: str
    #: The content, compressed.
    data: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One promise to write under a run's fence, and what else happens in the same commit.

    `status` is the run's new status; with one, the run is given up too. Where the promise stands
    in another run's journal (a child settles its parent's promise), that run is woken by it; one
    that stays pending (a child that is paused) wakes nobody.
    `child` is the run that the promise stands for: it is created ready in the same commit, with
    the tenant, the deadline and the cancel request of its parent.
    """

    #: The claim that must still hold.
    fence: Fence
    #: The row to write. Its `seq` and `epoch` are given by the store.
    promise: Promise
    #: The run's new status, where it is given up.
    status: RunStatus | None = None
    #: What the row refers to.
    blobs: tuple[Blob, ...] = ()
    #: The run to create.
    child: NewRun | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The checkpoint is committed."""

    #: The change number of its row.
    seq: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """Somebody settled the promise first. Nothing was written."""

    #: It, with the outcome that counts.
    promise: Promise


@dataclass(frozen=True, slots=True)
class Fenced:
    """The run belongs to another claim now. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Locked:
    """Somebody holds the lock of a run that the checkpoint touches. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A signal has come that the run may still hear. Nothing was written."""


CommitResult = Written | Adopted | Fenced | Locked


@dataclass(frozen=True, slots=True)
class Signal:
    """A value sent to a run from outside. The same `dedup` for the same name counts once."""

    #: Whose inbox it is for.
    run_id: RunId
    #: What a run waits for it by.
    name: str
    #: What it says, as JSON.
    value: JsonText
    #: What tells it from others of its name.
    dedup: str


@dataclass(frozen=True, slots=True)
class ReceivedSignal:
    """A signal in an inbox."""

    #: What a run waits for it by.
    name: str
    #: What tells it from others of its name.
    dedup: str
    #: Its place among all that was sent to its run: the change number that the run then had.
    n: int
    #: What it says, as JSON.
    value: JsonText
    #: When it was sent.
    sent_at: int
    #: The promise that has it; None while it is to be taken.
    taken_by: PromiseId | None


@dataclass(frozen=True, slots=True)
class OwnedRun:
    """How one running run stands: what its owner reads to learn that something came for it."""

    #: The run.
    run_id: RunId
    #: The number of its present claim.
    epoch: int
    #: It has moved since the last look where something came for the run.
    wake_version: int
    #: Whether it was asked to end.
    cancel_requested: bool
