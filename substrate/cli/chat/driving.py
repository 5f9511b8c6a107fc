"""A conversation as it goes on here: its rows are told as they come, and a worker drives it.

Rows are followed from when the conversation has begun to the end of the sitting, whoever drives it;
the worker is there until somebody stops what is under way, and then until it goes on.

Invariants: each row is told once. What is under way when the worker goes is given back. A database
that is away ends nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from substrate.agent.history.journal import legible_rows
from substrate.agent.inbox import MESSAGE
from substrate.cli.chat.said import awaits_message
from substrate.cli.run.drive import Drive
from substrate.cli.run.progress import Progress
from substrate.cli.user import user
from substrate.engine.worker.worker import Worker
from substrate.models.model import disconnect
from substrate.values.errors import RunEnded, StoreUnreachable
from substrate.values.records import Promise, Run, RunFilter, RunStatus

_SOON_S, _LOOKS = 0.01, 200
_MOST_PAUSED, _NAMED = 1000, 3
_LOOK_S = 0.2  # between two looks at what no row tells


@dataclass(slots=True)
class Driving:
    """Drives one conversation, and follows it."""

    drive: Drive
    progress: Progress
    #: Told of each row, once.
    on_row: Callable[[Promise], None]
    #: Told of a run that has ended, or that is paused, each time that it comes to that.
    on_over: Callable[[Run], Awaitable[None]]
    #: The worker, while there is one.
    worker: Worker | None = None
    #: Set when a row has come.
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _failing: asyncio.Task[None] | None = None
    _following: asyncio.Task[None] | None = None
    _may_wait: bool = False
    _is_over: bool = False

    async def begin(self) -> None:
        """See that a worker is there."""
        if self.worker is None:
            opened = self.drive.opened(self.progress)
            self.worker, self._failing = await self._stack.enter_async_context(opened)

    def begin_after(self, journal: Sequence[Promise]) -> None:
        """Take note of what was recorded before; it is not told again."""
        self.progress.begin_after(journal)
        self._may_wait = any(map(awaits_message, journal))

    def expect(self) -> None:
        """Take note that it is to go on, before anything is done for that."""
        self._is_over = False

    def follow(self) -> None:
        """See that its rows are told, from now on."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def end(self) -> None:
        """Let the worker go: what is under way may end within its grace, and is told."""
        if self.worker is None:
            return
        self.worker = self._failing = None
        try:
            await self._stack.aclose()
        finally:
            await disconnect()
        if self._following is not None:
            await self._catch_up()

    async def close(self) -> None:
        """End it, and tell nothing more."""
        try:
            await self.end()
        finally:
            await gone(*filter(None, [self._following]))

    @property
    def faults(self) -> list[asyncio.Task[None]]:
        """What ends only by what it raises."""
        return [each for each in (self._failing, self._following) if each is not None]

    async def until_its_turn(self) -> None:
        """Return once nothing is left to do here but to wait for a person, or it is over."""
        while not self._is_over:
            self.moved.clear()
            with suppress(StoreUnreachable):
                if await self._is_left_to_people():
                    await self._until_suspended()
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self.moved.wait()

    async def is_waiting(self) -> bool:
        """Whether it waits for a message, and none has come."""
        # First the inbox: whoever takes a message settles the wait in the same commit.
        if await self.drive.client.store.inbox(self.drive.id, MESSAGE):
            return False
        run = await self.drive.client.get(self.drive.id)
        rows = await self.drive.client.store.journal(run.id, run.generation_seq)
        return any(map(awaits_message, rows))

    async def _is_left_to_people(self) -> bool:
        asker = self.drive.asker
        if asker is not None and asker.is_asking:
            return False
        if self._may_wait and await self.is_waiting():
            return asker is None or not await asker.open_gates()
        if asker is None:
            return False
        run = await self.drive.client.get(self.drive.id)
        if run.status is not RunStatus.SUSPENDED:
            return False
        if not (await asker.is_held_up() or await self.paused_below()):
            return False
        # A sub-agent that goes on: those that wait for a person are not all that is waited for.
        at_work = await self._below(RunStatus.READY, 1) or await self._below(RunStatus.RUNNING, 1)
        return not at_work and not await asker.open_gates()

    async def paused_below(self) -> Sequence[Run]:
        """Return the sub-agents that are paused: what asked for them waits until they go on."""
        return await self._below(RunStatus.PAUSED, _MOST_PAUSED)

    async def what_is_paused(self) -> str:
        """Return the names of the sub-agents that are paused; nothing where none is."""
        with suppress(StoreUnreachable):
            paused = await self.paused_below()
            more = f" and {len(paused) - _NAMED} more" if len(paused) > _NAMED else ""
            return ", ".join(each.id for each in paused[:_NAMED]) + more
        return ""

    async def resume(self, *paused: Run) -> None:
        """Have runs go on that were paused, unless somebody else has resumed them meanwhile."""
        for run in paused:
            with suppress(RunEnded):
                await self.drive.client.resume(run.id, by=user())

    async def _below(self, status: RunStatus, limit: int) -> Sequence[Run]:
        prefix = RunFilter(prefix=f"{self.drive.id}#")
        return await self.drive.client.store.list(status, limit, prefix)

    async def _until_suspended(self) -> None:
        """Let the run be suspended, and not given back in the middle; not for ever, though."""
        for _ in range(_LOOKS):
            if self.worker is None or self.worker.execution_of(self.drive.id) is None:
                return
            await asyncio.sleep(_SOON_S)

    async def _follow(self) -> None:
        told: tuple[RunStatus, int] | None = None
        while True:
            # A database that is away is waited for: who types keeps what they have typed.
            with suppress(StoreUnreachable):
                told = await self._follow_to_its_end(told)
            await asyncio.sleep(_LOOK_S)  # somebody may resume it elsewhere

    async def _follow_to_its_end(
        self, told: tuple[RunStatus, int] | None
    ) -> tuple[RunStatus, int] | None:
        """Tell rows until it is over, and that it is, unless that was told; return what was."""
        client, id_ = self.drive.client, self.drive.id
        async for row in client.follow(id_, self.progress.seen):
            self._tell(row)
        run = await client.get(id_)
        now = (run.status, run.epoch)  # each claim has an epoch of its own
        if not _is_over(run) or now == told:
            return told
        await self.on_over(run)
        self._is_over = True
        self.moved.set()
        return now

    async def _catch_up(self) -> None:
        with suppress(StoreUnreachable):
            for row in await self.drive.client.journal(self.drive.id, self.progress.seen):
                self._tell(row)

    def _tell(self, row: Promise) -> None:
        if row.seq <= self.progress.seen:
            return
        promise = legible_rows([row]).read[0]
        self.progress.on_row(promise)
        self.on_row(promise)
        self._may_wait = self._may_wait or awaits_message(promise)
        self.moved.set()


async def gone(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and see them end, whatever they raise by now."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_over(run: Run) -> bool:
    return run.status.has_ended or run.status is RunStatus.PAUSED
