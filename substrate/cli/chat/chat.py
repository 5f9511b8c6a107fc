"""`chat`: one run is one conversation. Each message is driven here, to the wait for the next one.

Invariants: what is said is a signal before anything is done with it, so nothing typed is lost; who
leaves, by Ctrl-C, Ctrl-D or a kill, leaves a run that goes on from there. Between messages no
worker is open. What anybody says is shown, and not obeyed by the terminal.
"""

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from getpass import getuser
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from substrate.agent.history.journal import legible_rows, read_journal
from substrate.agent.history.run import read_history
from substrate.agent.inbox import MESSAGE
from substrate.agent.task import Task
from substrate.cli import format as wording
from substrate.cli import keyboard
from substrate.cli.asking import Asker
from substrate.cli.chat.said import (
    PROMPT_SIGN,
    answer_in,
    answer_lines,
    awaits_message,
    history_lines,
    message_in,
    said_line,
)
from substrate.cli.database import missing_file, open_or_make_database
from substrate.cli.environment import timezone
from substrate.cli.errors import UsageError
from substrate.cli.fork import Fork, load_fork, tools_of
from substrate.cli.invocation import Invocation
from substrate.cli.run.drive import Drive, Start
from substrate.cli.run.progress import Progress
from substrate.cli.run.run import fresh_id
from substrate.cli.screen import open_screen, put
from substrate.cli.show.failure import explanation
from substrate.cli.show.show import show
from substrate.cli.signals import Stopped
from substrate.engine.client import Client
from substrate.engine.worker.options import WorkerOptions
from substrate.engine.worker.worker import Worker
from substrate.values.ids import RunId, check_root_id
from substrate.values.near import did_you_mean
from substrate.values.records import Promise, Run, RunStatus

_HELP = """\
/help   what can be typed here
/cost   what this conversation has used so far
/show   the conversation step by step, as `show` does
/go     go on with what was stopped, put off or paused
/quit   leave; so does Ctrl-D

Enter sends; Alt+Enter, or \\ and Enter, begins a new line.
Ctrl-C stops what is under way, and the conversation goes on from there."""

_AT_ONCE = WorkerOptions(idle_timeout=timedelta(0))  # who types takes longer than any wait
_SOON_S, _LOOKS = 0.01, 200
_LOOK_S = 0.2  # between two looks whether the person has put all off

_COMMANDS = ("/help", "/cost", "/show", "/go", "/quit")


async def chat(invocation: Invocation, run_id: str | None) -> int:
    """Talk with the fork's agent until the person leaves; return the exit code."""
    if invocation.is_json:
        raise UsageError("chat is for people, and has no --json; use `say`, and show --json")
    if run_id is not None and not run_id.strip():
        raise UsageError("the id is empty; is a shell variable unset?")
    if keyboard.is_at_terminal():
        keyboard.check_installed()
    id_ = check_root_id(run_id or fresh_id(datetime.now(UTC)))
    fork = load_fork(invocation.package)
    fork.check_key()
    new = missing_file()
    async with open_or_make_database() as client:
        known = await client.store.get(id_)
        if known is not None:
            _check(known, fork, invocation)
        screen, asker = open_screen(), None
        if keyboard.is_there():
            tools = tools_of(fork, invocation.package)
            asker = Asker(client, id_, keyboard.Keyboard(), screen, tools)
        queue = {} if known is None else {"queue": known.queue}
        drive = Drive(
            invocation, client, fork, id_, **queue, new=new, asker=asker, options=_AT_ONCE
        )
        progress = Progress(screen, id_, client.store.clock, invocation, moves=asker is not None)
        talk = _Talk(invocation, client, fork, drive, progress, screen, asker)
        return await talk.hold(known)


def _check(run: Run, fork: Fork, invocation: Invocation) -> None:
    """Refuse a run that is no conversation of this agent, or that is over."""
    if run.function != fork.conversation.name:
        again = invocation.command("say", run.id, "…")
        raise UsageError(
            f"run {run.id!r} is one of {run.function!r}, and no conversation; to tell it something "
            f"while it works: {again}"
        )
    fork.check_knows(run)
    if run.status in (RunStatus.DONE, RunStatus.CANCELLED):
        raise UsageError(f"the conversation {run.id!r} is {run.status}; begin another one")


