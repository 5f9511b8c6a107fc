"""Each test file is compiled once, where nothing is compiled yet, and not by each worker.

All workers of pytest-xdist collect the same files in one order, so in a fresh clone each would
compile the same file at the same time. Here each begins to import them at another one: what it
comes to later has been compiled by another worker meanwhile.

This is a pytest plugin, named in `pyproject.toml`.
"""

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

WHOLE = "whole"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell the worker that is about to start whether it will collect all files."""
    node.workerinput[WHOLE] = node.config.args_source is pytest.Config.ArgsSource.TESTPATHS


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import the test files, from this worker's first one on. What fails is told when collected."""
    worker = getattr(session.config, "workerinput", {})
    if not worker.get(WHOLE):
        return
    names = sorted(file.stem for file in Path(__file__).parent.glob("test_*.py"))
    first = len(names) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for name in names[first:] + names[:first]:
        with suppress(Exception):
            importlib.import_module(f"tests.{name}")
