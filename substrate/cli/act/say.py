"""`say`: speak to an agent that is at work, or go on with a conversation, from any terminal.

It needs no worker and starts none: the message lies in the run's inbox. An agent at work reads it
before its next model call; a conversation that waits is woken by it.
"""

from uuid import uuid4

from rich.text import Text

from substrate.agent.conversation import is_conversation
from substrate.agent.history.journal import read_journal
from substrate.agent.history.questions import read_questions
from substrate.agent.history.waits import awaits_signal, waits_of
from substrate.agent.inbox import MESSAGE
from substrate.cli.database import opened
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.cli.show.questions import how_to_answer
from substrate.values.records import Kind, Run, RunStatus


async def say(invocation: Invocation, run_id: str, words: str, dedup: str | None) -> int:
    """Send a message to a run. Raises `RunEnded` for one that takes nothing any more."""
    if not words.strip():
        raise UsageError("the message is empty; is a shell variable unset?")
    async with opened(invocation) as client:
        run = await client.get(run_id)
        journal = await read_journal(client, run)
        is_next = awaits_signal(waits_of(run, journal), MESSAGE) is not None
        asked = await read_questions(client, run, journal)
        counts = await client.signal(run_id, MESSAGE, words, dedup or str(uuid4()))
    if invocation.is_json:
        print_document({"run": run_id, "name": MESSAGE, "counts": counts})
        return 0
    if not counts:
        note = f"a message was sent to run {run_id} under {dedup!r} before; this one does not count"
        put(open_page(), note)
        return 0
    put(open_page(), f"said to run {run_id}: {_when(run, is_next=is_next)}")
    gates = [each for each in asked if each.wait.promise.kind is Kind.GATE]
    if gates and not is_next:
        put(open_screen(), Text("it decides nothing, and the run waits:", "yellow"))
        put(open_screen(), *how_to_answer(gates, invocation))
    put(open_screen(), Text(_hint(invocation, run), "dim"))
    return 0


def _when(run: Run, *, is_next: bool) -> str:
    """Return when a message is read: a conversation that waits for one answers it at once."""
    if run.status in (RunStatus.PAUSED, RunStatus.DEAD):
        return f"it is {run.status}, and reads that once it is resumed"
    if is_next:
        return "it answers that next"
    return "the agent reads that before its next model call"


def _hint(invocation: Invocation, run: Run) -> str:
    if run.status is RunStatus.RUNNING:
        return invocation.command("show", run.id)
    again = ("chat", "--id", run.id) if is_conversation(run.function) else ("resume", run.id)
    return f"goes on where a worker is running; to drive it here: {invocation.command(*again)}"
