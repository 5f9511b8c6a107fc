"""One claim on one run, while it is driven: its fence, its journal, and what it waits for.

Everything that the run records goes through here, under its fence. It keeps at hand what was begun
and has no outcome yet, for who has to close that, and what could be undone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn, Protocol, TypeVar

from substrate.engine.failure import encode_failure
from substrate.engine.run.journal import Journal
from substrate.engine.run.services import Services, log
from substrate.engine.run.unreadable import unreadable, unreadable_among
from substrate.engine.run.wakeups import Wakeups
from substrate.store.blobs import offloaded
from substrate.store.crashes import is_suspect
from substrate.store.transaction import Transaction
from substrate.values.errors import (
    CheckpointRefused,
    Failure,
    LeaseLost,
    Paused,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.ids import Key, PromiseId, RunId
from substrate.values.records import (
    OWN_KEY,
    Adopted,
    Blob,
    Checkpoint,
    Claim,
    CommitResult,
    Fenced,
    JsonText,
    Locked,
    NewRun,
    Promise,
    ReceivedSignal,
    RunStatus,
    Unread,
    Written,
    generation_key,
    own_promise,
)
from substrate.values.secret import Revealed, hidden_in

T = TypeVar("T")

_PAUSE = 0.2  # seconds before an unreachable database is asked again


class OpenCall(Protocol):
    """A call of a step's function, as far as the execution knows one."""

    is_first: bool
    """Whether nothing was called for its promise before that may have happened."""

    def withdraw(self) -> bool:
        """Keep the call from beginning, and return whether it never began."""

    async def over(self) -> Any:
        """Return when it is over, with its own outcome where it was cut off in a thread."""


