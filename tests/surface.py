"""`make public`: what is public, and whether it still does what it did in the last release.

Before 1.0.0 a minor version may break it, and from then on a major one (CHANGELOG.md); any other
may not. A clone that is shallow has no tags, so that of the last release is fetched.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import griffe

KIT = Path(__file__).resolve().parent.parent

PUBLIC = {
    "substrate",
    "substrate.agent",
    "substrate.agent.events",
    "substrate.agent.prompt",
    "substrate.agent.stop",
    "substrate.agent.task",
    "substrate.agent.tool",
    "substrate.agent.turn",
    "substrate.agent.answer_type",
    "substrate.testing.cassette",
    "substrate.models.cheapest",
    "substrate.models.messages",
    "substrate.models.model",
    "substrate.models.providers.scripted",
    "substrate.models.request",
    "substrate.testing",
    "skills.sql",
    "skills.web",
}
"""The modules whose names are promised: those of ``__all__``, or all without an underscore."""

NAMED = {"substrate.store.connect.open_store", "substrate.values.clock.OffsetClock"}
"""What is promised of other modules."""

_COLOUR = re.compile(r"\x1b\[\d+m")

Version = tuple[int, int, int]


def main(arguments: list[str]) -> int:
    """Compare a repository with its last release, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, default=KIT)
    repo = parser.parse_args(arguments).repo
    tag = last_release(repo)
    if tag is None:
        print("there is no release yet, so there is nothing to compare with")
        return 0
    broken = list(breakages(repo, tag))
    for each in broken:
        print(each)
    before, now = version_of(tag), version_of(declared(repo))
    if broken and not may_break(before, now):
        print(
            f"{len(broken)} breaking changes since {tag}; take them back, or set the version in "
            f"pyproject.toml to {written(next_breaking(before))} and say so in CHANGELOG.md"
        )
        return 1
    print(f"{len(broken)} breaking changes since {tag}, and this is {written(now)}")
    return 0


def last_release(repo: Path) -> str | None:
    """Return the newest release before this commit, fetched where the clone is shallow."""
    described = git(repo, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    if described.returncode == 0:
        return described.stdout.decode().strip()
    if git(repo, "rev-parse", "--is-shallow-repository").stdout.strip() != b"true":
        return None
    listed = git(repo, "ls-remote", "--tags", "--refs", "origin", "v[0-9]*")
    if listed.returncode:
        raise SystemExit(f"the clone is shallow, and its origin does not answer: {listed.stderr!r}")
    tags = re.findall(r"refs/tags/(v\d+\.\d+\.\d+)$", listed.stdout.decode(), re.MULTILINE)
    newest = max(tags, key=version_of, default=None)
    if newest:
        git(repo, "fetch", "--quiet", "--depth", "1", "origin", "tag", newest).check_returncode()
    return newest


def breakages(repo: Path, tag: str) -> Iterator[str]:
    """Yield what is public and was changed since a tag so that code of its users breaks."""
    with tempfile.TemporaryDirectory() as folder:
        archive = git(repo, "archive", tag)
        archive.check_returncode()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        for package in sorted({name.partition(".")[0] for name in PUBLIC}):
            if (Path(folder) / package).is_dir():
                old, new = surface(Path(folder), package), surface(repo, package)
                for each in griffe.find_breaking_changes(old, new):
                    said = _COLOUR.sub("", each.explain(griffe.ExplanationStyle.ONE_LINE))
                    yield said.removeprefix(f"{folder}/").removeprefix(f"{repo}/")


def surface(root: Path, package: str) -> griffe.Module:
    """Return a package as its source describes it, with only its public modules public."""
    loader = griffe.GriffeLoader(search_paths=[root], allow_inspection=False)
    loaded = loader.load(package, try_relative_path=False)
    assert isinstance(loaded, griffe.Module)
    loader.resolve_aliases(implicit=False, external=False)
    for module in modules(loaded):
        module.public = any(f"{name}.".startswith(f"{module.path}.") for name in PUBLIC | NAMED)
        if module.path not in PUBLIC:
            for member in module.members.values():
                is_module = not member.is_alias and member.is_module
                member.public = is_module or member.path in NAMED
    return loaded


def modules(root: griffe.Module) -> Iterator[griffe.Module]:
    """Yield a module and all below it."""
    yield root
    for each in root.modules.values():
        if isinstance(each, griffe.Module):
            yield from modules(each)


def declared(repo: Path) -> str:
    """Return the version that a repository declares."""
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def version_of(text: str) -> Version:
    """Return the three numbers of a version or a tag."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if numbers is None:
        raise SystemExit(f"{text!r} is no version; write three numbers, like 0.2.0")
    return int(numbers[1]), int(numbers[2]), int(numbers[3])


def written(version: Version) -> str:
    """Return a version as it is written."""
    return ".".join(map(str, version))


def next_breaking(version: Version) -> Version:
    """Return the next version that may break what is public."""
    return (0, version[1] + 1, 0) if version[0] == 0 else (version[0] + 1, 0, 0)


def may_break(before: Version, now: Version) -> bool:
    """Say whether a version may break what an earlier one promised."""
    return now >= next_breaking(before)


def git(repo: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in a repository."""
    return subprocess.run(["git", "-C", repo, *command], capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
