"""What runs on a host's machines is pinned, may do little, and does what a person can do here."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

KIT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((KIT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of a workflow."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"])


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the steps of all its jobs."""
    return [step for job in jobs(path).values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_actions_are_pinned(path):
    """Each action is the commit of a version, which stands beside it."""
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    for each in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_little_is_allowed(path):
    """No workflow may write to the repository, keep its token, know a secret or run for hours."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(workflow["permissions"].values()) <= {"read"}
    assert "secrets." not in path.read_text(encoding="utf-8")
    for job in jobs(path).values():
        assert job["timeout-minutes"] <= 60
        assert job.get("permissions", {}).get("contents", "read") == "read"
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_only_publishing_may_publish():
    """What the index trusts is one job, behind an environment, that runs no code of ours."""
    publish = jobs(KIT / ".github" / "workflows" / "release.yml")["publish"]
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert all("run" not in step for step in publish["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_commands_are_there(path):
    """What a workflow runs can be run here: `.ci/run`, or a target of the Makefile."""
    for step in steps(path):
        command = step.get("run", "").split()
        if command[:1] == ["make"]:
            subprocess.run([*command, "-n"], cwd=KIT, check=True, capture_output=True)
        elif command and command[0] != "test":
            assert (KIT / command[0]).is_file(), command


def test_the_tag_must_be_the_version(tmp_path):
    """A tag that is not the declared version ends the release."""
    (check,) = (
        step
        for step in steps(KIT / ".github/workflows/release.yml")
        if "tag" in step.get("name", "")
    )
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    for tag, code in (("v1.2.3", 0), ("v1.2.4", 1), ("1.2.3", 1)):
        environment = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", check["run"]], cwd=tmp_path, env=environment)
        assert done.returncode == code, tag
