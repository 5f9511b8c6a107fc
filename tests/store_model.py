"""What a store keeps, as a few dictionaries: no SQL, no transactions, no locks.

`ModelRun` is a run with its journal and inbox, `Model` all of them. Each method does what the
method of its name in `substrate.store.store` promises, and returns what it should answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from substrate.store.crashes import Loss, LostRun, after_crash
from substrate.values.ids import RunId
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Fence,
    Fenced,
    OnDead,
    Owner,
    Promise,
    PromiseState,
    RunStatus,
    Written,
)

OPEN = (RunStatus.READY, RunStatus.RUNNING, RunStatus.SUSPENDED, RunStatus.PAUSED)
RESTING = (RunStatus.SUSPENDED, RunStatus.PAUSED)
AWAITS_PERSON = (RunStatus.PAUSED, RunStatus.FAILED, RunStatus.DEAD)

Row = tuple[PromiseState, str | None, int, int]
"""State, value, seq and epoch of a promise."""


@dataclass
class ModelRun:
    """What the model knows of a run."""

    id: str
    parent: "ModelRun | None" = None
    input: str = '{"n":1}'
    status: RunStatus = RunStatus.READY
    epoch: int = 0
    owner: Owner | None = None
    crashes: int = 0
    losses_seen: int = 0
    wake_version: int = 0
    need: int = 0
    due_at: int | None = None
    is_cancelled: bool = False
    generation: int = 0
    generation_seq: int = 0
    last_seq: int = 1
    journal: dict[str, Row] = field(default_factory=dict)
    inbox: dict[str, str | None] = field(default_factory=dict)

    @property
    def own(self) -> "tuple[ModelRun, str]":
        """In whose journal the run's own promise stands, and under which key."""
        if self.parent is None:
            return self, "run"
        return self.parent, self.id.removeprefix(f"{self.parent.id}#")

    def holds(self, fence: Fence) -> bool:
        """Whether a fence still stands."""
        return (self.epoch, self.owner) == (fence.epoch, fence.owner)

    def leave(self, status: RunStatus) -> None:
        """Give the claim up."""
        self.status, self.owner = status, None

    def wake(self) -> None:
        """Be told that a child has ended."""
        self.wake_version += 1
        if self.status is RunStatus.SUSPENDED and self.need <= 1:
            self.status = RunStatus.READY
        self.need = max(self.need - 1, 0)

    def settle(self, state: PromiseState, seq: int) -> None:
        """Settle the run's own promise unless somebody did: without its having committed that.

        A root's has the number of the change that ended it, a child's the next of its parent.
        """
        journal, key = self.own
        was, *_, epoch = journal.journal[key]
        if journal is not self:
            journal.last_seq += 1
            journal.wake()
            seq = journal.last_seq
        if was is PromiseState.PENDING:
            journal.journal[key] = (state, None, seq, epoch)


