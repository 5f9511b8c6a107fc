"""`run` and `resume`: find or start a run, have it driven, and say how it stands.

Invariants: a run that has ended or is paused is reported, and calls nothing; no run is started or
resumed that could not go on for want of a key, or that the loop does not know.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path

from substrate.agent.attachment import attachment
from substrate.agent.history.journal import read_journal
from substrate.agent.history.run import question_of, read_history, timezone_of
from substrate.agent.history.waits import waits_of
from substrate.agent.task import Task
from substrate.cli import format as wording
from substrate.cli import keyboard
from substrate.cli.asking import Asker
from substrate.cli.database import missing_file, open_database, open_or_make_database
from substrate.cli.environment import timezone
from substrate.cli.errors import UsageError
from substrate.cli.fork import Fork, load_fork, tools_of
from substrate.cli.invocation import Invocation
from substrate.cli.run.drive import Drive
from substrate.cli.screen import open_screen
from substrate.cli.show.outcome import report
from substrate.engine.client import Client
from substrate.values.errors import IdTaken, Misuse, RunEnded
from substrate.values.ids import RunId, check_root_id, promise_id
from substrate.values.records import UNWIND_KEY, Kind, Run, RunFilter, RunStatus

_MOST_PAUSED = 1000  # children that one command resumes


def fresh_id(now: datetime, draw: Callable[[int], str] = secrets.token_hex) -> str:
    """Return an id that says when the run was started: ``run/2026-11-21-ab12cd``."""
    return f"run/{now:%Y-%m-%d}-{draw(3)}"


async def run(
    invocation: Invocation, question: str | None, run_id: str | None, files: Sequence[Path] = ()
) -> int:
    """Start a run, or go on with the one that has this id; print its answer."""
    if question is not None and not question.strip():
        raise UsageError("the question is empty; is a shell variable unset?")
    if question is None and files:
        raise UsageError('a file is attached to a question: run "…" --attach FILE')
    if question is None and run_id is None:
        raise UsageError('ask something, run "…", or name a run to go on with, run --id ID')
    if run_id is not None and not run_id.strip():
        raise UsageError("the id is empty; is a shell variable unset?")
    id_ = check_root_id(run_id or fresh_id(datetime.now(UTC)))
    task = None if question is None else _task(question, files)
    fork = load_fork(invocation.package)
    if run_id is None:
        fork.check_key()
    opened = open_database() if task is None else open_or_make_database()
    new = missing_file()
    async with opened as client:
        if task is None:
            return await _go_on(invocation, client, fork, await client.get(id_))
        if await client.store.get(id_) is not None:
            return await _go_on(invocation, client, fork, await _same_run(client, fork, id_, task))
        fork.check_key()
        drive = Drive(
            invocation, client, fork, id_, new=new, asker=_asker(invocation, client, fork, id_)
        )
        return await drive.to_its_end(lambda: client.start(fork.agent, task, id=id_))


async def resume(invocation: Invocation, run_id: str, accept: str | None) -> int:
    """Requeue a paused, failed or dead run, or take up an interrupted one; print its answer.

    One that waits for its provider tries at once; of one that waits for children, those that are
    paused go on.
    """
    fork = load_fork(invocation.package)
    async with open_database() as client:
        known = await client.get(run_id)
        is_told = await _is_told(client, known)
        if not is_told and (accept or known.status.awaits_person):
            fork.check_knows(known)
            fork.check_key()
            known = await client.resume(run_id, accept, by=getuser())
        elif known.status is RunStatus.SUSPENDED:
            fork.check_knows(known)
            await _retry_now(client, known)
        if not known.status.has_ended:
            await _resume_below(client, fork, known)
        return await _go_on(invocation, client, fork, known)


async def _is_told(client: Client, run: Run) -> bool:
    """Whether a child is over, and its parent has gone on; of a dead one an undo may be left."""
    if run.parent_id is None or not run.status.has_ended:
        return False
    undo = promise_id(run.id, UNWIND_KEY)
    return run.status is not RunStatus.DEAD or undo not in await client.store.promises([undo])


async def _retry_now(client: Client, run: Run) -> None:
    """Ask for the next attempt of a step that waits between two now, whenever it is due."""
    journal = await read_journal(client, run)
    steps = (each.promise for each in waits_of(run, journal) if each.promise.kind is Kind.STEP)
    for name in sorted({step.name for step in steps}):
        await client.signal(run.id, name)


async def _resume_below(client: Client, fork: Fork, run: Run) -> None:
    """Have children go on that are paused: nothing else is what their parent waits for."""
    below = RunFilter(prefix=f"{run.id}#")
    for child in await client.store.list(RunStatus.PAUSED, _MOST_PAUSED, below):
        fork.check_knows(child)
        with suppress(RunEnded):  # somebody else was quicker
            await client.resume(child.id, by=getuser())


def _task(question: str, files: Sequence[Path]) -> Task:
    try:
        return Task(question, attachments=tuple(map(attachment, files)), timezone=timezone())
    except Misuse as error:
        raise UsageError(str(error)) from None


async def _same_run(client: Client, fork: Fork, id_: RunId, task: Task) -> Run:
    """Return the run that has this id, if this is what it was asked."""
    own = await client.store.promise(id_)
    try:
        # In the zone in which it was asked, also from a terminal that has another one by now.
        return await client.start(fork.agent, replace(task, timezone=timezone_of(own)), id=id_)
    except IdTaken as error:
        asked = question_of(own) or "something else"
        raise IdTaken(
            f"the id {id_!r} is taken by a run that was asked {wording.short(asked, 120)!r}; "
            f"choose another id, or go on with that run: run --id {id_}"
        ) from error


async def _go_on(invocation: Invocation, client: Client, fork: Fork, known: Run) -> int:
    """Report a run that has ended or is paused; drive any other."""
    if known.status.has_ended or known.status is RunStatus.PAUSED:
        return report(await read_history(client, known.id), invocation)
    fork.check_knows(known)
    fork.check_key()
    asker = _asker(invocation, client, fork, known.id)
    return await Drive(invocation, client, fork, known.id, known.queue, asker=asker).to_its_end()


def _asker(invocation: Invocation, client: Client, fork: Fork, run_id: RunId) -> Asker | None:
    """Return what asks people in line; None where nobody sits at a terminal."""
    if invocation.is_json or not keyboard.is_there():
        return None
    tools = tools_of(fork, invocation.package)
    return Asker(client, run_id, keyboard.Keyboard(), open_screen(), tools)
