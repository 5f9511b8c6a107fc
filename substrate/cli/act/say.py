"""`say`: speak to an agent that is at work, or go on with a conversation, from any terminal.

It needs no worker and starts none: the message lies in the run's inbox. An agent at work reads it
before its next model call; a conversation that waits is woken by it.
"""

from uuid import uuid4

from rich.text import Text

from substrate.agent.conversation import is_conversation
from substrate.agent.inbox import MESSAGE
from substrate.cli.database import opened
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.values.records import Run, RunStatus


async def say(invocation: Invocation, run_id: str, words: str, dedup: str | None) -> int:
    """Send a message to a run. Raises `RunEnded` for one that takes nothing any more."""
    if not words.strip():
        raise UsageError("the message is empty; is a shell variable unset?")
    async with opened(invocation) as client:
        run = await client.get(run_id)
        counts = await client.signal(run_id, MESSAGE, words, dedup or str(uuid4()))
    if invocation.is_json:
        print_document({"run": run_id, "name": MESSAGE, "counts": counts})
        return 0
    if not counts:
        note = f"a message was sent to run {run_id} under {dedup!r} before; this one does not count"
        put(open_page(), note)
        return 0
    put(open_page(), f"said to run {run_id}: {_when(run)}")
    put(open_screen(), Text(_hint(invocation, run), "dim"))
    return 0


def _when(run: Run) -> str:
    if run.status in (RunStatus.PAUSED, RunStatus.DEAD):
        return f"it is {run.status}, and reads that once it is resumed"
    if is_conversation(run.function) and run.status is RunStatus.SUSPENDED:
        return "it answers that next"
    return "the agent reads that before its next model call"


def _hint(invocation: Invocation, run: Run) -> str:
    if run.status is RunStatus.RUNNING:
        return invocation.command("show", run.id)
    again = ("chat", "--id", run.id) if is_conversation(run.function) else ("resume", run.id)
    return f"goes on where a worker is running; to drive it here: {invocation.command(*again)}"
