"""One run, driven in this process until it has ended or is paused, or a signal comes.

Invariants: what a signal interrupts may end within the worker's grace, and is told; the run is
given back before anything is said about that. What a tool prints goes to standard error.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from substrate.agent.history.journal import legible_rows, read_journal
from substrate.agent.history.next_key import next_key
from substrate.agent.history.questions import read_questions, read_questions_of
from substrate.agent.history.run import read_history
from substrate.agent.history.totals import Totals
from substrate.agent.history.waits import read_waits, until_of
from substrate.cli import format as wording
from substrate.cli.asking import Asker
from substrate.cli.fork import Fork
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_error, of_run, print_document
from substrate.cli.keyboard import Interrupted
from substrate.cli.run.progress import Progress
from substrate.cli.screen import open_screen, put
from substrate.cli.show.outcome import report
from substrate.cli.show.questions import how_to_answer
from substrate.cli.show.waits import wait_words
from substrate.cli.signals import Stopped, StopRequest, stopping_on_signals
from substrate.cli.streams import PipeSafeStream
from substrate.engine.client import Client
from substrate.engine.worker.options import DEFAULT_OPTIONS, WorkerOptions
from substrate.engine.worker.worker import Worker
from substrate.models.model import disconnect
from substrate.models.panel import models_of
from substrate.values.errors import StoreError, StoreUnreachable
from substrate.values.ids import DEFAULT_QUEUE, RunId
from substrate.values.records import Promise, Run, RunStatus

_LEFT = {
    RunStatus.RUNNING: "goes on in another process",
    RunStatus.SUSPENDED: "waits, and holds nothing meanwhile",
}

Start = Callable[[], Awaitable[Run]]
Watch = Callable[[Worker], Coroutine[Any, Any, None]]

_LOOK_BELOW = 1.0  # seconds between two looks at what is asked below the run
_LOOK = 0.02  # seconds between two looks at who drives the run
_PATIENCE_MS = 1500  # a dead worker's run is taken back within this


@dataclass(frozen=True, slots=True)
class Drive:
    """A run to be driven."""

    #: The command that drives it.
    invocation: Invocation
    #: The open database.
    client: Client
    #: The code that runs.
    fork: Fork
    #: The run.
    id: RunId
    #: The queue that it is on.
    queue: str = DEFAULT_QUEUE
    #: The database file, where it was made for this run.
    new: Path | None = None
    #: Asks people in line, where there is a terminal.
    asker: Asker | None = None
    #: How it is driven.
    options: WorkerOptions = DEFAULT_OPTIONS

    async def to_its_end(self, start: Start | None = None) -> int:
        """Start the run if need be, drive it until it has ended or is paused, and report it."""
        screen = open_screen(is_quiet=self.invocation.is_json)
        self.introduce(screen)
        is_plain = self.invocation.is_json or self.invocation.is_debug
        clock = self.client.store.clock
        progress = Progress(screen, self.id, clock, self.invocation, moves=not is_plain)
        journal = () if start else await read_journal(self.client, await self.client.get(self.id))
        progress.begin_after(journal)
        watch = partial(self._watch, progress, journal)
        try:
            await self.work(progress, watch, start)
        except Stopped as stopped:
            return await self._report_stopped(stopped)
        return report(await read_history(self.client, self.id), self.invocation)

    async def work(self, progress: Progress, watch: Watch, start: Start | None = None) -> None:
        """Drive the run until `watch` returns. Raises `Stopped` once a signal has come.

        The run is given back then.
        """
        is_quiet = self.invocation.is_json
        try:
            with (
                stopping_on_signals() as stop,
                redirect_stdout(PipeSafeStream(sys.stderr)),
                progress,
                warnings_of(self.id, logging.NullHandler() if is_quiet else None),
            ):
                await self._work(stop, progress, watch, start)
        finally:
            await disconnect()

    @asynccontextmanager
    async def opened(self, progress: Progress) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
        """Open a worker for the run and those below it, and close it with the block.

        The task beside it ends only by what it raises: the database takes nothing any more.
        """
        others: list[asyncio.Task[None]] = [asyncio.create_task(self._look_below(progress))]
        try:
            async with self.client.work(
                self.fork.functions,
                queue=self.queue,
                only=self.id,
                options=self.options,
                on_event=progress.on_event,
            ) as worker:
                failing = asyncio.create_task(self._give_back_what_is_left(worker))
                others.append(failing)
                yield worker, failing
        finally:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def introduce(self, screen: Console) -> None:
        """Say the run's id, so that one can come back, and who answers in the model's place."""
        put(screen, Text(self.id, "bold"))
        for model in models_of(self.fork.model):
            if (key := model.missing_key) and (stand_in := model.available()) is not model:
                notice = f"{key} is not set, so {stand_in.id} answers in place of {model.id}"
                put(screen, Text(notice, "yellow"))
        if self.new is not None:
            put(screen, Text(f"the database {str(self.new)!r} is new", "dim"))

    async def _work(
        self, stop: StopRequest, progress: Progress, watch: Watch, start: Start | None
    ) -> None:
        watching: asyncio.Task[None] | None = None
        others: list[asyncio.Task[None]] = []
        try:
            async with self.opened(progress) as (worker, failing):
                if start is not None:
                    await start()
                watching = asyncio.create_task(watch(worker))
                if self.asker is not None:
                    others.append(asyncio.create_task(self.ask(self.asker, progress)))
                either = asyncio.create_task(first_of(watching, failing, *others))
                others.append(either)
                try:
                    await stop.or_end(either)
                except Stopped as stopped:
                    self.say_what_is_waited_for(stop, stopped, worker, progress)
                    raise
        finally:  # the worker has closed: show what has ended before we return
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others)
            if watching is not None and not watching.done():
                watching.cancel()
                await asyncio.wait([watching])
                for promise in await self.client.journal(self.id, progress.seen):
                    progress.on_row(legible_rows([promise]).read[0])

    async def ask(self, asker: Asker, progress: Progress) -> None:
        """Ask what is open, and what is asked later, whenever it is. Ctrl-C there stops the run."""
        while True:
            if await asker.open_gates():
                with progress.held():
                    try:
                        await asker.ask()
                    except Interrupted:
                        raise Stopped(signal.SIGINT) from None
            await progress.asks.wait()
            progress.asks.clear()

    async def _watch(self, progress: Progress, journal: Sequence[Promise], worker: Worker) -> None:
        """Tell what the run does until it ends or is paused; `journal` is what was there before."""
        following = 0
        if len(journal) > 1:
            following = await self._say_who_drives(worker, progress, journal)
        async for promise in self.client.follow(self.id, progress.seen):
            if 0 < following < promise.epoch:
                following = promise.epoch
                progress.say(Text(wording.claim(promise.epoch), "yellow"))
            progress.on_row(legible_rows([promise]).read[0])

    async def _give_back_what_is_left(self, worker: Worker) -> None:
        """Give the run back where the worker has let go of it and it is still ours.

        So it does when the database fails what it writes. Raises what the database says where this
        fails, too: nothing can be saved, and to stay would save nothing either.
        """
        looks = 0  # for how many looks nobody here has driven it: its claim may be on its way
        while True:
            await asyncio.sleep(_LOOK_BELOW)
            looks = looks + 1 if worker.execution_of(self.id) is None else 0
            if looks > 1:
                with suppress(StoreUnreachable):  # that is waited for
                    await worker.give_back(self.id)

    async def _look_below(self, progress: Progress) -> None:
        """Tell, now and then, what the runs below this one ask: its own journal does not."""
        while True:
            await asyncio.sleep(_LOOK_BELOW)
            if progress.children:
                with suppress(StoreError):  # whoever drives the run will say so
                    found = await read_questions_of(self.client, sorted(progress.children))
                    progress.tell_questions(found)

    async def _say_who_drives(
        self, worker: Worker, progress: Progress, journal: Sequence[Promise]
    ) -> int:
        """Say from where the run goes on here; or return the claim of who drives it elsewhere."""
        clock = self.client.store.clock
        give_up = clock.now_ms() + _PATIENCE_MS
        while worker.execution_of(self.id) is None:
            run = await self.client.get(self.id)
            if run.status.has_ended or run.status is RunStatus.PAUSED:
                break
            if run.status is RunStatus.SUSPENDED:
                await self._say_what_it_waits_for(run, progress, journal)
                return 0
            if clock.now_ms() > give_up and run.status is RunStatus.RUNNING:
                progress.say(Text("another worker drives this run; following it", "dim"))
                return run.epoch
            await clock.sleep(_LOOK)
        there = f"resuming: {wording.count(Totals.of(journal).steps, 'step')} recorded"
        key = next_key(journal)
        progress.say(Text(f"{there}, going on with {key}" if key else there, "dim"))
        await self._show_questions(progress, journal)
        return 0

    async def _show_questions(self, progress: Progress, journal: Sequence[Promise]) -> None:
        """Tell what was asked before, unless an answer has come that nobody has taken yet."""
        run = await self.client.get(self.id)
        come = {each.name for each in await self.client.store.inbox(run.id)}
        asked = await read_questions(self.client, run, journal)
        progress.tell_questions(each for each in asked if each.wait.promise.name not in come)

    async def _say_what_it_waits_for(
        self, run: Run, progress: Progress, journal: Sequence[Promise]
    ) -> None:
        """Say what has to come before a suspended run goes on, here or elsewhere."""
        waits = await read_waits(self.client, run, journal)
        until = until_of(run, waits)
        end = f" until {wording.moment(until)}" if until else ""
        progress.say(Text(f"suspended{end}: it goes on when that comes", "dim"))
        for wait in waits:
            progress.say(Text(f"  {wait.promise.key}  {wait_words(wait)}", "dim"))
        questions = await read_questions(self.client, run, journal)
        progress.say(*how_to_answer(questions, self.invocation))

    def say_what_is_waited_for(
        self, stop: StopRequest, stopped: Stopped, worker: Worker, progress: Progress
    ) -> None:
        """Say what is to end first; who presses Ctrl-C waits only for what may not be done twice.

        A call cannot be handed to another process: only this one can hear what it comes to.
        """
        grace = round(worker.options.shutdown_grace.total_seconds() * 1000)
        again = "Ctrl-C again leaves at once"
        if stopped.number is not signal.SIGINT:
            notices = [f"stopping: what is under way has {wording.duration(grace)}; {again}"]
        elif calls := worker.hurry():
            names = ", ".join(self._name_of(call) for call in calls)
            end = wording.moment(self.client.store.clock.now_ms() + grace)
            notices = [
                f"stopping: {names} may not be done twice, and has until {end} to end",
                f"{again}, and then nobody knows whether it happened",
            ]
            stop.last_words = f"left: nobody knows whether {names} happened"
        else:
            notices = ["stopping: what is under way is done again later"]
        progress.say(*(Text(line, "yellow") for line in notices))

    def _name_of(self, call: Promise) -> str:
        """Return where a call stands: its key, or its whole id where another run makes it."""
        return call.key if call.run_id == self.id else call.id

    async def _report_stopped(self, stopped: Stopped) -> int:
        """Say how the run was left behind."""
        history = await read_history(self.client, self.id)
        status = history.run.status
        if status.has_ended or status is RunStatus.PAUSED:  # it was as good as over
            return report(history, self.invocation)
        outcome = _LEFT.get(status, "is given back, nothing is lost")
        message = f"{stopped}: run {self.id} {outcome}"
        if self.invocation.is_json:
            run = of_run(history)
            print_document({**of_error("Stopped", message), "run": run})
        else:
            again = self.invocation.command("resume", self.id)
            questions = await read_questions(self.client, history.run, history.journal)
            answers = list(how_to_answer(questions, self.invocation))
            put(open_screen(), "", Text(message, "yellow"), *answers, Text(again, "dim"))
        return stopped.exit_code


async def first_of(*tasks: asyncio.Task[Any]) -> None:
    """Return when one of the tasks has ended; raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


@contextmanager
def warnings_of(run_id: str, handler: logging.Handler | None) -> Iterator[None]:
    """Show what the engine warns of, save that this run is paused: that is told anyway.

    Without a handler, on standard error.
    """
    log = logging.getLogger("ostinato")
    handler = logging.StreamHandler() if handler is None else handler
    handler.setLevel(logging.WARNING)
    handler.addFilter(
        lambda record: record.levelno > logging.WARNING or run_id not in (record.args or ())
    )
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
