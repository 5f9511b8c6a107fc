"""A fork's own folder `skills` and the kit's are one package, wherever the fork's code is used."""

import signal
from pathlib import Path

import pytest

from tests.machine import Machine, copy_kit

HOOKS = '''
from skills.mine import greet
from skills.web import fetch_url
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Task
from substrate.models.messages import Reply, Request
from substrate.models.model import Model
from substrate.models.scripted import call, say


def script(request: Request) -> Reply:
    """Greet, then answer."""
    told = [each for each in request.messages if isinstance(each, Reply)]
    return say("What is an ostinato? Greeted.") if told else say(call("greet", name="Ada"))


def prompt(task: Task) -> str:
    """Say little."""
    return "Be brief."


model = Model("scripted:greeter", script=script)
tools = [greet, fetch_url()]
stop = any_of(answered(), max_turns(5))
'''

MINE = '''"""Greetings."""

from substrate.agent.tool import tool


@tool(effect="pure")
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}."
'''

IMPORTS = "import skills.web, skills.mine; print(skills.web.fetch_url, skills.mine.greet)"


@pytest.fixture(scope="module")
def plain(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork with a skill of its own, in a folder that is no package by itself."""
    folder = tmp_path_factory.mktemp("skills")
    copy_kit(folder / "kit")
    fork = machine.fork(folder / "kit", folder / "my-agent")
    (fork / "agent" / "hooks.py").write_text(HOOKS, encoding="utf-8")
    (fork / "skills" / "mine").mkdir(parents=True)
    (fork / "skills" / "mine" / "__init__.py").write_text(MINE, encoding="utf-8")
    return fork


@pytest.fixture(params=["namespace", "package"])
def fork(plain: Path, request: pytest.FixtureRequest) -> Path:
    """The same fork, whose folder `skills` has an `__init__.py`, or has not."""
    marker = plain / "skills" / "__init__.py"
    marker.unlink(missing_ok=True)
    if request.param == "package":
        marker.touch()
    return plain


def test_both_are_found(machine: Machine, fork: Path) -> None:
    """Skills of both are found by `run` and `worker`, by both ways to pytest, and by mypy."""
    name = "a" if (fork / "skills" / "__init__.py").exists() else "b"
    run = ("uv", "run", "python", "-m", "agent", "run", "What is an ostinato?", "--id", name)
    assert "Greeted." in machine.do(fork, *run)
    assert "2 passed" in machine.do(fork, "uv", "run", "pytest", "-q")
    assert "2 passed" in machine.do(fork, "uv", "run", "python", "-m", "pytest", "-q")
    assert "Success" in machine.do(fork, "uv", "run", "mypy")
    worker = machine.start(fork, str(fork / ".venv" / "bin" / "python"), "-m", "agent", "worker")
    assert worker.stderr is not None
    assert "worker of queue" in worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_both_are_found_alone(machine: Machine, plain: Path) -> None:
    """A program that imports skills and no agent finds both, where the fork's is no package."""
    (plain / "skills" / "__init__.py").unlink(missing_ok=True)
    machine.do(plain, "uv", "run", "python", "-c", IMPORTS)
