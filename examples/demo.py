"""`make demo`: fork an agent, kill it in the middle of its work, start it again, count the calls.

Everything is real: the fork is copier's, each run is a process of its own, and the kill is SIGKILL.
The process is held still (SIGSTOP) right after its first tool call has been committed, so that the
kill comes when nothing is in flight, and is then killed from outside.
"""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import copier
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

KIT = Path(__file__).resolve().parent.parent
ANALYST = KIT / "examples" / "analyst"
QUESTION = "Why did revenue fall in the last quarter?"
RUN = "demo"
FIRST_TOOL_COMMIT = 5  # the lanes that it knows, start, prompt, first model call, first tool call

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Project:
    """A fork of the analyst, with a tally of its calls kept outside its journal."""

    folder: Path

    @property
    def tally(self) -> Path:
        """Where the tools and the model count their calls."""
        return self.folder / "tally.txt"

    @property
    def calls(self) -> Counter[str]:
        """How often each was called."""
        lines = self.tally.read_text(encoding="utf-8").splitlines() if self.tally.exists() else []
        return Counter("model" if line.startswith("model ") else "tool" for line in lines)

    def start(self, *command: str, quiet: bool = True) -> subprocess.Popen[str]:
        """Start a Python process in the fork."""
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "ANALYST_TALLY": str(self.tally), "ANTHROPIC_API_KEY": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
        )

    def run_agent(self, *, quiet: bool) -> str:
        """Run the fork's own command, and return what it prints: the answer."""
        process = self.start("-m", "agent", "run", QUESTION, "--id", RUN, quiet=quiet)
        answer, _ = process.communicate(timeout=120)
        if process.returncode:
            sys.exit(f"the run ended with exit code {process.returncode}")
        return answer.strip()


def main() -> None:
    """Tell the story, and exit with 1 when it does not come out as promised."""
    with tempfile.TemporaryDirectory(prefix="ostinato-demo-") as name:
        console.rule("[bold]1. A fork of the template, with the analyst's hooks in it")
        killed, control = fork(Path(name) / "analyst"), fork(Path(name) / "control")
        console.print(f"   copier copy {KIT.name} analyst   [dim]→ {killed.folder}[/]")

        console.rule("[bold]2. A run is killed (SIGKILL) after its first tool call is committed")
        console.print(f"   python -m agent run {shlex.quote(QUESTION)} --id {RUN}")
        kill_in_the_middle(killed)
        before = killed.calls
        console.print(f"   [red]killed.[/] Calls made until then: {told(before)}.")
        if before != {"model": 1, "tool": 1}:
            sys.exit("it was killed at another place than the story says")

        console.rule("[bold]3. The same command again")
        answer = killed.run_agent(quiet=False)

        console.rule("[bold]The answer")
        console.print(answer)
        console.rule("[bold]The journal")
        console.print(journal(killed))

        console.rule("[bold]The proof")
        expected = control.run_agent(quiet=True)
        is_same = answer == expected and killed.calls == control.calls
        verdict = "[bold green]equal[/]" if is_same else "[bold red]not equal[/]"
        console.print(
            f"   {told(killed.calls)} with the crash,\n"
            f"   {told(control.calls)} in a run that was never killed: {verdict}.\n"
            "   The model and the tools counted these themselves, outside the journal."
        )
        if not is_same:
            sys.exit(1)
        say_what_next()


def fork(folder: Path) -> Project:
    """Copy the template, put the example over it, and make the shop's database."""
    answers = yaml.safe_load((ANALYST / "answers.yml").read_text(encoding="utf-8"))
    copier.run_copy(
        str(KIT), folder, data=answers, defaults=True, vcs_ref="HEAD", quiet=True, unsafe=False
    )
    for file in ANALYST.glob("*.py"):
        place = "tests" if file.name.startswith("test_") else "agent"
        (folder / place / file.name).write_bytes(file.read_bytes())
    make_shop = [sys.executable, "-m", "agent.shop"]
    subprocess.run(make_shop, cwd=folder, check=True, capture_output=True)
    return Project(folder)


def kill_in_the_middle(project: Project) -> None:
    """Start a process that holds itself still after the first tool's commit, and kill it there."""
    process = project.start(str(Path(__file__).resolve()), "until-first-tool", quiet=False)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        sys.exit(f"the process did not stop where it should: wait status {status}")
    process.send_signal(signal.SIGKILL)
    process.wait()


def run_until_first_tool() -> None:
    """Drive the fork's run as its own command does, over a store that holds the process still."""
    from agent.loop import agent  # the fork's, from the current folder
    from substrate import Client
    from substrate.agent import Task
    from substrate.store.connect import open_store
    from substrate.testing import Side, kill_at_commit

    def hold_still() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    async def drive() -> None:
        store = await open_store("sqlite:///runs.db")
        client = Client(kill_at_commit(store, FIRST_TOOL_COMMIT, Side.AFTER, hold_still))
        async with client.work([agent]):
            await client.start(agent, Task(QUESTION), id=RUN)
            await client.result(RUN)

    asyncio.run(drive())


def journal(project: Project) -> Table:
    """Return the run's promises, each marked by the claim that wrote it."""
    from substrate import connect

    async def read() -> Table:
        table = Table("step", "when", "what became of it", box=None, padding=(0, 2))
        room = max(console.width - 54, 10)
        async with connect(f"sqlite:///{project.folder / 'runs.db'}") as client:
            for promise in await client.journal(RUN):
                is_before = promise.epoch <= 1
                when = "[red]before the crash[/]" if is_before else "[green]after[/]"
                value = escape((promise.value or promise.error or "")[:room])
                table.add_row(promise.key, when, value)
        return table

    return asyncio.run(read())


def told(calls: Counter[str]) -> str:
    """Return the counts in words."""
    return f"{many(calls['model'], 'model call')}, {many(calls['tool'], 'tool call')}"


def many(n: int, thing: str) -> str:
    """Return a number of things, in the singular where there is one."""
    return f"{n} {thing}" + ("" if n == 1 else "s")


def say_what_next() -> None:
    """Say how to go on."""
    console.rule("[bold]Now one of your own")
    console.print(
        f"   copier copy --vcs-ref=HEAD {KIT} my-agent\n"
        "   cd my-agent\n"
        '   uv run python -m agent run "What is an ostinato?"\n'
        "   …and edit agent/hooks.py: prompt, model, tools, stop."
    )


if __name__ == "__main__":
    started = time.monotonic()
    if sys.argv[1:] == ["until-first-tool"]:
        sys.path.insert(0, str(Path.cwd()))
        run_until_first_tool()
    else:
        main()
        console.print(f"[dim]{time.monotonic() - started:.1f} s[/]")
