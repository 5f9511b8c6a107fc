"""What all tests share: what they print at the end, and a machine on which forks are installed."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.warm import SHARED

if TYPE_CHECKING:
    from tests.machine import Machine

# Some machines tell Python to keep nothing that it has compiled: hundreds of processes would
# compile the kit again, and each worker all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a shell, whose children ignore Ctrl-C, as theirs would: some tests
    # send it to processes that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Begun with `nohup`: the tests go on when their terminal is closed, but what they start ends.
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return two workers a core: the tests wait for other processes longer than they compute."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Have all workers fork their commands from the same processes (`tests/warm.py`)."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="ostinato-warm-")
        os.environ[SHARED] = folder.name
        config.add_cleanup(lambda: os.environ.pop(SHARED, None))
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what all tests import to no collection of garbage, each of which would look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> "Machine":
    """A machine of a user's, on which forks are installed; all workers share one."""
    from tests.machine import Machine

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Machine.shared(folder / "machine")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print each recorded figure on a line of its own, and each matrix as a table."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get("passed", [])
    recorded = [(name, value) for report in reports for name, value in report.user_properties]
    figures = [(name, value) for name, value in recorded if name != "matrix"]
    if figures:
        terminalreporter.section("figures")
        for name, value in sorted(figures):
            terminalreporter.write_line(f"{name}: {value}")
    cells = [tuple(value) for name, value in recorded if name == "matrix"]
    for title in dict.fromkeys(cell[0] for cell in cells):
        terminalreporter.section(title)
        for line in _table([cell[1:] for cell in cells if cell[0] == title]):
            terminalreporter.write_line(line)


def _table(cells: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table with these cells: row, column, content."""
    rows = list(dict.fromkeys(row for row, _, _ in cells))
    columns = sorted({column for _, column, _ in cells})
    contents = {(row, column): content for row, column, content in cells}
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {row} | {' | '.join(contents.get((row, each), '') for each in columns)} |"
