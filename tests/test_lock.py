"""`requirements.lock` installs as it stands: with uv, and with pip, which asks for more."""

import re
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
PIN = re.compile(r"^([\w.-]+)(?:\[([^\]]*)\])?==", re.MULTILINE)
ASKED = re.compile(r"^([\w.-]+)\[([^\]]*)\]")


def names(text: str | None) -> set[str]:
    """Return the extras that a requirement lists."""
    return {name.strip() for name in (text or "").split(",") if name.strip()}


def test_extras_are_pinned_with_their_package():
    """A package that another asks for with extras is pinned with these: pip refuses it else."""
    pinned = {name.lower(): names(extras) for name, extras in PIN.findall(LOCK.read_text())}
    asked = [
        (name.lower(), names(extras))
        for installed in distributions()
        if installed.metadata["Name"].lower() in pinned
        for requirement in installed.requires or ()
        if "extra ==" not in requirement
        for name, extras in ASKED.findall(requirement)
    ]

    assert ("google-auth", {"requests"}) in asked
    assert [(name, extras) for name, extras in asked if not extras <= pinned[name]] == []


def test_no_address():
    """The lock names no index: it says what to install, not where from."""
    assert "://" not in LOCK.read_text()