class Model:
    """All runs, by id."""

    def __init__(self) -> None:
        self.runs: dict[str, ModelRun] = {}
        self.losses = 0

    def start(self, id_: str, due_at: int | None) -> None:
        """Create a root run."""
        status = RunStatus.READY if due_at is None else RunStatus.SUSPENDED
        self.runs[id_] = ModelRun(id_, status=status, due_at=due_at)
        self.runs[id_].journal["run"] = (PromiseState.PENDING, None, 1, 0)

    def write(self, checkpoint: Checkpoint) -> Fenced | Written | type[Adopted]:
        """Write a checkpoint, and do all that belongs to it."""
        run, row = self.runs[checkpoint.fence.run_id], checkpoint.promise
        if not run.holds(checkpoint.fence):
            return Fenced()
        journal = self.runs[row.run_id]
        journal.last_seq += 1
        if row.is_settled:
            run.crashes = 0
            if journal is not run:
                journal.wake()
        if checkpoint.status is not None:
            run.leave(checkpoint.status)
        if journal.journal.get(row.key, (PromiseState.PENDING,))[0] is not PromiseState.PENDING:
            return Adopted
        journal.journal[row.key] = (row.state, row.value, journal.last_seq, checkpoint.fence.epoch)
        if checkpoint.child is not None and row.id not in self.runs:
            child = ModelRun(row.id, run, input='{"n":2}', is_cancelled=run.is_cancelled)
            self.runs[row.id] = child
        return Written(journal.last_seq)

    def send_signal(self, id_: str, dedup: str) -> None:
        """Put a new signal into an inbox."""
        run = self.runs[id_]
        run.last_seq += 1
        run.wake_version += 1
        run.inbox[dedup] = None
        if run.status is RunStatus.SUSPENDED and run.epoch:
            run.status = RunStatus.READY

    def take_signals(
        self, fence: Fence, row: Promise, dedups: Sequence[str]
    ) -> Fenced | Row | None:
        """Take signals; return the row as it stands then, or None."""
        run = self.runs[fence.run_id]
        if not run.holds(fence):
            return Fenced()
        is_open = run.journal.get(row.key, (PromiseState.PENDING,))[0] is PromiseState.PENDING
        if is_open and all(run.inbox.get(dedup, "nobody") in (None, row.id) for dedup in dedups):
            self.write(Checkpoint(fence, row))
            run.inbox.update(dict.fromkeys(dedups, row.id))
        return run.journal.get(row.key)

    def suspend(self, fence: Fence, seen: int, need: int, due_at: int | None) -> bool:
        """Suspend a run if it is as it was seen."""
        run = self.runs[fence.run_id]
        if not run.holds(fence) or run.wake_version != seen:
            return False
        run.leave(RunStatus.SUSPENDED)
        run.need, run.due_at, run.crashes = need, due_at, 0
        return True

    def wake_due(self, now: int, limit: int) -> int:
        """Wake the earliest of those that are due."""
        asleep = [run for run in self.runs.values() if run.status is RunStatus.SUSPENDED]
        due = [run for run in asleep if run.due_at is not None and run.due_at <= now]
        for run in sorted(due, key=lambda run: run.due_at or 0)[:limit]:
            run.status = RunStatus.READY
            run.wake_version += 1
        return min(limit, len(due))

    def cancel(self, id_: str) -> None:
        """Ask a tree to end."""
        for run in self.runs.values():
            if run.status in OPEN and (run.id == id_ or run.id.startswith(f"{id_}#")):
                run.is_cancelled = True
                run.wake_version += 1
                run.status = RunStatus.READY if run.status in RESTING else run.status

    def discard(self, id_: str) -> None:
        """Give a run up."""
        run = self.runs[id_]
        run.last_seq += 1
        run.status = RunStatus.CANCELLED
        journal, key = run.own
        if journal.journal[key][0] is PromiseState.PENDING:
            run.settle(PromiseState.CANCELLED, run.last_seq)
        pending = [
            (row[2], key)
            for key, row in run.journal.items()
            if row[0] is PromiseState.PENDING and not key.startswith("child.")
        ]
        for _, key in sorted(pending):
            run.last_seq += 1
            _, value, _, epoch = run.journal[key]
            run.journal[key] = (PromiseState.CANCELLED, value, run.last_seq, epoch)

    def continue_as(self, fence: Fence, input_: str) -> bool:
        """Begin a run's next generation."""
        run = self.runs[fence.run_id]
        if not run.holds(fence):
            return False
        run.leave(RunStatus.READY)
        run.last_seq += 1
        run.generation, run.generation_seq = run.generation + 1, run.last_seq
        began = (PromiseState.RESOLVED, None, run.last_seq, run.epoch)
        run.journal[f"g{run.generation}"] = began
        run.crashes, run.input = 0, input_
        return True

    def runs_of(self, owner: Owner) -> Sequence[str]:
        """Return the runs that a worker drives."""
        return [run.id for run in self.runs.values() if run.owner == owner]

    def recover(self, ids: Sequence[str], now: int, *, is_whole: bool) -> None:
        """Take a dead worker's runs back, then tell of those that are dead.

        `is_whole`: nobody has struck it off before. What becomes of each run is for
        `substrate.store.crashes` to say, which has tests of its own.
        """
        runs = [self.runs[id_] for id_ in ids]
        lost = [
            LostRun(RunId(r.id), 0, None, r.crashes, r.losses_seen, OnDead.RAISE, None)
            for r in runs
        ]
        loss = Loss.of(lost, is_whole=is_whole)
        self.losses += is_whole
        for run, one in zip(runs, lost, strict=True):
            after = after_crash(one, replace(loss, losses=self.losses), now)
            run.crashes, run.losses_seen = after.crashes, after.losses_seen
            run.need, run.due_at = 0, after.due_at or run.due_at
            run.last_seq += 1
            run.leave(after.status)
        for run, seq in [(run, run.last_seq) for run in runs]:
            if run.status is RunStatus.DEAD:
                run.settle(PromiseState.REJECTED, seq)

    def may_reopen(self, id_: str) -> bool:
        """Whether a run can be reopened."""
        run = self.runs.get(id_)
        if run is None or run.status not in AWAITS_PERSON:
            return False
        return run.status is RunStatus.PAUSED or run.parent is None

    def resume(self, id_: str) -> None:
        """Make a run ready again."""
        run = self.runs[id_]
        run.leave(RunStatus.READY)
        run.crashes = 0
        run.last_seq += 1
        if run.parent is None:
            run.journal["run"] = (PromiseState.PENDING, None, run.last_seq, run.journal["run"][3])
