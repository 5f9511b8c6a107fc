"""One sitting: a person says things, and sees what becomes of them, here or elsewhere.

Each message is driven to the wait for the next one. At the prompt, too, a worker is there: what
comes meanwhile, a message from another terminal, a decision, the end of a child, is taken in and
told above what is being typed. Only after Ctrl-C nothing goes on by itself.

Invariants: what is said is a signal before anything is done with it, so nothing typed is lost; who
leaves, by Ctrl-C, Ctrl-D, a signal or a kill, leaves a run that goes on from there, and a terminal
as it was. Nobody is asked anything while they type: a key could decide. What anybody says is
shown, and not obeyed by the terminal.
"""

import asyncio
import signal
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TextIO
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from substrate.agent.history.journal import read_journal
from substrate.agent.history.result import as_heard
from substrate.agent.history.run import read_history
from substrate.agent.inbox import MESSAGE
from substrate.agent.task import Task
from substrate.cli import format as wording
from substrate.cli import keyboard
from substrate.cli.chat.driving import Driving, gone
from substrate.cli.chat.known import check_conversation
from substrate.cli.chat.prompt import Lines, Prompt, Warnings
from substrate.cli.chat.said import answer_in, answer_lines, history_lines, message_in, said_line
from substrate.cli.environment import timezone
from substrate.cli.fork import Fork
from substrate.cli.invocation import Invocation
from substrate.cli.run.drive import Drive, Start, first_of, warnings_of
from substrate.cli.run.progress import Progress
from substrate.cli.screen import open_page, put
from substrate.cli.secrecy import hidden
from substrate.cli.show.failure import explanation
from substrate.cli.show.show import show
from substrate.cli.signals import Stopped, StopRequest, stopping_on_signals
from substrate.cli.streams import PipeSafeStream
from substrate.engine.client import Client
from substrate.values.errors import IdTaken, StoreUnreachable
from substrate.values.ids import RunId
from substrate.values.near import did_you_mean
from substrate.values.records import Promise, Run

_HELP = """\
/help   what can be typed here
/cost   what this conversation has used so far
/show   the conversation step by step, as `show` does
/go     go on with what was stopped, put off or paused; be asked what is open
/quit   leave; so does Ctrl-D

Enter sends; Alt+Enter, or \\ and Enter, begins a new line.
// at the beginning sends a message that begins with /
Ctrl-C stops what is under way, and the conversation goes on from there."""

_LOOK_S = 0.5  # between two looks whether somebody else has begun it

_COMMANDS = ("/help", "/cost", "/show", "/go", "/quit")
_OF_WHAT_WAS_SAID = ("/cost", "/show", "/go")


