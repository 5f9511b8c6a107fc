"""Whatever is asked of a store in whatever order, it answers as a model that fits on a page does.

The model (`tests/store_model.py`) is a few dictionaries. It knows nothing of SQL, transactions or
locks; what it and the store disagree on is a bug in one of them.
"""

import asyncio
from dataclasses import replace
from itertools import chain
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
from substrate.store.store import Store
from substrate.testing import ManualClock
from substrate.values.errors import RunEnded, RunNotFound
from substrate.values.ids import RunId
from substrate.values.records import (
    Adopted,
    Checkpoint,
    Claim,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    Owner,
    PromiseState,
    RunStatus,
)
from tests.store_model import AWAITS_PERSON, OPEN, Model
from tests.stores import (
    LANE,
    Database,
    database,
    end,
    end_child,
    new_run,
    promise,
    received,
    signal,
    spawning,
    waiting,
)

IDS = st.sampled_from(["a", "b", "c"])
ANY_IDS = st.sampled_from(["a", "b", "c", "a#child.0", "b#child.0", "a#child.1"])
KEYS = st.sampled_from(["x.0", "go.0", "go.1"])
DEDUPS = st.sampled_from(["1", "2", "3"])
STATES = st.sampled_from([PromiseState.PENDING, PromiseState.RESOLVED, PromiseState.REJECTED])
PAST, FUTURE = 1_000, 4_000_000_000_000
DUE = st.sampled_from([None, PAST, PAST + 1, FUTURE])
SETTINGS = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class StoreAgainstModel(RuleBasedStateMachine):
    """Asks the store and the model the same, and compares the answers and what is stored."""

    def __init__(
        self, runner: asyncio.Runner, store: Store, clock: ManualClock, db: Database
    ) -> None:
        super().__init__()
        self.runner, self.store, self.clock, self.db = runner, store, clock, db
        for table in ("runs", "promises", "signals", "workers", "fleet"):
            self.db.rows(f"DELETE FROM {table}")
        self.struck_off: set[Owner] = set()
        self.model = Model()
        self.fences: list[Fence] = []
        self.workers: list[Owner] = []
        self.killed: list[Owner] = []
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
        standing = [fence for fence in self.fences if self.model.runs[fence.run_id].holds(fence)]
        return st.sampled_from(standing * 5 + self.fences[-2:])

    def ask(self, call: Any) -> Any:
        """Run a coroutine of the store."""
        return self.runner.run(call)

    def remember(self, claims: list[Claim]) -> None:
        for claim in claims:
            run = self.model.runs[claim.run.id]
            run.status, run.owner = RunStatus.RUNNING, claim.fence.owner
            run.epoch += 1
            assert (claim.fence.epoch, claim.input) == (run.epoch, run.input)
            self.fences.append(claim.fence)

    def last_of(self, fence: Fence, state: PromiseState, status: RunStatus) -> Checkpoint:
        """Return what ends a run, or pauses it when its promise is to stay open."""
        claim = Claim(self.ask(self.store.get(fence.run_id)), fence, JsonText("{}"))
        last = end_child(claim) if "#" in fence.run_id else end(claim)
        is_settled = state is not PromiseState.PENDING
        changes = {"value": None, "settled_at": last.promise.settled_at if is_settled else None}
        return replace(last, promise=replace(last.promise, state=state, **changes), status=status)

    # ------------------------------------------------------------------------ lives and claims

    @rule(id_=IDS, worker=st.none() | st.integers(-2, -1), due_at=DUE | st.none())
    def start(self, id_: str, worker: int | None, due_at: int | None) -> None:
        owner = None if worker is None else self.workers[worker]
        is_new = id_ not in self.model.runs
        run, claim = self.ask(self.store.start(new_run(id_, due_at=due_at), owner))

        assert run.id == id_
        assert (claim is not None) == (is_new and owner is not None and due_at is None)
        if is_new:
            self.model.start(id_, due_at)
        self.remember([claim] if claim else [])

    @rule(worker=st.integers(-2, -1), limit=st.sampled_from([1, 10]))
    def claim(self, worker: int, limit: int) -> None:
        ready = {r.id for r in self.model.runs.values() if r.status is RunStatus.READY}
        assert self.ask(self.store.count_ready([LANE], limit)) == min(limit, len(ready))

        claims = self.ask(self.store.claim(LANE, limit, self.workers[worker]))

        taken = {claim.run.id for claim in claims}
        assert len(claims) == len(taken) == min(limit, len(ready))
        assert taken <= ready
        self.remember(claims)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        given = data.draw(st.lists(self.some_fence(), max_size=3, unique=True))

        count = self.ask(self.store.release(given))

        held = [fence for fence in given if self.model.runs[fence.run_id].holds(fence)]
        assert count == len(held)
        for fence in held:
            self.model.runs[fence.run_id].leave(RunStatus.READY)

    @rule(is_known=st.booleans())
    def kill(self, *, is_known: bool) -> None:
        """Let a worker's lease lapse, or lose its row: then nobody knows what it had."""
        owner = self.workers[-2]
        if self.killed and not self.model.runs_of(owner):  # in which order is not seen in the end
            self.recover()
        if is_known:
            self.db.rows("UPDATE workers SET lease_until = 1 WHERE incarnation = :id", id=owner)
        else:
            self.db.rows("DELETE FROM workers WHERE incarnation = :id", id=owner)
            self.struck_off.add(owner)
        self.killed.append(owner)
        self.hire()

    @rule(limit=st.sampled_from([1, 10]))
    def crash(self, limit: int) -> None:
        self.claim(-2, limit)
        self.kill(is_known=True)
        self.recover()

    @rule(seconds=st.sampled_from([1, 3, 600]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def recover(self) -> None:
        recovered = self.ask(self.store.recover())

        of_whom = {owner: self.model.runs_of(owner) for owner in self.killed}
        assert sorted(recovered) == sorted(chain.from_iterable(of_whom.values()))
        order = [self.model.runs[id_].owner for id_ in recovered]
        by_order = sorted(self.killed, key=lambda o: order.index(o) if o in order else -1)
        for owner in by_order:
            ids = sorted(of_whom[owner], key=recovered.index)
            is_whole = owner not in self.struck_off
            if ids or is_whole:
                self.model.recover(ids, self.clock.now_ms(), is_whole=is_whole)
        self.killed.clear()

    # ----------------------------------------------------------------------------- checkpoints

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
        spawn = st.builds(spawning, self.some_fence(), st.sampled_from(["child.0", "child.1"]))
        batch = data.draw(
            st.lists(wanted | spawn, min_size=1, max_size=4, unique_by=lambda one: one.promise.id)
        )

        outcomes = self.ask(self.store.commit(batch, wait=data.draw(st.booleans())))

        for checkpoint, outcome in zip(batch, outcomes, strict=True):
            self.check(checkpoint, outcome)

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), key=st.sampled_from(["child.0", "child.1"]))
    def spawn(self, data: st.DataObject, key: str) -> None:
        one = spawning(data.draw(self.some_fence()), key)

        (outcome,) = self.ask(self.store.commit([one]))

        self.check(one, outcome)

    @precondition(lambda self: self.fences)
    @rule(
        data=st.data(),
        end_=st.sampled_from(
            [
                (PromiseState.RESOLVED, RunStatus.DONE),
                (PromiseState.REJECTED, RunStatus.FAILED),
                (PromiseState.CANCELLED, RunStatus.CANCELLED),
                (PromiseState.PENDING, RunStatus.PAUSED),
            ]
        ),
    )
    def finish(self, data: st.DataObject, end_: tuple[PromiseState, RunStatus]) -> None:
        last = self.last_of(data.draw(self.some_fence()), *end_)

        (outcome,) = self.ask(self.store.commit([last]))

        self.check(last, outcome)

    def check(self, checkpoint: Checkpoint, outcome: CommitResult) -> None:
        """Do to the model what was asked of the store, and compare what came of it."""
        expected = self.model.write(checkpoint)
        if expected is not Adopted:
            assert outcome == expected
            return
        assert isinstance(outcome, Adopted)
        first = outcome.promise
        journal = self.model.runs[first.run_id].journal
        assert journal[first.key] == (first.state, first.value, first.seq, first.epoch)

    # ------------------------------------------------------------------------- waits and wakes

    @rule(id_=ANY_IDS, dedup=DEDUPS)
    def send(self, id_: str, dedup: str) -> None:
        run = self.model.runs.get(id_)
        sent = signal(id_, value=f'"{dedup}"', dedup=dedup)
        if run is None:
            with pytest.raises(RunNotFound):
                self.ask(self.store.send_signal(sent))
        elif dedup in run.inbox:
            assert self.ask(self.store.send_signal(sent)) is False
        elif run.status not in OPEN or run.is_cancelled:
            with pytest.raises(RunEnded):
                self.ask(self.store.send_signal(sent))
        else:
            assert self.ask(self.store.send_signal(sent))
            self.model.send_signal(id_, dedup)

    @precondition(lambda self: self.fences)
    @rule(
        data=st.data(),
        key=st.sampled_from(["go.0", "go.1"]),
        dedups=st.lists(DEDUPS, max_size=2, unique=True),
        is_refused=st.booleans(),
    )
    def take(self, data: st.DataObject, key: str, dedups: list[str], *, is_refused: bool) -> None:
        fence = data.draw(self.some_fence())
        wait = waiting(fence.run_id, key)
        row = wait if is_refused else received(wait)

        taken = self.ask(self.store.take_signals(fence, row, dedups))

        expected = self.model.take_signals(fence, row, dedups)
        if expected is None:
            assert taken == wait
        elif isinstance(expected, Fenced):
            assert taken == expected
        else:
            assert (taken.state, taken.value, taken.seq, taken.epoch) == expected

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), is_late=st.booleans(), need=st.integers(1, 2), due_at=DUE)
    def suspend(self, data: st.DataObject, need: int, due_at: int | None, *, is_late: bool) -> None:
        fence = data.draw(self.some_fence())
        seen = self.model.runs[fence.run_id].wake_version - is_late

        answer = self.ask(self.store.suspend(fence, seen, need=need, due_at=due_at))

        assert answer == self.model.suspend(fence, seen, need, due_at)

    @rule(limit=st.sampled_from([1, 100]))
    def wake_due(self, limit: int) -> None:
        asleep = [r for r in self.model.runs.values() if r.status is RunStatus.SUSPENDED]
        due = [r.due_at for r in asleep if r.due_at is not None]
        if limit == 1 and len(due) != len(set(due)):
            limit = 100  # which of two that are due at one moment comes first, nobody says
        assert self.ask(self.store.next_due_at()) == min(due, default=None)

        assert self.ask(self.store.wake_due(limit)) == self.model.wake_due(
            self.clock.now_ms(), limit
        )

    # ------------------------------------------------------------------------------------ ends

    @rule(id_=ANY_IDS)
    def cancel(self, id_: str) -> None:
        if id_ not in self.model.runs:
            with pytest.raises(RunNotFound):
                self.ask(self.store.cancel(RunId(id_)))
            return
        self.ask(self.store.cancel(RunId(id_)))
        self.model.cancel(id_)

    @rule(id_=ANY_IDS)
    def discard(self, id_: str) -> None:
        run = self.model.runs.get(id_)
        if run is None or run.status not in AWAITS_PERSON:
            with pytest.raises((RunNotFound, RunEnded)):
                self.ask(self.store.discard(RunId(id_)))
            return
        self.ask(self.store.discard(RunId(id_)))
        self.model.discard(id_)

    @rule(id_=ANY_IDS)
    def resume(self, id_: str) -> None:
        if not self.model.may_reopen(id_):
            with pytest.raises((RunNotFound, RunEnded)):
                self.ask(self.store.resume(RunId(id_)))
            return
        self.ask(self.store.resume(RunId(id_)))
        self.model.resume(id_)

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), n=st.integers(2, 9))
    def continue_as(self, data: st.DataObject, n: int) -> None:
        fence, input_ = data.draw(self.some_fence()), JsonText(f'{{"n":{n}}}')

        assert self.ask(self.store.continue_as(fence, input_)) == self.model.continue_as(
            fence, input_
        )

    @invariant()
    def rows_agree(self) -> None:
        """Compare every run, its journal and its inbox."""
        roots = {run.id for run in self.ask(self.store.list())}
        assert roots == {id_ for id_ in self.model.runs if "#" not in id_}
        for expected in self.model.runs.values():
            run = self.ask(self.store.get(RunId(expected.id)))
            parent = expected.parent.id if expected.parent else None
            assert (run.status, run.epoch, run.lease_owner, run.crashes, run.wake_version) == (
                expected.status,
                expected.epoch,
                expected.owner,
                expected.crashes,
                expected.wake_version,
            )
            assert (run.parent_id, run.last_seq, run.generation, run.generation_seq) == (
                parent,
                expected.last_seq,
                expected.generation,
                expected.generation_seq,
            )
            assert (run.cancel_requested, run.exited_epoch) == (expected.is_cancelled, 0)
            rows = self.ask(self.store.journal(RunId(expected.id)))
            journal = {row.key: (row.state, row.value, row.seq, row.epoch) for row in rows}
            assert journal == expected.journal
            assert [row.seq for row in rows] == sorted({row.seq for row in rows})
            ended = [row for row in rows if row.kind == "child" and row.is_settled]
            assert self.ask(self.store.settled_outside(RunId(expected.id), 0)) == ended
            inbox = self.ask(self.store.inbox(RunId(expected.id), untaken=False))
            assert [(row.dedup, row.taken_by) for row in inbox] == list(expected.inbox.items())


def test_store_behaves_as_the_model(store_url: str):
    """Whatever is done in whatever order, the store answers and keeps what the model does."""
    clock = ManualClock()
    with asyncio.Runner() as runner:
        store = runner.run(open_store(store_url, clock))
        try:
            with database(store_url) as db:
                run_state_machine_as_test(
                    lambda: StoreAgainstModel(runner, store, clock, db), settings=SETTINGS
                )
        finally:
            runner.run(store.close())
