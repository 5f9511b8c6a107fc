"""What all tests share: what they print at the end, and a process that has heard of no limit."""

from typing import Any

import pytest

from substrate.models.quota import QUOTA


@pytest.fixture(autouse=True)
def unlimited() -> None:
    """Forget what other tests' servers asked this process to wait for."""
    QUOTA.forget()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print each recorded figure on a line of its own."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get("passed", [])
    figures = [(name, value) for report in reports for name, value in report.user_properties]
    if figures:
        terminalreporter.section("figures")
        for name, value in sorted(figures):
            terminalreporter.write_line(f"{name}: {value}")
