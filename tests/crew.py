"""Worker processes for tests to kill, stop and end, and what their steps leave outside.

The durable functions here do nothing but note what is really called, in a file that every process
appends to, whole lines at a time: it knows nothing of journals, and survives every kill.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from substrate import Context, OutcomeUnknown, RunDead, WorkerOptions, connect, durable
from substrate.testing.crash import KillingStore
from tests.processes import Process
from tests.stores import eventually

LEASE = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class Outside:
    """A folder that stands for the world: what was done, and what has to wait."""

    folder: Path

    def note(self, what: str) -> None:
        """Append one line, whole, whatever becomes of this process next."""
        file = os.open(self.folder / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{what}\n".encode())
        finally:
            os.close(file)

    @property
    def notes(self) -> Counter[str]:
        """How often each thing was noted."""
        notes = self.folder / "notes"
        return Counter(notes.read_text().splitlines() if notes.exists() else ())

    def hold(self, what: str) -> None:
        """Let whoever does this wait in the middle of it."""
        (self.folder / f"hold {what}").touch()

    def let_go(self, what: str) -> None:
        """Let them go on."""
        (self.folder / f"hold {what}").unlink(missing_ok=True)

    def is_held(self, what: str) -> bool:
        """Whether it has to wait."""
        return (self.folder / f"hold {what}").exists()

    async def noted(self, what: str, times: int = 1) -> None:
        """Return when this has been noted so often."""
        await eventually(lambda: self.notes[what] >= times)


def note_reached(folder: Path, store: Any) -> None:
    """Note which methods of a fatal store have committed; see `reached`."""
    assert isinstance(store, KillingStore)
    (folder / "reached").mkdir(exist_ok=True)
    for name in store.reached:
        Outside(folder / "reached").note(name)


def reached(folder: Path) -> set[str]:
    """Return what has been noted by drives that came to their end."""
    return set(Outside(folder / "reached").notes)


async def act(folder: str, what: str) -> str:
    """Do something in the world, in the middle of which one may be held."""
    outside = Outside(Path(folder))
    outside.note(f"{what} begins")
    await eventually(lambda: not outside.is_held(what))
    outside.note(f"{what} ends")
    return what


async def charge(folder: str, idempotency_key: str) -> None:
    """Note the key that it is given, twice over."""
    Outside(Path(folder)).note(idempotency_key)
    await act(folder, "charge")


@durable
async def chain(ctx: Context, folder: str, steps: int) -> int:
    """Do so many things one after another, under the run's name."""
    for i in range(steps):
        await ctx.step(act, folder, f"{ctx.run_id} {i}")
    return steps


@durable
async def calls(ctx: Context, folder: str, effect: str) -> str:
    """Call once; say where nobody knows what came of it."""
    try:
        return await ctx.step(act, folder, "call", effect=effect)
    except OutcomeUnknown as error:
        return f"unknown: {error.message}"


@durable
async def charges(ctx: Context, folder: str) -> str:
    """Call with an idempotency key."""
    await ctx.step(charge, folder, effect="idempotent")
    return "charged"


@durable
async def naps(ctx: Context, folder: str, seconds: float) -> None:
    """Sleep, and note it."""
    await ctx.sleep(seconds)
    await ctx.step(act, folder, "awake")


def never_returns() -> None:
    """Keep a thread for ever."""
    threading.Event().wait()


@durable
async def blocks(ctx: Context, folder: str) -> None:
    """Call what never returns, in its thread."""
    await ctx.gather(ctx.step(act, folder, "begin"), ctx.step(never_returns))


@durable
async def kills(ctx: Context, folder: str) -> None:
    """End the process that drives this, as a crash does."""
    Outside(Path(folder)).note("killed")
    os.kill(os.getpid(), signal.SIGKILL)


@durable
async def swallows(ctx: Context, folder: str) -> None:
    """Go on whatever happens, as no code should."""
    for i in range(15):
        try:
            await ctx.step(act, folder, f"stubborn {i}")
        except BaseException as error:  # noqa: BLE001 - this is the point
            Outside(Path(folder)).note(f"swallowed {type(error).__name__}")


@durable
async def outlives(ctx: Context, folder: str) -> list[Any]:
    """Have three children, one of which ends each process that drives it."""
    found: list[Any] = []
    children = [
        await ctx.spawn(chain, folder, 1).start(),
        await ctx.spawn(kills, folder).start(),
        await ctx.spawn(chain, folder, 2).start(),
    ]
    for child in children:
        try:
            found.append(await child)
        except RunDead as error:
            found.append(error.run_id)
    return found


@durable
async def undoes(ctx: Context, folder: str, what: str) -> None:
    """Make up for something, in the world."""
    await ctx.step(act, folder, f"undo {what}")


@durable
async def regrets(ctx: Context, folder: str) -> None:
    """Do three things, and come to nothing."""
    for what in ("a", "b", "c"):
        await ctx.step(act, folder, what, effect="once", undo=undoes)
    raise ValueError("all for nothing")


FUNCTIONS = (
    chain,
    calls,
    charges,
    naps,
    blocks,
    kills,
    swallows,
    outlives,
    undoes,
    regrets,
)


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker in a process of its own."""

    process: Process

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """Let it stand still."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Ask it to end, as an operator does."""
        os.kill(self.pid, signal.SIGTERM)

    def end(self) -> int | None:
        """Ask it to end, and wait until it has; return its exit code."""
        self.ask_to_end()
        self.process.join(30)
        return self.process.exitcode


@contextmanager
def worker_process(url: str, **limits: Any) -> Iterator[WorkerProcess]:
    """Start a worker process; it is gone when the block ends, however that comes."""
    process = Process(target=_be_worker, args=(url, limits))
    process.start()
    try:
        yield WorkerProcess(process)
    finally:
        process.kill()
        process.join()


def _be_worker(url: str, limits: dict[str, Any]) -> None:
    asyncio.run(
        _work(url, WorkerOptions(**{"lease": LEASE, "poll": timedelta(milliseconds=20)} | limits))
    )


async def _work(url: str, limits: WorkerOptions) -> None:
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
    async with connect(url) as client, client.work(FUNCTIONS, options=limits):
        await asked_to_end.wait()
