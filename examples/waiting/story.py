"""`python -m agent.story`: a refund waits two days for a person, and no process waits with it.

Every worker here is a process of its own, which ends. Between two of them, the clock that the store
takes its time from is moved by days: it is the machine's, plus what the file `clock.txt` says. The
answer is sent with the agent's own command, while no worker is alive. In the end it is counted
outside the journal who was asked and what was paid; the exit code is 1 if that is not as promised.

In the kit itself, `python examples/waiting/story.py` does the same in a temporary fork.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DAY_S = 24 * 60 * 60
CLOCK = Path("clock.txt")
GRANTED, UNANSWERED = "refund/42", "refund/43"


class MovedClock:
    """The machine's clock, moved forward by the seconds that a file says."""

    def now_ms(self) -> int:
        """Return the moved time in milliseconds since 1970 UTC."""
        from substrate.values.clock import OffsetClock

        return OffsetClock(moved_s() * 1000).now_ms()

    async def sleep(self, seconds: float) -> None:
        """Wait for so long, in the machine's time."""
        await asyncio.sleep(max(seconds, 0))


def moved_s() -> int:
    """Return how far the clock has been moved."""
    return int(CLOCK.read_text(encoding="utf-8")) if CLOCK.exists() else 0


def move_clock(days: int) -> None:
    """Let days pass."""
    CLOCK.write_text(str(moved_s() + days * DAY_S), encoding="utf-8")
    print(f"\n-- {days} days pass; no worker is alive --\n")


async def drive(run_id: str, question: str) -> None:
    """Be a worker: start the run or go on with it, until it has ended or only waits."""
    from agent.loop import agent
    from substrate import connect
    from substrate.agent import Task

    async with connect(database_url(), MovedClock()) as client, client.work([agent]) as worker:
        await client.start(agent, Task(question), id=run_id)
        await worker.run_until_idle()
        run = await client.get(run_id)
        print(f"process {os.getpid()}: run {run_id} is {run.status}, claim {run.epoch}")
        if run.status.has_ended:
            print(f"  {(await client.result(run_id, agent)).text}")


def database_url() -> str:
    """Return where the runs live."""
    return os.environ.get("DATABASE_URL") or "sqlite:///runs.db"


def command(*words: str, is_told: bool = True) -> str:
    """Do a command in a process of its own, and return what it printed."""
    if is_told:
        print(f"$ python -m {shlex.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
    )
    told = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
    print(told, end="\n\n", flush=True)
    return told


def work_on(run_id: str) -> str:
    """Let a worker, a process of its own, drive a run until that has ended or only waits."""
    question = f"Please refund order {run_id.partition('/')[2]}."
    return command("agent.story", "drive", run_id, question, is_told=False)


def tell() -> bool:
    """Tell the story; return whether it came out as promised."""
    print("Two refunds are asked for. Each asks a person, and its worker ends.\n")
    asked = [work_on(run_id) for run_id in (GRANTED, UNANSWERED)]
    command("agent", "show", GRANTED)

    move_clock(2)
    print("A person answers one of them:\n")
    sent = command("agent", "signal", GRANTED, "approval-42", "true")
    print("A new worker goes on with that run:\n")
    granted = work_on(GRANTED)

    move_clock(2)
    print("Nobody has answered the other for more than three days. A new worker finds that out:\n")
    unanswered = work_on(UNANSWERED)
    late = command("agent", "signal", UNANSWERED, "approval-43", "true")

    questions = Path("outbox.txt").read_text(encoding="utf-8").splitlines()
    payments = Path("paid.txt").read_text(encoding="utf-8").splitlines()
    print(f"Counted outside: {len(questions)} questions were sent, {len(payments)} refund paid.")
    return (
        all("is suspended, claim 1" in each for each in asked)
        and "which waits for it" in sent
        and "is done, claim 2" in granted
        and "Nobody approved it in 3 days" in unanswered
        and "it takes no signal" in late
        and (len(questions), len(payments)) == (2, 1)
    )


def lay_out(folder: Path) -> None:
    """Make a fork of the kit in a folder, with this example over it."""
    here = Path(__file__).resolve().parent
    kit = here.parent.parent
    shutil.copytree(kit / "template" / "agent", folder / "agent")
    for file in here.glob("*.py"):
        shutil.copy(file, folder / "agent")


def main() -> None:
    """Tell the story here, or in a temporary fork; or be one of its workers."""
    if sys.argv[1:2] == ["drive"]:
        asyncio.run(drive(*sys.argv[2:]))
        return
    os.environ["ANTHROPIC_API_KEY"] = ""  # the rehearsal answers, whoever has a key
    if __package__:
        sys.exit(0 if tell() else 1)
    with tempfile.TemporaryDirectory(prefix="ostinato-waiting-") as name:
        lay_out(Path(name))
        os.chdir(name)
        sys.exit(0 if tell() else 1)


if __name__ == "__main__":
    main()
