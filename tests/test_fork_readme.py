"""A fork's README: what it shows works word for word, and what it says of files is so."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from substrate.cli.app import app
from tests.fork import COMMANDS, end, environment_of
from tests.pages import Setting, add, all_blocks, make_fork

KIT = Path(__file__).resolve().parent.parent
COPIER: dict[str, Any] = yaml.safe_load((KIT / "copier.yml").read_text(encoding="utf-8"))
PAGES = ["template/README.md.jinja", "docs/how-to/update-a-fork.md"]
OF_UPDATES = re.compile(r"\{% if _copier_operation == 'update' %\}(.+?)\{% endif %\}")
NOT_BROUGHT_BACK = {found[1] for each in COPIER["_exclude"] for found in OF_UPDATES.finditer(each)}
OF_NO_FORK = {"kit", "provider", "taken", "{{ _copier_conf.answers_file }}"}


def told(page: str, whose: str) -> set[str]:
    """Return the files that a page says are somebody's."""
    text = (KIT / page).read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| {whose} \| (.*?) \|", text, re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", row))


def files() -> set[str]:
    """Return what the template makes, a folder's files as the folder where all of it is shared."""
    template = KIT / "template"
    names = {
        re.sub(r"\{%.*?%\}", "", str(file.relative_to(template)).removesuffix(".jinja"))
        for file in template.rglob("*")
        if file.is_file() and "cache" not in str(file)
    }
    return {re.sub(r"^(\.github|\.agents)/.*", r"\1/", name) for name in names - OF_NO_FORK}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_yours(page):
    """Yours is what no update touches, and what the template has nothing of."""
    assert told(page, "yours") == {*COPIER["_skip_if_exists"], "skills/"}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shared(page):
    """Shared is all else that the template makes."""
    assert told(page, "shared") == files() - set(COPIER["_skip_if_exists"])


@pytest.mark.parametrize("page", PAGES)
def test_what_is_brought_back(page):
    """Of what is yours, an update makes again what the pages name as the one that it does."""
    text = (KIT / page).read_text(encoding="utf-8")
    [row] = re.findall(r"^\| yours \|.*$", text, re.MULTILINE)

    assert set(COPIER["_skip_if_exists"]) - NOT_BROUGHT_BACK == {".env"}
    assert re.search(r"\(but `\.env`, .*\)", row)


def test_every_command_is_named():
    """The fork's README names each command that there is, and no other."""
    commands = set(typer.main.get_command(app).commands)
    text = (KIT / "template" / "README.md.jinja").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`python -m agent .*?) \|", text, re.MULTILINE)
    said = {
        re.match(r"(?:python -m agent )?(\w+)", each)[1]
        for row in rows
        for each in re.findall(r"`([^`]+)`", row)
    }

    assert said == commands


def lines_of(code: str) -> list[str]:
    """Return the lines of a program that are not blank."""
    return [line for line in code.splitlines() if line.strip()]


def test_word_for_word(
    tmp_path: Path, postgres_url: str, record_property: Callable[[str, object], None]
) -> None:
    """From the copy to an own agent with an approval and a sub-agent: what is shown works."""
    begun = time.monotonic()
    fork = make_fork(tmp_path / "template")
    readme = fork / "README.md"
    Setting(readme, tmp_path, fork, postgres_url).run(readme)
    took = time.monotonic() - begun
    mine = tmp_path / "here" / "my-agent"
    (own,) = [each for each in all_blocks(readme) if each.mark == "added to"]
    shown = end(COMMANDS.start("agent", "show", "own", cwd=mine, env=environment_of("")))

    assert len(lines_of(own.content)) <= 10
    assert (mine / "published.md").read_text(encoding="utf-8") == "Two owls."
    assert re.search(r"editor\.0 +ok +child", shown.out), shown.out
    assert '"reason": "It is short.", "state": "approved"' in shown.out
    record_property("a newcomer's path", f"{took:.1f} s, {len(lines_of(own.content))} lines")


def test_what_is_added_is_clean(tmp_path: Path) -> None:
    """The hooks with what the README adds pass the fork's own checks, once imports are in order."""
    fork = make_fork(tmp_path / "my-agent")
    (own,) = [each for each in all_blocks(fork / "README.md") if each.mark == "added to"]
    add(fork / own.said, own.content)
    for tool in (("ruff", "check", "--fix"), ("ruff", "format", "--check"), ("mypy",)):
        done = subprocess.run(
            [sys.executable, "-m", *tool],
            cwd=fork,
            env=environment_of("") | {"MYPY_CACHE_DIR": str(KIT / ".mypy_cache" / "fork")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
