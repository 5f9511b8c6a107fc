"""The order of the tests begins with the longest, and keeps a file's in one process."""

from pathlib import Path

import pytest

from tests.order import LONGEST, ONE_BY_ONE, together

KIT = Path(__file__).resolve().parent.parent


def test_every_file_is_there():
    """The files that begin are named once, and each is there."""
    assert len(set(LONGEST)) == len(LONGEST)
    assert [name for name in LONGEST if not (KIT / name).is_file()] == []


def test_the_longest_begin(request: pytest.FixtureRequest):
    """Of all tests that run here, those of the longest files come first, in their order."""
    ranks = [LONGEST.index(file) if file in LONGEST else len(LONGEST) for file in _files(request)]
    assert ranks == sorted(ranks)


def _files(request: pytest.FixtureRequest) -> list[str]:
    return [item.nodeid.partition("::")[0] for item in request.session.items]


def test_a_file_stays_together():
    """A test goes where its file does, unless each test of that file is long by itself."""
    assert together("tests/test_cli.py::test_a[x::y]") == together("tests/test_cli.py::test_b")
    for file in ONE_BY_ONE:
        assert together(f"{file}::test_a[x]") != together(f"{file}::test_a[y]")


def test_what_is_quick_touches_every_room():
    """`make test-quick` has files that are there, with some of each room and of each skill."""
    quick = [KIT / name for name in (KIT / "tests" / "quick.txt").read_text().splitlines()]
    told = "\n".join(path.read_text(encoding="utf-8") for path in quick)
    rooms = [each.parent.name for each in (KIT / "substrate").glob("[a-z]*/__init__.py")]
    skills = {each.parent.name for each in (KIT / "skills").glob("*/__init__.py")}

    assert len({*rooms, "values", "store", "engine", "models", "agent", "cli"}) == len(rooms)
    assert [room for room in rooms if f"substrate.{room}" not in told] == []
    assert skills == {path.relative_to(KIT).parts[1] for path in quick if "skills" in path.parts}