@dataclass(slots=True)
class _Talk:
    """One sitting."""

    invocation: Invocation
    client: Client
    fork: Fork
    drive: Drive
    progress: Progress
    screen: Console
    asker: Asker | None
    #: What was sent here and is to be taken yet: it is on the screen already.
    typed: list[str] = field(default_factory=list)
    is_begun: bool = False

    @property
    def id(self) -> RunId:
        return self.drive.id

    async def hold(self, known: Run | None) -> int:
        """Talk until the person leaves, or a signal ends it."""
        self.drive.introduce(self.screen)
        try:
            if known is not None:
                await self._come_back(known)
            while (said := await self._read()) is not None:
                if said.startswith("/"):
                    if not await self._do(said):
                        break
                elif said:
                    await self._say(said)
        except Stopped as stopped:
            return stopped.exit_code
        if self.is_begun:
            again = self.invocation.command("chat", "--id", self.id)
            put(self.screen, Text(again, "dim"))
        return 0

    async def _read(self) -> str | None:
        """Return what is typed next; None at the end."""
        if self.asker is None:
            line = await asyncio.to_thread(sys.stdin.readline)
            return line.strip() if line else None
        while True:
            try:
                return await self.asker.keyboard.message(PROMPT_SIGN)
            except EOFError:
                return None
            except keyboard.Interrupted:
                put(self.screen, Text("Ctrl-D or /quit leaves", "dim"))

    async def _come_back(self, run: Run) -> None:
        """Show what was said, and go on with what was under way."""
        self.is_begun = True
        journal = await read_journal(self.client, run)
        self.progress.begin_after(journal)
        shows = self.invocation.command("show", self.id)
        put(self.screen, *history_lines(journal, shows))
        if run.status in (RunStatus.PAUSED, RunStatus.FAILED, RunStatus.DEAD):
            await self._explain()
        elif not await self._is_waiting():
            await self._go_on()

    async def _say(self, words: str) -> None:
        """Send a message and see it answered."""
        self.typed.append(words)
        if not self.is_begun:
            task = Task(words, timezone=timezone())
            function = self.fork.conversation
            await self._go_on(partial(self.client.start, function, task, None, id=self.id))
            return
        run = await self.client.get(self.id)
        if run.status.awaits_person:
            await self.client.resume(self.id, by=getuser())
        await self.client.signal(self.id, MESSAGE, words, str(uuid4()))
        await self._go_on()

    async def _go_on(self, start: Start | None = None) -> None:
        """Drive the run to where it waits for a message, and tell how it stands there."""
        if self.asker is not None:
            self.asker.put_off.clear()
        try:
            await self.drive.work(self.progress, partial(self._watch, start is not None), start)
        except Stopped as stopped:
            if stopped.number is not signal.SIGINT:
                raise
            self.typed.clear()
            put(self.screen, Text("stopped; it goes on with /go, or with what you say", "yellow"))
        run = await self.client.store.get(self.id)
        self.is_begun = run is not None
        if run is not None and (run.status.has_ended or run.status is RunStatus.PAUSED):
            await self._explain()

    async def _watch(self, is_new: bool, worker: Worker) -> None:  # noqa: FBT001 - bound by partial
        """Tell what is done until nothing is left to do but to wait for a person."""
        if not is_new and not self.progress.seen:
            self.progress.begin_after(
                await read_journal(self.client, await self.client.get(self.id))
            )
        looking = asyncio.create_task(self._until_put_off())
        following = asyncio.create_task(self._follow(worker))
        try:
            await asyncio.wait([looking, following], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            for each in (looking, following):
                each.cancel()
            await asyncio.wait([looking, following])

    async def _follow(self, worker: Worker) -> None:
        async for row in self.client.follow(self.id, self.progress.seen):
            promise = legible_rows([row]).read[0]
            self.progress.on_row(promise)
            self._tell(promise)
            if awaits_message(promise) and not await self._has_mail():
                await self._until_suspended(worker)
                return

    async def _until_suspended(self, worker: Worker) -> None:
        """Let the run be suspended, and not given back in the middle; not for ever, though."""
        for _ in range(_LOOKS):
            if worker.execution_of(self.id) is None:
                return
            await asyncio.sleep(_SOON_S)

    def _tell(self, row: Promise) -> None:
        """Tell what was said: an answer, and what others have said from another terminal."""
        if (answered := answer_in(row)) is not None:
            self.progress.say("", *answer_lines(answered), "")
        elif (said := message_in(row)) is not None:
            if said in self.typed:
                self.typed.remove(said)
            else:
                self.progress.say(said_line(said))

    async def _until_put_off(self) -> None:
        """Return once the person has put off all that the run waits for: the prompt is theirs."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.asker is None or not self.asker.put_off or self.asker.is_asking:
                continue
            run = await self.client.get(self.id)
            if run.status is RunStatus.SUSPENDED and not await self.asker.open_gates():
                return

    async def _has_mail(self) -> bool:
        return bool(await self.client.store.inbox(self.id, MESSAGE))

    async def _is_waiting(self) -> bool:
        """Whether nothing is left to do but to wait for a message."""
        rows = await self.client.store.journal(self.id)
        return any(map(awaits_message, rows)) and not await self._has_mail()

    async def _explain(self) -> None:
        history = await read_history(self.client, self.id)
        put(self.screen, *explanation(history, self.invocation), Text("/go tries again", "dim"))

    async def _do(self, typed: str) -> bool:
        """Do a command of the conversation; return False for the one that leaves."""
        match typed.split():
            case ["/quit" | "/exit"]:
                return False
            case ["/help"]:
                put(self.screen, Text(_HELP))
            case ["/cost"]:
                await self._tell_cost()
            case ["/show"]:
                if self.is_begun:
                    await show(self.invocation, self.id, None)
            case ["/go"]:
                await self._resume()
            case [name, *_]:
                near = did_you_mean(name, _COMMANDS)
                put(self.screen, Text(f"{name} is no command{near}; /help lists them", "yellow"))
        return True

    async def _tell_cost(self) -> None:
        if not self.is_begun:
            put(self.screen, Text("nothing was said yet, so nothing was used", "dim"))
            return
        usage = (await read_history(self.client, self.id)).tree_usage
        put(self.screen, f"{wording.tokens(usage)}, {wording.money(usage.cost_usd)} so far")

    async def _resume(self) -> None:
        if not self.is_begun:
            return
        run = await self.client.get(self.id)
        if run.status.awaits_person:
            await self.client.resume(self.id, by=getuser())
        elif await self._is_waiting():
            put(self.screen, Text("nothing is under way; say something", "dim"))
            return
        await self._go_on()
