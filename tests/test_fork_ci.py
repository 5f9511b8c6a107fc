"""A fork's workflow is read strictly, and its commands are done in a fork that was made."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.machine import LIMIT_S, Machine, git

KIT = Path(__file__).resolve().parent.parent
WORKFLOW = KIT / "template" / ".github" / "workflows" / "ci.yml"
ACTIONS = {"actions/checkout@v6", "astral-sh/setup-uv@v7"}


def workflow() -> dict[str, Any]:
    """Return the workflow; YAML takes its key `on` for a truth value."""
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in loaded.items()}


def commands() -> list[str]:
    """Return what its steps run, in order."""
    return [step["run"] for step in workflow()["jobs"]["test"]["steps"] if "run" in step]


def test_it_is_well_formed() -> None:
    """It has no key that GitHub does not know, may only read, and ends by itself."""
    found = workflow()
    assert set(found) == {"name", "on", "permissions", "concurrency", "jobs"}
    assert found["permissions"] == {"contents": "read"}
    assert found["on"] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert found["concurrency"]["cancel-in-progress"] is True
    [job] = found["jobs"].values()
    assert set(job) == {"runs-on", "timeout-minutes", "steps"}
    assert job["timeout-minutes"] <= 30
    for step in job["steps"]:
        assert set(step) <= {"uses", "with", "run"}
        assert ("uses" in step) != ("run" in step)
        assert step.get("uses", "actions/checkout@v6") in ACTIONS
    assert job["steps"][0]["with"] == {"persist-credentials": False}
    expressions = re.findall(r"\$\{\{\s*(\S+)\s*\}\}", WORKFLOW.read_text(encoding="utf-8"))
    assert expressions == ["github.workflow", "github.ref"]


def test_nothing_runs_when_a_fork_is_made() -> None:
    """The template has no tasks: who makes a fork need not trust it with more than its files."""
    asked = yaml.safe_load((KIT / "copier.yml").read_text(encoding="utf-8"))
    assert not [key for key in asked if key in ("_tasks", "_migrations", "_jinja_extensions")]


def test_its_commands_pass(machine: Machine, tmp_path: Path) -> None:
    """Each command of it passes in a fresh fork, from a checkout of what was committed.

    So do those that a fork's pages name beside them.
    """
    fork = machine.fork(machine.kit, tmp_path / "my-agent")
    checkout = tmp_path / "checkout"
    git(tmp_path, "clone", "--quiet", str(fork), str(checkout))
    done = commands()
    assert done[0] == "uv sync --locked"
    assert {"uv run ruff check", "uv run mypy", "uv run pytest"} <= set(done)
    for command in done:
        ended = subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=checkout,
            env={**machine.environment, "CI": "true"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    machine.do(checkout, "uv", "run", "python", "-m", "agent", "doctor")
    killed = machine.do(
        checkout, "uv", "run", "python", "-m", "agent", "crash", "--only", "tools.1/*"
    )
    assert "2 of 2 kills came to the same end" in killed
    assert git(checkout, "status", "--porcelain") == ""
