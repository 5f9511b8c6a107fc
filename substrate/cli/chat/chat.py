"""`chat`: one run is one conversation; see `sitting` for how it is talked with, `said` for history.

A run that is no conversation of this agent, or that is over, is refused before anything is drawn.
"""

from datetime import UTC, datetime, timedelta

from substrate.cli import keyboard
from substrate.cli.asking import Asker
from substrate.cli.chat.known import check_conversation
from substrate.cli.chat.prompt import Lines, Prompt
from substrate.cli.chat.sitting import Sitting
from substrate.cli.database import missing_file, open_or_make_database
from substrate.cli.errors import UsageError
from substrate.cli.fork import load_fork, tools_of
from substrate.cli.invocation import Invocation
from substrate.cli.run.drive import Drive
from substrate.cli.run.progress import Progress
from substrate.cli.run.run import fresh_id
from substrate.cli.screen import open_screen
from substrate.engine.worker.options import WorkerOptions
from substrate.values.ids import check_root_id

_AT_ONCE = WorkerOptions(idle_timeout=timedelta(0))  # who types takes longer than any wait


async def chat(invocation: Invocation, run_id: str | None) -> int:
    """Talk with the fork's agent until the person leaves; return the exit code."""
    if invocation.is_json:
        one, told = invocation.command("chat", "--id", "ID"), invocation.command("say", "ID", "…")
        whole = invocation.command("show", "ID", "--json")
        raise UsageError(
            "chat is for people, and has no --json; of a program each line of standard input is a "
            f"message, and the answers alone are on standard output: echo '…' | {one}; {told} says "
            f"something to it, {whole} has all of it; run --json asks one thing"
        )
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
            check_conversation(known, fork, invocation)
        screen, asker = open_screen(), None
        prompt: Prompt | Lines = Lines(screen)
        if keyboard.is_there():
            keys = keyboard.Keyboard()
            prompt = Prompt(keys, screen)
            asker = Asker(client, id_, keys, screen, tools_of(fork, invocation.package))
        queue = {} if known is None else {"queue": known.queue}
        drive = Drive(
            invocation, client, fork, id_, **queue, new=new, asker=asker, options=_AT_ONCE
        )
        clock, moves = client.store.clock, asker is not None
        progress = Progress(screen, id_, clock, invocation, moves=moves, out=prompt.say)
        return await Sitting(invocation, client, fork, drive, progress, screen, prompt).hold(known)
