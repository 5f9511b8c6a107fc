"""A fork is installed with pip alone as its README says, kit and all, by an old pip too."""

import re
import sys
from pathlib import Path

from tests.machine import Machine, git

PIP = re.compile(r"^\.venv/bin/pip install (.+)$", re.MULTILINE)


def test_pip_alone(machine: Machine, tmp_path: Path) -> None:
    """The README's commands install the kit at its commit, and the fork's tests pass."""
    fork = machine.copy(machine.kit, tmp_path / "my-agent")
    readme = (fork / "README.md").read_text(encoding="utf-8")
    assert "python -m venv .venv\n" in readme
    (asked,) = PIP.findall(readme)

    machine.do(fork, sys.executable, "-m", "venv", ".venv")
    python = str(fork / ".venv" / "bin" / "python")
    machine.do(fork, python, "-m", "pip", "install", "--no-compile", *asked.split())

    assert f"@{git(machine.kit, 'rev-parse', 'HEAD')}" in machine.do(
        fork, python, "-m", "pip", "freeze"
    )
    assert "2 passed" in machine.do(fork, python, "-m", "pytest", "-q")
