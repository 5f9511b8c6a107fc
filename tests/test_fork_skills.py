"""A fork's own folder `skills` and the kit's are one package, wherever the fork's code is used."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.fork import end
from tests.machine import Machine

HOOKS = '''
from skills.mine import greet
from skills.web import fetch_url
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Task
from substrate.models.messages import Reply
from substrate.models.request import Request
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say


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

TESTED = """from skills.mine import greet


def test_greeting() -> None:
    assert greet(name="Ada") == "Hello, Ada."
"""

FAILS = """@recorded_error
class Rude(Exception):
    pass
"""

IMPORTS = "import skills.web, skills.mine; print(skills.web.fetch_url, skills.mine.greet)"


@pytest.fixture(scope="module")
def plain(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork with a skill of its own, in a folder that is no package by itself."""
    fork = machine.fork(machine.kit, tmp_path_factory.mktemp("skills") / "my-agent")
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
    """Skills of both are found by `run` and `worker`, and by both ways to pytest."""
    name = "a" if (fork / "skills" / "__init__.py").exists() else "b"
    run = ("uv", "run", "python", "-m", "agent", "run", "What is an ostinato?", "--id", name)
    assert "Greeted." in machine.do(fork, *run)
    assert "2 passed" in machine.do(fork, "uv", "run", "pytest", "-q")
    assert "2 passed" in machine.do(fork, "uv", "run", "python", "-m", "pytest", "-q")
    worker = machine.start(fork, str(fork / ".venv" / "bin" / "python"), "-m", "agent", "worker")
    assert worker.stderr is not None
    assert "worker of queue" in worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_own_skills_are_tested(machine: Machine, fork: Path) -> None:
    """`pytest` runs the tests of own skills, whatever they are called, and imports them once."""
    mine = fork / "skills" / "mine"
    (mine / "tests").mkdir(exist_ok=True)
    once = f"{MINE}\n\nfrom substrate import recorded_error\n\n\n{FAILS}"
    (mine / "__init__.py").write_text(once, encoding="utf-8")
    for test in (mine / "test_greet.py", mine / "tests" / "test_hooks.py"):
        test.write_text(TESTED, encoding="utf-8")
    (fork / "tests" / "helpers.py").write_text("NAME = 'Ada'\n", encoding="utf-8")
    shared = TESTED.replace("from skills", "from helpers import NAME\nfrom skills")
    (fork / "tests" / "test_greet.py").write_text(
        shared.replace('name="Ada"', "name=NAME"), encoding="utf-8"
    )

    assert "5 passed" in machine.do(fork, "uv", "run", "pytest", "-q")
    (mine / "tests" / "test_hooks.py").write_text(TESTED.replace("Hello", "Bye"), encoding="utf-8")
    failed = end(machine.start(fork, "uv", "run", "python", "-m", "pytest", "-q"))

    assert failed.code == 1
    assert "1 failed, 4 passed" in failed.out
    shutil.rmtree(mine / "tests")


def test_own_skills_are_checked(machine: Machine, fork: Path) -> None:
    """`mypy` checks own skills and their tests, also those that nothing imports."""
    alone = fork / "skills" / "alone"
    (alone / "tests").mkdir(parents=True)
    (alone / "tools.py").write_text("def add(a: int) -> int:\n    return a\n", encoding="utf-8")
    (alone / "tests" / "test_it.py").write_text("def test_it() -> None: ...\n", encoding="utf-8")
    assert "Success" in machine.do(fork, "uv", "run", "mypy")
    (alone / "tools.py").write_text("def add(a: int) -> int:\n    return str(a)\n", "utf-8")
    (alone / "tests" / "test_it.py").write_text("def test_it(): ...\n", encoding="utf-8")

    wrong = end(machine.start(fork, "uv", "run", "mypy"))

    assert wrong.code == 1
    assert "skills/alone/tools.py:2: error: Incompatible return value" in wrong.out
    assert "skills/alone/tests/test_it.py:1: error: Function is missing" in wrong.out
    shutil.rmtree(alone)


def test_both_are_found_alone(machine: Machine, plain: Path) -> None:
    """A program that imports skills and no agent finds both, where the fork's is no package."""
    (plain / "skills" / "__init__.py").unlink(missing_ok=True)
    machine.do(plain, "uv", "run", "python", "-c", IMPORTS)
