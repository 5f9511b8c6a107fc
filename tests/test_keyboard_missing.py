"""Where prompt-toolkit is not installed, a terminal says what installs it; all else works."""

import subprocess
from pathlib import Path

import pytest

from tests.fork import AGENT, Fork
from tests.matrix import KIT, build, environment
from tests.test_chat import HOOKS
from tests.test_cli_terminal import terminal

REMEDY = "-m pip install 'prompt-toolkit<4,>=3.0.52'"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Return a Python that has the kit and all that it asks for without extras, and pip."""
    folder = tmp_path_factory.mktemp("bare")
    python = environment(folder / "env", build("wheel", KIT, folder))
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    (site / "prompt_toolkit").unlink()
    (site / "pip").mkdir()
    (site / "pip" / "__init__.py").touch()
    return python


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose agent asks before it pays back."""
    return Fork.make(tmp_path, hooks=HOOKS)


def test_chat_at_a_terminal(fork, python):
    """`chat` says the command that installs it, and has begun nothing."""
    with terminal(fork, "chat", "--id", "trip", columns="400", python=python) as window:
        window.read_until(REMEDY)

        assert window.process.wait() == 1
    assert "Traceback" not in window.plain
    assert not (fork.folder / "runs.db").exists()


def test_chat_of_lines(fork, python):
    """`chat` that is given lines works without it."""
    done = subprocess.run(
        [python, *AGENT, "chat", "--id", "trip"],
        cwd=fork.folder,
        env=fork.environment(),
        input="Good morning.\n",
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "the last: Good morning." in done.stdout


def test_run_at_a_terminal(fork, python):
    """`run` at a terminal says how a gate is decided, as it does without one."""
    with terminal(fork, "run", "A refund, please.", "--id", "r", python=python) as window:
        window.read_until("agent approve ")
    assert "Traceback" not in window.plain


def test_doctor(fork, python):
    """`doctor` warns of it, with the same command."""
    done = subprocess.run(
        [python, *AGENT, "doctor", "--json"],
        cwd=fork.folder,
        env=fork.environment(),
        capture_output=True,
        text=True,
    )

    assert REMEDY in done.stdout, done.stderr
