"""A machine of a user's: uv, git, copier, an index of packages, a clone of the kit; no network.

`Machine` is a folder with all of it, made once for all processes of a session. The index has what
is installed here; the clone has what lies here, edits included, released as v0.1.0. A test that
changes the clone takes one of its own (`copy_kit`): what is built of this one is built once.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import copier
import pytest

from tests.wheels import make_wheels

KIT = Path(__file__).resolve().parent.parent
LIMIT_S = 240
NOT_COPIED = {"examples", "requirements.lock", "tests", "uv.lock"}
# What a fork needs beside its kit.
NEEDED = ("editables~=0.3", "hatchling", "mypy", "pytest", "pytest-asyncio", "ruff")


def find_uv() -> str:
    """Return the uv of this environment or machine; skip the test where there is none."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed, and what it does with a fork is what is tested")
    return found


def git(folder: Path, *command: str) -> str:
    """Run git with a name of its own, and return what it printed."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    done = subprocess.run(
        ["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str = "Mine", tag: str | None = None) -> str:
    """Put all of a folder's files into its history, and return the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", message)
    if tag:
        git(folder, "tag", "-a", tag, "-m", tag)
    return git(folder, "rev-parse", "HEAD")


def copy_kit(folder: Path) -> str:
    """Make a clone of the kit as it lies here, released as v0.1.0; return its commit."""
    folder.mkdir()
    left = shutil.ignore_patterns("__pycache__", ".*_cache", "runs.db*", "notes.md")
    for each in KIT.iterdir():
        is_left = each.name.startswith(".") and each.name != ".ci"  # which has what builds it
        if is_left or each.name in NOT_COPIED or each.suffix in {".db", ".whl"}:
            continue
        if each.is_dir():
            shutil.copytree(each, folder / each.name, ignore=left)
        else:
            shutil.copy(each, folder)
    return commit(folder, "v0.1.0", "v0.1.0")


@dataclass(frozen=True, slots=True)
class Machine:
    """A folder with an index of packages and a cache, which uv and pip know of."""

    folder: Path
    uv: str

    @classmethod
    def shared(cls, folder: Path) -> "Machine":
        """Make it, or wait until another process has, and return it."""
        folder.mkdir(exist_ok=True)
        made = folder / "made"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                cls.make(folder)
                made.touch()
        return cls(folder, find_uv())

    @classmethod
    def make(cls, folder: Path) -> "Machine":
        """Make the index and the clone."""
        machine = cls(folder, find_uv())
        copy_kit(machine.kit)
        project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        of_kit = (*project["dependencies"], *extras["chat"], *extras["anthropic"])
        make_wheels(folder / "wheels", *of_kit, *NEEDED)
        (folder / "uv").mkdir()
        settings = f"no-index = true\nfind-links = [{json.dumps(str(folder / 'wheels'))}]\n"
        (folder / "uv" / "uv.toml").write_text(settings, encoding="utf-8")
        return machine

    @property
    def kit(self) -> Path:
        """The clone of the kit."""
        return self.folder / "kit"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of a shell on this machine: no key, no settings of the real one."""
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(self.folder),
            "PATH": f"{Path(self.uv).parent}:{os.defpath}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.folder / "wheels"),
            "PIP_NO_INDEX": "1",
            "UV_CACHE_DIR": str(self.folder / "cache"),
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "XDG_CONFIG_HOME": str(self.folder),
        }

    def start(self, where: Path, *command: str, **more: str) -> subprocess.Popen[str]:
        """Start a command in a folder."""
        return subprocess.Popen(
            [self.uv if command[0] == "uv" else command[0], *command[1:]],
            cwd=where,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, where: Path, *command: str, **more: str) -> str:
        """Do a command that must succeed, and return what it printed, errors last."""
        process = self.start(where, *command, **more)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, f"{command}\n{out}\n{err}"
        return out + err

    def copy(self, kit: Path, folder: Path, ref: str | None = "HEAD") -> Path:
        """Make a fork of a commit of the kit, and install nothing."""
        copier.run_copy(str(kit), folder, defaults=True, vcs_ref=ref, quiet=True, unsafe=False)
        return folder

    def fork(self, kit: Path, folder: Path, ref: str | None = "HEAD") -> Path:
        """Make a fork, with its lock, in its own history, and install it."""
        self.copy(kit, folder, ref)
        self.do(folder, "uv", "sync")
        commit(folder, "Fork")
        return folder

    def installed_commit(self, fork: Path) -> str:
        """Return the commit that the fork's installed substrate says it is of."""
        ask = (
            "from importlib.metadata import distribution as d; import json, substrate; "
            "print(json.loads(d('ostinato').read_text('direct_url.json'))"
            "['vcs_info']['commit_id'])"
        )
        return self.do(fork, "uv", "run", "python", "-c", ask).splitlines()[0]
