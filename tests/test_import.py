"""Importing does nothing, and loads nothing that is not used."""

import os
import subprocess
import sys

import pytest

HEAVY = {
    "anthropic",
    "google.genai",
    "groq",
    "httpx",
    "openai",
    "psycopg",
    "psycopg_pool",
    "rich",
    "typer",
    "genai_prices",
    "httpx2",
}


LATE = {
    "apsw",
    "importlib.metadata",
    "pydantic.plugin._loader",  # which the first schema that is built loads
    "pydantic.root_model",
}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    "module",
    ["substrate", "substrate.agent", "substrate.agent.events", "skills.sql", "skills.web"],
)
def test_nothing_heavy_is_loaded(module: str) -> None:
    """Neither the substrate nor the loop nor a skill loads an SDK, psycopg or the terminal."""
    done = python(f"import {module}, sys; print(*sys.modules)")
    assert HEAVY.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "substrate",
        "substrate.agent",
        "substrate.agent.turn",
        "substrate.cli.show.runs",
        "substrate.cli.act.signal",
    ],
)
def test_only_what_every_program_needs_is_loaded(module: str) -> None:
    """Importing loads no store, reads no package's metadata and builds no schema."""
    done = python(f"import {module}, sys; print(*sys.modules)")
    assert LATE.isdisjoint(done.stdout.split())


def test_import_opens_and_writes_nothing() -> None:
    """Importing opens no socket, starts no process and writes no file."""
    watch = (
        "import sys, os\n"
        "seen = []\n"
        "def hook(event, args):\n"
        "    if event.startswith(('socket.', 'subprocess.', 'sqlite3.')):\n"
        "        seen.append(event)\n"
        "    if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+'):\n"
        "        seen.append(args[0])\n"
        "sys.addaudithook(hook)\n"
        "import substrate, substrate.agent, substrate.agent.history.run, substrate.models.model\n"
        "print(seen)"
    )
    assert python(watch, PYTHONDONTWRITEBYTECODE="1").stdout.strip() == "[]"


def test_elsewhere_it_says_where_it_runs() -> None:
    """Where there is no `fcntl`, as on Windows, importing says on which systems the kit runs."""
    done = python(
        "import sys\n"
        "sys.modules['fcntl'] = None\n"
        "try:\n"
        "    import substrate\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == "ostinato runs on Linux and macOS; on Windows, use it in WSL\n"