class Execution(Wakeups):
    """The state of a run that is being driven here and now."""

    def __init__(self, claim: Claim, services: Services) -> None:
        super().__init__(claim, services)
        self.journal: Journal = Journal()
        self.undoable: dict[Key, Promise] = {}
        self.calls: dict[Key, list[OpenCall]] = {}
        """What was called here for steps with an intent, as long as that matters."""
        self.heard: set[str] = set()
        """The names of the signals that the run has looked for by `ctx.hear`."""
        self.has_heard = False
        self.is_again = False
        self._has_settled = False
        self._changed: asyncio.Event | None = None
        self._kept: set[str] = set()
        self.revealed: Revealed = Revealed()

    @property
    def next_change(self) -> asyncio.Event:
        """Is set when the journal changes after this moment."""
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what kills workers: it has crashed, and has recorded nothing since."""
        return is_suspect(self.claim.run.crashes) and not self._has_settled

    @property
    def generation_scope(self) -> Key:
        """The scope of all keys of the run's present generation: none for the first."""
        return generation_key(self.claim.run.generation)

    def tell(self, event: dict[str, Any]) -> None:
        """Tell the worker's listener of a live event. Its errors are its own: the run goes on."""
        try:
            self.services.on_event(self.fence.run_id, hidden_in(event))
        except Exception:  # noqa: BLE001 - logged, and no matter of the run
            log.exception("the listener of run %s failed", self.fence.run_id)

    def unwinding_execution(self) -> "Execution":
        """Return an execution of the same claim that unwinds what this one did; shut this one."""
        self.shut(Shutdown("another execution of the run goes on"))
        unwinding = Execution(self.claim, self.services)
        unwinding.task, unwinding.journal = self.task, self.journal
        unwinding.is_loaded = unwinding.is_unwinding = True
        unwinding.open, unwinding.undoable, unwinding.calls = self.open, self.undoable, self.calls
        unwinding.revealed = self.revealed
        self.services.on_replaced(self, unwinding)
        return unwinding

    async def again(self) -> "Execution":
        """Return an execution of the same claim that begins with the journal anew; shut this one.

        For a run that something came for while it ended.
        """
        run = await self._retry_until_reachable(lambda: self.services.store.get(self.fence.run_id))
        if run is None or (run.epoch, run.lease_owner) != (self.fence.epoch, self.fence.owner):
            self._is_fenced_off()
        self.shut(Shutdown("another execution of the run goes on"))
        following = Execution(replace(self.claim, run=run), self.services)
        following.is_again = True
        following.task, following.calls, following.revealed = self.task, self.calls, self.revealed
        self.services.on_replaced(self, following)
        self._tell_change()
        if self._draining is not None:
            following.drain(self._draining)
        return following

    async def load(self) -> None:
        """Load what the run has recorded so far, in its present generation."""
        run = self.claim.run
        if run.last_seq > max(1, run.generation_seq):
            read = self.services.store.journal
            promises = await self._retry_until_reachable(lambda: read(run.id, run.generation_seq))
            self.journal = Journal(promises)
            for promise in promises:
                if promise.key != OWN_KEY:
                    self._track(promise)
            for promise in (*self.open.values(), *self.undoable.values()):
                self.check_readable(promise)  # what is called next hangs on what they say
        self.is_loaded = True

    def check_readable(self, promise: Promise) -> None:
        """Pause the run where a row of its own cannot be read."""
        if failure := unreadable(promise):
            self.leave(Paused(failure))

    async def unreadable_row(self) -> Failure | None:
        """Return what cannot be read of the run's rows, if one of them cannot."""
        run = self.claim.run
        promises = await self._retry_until_reachable(
            lambda: self.services.store.journal(run.id, run.generation_seq)
        )
        return await asyncio.to_thread(unreadable_among, promises)

    async def write(
        self,
        promise: Promise,
        *,
        blobs: tuple[Blob, ...] = (),
        child: NewRun | None = None,
    ) -> Promise:
        """Commit a promise; return it as it stands, which may be somebody else's outcome.

        Raises `CheckpointRefused` when the database rejects what it holds.
        """
        self.check_open()
        if not promise.is_settled:
            self._track(promise)
        new = tuple(blob for blob in blobs if blob.hash not in self._kept)
        match await self._commit(Checkpoint(self.fence, promise, None, new, child)):
            case Written(seq):
                stands = promise.written(seq, self.fence.epoch)
            case Adopted(first):
                stands = first
            case Fenced() | Locked():
                self._is_fenced_off()
        self._kept.update(blob.hash for blob in new)
        return self._recorded(stands)

    async def close(self, promise: Promise) -> None:
        """Commit the outcome of what nobody waits for any more, also when this one is shut."""
        await self._commit(Checkpoint(self.fence, promise))
        self.open.pop(promise.key, None)
        self._look_for(promise)

    async def end(self, promise: Promise, status: RunStatus) -> None:
        """Commit what became of the run, and let go of it; nothing when it is another's by now."""
        self.is_leaving: bool = True
        checkpoint = Checkpoint(self.fence, promise, status)
        outcome: CommitResult | None = None
        with suppress(Shutdown):
            outcome = await self._commit(checkpoint)
        self._has_left(outcome, status)

    def _has_left(self, outcome: CommitResult | None, status: RunStatus) -> None:
        """Tell who waits for the run that it has ended, or is paused."""
        if isinstance(outcome, Fenced):
            log.info("run %s has another worker, which will end it", self.fence.run_id)
        elif outcome is not None:
            log.info("run %s is %s", self.fence.run_id, status)
        self._tell_change()
        if self.claim.run.parent_id is not None:
            self.services.on_wake(self.claim.run.parent_id)

    @property
    def crashes(self) -> int:
        """How often in a row the run has ended without an outcome, if this claim does, too."""
        return 1 + (0 if self._has_settled else self.claim.run.crashes)

    async def release_crashed(self, failure: Failure) -> None:
        """Give the run back as one that crashed by itself; why stands in its own row."""
        told = replace(own_promise(self.claim.run), error=encode_failure(failure))
        if isinstance(await self._commit(Checkpoint(self.fence, told)), Written):
            await self.services.store.release([self.fence], is_crash=True)

    async def finish(self, promise: Promise, heard: Collection[str]) -> bool:
        """Commit the run's result, and let go of it, unless a signal of these names is untaken.

        False: there is one, and nothing was written. True also when the run is another's by now.
        """
        if not heard:
            await self.end(promise, RunStatus.DONE)
            return True
        self.is_leaving = True
        done = Checkpoint(self.fence, promise, RunStatus.DONE)
        outcome = await self._retry_until_reachable(lambda: self.services.store.finish(done, heard))
        if isinstance(outcome, Unread):
            return False
        self._has_left(outcome, RunStatus.DONE)
        return True

    async def continue_as(self, arguments: JsonText) -> None:
        """Close the journal and begin the run's next generation; nothing when it is another's."""
        self.is_leaving = True
        with suppress(Shutdown):
            await self._retry_until_reachable(
                lambda: self.services.store.continue_as(self.fence, arguments)
            )
        self._tell_change()
        self.services.on_wake(self.fence.run_id)

    async def inbox(self, name: str, after: int, limit: int) -> Sequence[ReceivedSignal]:
        """Return the oldest signals of a name above an n that nobody has taken, `limit` at most."""
        self.check_open()
        read = self.services.store.inbox
        return await self._retry_until_reachable(
            lambda: read(self.fence.run_id, name, after=after, limit=limit)
        )

    async def take(self, promise: Promise, dedups: Sequence[str]) -> Promise:
        """Commit a promise that takes signals; return it as it stands."""
        self.check_open()
        stands = await self._retry_until_reachable(
            lambda: self.services.store.take_signals(self.fence, promise, dedups)
        )
        return self._is_fenced_off() if isinstance(stands, Fenced) else self._recorded(stands)

    async def transact(
        self, id_: PromiseId, call: Callable[[Transaction], Awaitable[Promise]]
    ) -> Promise:
        """Commit what the call writes together with its promise; return that as it stands.

        Where the connection dies in COMMIT, the outcome is read back.
        """
        while True:
            self.check_open()
            try:
                stands = await self.services.store.transact(self.fence, call)
            except StoreUnreachable as error:
                told = "a transaction was cut off and is being read back, in run"
                self.services.troubles.make(f"{told} {self.fence.run_id} and perhaps others", error)
                found = await self._retry_until_reachable(
                    lambda: self.services.store.promises([id_])
                )
                if id_ not in found or not found[id_].is_settled:
                    continue
                stands = found[id_]
            except CheckpointRefused:
                raise
            except StoreError as error:
                self._give_up(error)
            return self._is_fenced_off() if isinstance(stands, Fenced) else self._recorded(stands)

    def expect(self, promise: Promise) -> None:
        """Keep a promise at hand that may be written any moment; see `reread_open`."""
        self._track(promise)

    def never_began(self, promise: Promise) -> bool:
        """Whether it is known of an intent that nothing was called, and see that nothing is."""
        calls = self.calls.get(promise.key, [])
        is_ours = bool(calls) and promise.epoch == self.fence.epoch and calls[-1].is_first
        return is_ours and calls[-1].withdraw()

    async def give_back(self, promise: Promise) -> None:
        """Put back into the inbox what a wait has taken that nobody waits for any more."""
        await self._retry_until_reachable(
            lambda: self.services.store.return_signals(self.fence, promise.id)
        )
        self._look_for(promise)

    async def usages(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return what the promises whose id begins so have used, in this run and below it."""
        return await self._retry_until_reachable(
            lambda: self.services.store.usages(prefix, skipping)
        )

    async def known_lanes(self) -> frozenset[str] | None:
        """Return what living workers know; see `Store.known_lanes`."""
        return await self._retry_until_reachable(self.services.store.known_lanes)

    async def has_open_runs(self, prefix: str) -> bool:
        """Return whether a run below this one whose id begins so has not ended."""
        return await self._retry_until_reachable(lambda: self.services.store.has_open_runs(prefix))

    async def cancel_child(self, promise: Promise) -> None:
        """Ask a child to end, which nobody waits for any more."""
        await self._retry_until_reachable(lambda: self.services.store.cancel(RunId(promise.id)))
        self.open.pop(promise.key, None)

    async def settled_of(self, ids: Sequence[PromiseId]) -> dict[PromiseId, Promise]:
        """Return those of these promises that have been settled, by id."""
        found = await self._retry_until_reachable(lambda: self.services.store.promises(ids))
        return {each.id: each for each in found.values() if each.is_settled}

    async def reread_open(self, concerns: Callable[[Promise], bool] = lambda each: True) -> None:
        """See that what is at hand, or some of it, stands as the database has it.

        For when tasks of the run have been cancelled: they have not heard what became of the
        writes that they had sent.
        """
        await self.services.committer.barrier()
        unsure = {each.id: each for each in (*self.open.values(), *self.undoable.values())}
        ids = [each.id for each in unsure.values() if not each.is_settled and concerns(each)]
        found = (
            await self._retry_until_reachable(lambda: self.services.store.promises(ids))
            if ids
            else {}
        )
        for id_ in ids:
            if id_ in found:
                self._track(found[id_])
            else:
                self.open.pop(unsure[id_].key, None)
                self.undoable.pop(unsure[id_].key, None)

    def _look_for(self, promise: Promise) -> None:
        """Let others look for the signals that a wait leaves to them."""
        if taker := self.takers.get(promise.name):
            taker.look()

    def _recorded(self, stands: Promise) -> Promise:
        if stands.is_settled and not self._has_settled:
            was_suspect, self._has_settled = self.is_suspect, True
            if was_suspect:
                self.services.on_wake(self.fence.run_id)  # now the next suspect may be driven
        self._track(stands)
        self._tell_change()
        return stands

    def _track(self, promise: Promise) -> None:
        if not promise.is_settled:
            self.open[promise.key] = promise
        elif self.open:
            self.open.pop(promise.key, None)
        if promise.undo is not None:
            self.undoable[promise.key] = promise
        elif self.undoable:
            self.undoable.pop(promise.key, None)

    async def _commit(self, checkpoint: Checkpoint) -> CommitResult:
        try:
            return await self.services.committer.commit(await offloaded(checkpoint))
        except CheckpointRefused:
            raise
        except StoreError as error:
            self._give_up(error)

    async def _retry_until_reachable(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask the database until it answers; give the run up when it answers with an error.

        Not for a row that it rejects: it would do so again, and whoever wrote it is told.
        """
        while True:
            try:
                return await call()
            except StoreUnreachable as error:
                who = f"run {self.fence.run_id} and perhaps others"
                self.services.troubles.make(f"{who} wait for the database", error)
                await asyncio.sleep(_PAUSE)
            except CheckpointRefused:
                raise
            except StoreError as error:
                self._give_up(error)

    def _is_fenced_off(self) -> NoReturn:
        self.fail(LeaseLost(f"run {self.fence.run_id!r} belongs to another worker now"))

    def _give_up(self, error: StoreError) -> NoReturn:
        who = f"run {self.fence.run_id} and perhaps others"
        self.services.troubles.make(f"{who} go on elsewhere or later", error)
        self.fail(Shutdown(f"the database fails: {error}"))

    def _tell_change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
