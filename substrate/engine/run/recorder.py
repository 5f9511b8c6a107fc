"""The one way in which a run writes: under its fence, and nothing once it has been shut.

- A write that the fence stops shuts the run: another worker has it.
- What is returned is the row as it stands in the database, which may be somebody else's outcome.
- Each outcome is told to whoever looks on, and to what waits for its turn behind a suspect.
- No row tells a secret that is known here: see `discreet`.
- A run leaves once: `end`, `finish` and `continue_as` are its last write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from substrate.engine.failure import encode_failure
from substrate.engine.run.access import StoreAccess
from substrate.engine.run.discreet import discreet
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.services import Services, log
from substrate.engine.run.unreadable import misplaced
from substrate.engine.run.wakeups import Wakeups
from substrate.store.blobs import offloaded
from substrate.store.crashes import is_suspect
from substrate.store.transaction import Transaction
from substrate.values.errors import (
    CheckpointRefused,
    Failure,
    Paused,
    Shutdown,
    StoreError,
    StoreUnreachable,
)
from substrate.values.ids import PromiseId, RunId
from substrate.values.records import (
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
    RunStatus,
    Unread,
    Written,
    own_promise,
)


class Recorder:
    """Writes what one execution of a run records, and keeps `OpenPromises` as the rows stand."""

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
        """Is set when the journal changes after this moment."""
        if self._changed is None:
            self._changed = asyncio.Event()
        return self._changed

    @property
    def is_suspect(self) -> bool:
        """Whether the run may be what kills workers: it has crashed, and recorded nothing since."""
        return is_suspect(self._claim.run.crashes) and not self._has_settled

    @property
    def crashes(self) -> int:
        """How often in a row the run has ended without an outcome, if this claim does, too."""
        return 1 + (0 if self._has_settled else self._claim.run.crashes)

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
        promise = await discreet(promise)
        self._lifecycle.check_open()
        # Before the commit: where this task is cancelled meanwhile, the row may be there.
        if not promise.is_settled:
            self._open.track(promise)
        new = tuple(blob for blob in blobs if blob.hash not in self._kept)
        match await self._commit(Checkpoint(self._fence, promise, None, new, child)):
            case Written(seq):
                stands = promise.written(seq, self._fence.epoch)
            case Adopted(first):
                stands = first
            case Fenced() | Locked():
                self._access.lost()
        # Only now: a commit that failed has kept none of them.
        self._kept.update(blob.hash for blob in new)
        return self._recorded(stands)

    async def take(self, promise: Promise, dedups: Sequence[str]) -> Promise:
        """Commit a promise that takes signals; return it as it stands."""
        promise = await discreet(promise)
        self._lifecycle.check_open()
        stands = await self._access.retry_until_reachable(
            lambda: self._services.store.take_signals(self._fence, promise, dedups)
        )
        return self._access.lost() if isinstance(stands, Fenced) else self._recorded(stands)

    async def transact(
        self, id_: PromiseId, call: Callable[[Transaction], Awaitable[Promise]]
    ) -> Promise:
        """Commit what the call writes together with its promise; return that as it stands.

        Where the connection dies in COMMIT, the outcome is read back.
        """

        async def call_discreetly(tx: Transaction) -> Promise:
            return await discreet(await call(tx))

        while True:
            self._lifecycle.check_open()
            try:
                stands = await self._services.store.transact(self._fence, call_discreetly)
            except StoreUnreachable as error:
                message = "a transaction was cut off and is being read back, in run"
                who = f"{message} {self._fence.run_id} and perhaps others"
                self._services.troubles.make(who, error)
                found = await self._access.settled_of([id_])
                if id_ not in found:
                    continue  # COMMIT was not reached: the call may be made again
                stands = found[id_]
            except CheckpointRefused:
                raise
            except StoreError as error:
                self._access.give_up(error)
            return self._access.lost() if isinstance(stands, Fenced) else self._recorded(stands)

    async def close(self, promise: Promise) -> None:
        """Commit the outcome of what nobody waits for any more, also when this one is shut."""
        await self._commit(Checkpoint(self._fence, await discreet(promise)))
        self._open.closed(promise.key)
        self._wakeups.look_for(promise.name)

    async def give_back(self, promise: Promise) -> None:
        """Put back into the inbox what a wait has taken that nobody waits for any more."""
        await self._access.retry_until_reachable(
            lambda: self._services.store.return_signals(self._fence, promise.id)
        )
        self._wakeups.look_for(promise.name)

    async def cancel_child(self, promise: Promise) -> None:
        """Ask a child to end, which nobody waits for any more."""
        await self._access.retry_until_reachable(
            lambda: self._services.store.cancel(RunId(promise.id))
        )
        self._open.closed(promise.key)

    async def reread_open(self, concerns: Callable[[Promise], bool] = lambda each: True) -> None:
        """See that what is open, or some of it, is known as the database has it.

        For when tasks of the run have been cancelled: they have not heard what became of the
        writes that they had sent.
        """
        # A write that was sent may still be on its way, though its caller is gone.
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
        """Commit what became of the run, and let go of it; nothing when it is another's by now."""
        self._lifecycle.is_leaving = True
        outcome: CommitResult | None = None
        with suppress(Shutdown):
            outcome = await self._commit(Checkpoint(self._fence, await discreet(promise), status))
        self._has_left(outcome, status)

    async def finish(self, promise: Promise, heard: Collection[str]) -> bool:
        """Commit the run's result, and let go of it, unless a signal of these names is untaken.

        False: there is one, and nothing was written. True also when the run is another's by now.
        """
        if not heard:
            await self.end(promise, RunStatus.DONE)
            return True
        self._lifecycle.is_leaving = True
        done = Checkpoint(self._fence, await discreet(promise), RunStatus.DONE)
        outcome = await self._access.retry_until_reachable(
            lambda: self._services.store.finish(done, heard)
        )
        if isinstance(outcome, Unread):
            return False
        self._has_left(outcome, RunStatus.DONE)
        return True

    async def continue_as(self, arguments: JsonText) -> None:
        """Close the journal and begin the run's next generation; nothing when it is another's."""
        self._lifecycle.is_leaving = True
        with suppress(Shutdown):
            await self._access.retry_until_reachable(
                lambda: self._services.store.continue_as(self._fence, arguments)
            )
        self.tell_change()
        self._services.on_wake(self._fence.run_id)

    async def release_crashed(self, failure: Failure) -> None:
        """Give the run back as one that crashed by itself; why stands in its own row."""
        reason = replace(own_promise(self._claim.run), error=encode_failure(failure))
        # The reason first: where the fence stops it, the run is another's, and no crash is counted.
        if isinstance(await self._commit(Checkpoint(self._fence, reason)), Written):
            await self._services.store.release([self._fence], is_crash=True)

    def tell_change(self) -> None:
        """Have whoever looks on look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _has_left(self, outcome: CommitResult | None, status: RunStatus) -> None:
        """Tell who waits for the run that it has ended, or is paused."""
        if isinstance(outcome, Fenced):
            log.info("run %s has another worker, which will end it", self._fence.run_id)
        elif outcome is not None:
            log.info("run %s is %s", self._fence.run_id, status)
        self.tell_change()
        if self._claim.run.parent_id is not None:
            self._services.on_wake(self._claim.run.parent_id)

    def _recorded(self, stands: Promise) -> Promise:
        if failure := misplaced(stands, self._fence.run_id):
            self._lifecycle.drain_and_raise(Paused(failure))
        if stands.is_settled and not self._has_settled:
            was_suspect, self._has_settled = self.is_suspect, True
            if was_suspect:
                self._services.on_wake(self._fence.run_id)  # now the next suspect may be driven
        self.known_seq = max(self.known_seq, stands.seq)
        self._open.track(stands)
        self.tell_change()
        return stands

    async def _commit(self, checkpoint: Checkpoint) -> CommitResult:
        try:
            return await self._services.committer.commit(await offloaded(checkpoint))
        except CheckpointRefused:
            raise
        except StoreError as error:
            self._access.give_up(error)
