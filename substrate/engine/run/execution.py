"""One execution of a claimed run: the parts that it holds, and how the next one follows.

A claim is driven by one execution after another: its function's, the same function's again where a
signal came while it ended, and that of its unwinding. Each has a lifecycle of its own, so that a
task left over from the one before, which was shut, writes nothing through the next.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from substrate.engine.run.access import StoreAccess
from substrate.engine.run.idle import IdleTracker
from substrate.engine.run.journal import Journal
from substrate.engine.run.lifecycle import Lifecycle
from substrate.engine.run.open import OpenPromises
from substrate.engine.run.recorder import Recorder
from substrate.engine.run.services import Services, log
from substrate.engine.run.unreadable import unreadable, unreadable_among
from substrate.engine.run.wakeups import Wakeups
from substrate.values.errors import Failure, Paused
from substrate.values.ids import Key
from substrate.values.records import OWN_KEY, Claim, Fence, Promise, generation_key
from substrate.values.secret import Revealed, hidden_in

_LOOK_UP_S = 5.0
"""So long a run waits for the sources of secrets that an earlier claim may have revealed."""

_NAMED = re.compile(r'"\$secret":"([\w:./@#-]+)"')
"""A secret in JSON, as the codec writes its name."""


class Execution:
    """The state of a run that is being driven here and now."""

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
        """Whether the function is driven again over its journal, since a signal came at its end."""
        self.journal: Journal = Journal() if journal is None else journal
        self.revealed: Revealed = Revealed() if revealed is None else revealed
        """The secrets that the run has revealed, which no record shows."""
        self.heard: set[str] = set()
        """The names of the signals that the run has looked for by `ctx.hear`."""
        self.has_heard = False
        """Whether such a look has found anything."""

        run_id = self.fence.run_id
        self.lifecycle: Lifecycle = lifecycle or Lifecycle(run_id, services.lease_holds)
        self.open: OpenPromises = open_promises or OpenPromises(self.fence.epoch)
        self.wakeups: Wakeups = Wakeups(claim, services, self.lifecycle, self.open)
        self.idle: IdleTracker = self.wakeups.idle
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
        """The scope of all keys of the run's present generation: none for the first."""
        return generation_key(self.claim.run.generation)

    def tell(self, event: dict[str, Any]) -> None:
        """Tell the worker's listener of a live event. Its errors are its own: the run goes on."""
        try:
            self.services.on_event(self.fence.run_id, hidden_in(event))
        except Exception:  # noqa: BLE001 - logged, and no matter of the run
            log.exception("the listener of run %s failed", self.fence.run_id)

    def unwinding(self) -> "Execution":
        """Return the execution that unwinds what this one did; shut this one."""
        following = Execution(
            self.claim,
            self.services,
            lifecycle=self.lifecycle.for_unwinding(),
            journal=self.journal,
            open_promises=self.open,
            revealed=self.revealed,
        )
        following.recorder.known_seq = self.recorder.known_seq
        return following

    async def again(self) -> "Execution":
        """Return an execution of the same claim that begins with the journal anew; shut this one.

        For a run that something came for while it ended.
        """
        run = await self.access.run()
        if run is None or (run.epoch, run.lease_owner) != (self.fence.epoch, self.fence.owner):
            self.access.lost()
        following = Execution(
            replace(self.claim, run=run),
            self.services,
            lifecycle=self.lifecycle.for_another_drive(),
            # The calls stay: one may be under way in a thread that nothing can stop.
            open_promises=OpenPromises(self.fence.epoch, self.open.calls),
            revealed=self.revealed,
            is_again=True,
        )
        self.recorder.tell_change()
        return following

    async def load(self) -> None:
        """Load what the run has recorded so far, in its present generation."""
        run = self.claim.run
        # A run that has written nothing but its own row has no journal: no query for it.
        if run.last_seq > max(1, run.generation_seq):
            promises = await self.access.journal(run.generation_seq)
            self.journal = Journal(promises)
            await self._know_secrets(promises)
            for promise in promises:
                if promise.key != OWN_KEY:
                    self.open.track(promise)
            for promise in (*self.open.pending.values(), *self.open.undoable.values()):
                self.check_readable(promise)  # what is called next hangs on what they say
        elif run.generation:
            await self._know_secrets(())
        self.lifecycle.is_loaded = True

    async def _know_secrets(self, promises: Sequence[Promise]) -> None:
        """Know what an earlier claim may have revealed, by the names that are recorded."""
        recorded = (text for row in promises for text in (row.input, row.undo))
        for each in (self.claim.input, *recorded):
            if each and '"$secret"' in each:
                for name in _NAMED.findall(each):
                    self.revealed.name(name)
        await self.look_up_secrets()

    async def look_up_secrets(self) -> None:
        """Read what the run was given by name, and may have revealed before it was loaded."""
        if self.revealed.has_unread and (len(self.journal) or self.claim.run.generation):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_UP_S):
                    await asyncio.to_thread(self.revealed.look_up)

    def check_readable(self, promise: Promise) -> None:
        """Pause the run where a row of its own cannot be read."""
        if failure := unreadable(promise):
            self.lifecycle.drain_and_raise(Paused(failure))

    async def unreadable_row(self) -> Failure | None:
        """Return what cannot be read of the run's rows, if one of them cannot."""
        promises = await self.access.journal(self.claim.run.generation_seq)
        return await asyncio.to_thread(unreadable_among, promises)
