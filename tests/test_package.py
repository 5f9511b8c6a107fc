"""What is published holds the kit, all of it, and nothing else."""

import re
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.matrix import KIT, build

LARGEST = 300_000
"""Bytes of a file that somebody wrote; the lock is the longest."""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build("sdist", KIT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", KIT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel: Path) -> Message:
    """Return what an index is told."""
    files = contents(wheel)
    (name,) = (each for each in files if each.endswith(".dist-info/METADATA"))
    return message_from_bytes(files[name])


def sources(*folders: str) -> set[str]:
    """Return the files of the tree that belong into a wheel."""
    files = (path for folder in folders for path in (KIT / folder).rglob("*") if path.is_file())
    names = {str(path.relative_to(KIT)) for path in files if "__pycache__" not in path.parts}
    return {name for name in names if not re.match(r"skills/.*(/tests/|/test_)", name)}


def is_written(content: bytes) -> bool:
    """Say whether a file may be one that somebody wrote: no wheel, cache, dump or database."""
    try:
        return len(content) < LARGEST and "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def test_sdist_has_what_somebody_wrote(sdist):
    """The source archive is below one megabyte, and each file in it is text that somebody wrote."""
    with tarfile.open(sdist) as archive:
        files = {
            member.name.partition("/")[2]: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile()
        }

    assert sdist.stat().st_size < 1_000_000
    assert [name for name, content in files.items() if not is_written(content)] == []
    for needed in (
        "copier.yml",
        "template/pyproject.toml.jinja",
        "examples/demo.py",
        "LICENSE",
    ):
        assert needed in files
    assert sources("substrate", "skills") <= files.keys()
    assert not any(name.startswith(("tests/", "requirements")) for name in files)


def test_wheel_has_both_packages_and_no_more(wheel):
    """The wheel has every file of both packages but the skills' tests, and its own records."""
    names = contents(wheel).keys()
    records = {name for name in names if ".dist-info/" in name}

    assert names - records == sources("substrate", "skills")
    assert {name.partition("/")[2] for name in records} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    assert wheel.stat().st_size < 1_500_000


def test_wheel_of_the_sdist_is_the_same(sdist, wheel, tmp_path):
    """A wheel that is built from the source archive equals the one built from the tree."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()

    rebuilt = build("wheel", unpacked, tmp_path / "dist")

    assert contents(rebuilt) == contents(wheel)


def test_index_page(wheel):
    """An index shows the README, without links that would lead nowhere there."""
    page = metadata(wheel).get_payload()

    assert "A phrase that persists" in page
    assert "substrate/README.md: the guarantees" in page
    assert "<picture>" not in page
    assert [each for each in re.findall(r"\]\(([^)]*)\)", page) if "://" not in each] == []
    assert "[uv](https://docs.astral.sh/uv/)" in page


def test_what_it_says_it_runs_on(wheel):
    """It says Linux and macOS, not everywhere, and the Pythons that the checks run on."""
    said = set(metadata(wheel).get_all("Classifier"))
    workflow = (KIT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (checked,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)

    assert {each for each in said if each.startswith("Operating System")} == {
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
    }
    pythons = {each.rpartition(" ")[2] for each in said if re.search(r":: 3\.\d+$", each)}
    assert pythons == set(re.findall(r"3\.\d+", checked))


def test_nothing_is_tracked_that_nobody_wrote():
    """The repository tracks no wheel, cache, dump or database, and would not take one in."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=KIT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name and (KIT / name).is_file()]

    assert [name for name in names if not is_written((KIT / name).read_bytes())] == []
    for name in ("scipy-1.17.1-cp311-cp311-manylinux_2_28_x86_64.whl", "dist/x.tar.gz", "runs.db"):
        ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=KIT)
        assert ignored.returncode == 0, name
