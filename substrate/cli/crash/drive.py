"""One drive: what a forked process does with the run, until it has ended or is killed at a commit.

What it calls is written down outside the database, a line a call, right before the call is made: a
file that is appended to survives the kill. What has become of the run is its report, which a
process that is killed does not come to write.

Invariants: the fork is loaded from the copy of its folder, and what is relative to its files or to
the current folder lies there. Unless a live model is allowed, no provider's key is in the
environment, and a model that would be asked all the same is refused before the run begins.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate.agent.history.run import history_of
from substrate.agent.task import Task
from substrate.cli.crash.answers import answer_all
from substrate.cli.crash.plan import CALLS, REPORT, RUN, SAID, STRUCK, Drive
from substrate.cli.crash.report import answer_of, tree_of, waits_of
from substrate.cli.errors import UsageError
from substrate.cli.exit import Exit
from substrate.cli.fork import Fork, load_fork
from substrate.engine.client import Client
from substrate.engine.run.services import CallBegins
from substrate.engine.worker.options import WorkerOptions
from substrate.engine.worker.worker import Worker
from substrate.models.model import SCRIPTED, disconnect
from substrate.models.panel import models_of
from substrate.store.connect import open_store
from substrate.testing.crash import KillingStore, kill_this_process
from substrate.values.errors import OstinatoError
from substrate.values.records import RunStatus

_LONGEST_WAIT_MS = 30_000  # for a timer; a run that waits for longer, waits
_LOOK_S = 0.05  # between two looks at who drives the run
_OPTIONS = WorkerOptions(
    idle_timeout=timedelta(0),
    poll=timedelta(milliseconds=20),
    lease=timedelta(seconds=5),
)


def be(drive: Drive) -> int:
    """Be the process: drive the run and report. Return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _speak_to(drive.folder / SAID)
    os.environ.clear()
    os.environ.update(drive.environment)
    home = Path.cwd()
    os.chdir(drive.world)
    sys.path[:] = [str(drive.world) if Path(each or ".") == home else each for each in sys.path]
    if str(drive.world) not in sys.path:
        sys.path.append(str(drive.world))
    try:
        fork = load_fork(drive.package)
        answers = who_answers(fork, is_live=drive.is_live)
        report = {"answers": answers, **asyncio.run(_driven(drive, fork))}
    except OstinatoError as error:
        report = {"error": {"type": type(error).__name__, "message": str(error)}}
    (drive.folder / REPORT).write_text(json.dumps(report), encoding="utf-8")
    return Exit.FAILED if "error" in report else Exit.DONE


def who_answers(fork: Fork, *, is_live: bool) -> str:
    """Return the model that answers. Raises where one of the fork's is live, and may not be."""
    if is_live:
        fork.check_key()
        return _answering(fork)
    for its, model in fork.asked:
        asked = model.available()
        if asked.provider in SCRIPTED:
            continue
        cure = f"give {its} an offline= that answers in its place, or say --live"
        if asked.missing_key:
            raise UsageError(f"{asked.id} has nobody who answers in its place offline; {cure}")
        raise UsageError(
            f"{asked.id} would be asked live, and again after each kill, for which somebody pays; "
            f"{cure}"
        )
    return _answering(fork)


def _answering(fork: Fork) -> str:
    return ", ".join(dict.fromkeys(each.available().id for each in models_of(fork.model)))


async def _driven(drive: Drive, fork: Fork) -> dict[str, Any]:
    """Drive the run to its end, or until it waits for what does not come; return what it came to.

    `before` is what was recorded when this process began: at the kill, if one was killed before.
    """
    store = await open_store(drive.environment["DATABASE_URL"])
    try:
        before = await tree_of(store)
        killing = KillingStore(
            store, drive.boundary, drive.side, lambda: _die(drive, killing), with_heartbeats=False
        )
        client = Client(killing)  # type: ignore[arg-type]  # it is one in all that is asked of it
        worker = Worker(
            killing,  # type: ignore[arg-type]
            fork.functions,
            options=_OPTIONS,
            on_call=lambda call: _note(drive.folder / CALLS, call),
        )
        await worker.open()
        try:
            await client.start(fork.agent, Task(drive.question), id=RUN)
            answered = await _to_its_end(drive, client, worker)
        finally:
            await worker.close()
            await disconnect()
        ended = await history_of(Client(store), await Client(store).get(RUN))
        failure = ended.failure
        return {
            "status": ended.run.status.value,
            "answer": answer_of(ended.answer, ended.value),
            "failure": None if failure is None else f"{failure.type}: {failure.message}",
            "answered": sorted(answered),
            "waits": await waits_of(Client(store), ended.run),
            "before": before,
            "after": await tree_of(store),
            "commits": [
                [how, *ids] for how, ids in zip(killing.reached, killing.written, strict=True)
            ],
        }
    finally:
        await store.close()


async def _to_its_end(drive: Drive, client: Client, worker: Worker) -> set[str]:
    """Drive until the run has ended, is paused, or waits for what nobody here will send.

    Return under which names something was asked and answered.
    """
    clock, answered = client.store.clock, set[str]()
    while True:
        await worker.run_until_idle()
        run = await client.get(RUN)
        if run.status.has_ended or run.status is RunStatus.PAUSED:
            return answered
        if sent := await answer_all(drive, client, run):
            answered |= sent
            continue
        if await client.list(RunStatus.RUNNING, 1):  # the dead worker's, not taken back yet
            await clock.sleep(_LOOK_S)
            continue
        due_at = await client.store.next_due_at()
        if due_at is None or due_at > clock.now_ms() + _LONGEST_WAIT_MS:
            return answered
        await clock.sleep(max(0, due_at - clock.now_ms()) / 1000)


def _note(file: Path, call: CallBegins) -> None:
    """Append a call, whole: it is there whatever becomes of this process next."""
    _append(file, [call.promise, call.name, call.effect.value, call.idempotency_key])


def _die(drive: Drive, store: KillingStore) -> None:
    at = drive.boundary - 1
    _append(drive.folder / STRUCK, [store.reached[at], *store.written[at]])
    kill_this_process()


def _append(file: Path, line: Sequence[Any]) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(opened, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(opened)


def _speak_to(file: Path) -> None:
    """Let what is printed go to a file, whoever prints it."""
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 0)
    for number in (1, 2):
        os.dup2(opened, number)
    for each in (opened, nowhere):
        os.close(each)


def migrate(url: str, folder: Path) -> int:
    """Be a process that brings the schema of a database up to date."""
    _speak_to(folder / SAID)
    asyncio.run(_opened(url))
    return Exit.DONE


async def _opened(url: str) -> None:
    await (await open_store(url)).close()
