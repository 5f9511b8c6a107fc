"""Nothing is made in silence: a command that looks makes no database, one that runs says so."""

import pytest

from tests.fork import Fork

OWLS = "How many owls?"

LOOKING = [
    ("runs",),
    ("show", "first"),
    ("signal", "first", "go", "true"),
    ("resume", "first"),
    ("run", "--id", "first"),
    ("cancel", "first"),
    ("discard", "first"),
    ("runs", "--json"),
    ("show", "first", "--json"),
]


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork that has never run."""
    return Fork.make(tmp_path)


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "sqlite:///dta/runs.db"])
def test_looking_makes_nothing(fork, url):
    """A command that looks, or acts on a run that there is, makes neither a file nor a folder."""
    before = sorted(each.name for each in fork.folder.iterdir())

    done = {command: fork.do(*command, DATABASE_URL=url) for command in LOOKING}

    assert sorted(each.name for each in fork.folder.iterdir()) == before
    for command, each in done.items():
        if command[0] == "runs":
            assert each.code == 0
            continue
        assert each.code == 1, command
        path = url.removeprefix("sqlite:///")
        assert f"there is no database {path!r} in {str(fork.folder)!r}" in each.err + each.out
    assert f"no runs in {url}, which is not there yet; start one: " in done["runs",].out


def test_the_first_run_says_what_it_made(fork):
    """`run` says that the file is new, once; no folder is made for it."""
    first, second = fork.do("run", OWLS), fork.do("run", OWLS)
    mistyped = fork.do("run", OWLS, DATABASE_URL="sqlite:///dta/runs.db")

    assert (first.code, second.code, mistyped.code) == (0, 0, 1)
    assert "the database 'runs.db' is new" in first.err
    assert "is new" not in second.err
    assert f"there is no folder 'dta' in {str(fork.folder)!r} for the database" in mistyped.err
    assert not (fork.folder / "dta").exists()


def test_another_folder(tmp_path):
    """Outside of a fork nothing is made, and what is to be done is said."""
    done = Fork(tmp_path, "sqlite:///runs.db").do("runs", by=("-c", AS_SCRIPT))

    assert done.code == 1
    assert "no agent here; cd into your fork, or make one" in done.err
    assert list(tmp_path.iterdir()) == []


AS_SCRIPT = "import sys; sys.argv[0] = 'bin/ostinato'; from substrate.cli import main; main()"
