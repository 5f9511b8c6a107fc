"""What the tests print at the end: figures that a test recorded with `record_property`."""

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print each recorded figure on a line of its own."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get("passed", [])
    figures = [(name, value) for report in reports for name, value in report.user_properties]
    if figures:
        terminalreporter.section("figures")
        for name, value in sorted(figures):
            terminalreporter.write_line(f"{name}: {value}")
