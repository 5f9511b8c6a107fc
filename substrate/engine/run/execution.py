"""One execution of a claimed run: its parts, and how the next execution of the claim follows.

A claim has one or more executions, one after another: the first drives the function. Another drives
the function again if a signal came while the function ended. The last may unwind the run (call its
undos). Each execution has its own lifecycle: a leftover task of an earlier execution, which was
shut, can write nothing through the next one.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from substrate.engine.run.access import StoreAccess
from substrate.engine.run.aside import Aside
from substrate.engine.run.idle import IdleTracker
from substrate.engine.run.journal import Journal
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.recorder import Recorder
from substrate.engine.run.services import Services, log
from substrate.engine.run.unreadable import misplaced, unreadable, unreadable_among
from substrate.engine.run.wakeups import Wakeups
from substrate.values.errors import Failure, Paused
from substrate.values.ids import Key
from substrate.values.records import OWN_KEY, Claim, Fence, Kind, Promise, generation_key
from substrate.values.secret import Revealed, hidden_in

_LOOK_UP_S = 5.0
"""How long loading waits for the sources of secrets that an earlier claim may have revealed."""

_NAMED = re.compile(r'"\$secret":"([\w:./@#-]+)"')
"""A secret in JSON, as the codec writes its name."""


class Execution:
    """The state of a run while this worker drives it."""

    def __init__(
        self,
        claim: Claim,
        services: Services,
        *,
        lifecycle: Lifecycle | None = None,
        journal: Journal | None = None,
        open_promises: OpenPromises | None = None,
        revealed: Revealed | None = None,
        is_again: bool = False,
    ) -> None:
        self.claim = claim
        self.fence: Fence = claim.fence
        self.services = services
        self.is_again = is_again
        """Whether the function is driven a second time, since a signal came while it ended."""
        self.journal: Journal = Journal() if journal is None else journal
        self.revealed: Revealed = Revealed() if revealed is None else revealed
        """The secrets that the run has revealed, which no record shows."""
        self.heard: set[str] = set()
        """The names of the signals that the run has polled with `ctx.hear`."""
        self.has_heard = False
        """Whether any of those polls found a signal."""

        run_id = self.fence.run_id
        self.lifecycle: Lifecycle = lifecycle or Lifecycle(run_id, services.lease_holds)
        self.open: OpenPromises = open_promises or OpenPromises(self.fence.epoch)
        self.wakeups: Wakeups = Wakeups(claim, services, self.lifecycle, self.open)
        self.idle: IdleTracker = self.wakeups.idle
        self.aside: Aside = Aside(self.idle, self.lifecycle)
        self.access: StoreAccess = StoreAccess(run_id, services, self.lifecycle)
        self.recorder: Recorder = Recorder(
            claim,
            services,
            access=self.access,
            lifecycle=self.lifecycle,
            open_promises=self.open,
            wakeups=self.wakeups,
        )

    @property
    def now_ms(self) -> int:
        """The time: the database's, unless the worker was given another clock."""
        return self.services.clock.now_ms()

    @property
    def generation_scope(self) -> Key:
        """The scope of all keys in the run's current generation; the first generation has none."""
        return generation_key(self.claim.run.generation)

    def emit(self, event: dict[str, Any]) -> None:
        """Hand a live event to the worker's listener; an error of the listener is only logged."""
        try:
            self.services.on_event(self.fence.run_id, hidden_in(event))
        except Exception:  # noqa: BLE001 - logged; it must not stop the run
            log.exception("the listener of run %s failed", self.fence.run_id)

    def unwinding(self) -> "Execution":
        """Shut this execution; return the one that undoes its steps."""
        following = Execution(
            self.claim,
            self.services,
            lifecycle=self.lifecycle.shut_for_unwinding(),
            journal=self.journal,
            open_promises=self.open,
            revealed=self.revealed,
        )
        following.recorder.known_seq = self.recorder.known_seq
        return following

    async def again(self) -> "Execution":
        """Shut this execution; return one of the same claim that replays the journal.

        Called when a signal came for the run while its function ended.
        """
        run = await self.access.run()
        if run is None or (run.epoch, run.lease_owner) != (self.fence.epoch, self.fence.owner):
            self.access.lost()
        following = Execution(
            replace(self.claim, run=run),
            self.services,
            lifecycle=self.lifecycle.shut_for_another_drive(),
            # The calls are kept: one may still run in a thread, where nothing can stop it.
            open_promises=OpenPromises(self.fence.epoch, self.open.calls),
            revealed=self.revealed,
            is_again=True,
        )
        self.recorder.notify_change()
        return following

    async def load(self) -> None:
        """Load the journal of the run's current generation."""
        run = self.claim.run
        # A run that has written nothing but its own row has no journal: no query for it.
        if run.last_seq > max(1, run.generation_seq):
            promises = await self.access.journal(run.generation_seq)
            self.journal = Journal(promises)
            # Before any of these rows is used: a secret must be known before it can be hidden.
            await self._know_secrets(promises)
            for promise in promises:
                if failure := misplaced(promise, self.fence.run_id):
                    self.lifecycle.drain_and_raise(Paused(failure))
                if promise.key != OWN_KEY:
                    self.open.track(promise)
            for promise in (*self.open.pending.values(), *self.open.undoable.values()):
                # Their content decides which calls are made. A child looks at its own by itself.
                if promise.kind is not Kind.CHILD:
                    self.check_readable(promise)
        elif run.generation:
            await self._know_secrets(())
        self.lifecycle.is_loaded = True

    async def _know_secrets(self, promises: Sequence[Promise]) -> None:
        """Find the secrets that an earlier claim may have revealed, by their recorded names."""
        recorded = (text for row in promises for text in (row.input, row.undo))
        for each in (self.claim.input, *recorded):
            if each and '"$secret"' in each:
                for name in _NAMED.findall(each):
                    self.revealed.name(name)
        await self.look_up_secrets()

    async def look_up_secrets(self) -> None:
        """Read the values of the secrets that an earlier claim may have revealed."""
        if self.revealed.has_unread and (len(self.journal) or self.claim.run.generation):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_UP_S):
                    await asyncio.to_thread(self.revealed.look_up)

    def check_readable(self, promise: Promise) -> None:
        """Pause the run if this row of its journal cannot be read."""
        if failure := unreadable(promise):
            self.lifecycle.drain_and_raise(Paused(failure))

    async def unreadable_row(self) -> Failure | None:
        """Return the failure for the first unreadable row of the run's journal, if there is one."""
        promises = await self.access.journal(self.claim.run.generation_seq)
        return await asyncio.to_thread(unreadable_among, promises)
