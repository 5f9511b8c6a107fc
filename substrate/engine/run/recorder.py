"""All writes of a run: under its fence, and none after the execution was shut.

- A write that the fence rejects shuts the run: another worker owns it.
- A write returns the row that is then in the database, which may be an outcome of somebody else's.
- Each outcome is announced to those who follow the run. The first outcome of a suspect (a run that
  may be killing workers) also lets the worker drive the next suspect.
- No row holds a secret that this process knows: see `mask_row`.
- An execution releases its run once: `end`, `finish` or `continue_as` is its last write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from substrate.engine.failure import encode_failure
from substrate.engine.run.access import StoreAccess
from substrate.engine.run.idle import Wait
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.mask_rows import mask_row
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.services import Services, log
from substrate.engine.run.unreadable import misplaced
from substrate.engine.run.wakeups import Wakeups
from substrate.store.blobs import offloaded
from substrate.store.crashes import is_suspect
from substrate.store.ledger import MemoryWrite
from substrate.store.transaction import Transaction
from substrate.values.errors import (
    CheckpointRefused,
    Failure,
    Paused,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.gates import GateState, LetGo, NewGate
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import (
    Adopted,
    Blob,
    Checkpoint,
    Claim,
    CommitResult,
    Fence,
    Fenced,
    JsonText,
    Kind,
    Locked,
    NewRun,
    Promise,
    RunStatus,
    Unread,
    Written,
    own_promise,
)


class Recorder:
    """Writes the records of one execution, and keeps `OpenPromises` equal to the written rows."""

    def __init__(
        self,
        claim: Claim,
        services: Services,
        *,
        access: StoreAccess,
        lifecycle: Lifecycle,
        open_promises: OpenPromises,
        wakeups: Wakeups,
    ) -> None:
        self._claim = claim
        self._fence = claim.fence
        self._services = services
        self._access = access
        self._lifecycle = lifecycle
        self._open = open_promises
        self._wakeups = wakeups
        self.known_seq: int = claim.run.last_seq
        """The highest change number of the run that is known here: what begins now began there."""
        self._has_settled = False
        self._changed: asyncio.Event | None = None
        self._kept: set[str] = set()

    @property
    def next_change(self) -> asyncio.Event:
        """An event that is set at the next change of the journal."""
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    @property
    def is_suspect(self) -> bool:
        """Whether the run may be killing workers: it crashed, and has recorded no outcome since."""
        return is_suspect(self._claim.run.crashes) and not self._has_settled

    @property
    def crashes(self) -> int:
        """The number of crashes in a row, if this claim ends in a crash as well."""
        return 1 + (0 if self._has_settled else self._claim.run.crashes)

    async def write(
        self,
        promise: Promise,
        *,
        blobs: tuple[Blob, ...] = (),
        child: NewRun | None = None,
    ) -> Promise:
        """Commit a promise; return its row, which may be an outcome that somebody else wrote first.

        `blobs` and `child` are written in the same commit. Raises `CheckpointRefused` when the
        database rejects the content of a row.
        """
        promise = await mask_row(promise)
        self._lifecycle.check_open()
        # Before the commit: if this task is cancelled during it, the row may exist all the same.
        if not promise.is_settled:
            self._open.track(promise)
        new = tuple(blob for blob in blobs if blob.hash not in self._kept)
        match await self._commit(Checkpoint(self._fence, promise, None, new, child)):
            case Written(seq):
                row = promise.written(seq, self._fence.epoch)
            case Adopted(first):
                row = first
            case Fenced() | Locked():
                self._access.lost()
        # Only after the commit: one that failed has stored none of them.
        self._kept.update(blob.hash for blob in new)
        return self._recorded(row)

    async def take(self, promise: Promise, dedups: Sequence[str]) -> Promise:
        """Commit a promise together with the signals that it takes; return its row."""
        promise = await mask_row(promise)
        self._lifecycle.check_open()
        row = await self._access.retry_until_reachable(
            lambda: self._services.store.take_signals(self._fence, promise, dedups)
        )
        return self._access.lost() if isinstance(row, Fenced) else self._recorded(row)

    async def transact(
        self, id_: PromiseId, call: Callable[[Transaction], Awaitable[Promise]]
    ) -> Promise:
        """Commit the writes of the call together with its promise; return the promise's row.

        If the connection dies during COMMIT, the outcome is read from the database afterwards.
        """

        async def call_discreetly(tx: Transaction) -> Promise:
            return await mask_row(await call(tx))

        while True:
            self._lifecycle.check_open()
            try:
                row = await self._services.store.transact(self._fence, call_discreetly)
            except StoreUnreachable as error:
                message = "a transaction was cut off and is being read back, in run"
                who = f"{message} {self._fence.run_id} and perhaps others"
                self._services.troubles.report(who, error)
                found = await self._access.settled_of([id_])
                if id_ not in found:
                    continue  # COMMIT was not reached: the call may be made again
                row = found[id_]
            except CheckpointRefused:
                raise
            except StoreError as error:
                self._access.shut_for_store(error)
            return self._access.lost() if isinstance(row, Fenced) else self._recorded(row)

    async def keep(
        self, promise: Promise, write_of: Callable[[Fence, Promise], MemoryWrite]
    ) -> Promise:
        """Commit a write of memory together with its promise; return the promise's row.

        `write_of` makes it of the promise as it is recorded. If the connection dies during COMMIT,
        the outcome is read from the database afterwards. Raises `CheckpointRefused` when the
        database rejects the content of a row: then nothing was written.
        """
        promise = await mask_row(promise)
        self._lifecycle.check_open()
        if promise.undo is not None:
            self._open.track(promise)
        memory = self._services.store.memory
        while True:
            try:
                row = await memory.write(write_of(self._fence, promise))
            except StoreUnreachable as error:
                self._access.log_trouble("wait for the database", error)
                found = await self._access.settled_of([promise.id])
                if promise.id not in found:
                    self._lifecycle.check_open()
                    continue  # COMMIT was not reached
                row = found[promise.id]
            except CheckpointRefused:
                self._open.forget(promise.key)
                raise
            except StoreError as error:
                self._access.shut_for_store(error)
            return self._access.lost() if isinstance(row, Fenced) else self._recorded(row)

    async def open_gate(
        self, promise: Promise, gate: NewGate, wait: Wait | None = None
    ) -> Promise | None:
        """Commit a gate and its promise; return the promise's row.

        None where the rule that decided it has no use left: then nothing was written. With the
        `wait` that follows, the run may be suspended in the same commit.
        """
        promise = await mask_row(promise)
        self._lifecycle.check_open()
        if not promise.is_settled:
            self._open.track(promise)
        gates = self._services.store.gates

        async def commit(let_go: LetGo | None) -> tuple[Promise | None, bool]:
            opened = await self._access.retry_until_reachable(partial(write, let_go))
            if opened is None:
                return None, False
            row, is_let_go = opened
            written = self._access.lost() if isinstance(row, Fenced) else self._recorded(row)
            return written, is_let_go

        async def write(let_go: LetGo | None) -> tuple[Promise | Fenced, bool] | None:
            if let_go is not None:
                return await gates.open_and_suspend(self._fence, promise, gate, let_go)
            row = await gates.open(self._fence, promise, gate)
            return None if row is None else (row, False)

        return await self._wakeups.commit_and_wait(commit, wait)

    async def settle_gate(self, promise: Promise, state: GateState, via: str | None) -> Promise:
        """Commit the outcome of a gate that nobody has decided; return the promise's row."""
        promise = await mask_row(promise)
        self._lifecycle.check_open()
        gates = self._services.store.gates
        row = await self._access.retry_until_reachable(
            lambda: gates.settle(self._fence, promise, state, via=via)
        )
        return self._access.lost() if isinstance(row, Fenced) else self._recorded(row)

    async def close(self, promise: Promise, *, blobs: tuple[Blob, ...] = ()) -> None:
        """Commit the outcome of an abandoned promise, even if this execution is shut."""
        if promise.kind is Kind.GATE:
            gates = self._services.store.gates
            await self._access.retry_until_reachable(
                lambda: gates.settle(self._fence, promise, GateState.WITHDRAWN)
            )
        else:
            await self._commit(Checkpoint(self._fence, await mask_row(promise), None, blobs))
        self._open.closed(promise.key)
        self._wakeups.look_for(promise.name)

    async def give_back(self, promise: Promise) -> None:
        """Put the signals that an abandoned wait has taken back into the inbox."""
        await self._access.retry_until_reachable(
            lambda: self._services.store.return_signals(self._fence, promise.id)
        )
        self._wakeups.look_for(promise.name)

    async def cancel_child(self, promise: Promise) -> None:
        """Ask an abandoned child to end."""
        await self._access.retry_until_reachable(
            lambda: self._services.store.cancel(RunId(promise.id))
        )
        self._open.closed(promise.key)

    async def reread_open(self, concerns: Callable[[Promise], bool] = lambda each: True) -> None:
        """Read the open promises from the database again, or those that `concerns` selects.

        Called after tasks of the run were cancelled: a cancelled task does not learn whether the
        write that it had sent was committed.
        """
        # A write may still be under way though its task is gone: first wait until none is.
        await self._services.committer.barrier()
        known = (*self._open.pending.values(), *self._open.undoable.values())
        unsure = {each.id: each for each in known if not each.is_settled and concerns(each)}
        found = await self._access.promises(list(unsure))
        for id_, promise in unsure.items():
            if id_ in found:
                self._open.track(found[id_])
            else:
                self._open.forget(promise.key)

    async def end(self, promise: Promise, status: RunStatus) -> None:
        """Commit the outcome of the run and release it; write nothing if another worker owns it."""
        self._lifecycle.is_leaving = True
        outcome: CommitResult | None = None
        with suppress(Shutdown):
            outcome = await self._commit(Checkpoint(self._fence, await mask_row(promise), status))
        self._has_left(outcome, status)

    async def finish(self, promise: Promise, heard: Collection[str]) -> bool:
        """Commit the run's result and release it, unless an untaken signal has one of these names.

        Returns False if there is such a signal; then nothing was written. Returns True also if
        another worker owns the run by now.
        """
        if not heard:
            await self.end(promise, RunStatus.DONE)
            return True
        self._lifecycle.is_leaving = True
        done = Checkpoint(self._fence, await mask_row(promise), RunStatus.DONE)
        outcome = await self._access.retry_until_reachable(
            lambda: self._services.store.finish(done, heard)
        )
        if isinstance(outcome, Unread):
            return False
        self._has_left(outcome, RunStatus.DONE)
        return True

    async def continue_as(self, arguments: JsonText) -> None:
        """Begin the run's next generation; write nothing if another worker owns the run."""
        self._lifecycle.is_leaving = True
        with suppress(Shutdown):
            await self._access.retry_until_reachable(
                lambda: self._services.store.continue_as(self._fence, arguments)
            )
        self.notify_change()
        self._services.on_wake(self._fence.run_id)

    async def release_crashed(self, failure: Failure) -> None:
        """Release the run as crashed, and write the failure into its own row."""
        reason = replace(own_promise(self._claim.run), error=encode_failure(failure))
        # The reason first: if the fence rejects it, another worker owns the run, and this crash
        # must not count. A child whose parent was told keeps the reason that it was told.
        if isinstance(await self._commit(Checkpoint(self._fence, reason)), Written | Adopted):
            await self._services.store.release([self._fence], is_crash=True)

    def notify_change(self) -> None:
        """Wake those who follow the run: its journal has changed."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _has_left(self, outcome: CommitResult | None, status: RunStatus) -> None:
        """Notify those who follow the run, and its parent, that it has ended or is paused."""
        if isinstance(outcome, Fenced):
            log.info("run %s has another worker, which will end it", self._fence.run_id)
        elif outcome is not None:
            log.info("run %s is %s", self._fence.run_id, status)
        self.notify_change()
        if self._claim.run.parent_id is not None:
            self._services.on_wake(self._claim.run.parent_id)

    def _recorded(self, row: Promise) -> Promise:
        """Register a row that was written or adopted, and announce the change."""
        if failure := misplaced(row, self._fence.run_id):
            self._lifecycle.drain_and_raise(Paused(failure))
        if row.is_settled and not self._has_settled:
            was_suspect, self._has_settled = self.is_suspect, True
            if was_suspect:
                self._services.on_wake(self._fence.run_id)  # the worker may drive the next suspect
        self.known_seq = max(self.known_seq, row.seq)
        self._open.track(row)
        self.notify_change()
        return row

    async def _commit(self, checkpoint: Checkpoint) -> CommitResult:
        try:
            return await self._services.committer.commit(await offloaded(checkpoint))
        except CheckpointRefused:
            raise
        except StoreError as error:
            self._access.shut_for_store(error)
