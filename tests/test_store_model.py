"""Whatever is asked of a store in whatever order, it answers as a model that fits on a page does.

The model is a few dictionaries. It knows nothing of SQL, transactions or locks; what it and the
store disagree on is a bug in one of them.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from substrate.store.connect import open_store
from substrate.store.protocol import MAX_CRASHES, Store
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Claim,
    Fence,
    Fenced,
    Json,
    Outcome,
    Owner,
    Promise,
    PromiseState,
    RunStatus,
    Written,
)
from tests.stores import LANE, Database, database, end, new_run, promise, signal, waiting

IDS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["x.0", "go.0", "go.1"])
STATES = st.sampled_from([PromiseState.PENDING, PromiseState.RESOLVED, PromiseState.REJECTED])
SETTINGS = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
REOPENED = (RunStatus.PAUSED, RunStatus.FAILED, RunStatus.DEAD)
OPEN = (RunStatus.READY, RunStatus.RUNNING, RunStatus.SUSPENDED, RunStatus.PAUSED)


@dataclass
class ModelRun:
    """What the model knows of a run."""

    status: RunStatus = RunStatus.READY
    epoch: int = 0
    owner: Owner | None = None
    crashes: int = 0
    wake_version: int = 0
    last_seq: int = 1
    journal: dict[str, tuple[PromiseState, str | None, int, int]] = field(default_factory=dict)
    inbox: list[tuple[str, str, str | None]] = field(default_factory=list)

    def holds(self, fence: Fence) -> bool:
        """Whether a fence still stands."""
        return (self.epoch, self.owner) == (fence.epoch, fence.owner)

    def write(self, row: Promise, epoch: int) -> Any:
        """Take the next number for a promise, and settle it unless somebody did."""
        self.last_seq += 1
        if row.is_settled:
            self.crashes = 0
        state, *_ = self.journal.get(row.key, (PromiseState.PENDING,))
        if state is not PromiseState.PENDING:
            return Adopted
        self.journal[row.key] = (row.state, row.value, self.last_seq, epoch)
        return Written(self.last_seq)

    def leave(self, status: RunStatus) -> None:
        """Give the claim up."""
        self.status, self.owner = status, None


class StoreAgainstModel(RuleBasedStateMachine):
    """Asks the store and the model the same, and compares the answers and what is stored."""

    def __init__(self, runner: asyncio.Runner, store: Store, db: Database) -> None:
        super().__init__()
        self.runner, self.store, self.db = runner, store, db
        for table in ("runs", "promises", "signals", "workers"):
            self.db.rows(f"DELETE FROM {table}")
        self.runs: dict[str, ModelRun] = {}
        self.fences: list[Fence] = []
        self.workers: list[Owner] = []
        self.killed: set[Owner] = set()
        for _ in range(2):
            self.hire()

    def hire(self) -> None:
        """Register another worker, whose lease is long."""
        owner = Owner(f"worker-{len(self.workers)}")
        self.workers.append(owner)
        self.db.rows(
            "INSERT INTO workers (incarnation, tenant, host, beat_at, lease_until)"
            " VALUES (:owner, '', '', 1, 4000000000000)",
            owner=owner,
        )

    def some_fence(self) -> st.SearchStrategy[Fence]:
        """Draw a fence: rather one that stands than one that was lost."""
        standing = [fence for fence in self.fences if self.runs[fence.run_id].holds(fence)]
        return st.sampled_from(standing * 5 + self.fences[-2:])

    def ask(self, call: Any) -> Any:
        """Run a coroutine of the store."""
        return self.runner.run(call)

    def remember(self, claims: list[Claim]) -> None:
        for claim in claims:
            run = self.runs[claim.run.id]
            run.status, run.owner = RunStatus.RUNNING, claim.fence.owner
            run.epoch += 1
            assert (claim.fence.epoch, claim.input) == (run.epoch, new_run().input)
            self.fences.append(claim.fence)

    @rule(id_=IDS, worker=st.none() | st.integers(-2, -1))
    def start(self, id_: str, worker: int | None) -> None:
        owner = None if worker is None else self.workers[worker]
        run, claim = self.ask(self.store.start(new_run(id_), owner))

        assert run.id == id_
        assert (claim is not None) == (id_ not in self.runs and owner is not None)
        if id_ not in self.runs:
            self.runs[id_] = ModelRun()
            self.runs[id_].journal["run"] = (PromiseState.PENDING, None, 1, 0)
        self.remember([claim] if claim else [])

    @rule(worker=st.integers(-2, -1), limit=st.sampled_from([1, 10]))
    def claim(self, worker: int, limit: int) -> None:
        claims = self.ask(self.store.claim(LANE, limit, self.workers[worker]))

        ready = {id_ for id_, run in self.runs.items() if run.status is RunStatus.READY}
        taken = {claim.run.id for claim in claims}
        assert len(claims) == len(taken) == min(limit, len(ready))
        assert taken <= ready
        self.remember(claims)

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), key=KEYS, state=STATES)
    def commit_one(self, data: st.DataObject, key: str, state: PromiseState) -> None:
        fence = data.draw(self.some_fence())
        one = Checkpoint(fence, promise(fence.run_id, key, state))

        (outcome,) = self.ask(self.store.commit([one]))

        self.check(one, outcome)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        wanted = st.builds(
            lambda fence, key, state: Checkpoint(fence, promise(fence.run_id, key, state)),
            self.some_fence(),
            KEYS,
            STATES,
        )
        batch = data.draw(
            st.lists(wanted, min_size=1, max_size=4, unique_by=lambda one: one.promise.id)
        )

        outcomes = self.ask(self.store.commit(batch, wait=data.draw(st.booleans())))

        for checkpoint, outcome in zip(batch, outcomes, strict=True):
            self.check(checkpoint, outcome)

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), status=st.sampled_from([RunStatus.DONE, RunStatus.FAILED]))
    def finish(self, data: st.DataObject, status: RunStatus) -> None:
        fence = data.draw(self.some_fence())
        run = self.ask(self.store.get(fence.run_id))
        last = end(Claim(run, fence, Json("{}")), status)

        (outcome,) = self.ask(self.store.commit([last]))

        self.check(last, outcome)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        fence = data.draw(self.some_fence())
        run = self.ask(self.store.get(fence.run_id))
        last = end(Claim(run, fence, Json("{}")), RunStatus.PAUSED)
        open_still = {"state": PromiseState.PENDING, "value": None, "settled_at": None}
        last = replace(last, promise=replace(last.promise, **open_still))

        (outcome,) = self.ask(self.store.commit([last]))

        self.check(last, outcome)

    def check(self, checkpoint: Checkpoint, outcome: Outcome) -> None:
        """Do to the model what was asked of the store, and compare what came of it."""
        run = self.runs[checkpoint.fence.run_id]
        if not run.holds(checkpoint.fence):
            assert outcome == Fenced()
            return
        expected = run.write(checkpoint.promise, checkpoint.fence.epoch)
        if checkpoint.status is not None:
            run.leave(checkpoint.status)
        if expected is not Adopted:
            assert outcome == expected
            return
        assert isinstance(outcome, Adopted)
        first = outcome.promise
        assert run.journal[first.key] == (first.state, first.value, first.seq, first.epoch)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        given = data.draw(st.lists(self.some_fence(), max_size=3, unique=True))

        count = self.ask(self.store.release(given))

        held = [fence for fence in given if self.runs[fence.run_id].holds(fence)]
        assert count == len(held)
        for fence in held:
            self.runs[fence.run_id].leave(RunStatus.READY)

    @rule()
    def kill(self) -> None:
        owner = self.workers[-2]
        self.db.rows("DELETE FROM workers WHERE incarnation = :owner", owner=owner)
        self.killed.add(owner)
        self.hire()

    @rule()
    def crash(self) -> None:
        self.claim(-2, 10)
        self.kill()
        self.recover()

    @rule()
    def recover(self) -> None:
        recovered = self.ask(self.store.recover())

        lost = {id_ for id_, run in self.runs.items() if run.owner in self.killed}
        assert set(recovered) == lost
        for id_ in lost:
            run = self.runs[id_]
            run.crashes += 1
            run.last_seq += 1
            is_dead = run.crashes >= MAX_CRASHES
            run.leave(RunStatus.DEAD if is_dead else RunStatus.READY)
            state, _, _, epoch = run.journal["run"]
            if is_dead and state is PromiseState.PENDING:
                run.journal["run"] = (PromiseState.REJECTED, None, run.last_seq, epoch)

    @rule(id_=IDS, dedup=st.sampled_from(["1", "2", "3"]))
    def send(self, id_: str, dedup: str) -> None:
        run = self.runs.get(id_)
        if run is None:
            with pytest.raises(RunNotFound):
                self.ask(self.store.send(signal(id_, dedup=dedup)))
        elif dedup in [known for _, known, _ in run.inbox]:
            assert self.ask(self.store.send(signal(id_, dedup=dedup))) is False
        elif run.status not in OPEN:
            with pytest.raises(RunEnded):
                self.ask(self.store.send(signal(id_, dedup=dedup)))
        else:
            assert self.ask(self.store.send(signal(id_, value=f'"{dedup}"', dedup=dedup)))
            run.last_seq += 1
            run.wake_version += 1
            run.inbox.append(("go", dedup, None))

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), key=st.sampled_from(["go.0", "go.1"]))
    def take(self, data: st.DataObject, key: str) -> None:
        fence = data.draw(self.some_fence())
        run = self.runs[fence.run_id]

        taken = self.ask(self.store.take(fence, waiting(fence.run_id, key)))

        place = next((i for i, (_, _, by) in enumerate(run.inbox) if by is None), None)
        if place is None or not run.holds(fence):
            assert taken is None
            return
        _, dedup, _ = run.inbox[place]
        settled = replace(promise(fence.run_id, key), value=Json(f'"{dedup}"'))
        if run.write(settled, fence.epoch) is not Adopted:
            run.inbox[place] = ("go", dedup, settled.id)
        state, value, seq, _ = run.journal[key]
        assert (taken.state, taken.value, taken.seq) == (state, value, seq)

    @rule(id_=IDS)
    def reopen(self, id_: str) -> None:
        run = self.runs.get(id_)
        if run is None or run.status not in REOPENED:
            with pytest.raises((RunNotFound, RunEnded)):
                self.ask(self.store.reopen(RunId(id_)))
            return
        self.ask(self.store.reopen(RunId(id_)))
        run.leave(RunStatus.READY)
        run.crashes = 0
        run.last_seq += 1
        run.journal["run"] = (PromiseState.PENDING, None, run.last_seq, run.journal["run"][3])

    @invariant()
    def rows_agree(self) -> None:
        """Compare every run, its journal and its inbox."""
        found = {run.id: run for run in self.ask(self.store.list())}
        assert found.keys() == self.runs.keys()
        for id_, expected in self.runs.items():
            run = found[RunId(id_)]
            assert (
                run.status,
                run.epoch,
                run.lease_owner,
                run.crashes,
                run.wake_version,
                run.last_seq,
            ) == (
                expected.status,
                expected.epoch,
                expected.owner,
                expected.crashes,
                expected.wake_version,
                expected.last_seq,
            )
            rows = self.ask(self.store.journal(RunId(id_)))
            journal = {row.key: (row.state, row.value, row.seq, row.epoch) for row in rows}
            assert journal == expected.journal
            assert [row.seq for row in rows] == sorted({row.seq for row in rows})
        taken = self.db.rows("SELECT name, dedup, taken_by FROM signals ORDER BY run_id, n")
        assert taken == [row for id_ in sorted(self.runs) for row in self.runs[id_].inbox]


def test_store_behaves_as_the_model(store_url: str):
    """Whatever is done in whatever order, the store answers and keeps what the model does."""
    with asyncio.Runner() as runner:
        store = runner.run(open_store(store_url))
        try:
            with database(store_url) as db:
                run_state_machine_as_test(
                    lambda: StoreAgainstModel(runner, store, db), settings=SETTINGS
                )
        finally:
            runner.run(store.close())