@dataclass(slots=True)
class Sitting:
    """One sitting."""

    invocation: Invocation
    client: Client
    fork: Fork
    drive: Drive
    progress: Progress
    screen: Console
    prompt: Prompt | Lines
    #: What was sent here and is to be taken yet: it is on the screen already.
    typed: list[str] = field(default_factory=list)
    is_begun: bool = False
    #: Whether it was stopped here, so that it goes on only when somebody says so.
    is_stopped: bool = False
    driving: Driving = field(init=False)
    #: Standard output: where nobody sits at a terminal, answers stand alone there.
    page: TextIO = field(default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        """Have rows told here."""
        self.driving = Driving(self.drive, self.progress, self._tell, self._explain)

    @property
    def id(self) -> RunId:
        """The conversation's."""
        return self.drive.id

    async def hold(self, known: Run | None) -> int:
        """Talk until the person leaves, or a signal ends it; return the exit code."""
        self.drive.introduce(self.screen)
        warned = warnings_of(self.id, Warnings(self.prompt.say))
        printed = redirect_stdout(PipeSafeStream(sys.stderr))
        with stopping_on_signals() as stop, printed, warned:
            try:
                if known is not None:
                    await self._come_back(known)
                while (said := await self._read(stop)) is not None:
                    if not await self._take(said):
                        break
                self._say_what_is_waited_for(stop, Stopped(signal.SIGINT))
            except Stopped as stopped:
                self._say_what_is_waited_for(stop, stopped)
                return stopped.exit_code
            finally:
                await self.driving.close()
        if self.is_begun:
            again = self.invocation.command("chat", "--id", self.id)
            put(self.screen, Text(again, "dim"))
        return 0

    async def _read(self, stop: StopRequest) -> str | None:
        """Return what is typed next, and drive meanwhile what comes; None at the end."""
        while True:
            try:
                return await self._read_once(stop)
            except keyboard.Interrupted:
                await self._interrupt()

    async def _interrupt(self) -> None:
        """Stop what is under way, for Ctrl-C at the prompt; where nothing is, say how to leave."""
        worker = self.driving.worker
        if worker is None or not worker.running:
            put(self.screen, Text("Ctrl-D or /quit leaves", "dim"))
            return
        with stopping_on_signals() as stop:
            stop.handle(signal.SIGINT, None)  # that key was the first: the next one is a signal
            self._say_what_is_waited_for(stop, Stopped(signal.SIGINT))
            await self.driving.end()
        self._note_stopped()

    def _note_stopped(self) -> None:
        self.typed.clear()
        self.is_stopped = True
        put(self.screen, Text("stopped; it goes on with /go, or with what you say", "yellow"))

    async def _read_once(self, stop: StopRequest) -> str | None:
        if self.is_begun and not self.is_stopped:
            with suppress(StoreUnreachable):
                await self.driving.begin()
        self.progress.here = "/go" if self.drive.asker is not None else ""
        typing = asyncio.create_task(self.prompt.read())
        joining = asyncio.create_task(self._join_once_begun(typing))
        either = asyncio.create_task(first_of(joining, *self.driving.faults))
        try:
            await stop.or_end(either)
            return typing.result()
        finally:
            await gone(typing, joining, either)
            self.progress.here = ""

    async def _join_once_begun(self, typing: asyncio.Task[str | None]) -> None:
        """Join what another terminal begins while somebody types here; return once they have."""
        while not self.is_begun and not typing.done():
            await asyncio.wait([typing], timeout=_LOOK_S)
            with suppress(StoreUnreachable):
                if await self._join() and not typing.done():
                    await self.driving.begin()
        await first_of(typing, *self.driving.faults)

    async def _join(self) -> bool:
        """Take part in what was begun by this id elsewhere; return whether it is begun."""
        if not self.is_begun and (run := await self.client.store.get(self.id)) is not None:
            check_conversation(run, self.fork, self.invocation)
            self.drive = self.driving.drive = replace(self.drive, queue=run.queue)
            await self._show_past(run)
        return self.is_begun

    async def _take(self, said: str) -> bool:
        """Do what was typed; return False where the person leaves."""
        try:
            if said.startswith("/") and not said.startswith("//"):
                return await self._do(said)
            if said:
                await self._say(said.removeprefix("/") if said[0] == "/" else said)
        except StoreUnreachable as error:
            self.typed.clear()
            hint = "it is waited for; what you typed comes back with the arrow up"
            self.prompt.say(Text(hidden(str(error)), "red"), Text(hint, "dim"))
        return True

    async def _come_back(self, run: Run) -> None:
        """Show what was said, and go on with what was under way."""
        await self._show_past(run)
        if run.status.awaits_person:
            await self.driving.until_its_turn()
        elif not await self.driving.is_waiting() or await self._is_asked():
            await self._see_through()

    async def _show_past(self, run: Run) -> None:
        """Show what was said until now, and have told from here on what comes."""
        journal = await read_journal(self.client, run)
        self.driving.begin_after(journal)
        self.prompt.say(*history_lines(journal, self._shows))
        self.driving.follow()
        self.is_begun = True

    async def _say(self, words: str) -> None:
        """Send a message and see it answered."""
        self.driving.expect()
        if not await self._join():
            self.typed.append(words)
            task = Task(words, timezone=timezone())
            function = self.fork.conversation
            begin = partial(self.client.start, function, task, None, id=self.id)
            try:
                await self._see_through(begin)
                return
            except IdTaken:  # another terminal was quicker: it is a message there
                self.typed.remove(words)
                await self.driving.end()
                await self._join()
        self.typed.append(as_heard(words))
        run = await self.client.get(self.id)
        if run.status.awaits_person:
            await self.driving.resume(run)
        await self.client.signal(self.id, MESSAGE, words, str(uuid4()))
        await self._see_through()

    async def _see_through(self, start: Start | None = None) -> None:
        """Drive the run to where it waits for a message, or for somebody who has put that off."""
        self.is_stopped = False
        if self.drive.asker is not None:
            self.drive.asker.put_off.clear()
        try:
            with stopping_on_signals() as stop, self.progress:
                await self.driving.begin()
                if start is not None:
                    await start()
                    self.is_begun = True
                self.driving.follow()
                await self._until_its_turn(stop)
            if words := await self.driving.what_is_paused():
                self.prompt.say(Text(f"paused: {words}; /go tries again", "yellow"))
        except Stopped as stopped:
            if stopped.number is not signal.SIGINT:
                raise
            self._note_stopped()

    async def _until_its_turn(self, stop: StopRequest) -> None:
        working = [asyncio.create_task(self.driving.until_its_turn())]
        if (asker := self.drive.asker) is not None:
            working.append(asyncio.create_task(self.drive.ask(asker, self.progress)))
        either = asyncio.create_task(first_of(*working, *self.driving.faults))
        try:
            await stop.or_end(either)
        except Stopped as stopped:
            await gone(either, *working)  # a question gives the terminal back first
            self._say_what_is_waited_for(stop, stopped)
            await self.driving.end()
            raise
        finally:
            await gone(either, *working)

    def _say_what_is_waited_for(self, stop: StopRequest, stopped: Stopped) -> None:
        worker = self.driving.worker
        if worker is not None and worker.running:
            self.drive.say_what_is_waited_for(stop, stopped, worker, self.progress)

    def _tell(self, row: Promise) -> None:
        """Tell what was said: an answer, and what others have said from another terminal."""
        if (answered := answer_in(row)) is not None:
            if isinstance(self.prompt, Lines):
                with redirect_stdout(self.page):
                    put(open_page(), *answer_lines(answered))
            else:
                self.progress.say("", *answer_lines(answered), "")
        elif (said := message_in(row)) is not None:
            if said in self.typed:
                self.typed.remove(said)
            else:
                self.progress.say(said_line(said, self._shows(row.key)))

    def _shows(self, key: str | None) -> str:
        """Return the command that shows the conversation, or one row of it."""
        of = [] if key is None else ["--key", key]
        return self.invocation.command("show", self.id, *of)

    async def _explain(self, run: Run) -> None:
        """Tell why it does not go on."""
        history = await read_history(self.client, self.id)
        lines = list(explanation(history, self.invocation))
        again = [Text("/go tries again", "dim")] if run.status.awaits_person else []
        self.progress.say(*lines, *again)

    async def _do(self, typed: str) -> bool:
        """Do a command of the conversation; return False for the one that leaves."""
        name, *more = typed.split()
        if name in _OF_WHAT_WAS_SAID:
            await self._join()
        if name not in (*_COMMANDS, "/exit"):
            near = did_you_mean(name, _COMMANDS)
            told = f"{name} is no command{near}; /help lists them, // begins a message with a /"
            self.prompt.say(Text(wording.visible(told), "yellow"))
        elif more:
            self.prompt.say(Text(f"{name} stands alone; nothing was done", "yellow"))
        elif name == "/help":
            self.prompt.say(Text(_HELP))
        elif name == "/cost":
            await self._tell_cost()
        elif name == "/show" and self.is_begun:
            with redirect_stdout(self.page):
                await show(self.invocation, self.id, None)
        elif name == "/go" and self.is_begun:
            await self._go_on()
        elif name in ("/show", "/go"):
            self.prompt.say(Text("nothing was said yet", "dim"))
        return more != [] or name not in ("/quit", "/exit")

    async def _tell_cost(self) -> None:
        if not self.is_begun:
            self.prompt.say(Text("nothing was said yet, so nothing was used", "dim"))
            return
        usage = (await read_history(self.client, self.id)).tree_usage
        self.prompt.say(f"{wording.tokens(usage)}, {wording.money(usage.cost_usd)} so far")

    async def _go_on(self) -> None:
        self.driving.expect()
        run, is_asked = await self.client.get(self.id), await self._is_asked()
        await self.driving.resume(*await self.driving.paused_below())
        if run.status.awaits_person:
            await self.driving.resume(run)
        elif not is_asked and await self.driving.is_waiting():
            put(self.screen, Text("nothing is under way; say something", "dim"))
            return
        await self._see_through()

    async def _is_asked(self) -> bool:
        """Whether something is open that can be decided here: what was put off is asked again."""
        if (asker := self.drive.asker) is None:
            return False
        asker.put_off.clear()
        asker.left.clear()
        return bool(await asker.open_gates())
