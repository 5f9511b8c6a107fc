"""What is public is written down, is what the pages tell people to import, and stays."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.surface import KIT, NAMED, PUBLIC

MODULE = """
__all__ = ["start"]
def start(function, *, id, queue="default"): ...
def internal(a, b): ...
"""


def pages() -> Iterator[str]:
    """Yield the code that the pages, the template and the examples show."""
    for page in KIT.rglob("*.md"):
        inner = set(page.relative_to(KIT).parts)
        if not inner & {".venv", "tests"} and page.name != "CHANGELOG.md":
            for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
                if token.type == "fence" and token.info == "python":
                    yield token.content
    for folder in ("template", "examples"):
        for file in (KIT / folder).rglob("*.py"):
            yield file.read_text(encoding="utf-8")


def imported() -> set[tuple[str, str]]:
    """Return what these import of the kit, as modules and names."""
    return {
        (node.module, alias.name)
        for code in pages()
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.partition(".")[0] in {"substrate", "skills"}
        for alias in node.names
    }


def test_pages_import_what_is_public():
    """Whatever a page, the template or an example imports is in a public module."""
    edge = {("substrate.cli", "main")}  # the template's own way in
    found = {f"{module}.{name}" for module, name in imported() - edge if module not in PUBLIC}
    assert found <= NAMED


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_are_there(name):
    """Each public module has a docstring, and each name in its ``__all__`` stands for something."""
    module = import_module(name)
    assert module.__doc__
    for each in getattr(module, "__all__", ()):
        assert getattr(module, each) is not None


def test_it_is_written_down():
    """CONTRIBUTING.md lists the public modules, all of them."""
    text = (KIT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## What is public")[1].split("\n## ")[0]
    assert set(re.findall(r"`((?:substrate|skills)[A-Za-z_.]*)`", section)) == PUBLIC | NAMED


def test_security_names_tests_that_are_there():
    """Each promise of SECURITY.md names a test, and each of those is there."""
    text = (KIT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.split("## What is promised")[1].split("\n## ")[0].splitlines()
    for line in promises[4:]:
        named = re.findall(r"`((?:tests|skills)/[\w/]+\.py)`", line)
        assert named or not line, line
        assert all((KIT / each).is_file() for each in named), line


def test_nothing_is_broken():
    """Nothing that the last release promised is broken by a version that may not do so."""
    done = compare(KIT)
    assert done.returncode == 0, done.stdout + done.stderr


def compare(repo: Path) -> subprocess.CompletedProcess[str]:
    """Compare a repository with its last release."""
    command = [sys.executable, "-m", "tests.surface", "--repo", repo]
    return subprocess.run(command, cwd=KIT, capture_output=True, text=True)


@pytest.fixture
def repo(tmp_path) -> Path:
    """Return a repository with one release, 0.1.0."""
    folder = tmp_path / "kit"
    (folder / "substrate").mkdir(parents=True)
    write(folder, MODULE, "0.1.0")
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    git(folder, "tag", "v0.1.0")
    return folder


def write(folder: Path, module: str, version: str) -> None:
    """Write the package and its version."""
    (folder / "substrate" / "__init__.py").write_text(module)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')


def git(folder: Path, *command: str) -> None:
    """Run git with a name of its own."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "-C", folder, *who, *command], check=True, capture_output=True)


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "A change")


REMOVED = MODULE.replace(', queue="default"', "")


@pytest.mark.parametrize(
    "module, version, breaks, code",
    [
        (MODULE, "0.1.0", 0, 0),
        (MODULE.replace("(a, b)", "(a)"), "0.1.1", 0, 0),
        (MODULE.replace('="default"', '="default", at=None'), "0.1.1", 0, 0),
        (REMOVED, "0.1.1", 1, 1),
        (REMOVED, "0.2.0", 1, 0),
        (MODULE.replace("start", "begin"), "0.1.1", 1, 1),
    ],
    ids=["the same", "internal", "an option more", "removed", "and said", "renamed"],
)
def test_a_breaking_change_is_seen(repo, module, version, breaks, code):
    """What breaks code of others is named, and refused where the version does not say so."""
    write(repo, module, version)

    done = compare(repo)

    assert done.returncode == code, done.stdout + done.stderr
    assert f"{breaks} breaking changes since v0.1.0" in done.stdout
    assert ("start" in done.stdout) == bool(breaks)


def test_of_the_kit_what_is_public_counts(repo):
    """Of the kit itself, a change of what is public is seen, and one of anything else is not."""
    for package in ("substrate", "skills"):
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(KIT / package, repo / package, ignore=left, dirs_exist_ok=True)
    commit(repo)
    git(repo, "tag", "v0.1.1")
    changes = {
        "substrate/engine/client.py": (
            "async def connect(\n    url: str",
            "async def connect(\n    place: str",
        ),
        "substrate/store/connect.py": ("def _sqlite_path(url", "def _sqlite_path(text"),
        "substrate/values/clock.py": ("def time_limit(", "def limit_of("),
        "skills/web/tools.py": ("    allowed_hosts", "    hosts"),
    }
    for name, (old, new) in changes.items():
        text = (repo / name).read_text(encoding="utf-8")
        assert old in text, name
        (repo / name).write_text(text.replace(old, new), encoding="utf-8")

    done = compare(repo)

    found = {line.partition(":")[0] for line in done.stdout.splitlines()[:-1]}
    assert found == {"skills/web/tools.py", "substrate/engine/client.py"}
    assert done.returncode == 1


def test_in_a_shallow_clone(repo, tmp_path):
    """A clone without history or tags fetches what it compares with."""
    write(repo, REMOVED, "0.1.1")
    commit(repo)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", "--no-tags", f"file://{repo}", str(clone))

    done = compare(clone)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "start" in done.stdout
    assert "0.2.0" in done.stdout


def test_before_the_first_release(repo):
    """Without a release there is nothing to compare with, which is said."""
    git(repo, "tag", "-d", "v0.1.0")
    assert "no release yet" in compare(repo).stdout
