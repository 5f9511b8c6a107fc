"""The script `ostinato` takes the agent of the current folder, and nothing that others need."""

import pytest

from tests.fork import Fork

SCRIPT = (
    "import sys; sys.path.pop(0); sys.argv[0] = 'ostinato'; from substrate.cli import main; main()"
)
"""What the script does: Python puts no current folder first for it."""

PLANTED = [
    *("csv", "colorsys", "rich", "typer", "json", "secrets", "random", "sqlite3", "apsw", "orjson"),
    *("pydantic", "dotenv", "asyncio", "logging", "substrate", "psycopg", "httpx2", "shop"),
]


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose folder holds files that are called as modules of others are."""
    fork = Fork.make(tmp_path)
    for name in PLANTED:
        fork.write(f"{name}.py", f"open('taken', 'a').write('{name} ')\n")
    return fork


@pytest.mark.parametrize(
    "command", ["--help", "runs", "show first", "signal first go", "run Owls?"]
)
def test_planted_modules(fork, command):
    """No command runs a file of the folder that is called as a module of somebody else is."""
    done = fork.do(*command.split(), by=("-c", SCRIPT))

    assert "fault" not in done.err
    assert not (fork.folder / "taken").exists()


def test_own_modules(fork):
    """What only the folder has is found there."""
    fork.replace("agent/hooks.py", "import asyncio\n", "import asyncio\nimport shop\n")

    assert fork.do("run", "Owls?", by=("-c", SCRIPT)).code == 0

    assert (fork.folder / "taken").read_text() == "shop "


def test_agent_of_this_folder(fork, tmp_path_factory):
    """The agent is that of the folder, also where another of its name is installed."""
    other = tmp_path_factory.mktemp("installed")
    (other / "agent").mkdir()
    (other / "agent" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    kit = fork.environment()["PYTHONPATH"]

    done = fork.do("run", "How many owls?", by=("-c", SCRIPT), PYTHONPATH=f"{other}:{kit}")

    assert (done.code, done.out) == (0, "Two owls.\n"), done.err
