"""A fork's Dockerfile makes a worker that drives runs, writes to its volume only, and ends.

There is no Docker here: each step is done in folders that stand for the stages' file systems, with
the commands that the file names. Which user a step runs as is read, not tried.
"""

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.keeper import wait_until
from tests.machine import LIMIT_S, Machine

LIMIT_OF_RUN_S = 60
# What makes users and gives them files: written down in the place of being done.
PRIVILEGED = ("chown", "useradd")


@dataclass
class Stage:
    """A stage's file system, and what was set for the commands in it."""

    root: Path
    user: str = "root"
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def at(self, path: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / (Path(self.folder) / path).as_posix().lstrip("/")


@dataclass
class Builder:
    """Does a Dockerfile's steps in a folder."""

    machine: Machine
    context: Path
    folder: Path
    stages: dict[str, Stage] = field(default_factory=dict)

    def build(self) -> Stage:
        """Do every step, and return the last stage."""
        stage = Stage(self.folder / "none")
        for step, rest in steps((self.context / "Dockerfile").read_text(encoding="utf-8")):
            match step:
                case "FROM":
                    image, _, name = rest.partition(" AS ")
                    assert re.fullmatch(r"python:3\.\d+-[\w-]+", image)
                    stage = Stage(self.folder / (name or "last"))
                    self.stages[name or "last"] = stage
                    stage.root.mkdir(parents=True)
                case "ENV":
                    pairs = (pair.partition("=") for pair in shlex.split(rest))
                    stage.variables |= {name: value for name, _, value in pairs}
                case "WORKDIR":
                    stage.folder = rest
                    stage.at("").mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self.copy(stage, *rest.split())
                case "RUN":
                    self.run(stage, rest)
                case "USER":
                    stage.user = rest
                case "VOLUME":
                    stage.volumes.append(rest)
                case "HEALTHCHECK":
                    stage.health = re.findall(r'"([^"]+)"', rest.partition("CMD ")[2])
                case "STOPSIGNAL":
                    assert rest == "SIGTERM"
                case "CMD":
                    stage.command = [each.strip('", ') for each in rest.strip("[]").split(",")]
                case _:
                    pytest.fail(f"this test knows no step {step!r}")
        return stage

    def copy(self, stage: Stage, *words: str) -> None:
        """Copy from another stage, or what the context has and its .dockerignore lets through."""
        *sources, target = words
        if sources[0] == "--from=build":
            shutil.copytree(self.stages["build"].at(sources[1]), stage.at(target), symlinks=True)
        elif sources[0].startswith("--from="):
            assert sources[1:] == ["/uv"]  # the one in the machine's path stands for it
        else:
            for source in sources:
                for file in self.context_files(source):
                    to = stage.at(target) / file.relative_to(self.context)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, to)

    def context_files(self, source: str) -> Iterator[Path]:
        """Yield the files of the context below a path that .dockerignore does not take out."""
        base = self.context / source
        lines = (self.context / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        for file in [base] if base.is_file() else base.rglob("*"):
            name = file.relative_to(self.context).as_posix()
            is_out = False
            for rule in rules:
                pattern = rule.lstrip("!").removeprefix("**/")
                parts = name.split("/")
                is_hit = (
                    any(fnmatch(part, pattern) for part in parts)
                    if "**" in rule
                    else (fnmatch(parts[0], pattern))
                )
                is_out = not rule.startswith("!") if is_hit else is_out
            if file.is_file() and not is_out:
                yield file

    def run(self, stage: Stage, line: str) -> None:
        """Do a command of the shell, with the image's paths where they lie here."""
        here = re.sub(r"(?<=\s)/\w+", lambda path: shlex.quote(str(stage.at(path[0]))), line)
        shims = self.folder / "shims"
        shims.mkdir(exist_ok=True)
        for name in PRIVILEGED:
            (shims / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {shims}/done\n')
            (shims / name).chmod(0o755)
        path = f"{shims}:{self.machine.environment['PATH']}"
        subprocess.run(
            ["sh", "-e", "-c", here],
            cwd=stage.at(""),
            env={**self.machine.environment, **stage.variables, "PATH": path},
            check=True,
            timeout=LIMIT_S,
        )


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield a Dockerfile's steps, comments left out."""
    for line in text.replace("\\\n", "").splitlines():
        if line.strip() and not line.startswith("#"):
            step, _, rest = line.partition(" ")
            yield step, rest


def outcomes(database: Path) -> list[str]:
    """Return the states of the runs that are in a database, if it has its tables yet."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
    ):
        return [status for (status,) in connection.execute("SELECT status FROM runs")]
    return []


def files_of(folder: Path) -> set[str]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_worker_of_the_image(machine: Machine, tmp_path: Path) -> None:
    """The image's command drives a run, writes to the volume only, and ends on SIGTERM with 0."""
    fork = machine.fork(machine.kit, tmp_path / "my-agent")
    (fork / ".env").write_text("ANTHROPIC_API_KEY=secret\n", encoding="utf-8")
    (fork / "skills" / "mine").mkdir(parents=True)
    (fork / "skills" / "mine" / "__init__.py").write_text("HERE = 1\n", encoding="utf-8")

    image = Builder(machine, fork, tmp_path / "image").build()

    done = (tmp_path / "image" / "shims" / "done").read_text(encoding="utf-8")
    assert f"useradd --uid 10001 --create-home {image.user}\n" in done
    assert f"chown {image.user} {image.at('/data')}\n" in done
    assert [image.folder] == image.volumes
    inside = files_of(image.root)
    assert not {name for name in inside if ".env" in Path(name).name}
    assert any(name.endswith("site-packages/skills/mine/__init__.py") for name in inside)
    assert any(name.endswith("site-packages/skills/web/__init__.py") for name in inside)
    assert not any("/mypy/" in name for name in inside)

    assert set(image.variables) == {"PATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED"}
    binaries = image.at("/app/.venv/bin")
    assert image.variables["PATH"] == "/app/.venv/bin:$PATH"
    there = {**machine.environment, **image.variables, "PATH": f"{binaries}:{os.defpath}"}
    image.command[0] = str(binaries / image.command[0])
    asked = [*image.command[:3], "run", "What is an ostinato?", "--id", "first"]
    database = image.at("runs.db")
    image.health[0] = image.command[0]

    def health() -> int:
        return subprocess.run(image.health, cwd=image.at(""), env=there, timeout=60).returncode

    assert health() == 1  # nothing is there yet
    asking = subprocess.Popen(asked, cwd=image.at(""), env=there)
    try:  # a run that is begun, and whose process is killed
        assert wait_until(lambda: outcomes(database) != [], LIMIT_OF_RUN_S)
    finally:
        asking.kill()
        asking.wait()
    assert outcomes(database) != ["done"]
    worker = subprocess.Popen(image.command, cwd=image.at(""), env=there)
    try:
        assert wait_until(lambda: outcomes(database) == ["done"], LIMIT_OF_RUN_S)
        assert health() == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=LIMIT_OF_RUN_S) == 0
    finally:
        worker.kill()
        worker.wait()
    made = files_of(image.root) - inside
    assert {"data/runs.db", "data/notes.md"} <= made
    assert {name.split("/")[0] for name in made} == {"data"}
