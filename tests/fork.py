"""A fork in a folder of its own, and its command line as a person has it: in a process, from there.

Its agent looks something up with a tool and answers. Outside the journal, `calls` counts what was
really called; while the file ``hold`` is there, the tool waits, so that a test can interrupt it.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from substrate import Run, connect, durable
from substrate.agent.task import Answer, Task
from tests.keeper import wait_until
from tests.warm import Command, Warm

KIT = Path(__file__).resolve().parent.parent
AGENT = ("-m", "agent")
LIMIT_S = 30
KEPT = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")

HOOKS = '''
import asyncio
from pathlib import Path

from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say

TURNS = [say("I look first.", call("look", what="owls")), say("Two owls.")]


def note(called):
    with Path("calls").open("a") as calls:
        calls.write(called + chr(10))


def script(request):
    note("model")
    return TURNS[sum(isinstance(message, Reply) for message in request.messages)]


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    note("look")
    Path("looking").touch()
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    print("a tool that prints")
    return f"{what}: two"


prompt = "Be brief."
model = Model("scripted:owls", script=script)
tools = [look]
stop = any_of(answered(), max_turns(5))
'''


@durable(name="agent")
async def agent(ctx: Any, task: Task) -> Answer:
    """Stand for the fork's agent where a run is started and not driven."""
    raise AssertionError("this one is never driven")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def environment_of(url: str, **more: str) -> dict[str, str]:
    """Return an environment in which no provider's key is set."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"PYTHONPATH": str(KIT), "DATABASE_URL": url, **more}


COMMANDS = Warm(
    *("substrate.*", "dotenv", "psycopg", "psycopg_pool", "rich.live", "rich.table", "rich.tree"),
    # The SDKs, and what they load when they are first used.
    *("anthropic.resources.messages", "google.genai", "groq.resources.chat.completions"),
    *("openai.resources.chat.completions", "openai.resources.responses"),
    *("anyio._backends._asyncio", "genai_prices", "httpcore", "httpcore2"),
    env=environment_of(""),
)
"""What commands are forked from."""

TESTS = Warm(
    *("pytest", "_pytest.*", "substrate.*", "skills.*", "dotenv", "psycopg", "psycopg_pool"),
    env=environment_of(""),
)
"""What a fork's own tests are forked from."""
PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_asyncio.plugin"}
"""The settings of pytest by which there are those of its plugins that a fork asks for."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A folder with a copy of the template's package, and hooks of the test's own.

    Its commands are processes of their own, forked from one that has imported the kit
    (`tests/warm.py`), which takes a tenth of the time; with no `python` to be forked from, each has
    an interpreter that starts for it.
    """

    folder: Path
    url: str
    python: Warm | None = COMMANDS

    @classmethod
    def make(cls, folder: Path, url: str = "sqlite:///runs.db", hooks: str = HOOKS) -> "Fork":
        """Copy the template's package into a new folder."""
        shutil.copytree(
            KIT / "template" / "agent",
            folder / "agent",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        fork = cls(folder, url)
        fork.write("agent/hooks.py", hooks)
        return fork

    @property
    def calls(self) -> Sequence[str]:
        """What was called so far, the model and the tool, in order."""
        file = self.folder / "calls"
        return file.read_text().split() if file.exists() else []

    def write(self, name: str, text: str) -> None:
        """Write a file of the fork, which is not mistaken for the one compiled this second."""
        (self.folder / name).write_text(text)
        shutil.rmtree(self.folder / "agent" / "__pycache__", ignore_errors=True)

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file of the fork."""
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def hold(self) -> None:
        """Let the tool wait, from its next call on."""
        (self.folder / "looking").unlink(missing_ok=True)
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        """Let the tool go on."""
        (self.folder / "hold").unlink()

    def environment(self, **more: str) -> dict[str, str]:
        """Return an environment in which no provider's key is set."""
        return environment_of(self.url, **more)

    def open(
        self, *arguments: str, by: Sequence[str] = AGENT, **environment: str
    ) -> subprocess.Popen[str] | Command:
        """Start a command."""
        set_ = self.environment(**environment)
        # What Python itself is told is heard by one that starts.
        if self.python and by == AGENT and not any(n[:6] == "PYTHON" for n in environment):
            return self.python.start("agent", *arguments, cwd=self.folder, env=set_)
        return subprocess.Popen(
            [sys.executable, *by, *arguments],
            cwd=self.folder,
            env=set_,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *arguments: str, by: Sequence[str] = AGENT, **environment: str) -> Done:
        """Do a command, and return how it ended."""
        return end(self.open(*arguments, by=by, **environment))

    def read_by(self, reader: str, *arguments: str, both: bool = False) -> Done:
        """Do a command whose output is read by another one, as by a pipe of a shell's.

        With `both` its errors go there, too.
        """
        with (
            tempfile.TemporaryFile("w+") as read,
            tempfile.TemporaryFile("w+") as errors,
            Path(os.devnull).open() as nothing,
            subprocess.Popen(reader.split(), stdin=subprocess.PIPE, stdout=read) as reading,
        ):
            assert reading.stdin is not None
            out = reading.stdin.fileno()
            files = (nothing.fileno(), out, out if both else errors.fileno())
            set_ = self.environment()
            process = COMMANDS.start("agent", *arguments, cwd=self.folder, env=set_, stdio=files)
            reading.stdin.close()
            code = process.wait(LIMIT_S)
            reading.wait(LIMIT_S)
            for each in (read, errors):
                each.seek(0)
            return Done(code, read.read(), errors.read())

    def open_held(self, *arguments: str) -> subprocess.Popen[str] | Command:
        """Start a command and return while its tool is waiting."""
        self.hold()
        process = self.open(*arguments)
        looking = self.folder / "looking"
        assert wait_until(lambda: looking.exists() or process.poll() is not None, LIMIT_S)
        assert process.poll() is None, end(process)
        return process

    def run(self, run_id: str) -> Any:
        """Return what `show --json` tells of a run."""
        return self.do("show", run_id, "--json").document

    def start(self, run_id: str, question: str) -> Run:
        """Start a run that nobody drives yet."""

        async def start() -> Run:
            async with connect(self.absolute_url) as client:
                return await client.start(agent, Task(question), id=run_id)

        return asyncio.run(start())

    @property
    def absolute_url(self) -> str:
        """The database, named so that it is found from any folder."""
        is_relative = re.match(r"sqlite:///[^/]", self.url)
        return f"sqlite:///{self.folder}/{self.url[10:]}" if is_relative else self.url


def end(process: subprocess.Popen[str] | Command) -> Done:
    """Wait for a command's end."""
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.returncode, out, err)
