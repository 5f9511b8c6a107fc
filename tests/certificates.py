"""One certificate for the tests' clients to trust, where they would load those of the whole world.

That takes each client 20 ms, and the tests make thousands, none of which speaks TLS with anybody
beyond this machine. A test of TLS names the certificates that it means itself.

This is a pytest plugin, named in `pyproject.toml`, since a conftest.py serves one folder only.
"""

import os
import tempfile
from pathlib import Path

import certifi
import pytest

VARIABLE = "SSL_CERT_FILE"
END = "-----END CERTIFICATE-----\n"


def pytest_configure(config: pytest.Config) -> None:
    """Have one certificate trusted, here and by what is started here: workers, too, are."""
    if hasattr(config, "workerinput"):
        return
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition(END)
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(f"{first}{end}")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = file.name
    config.add_cleanup(lambda: leave(Path(file.name), before))


def leave(file: Path, before: str | None) -> None:
    """Trust again who was trusted before."""
    os.environ.pop(VARIABLE)
    if before is not None:
        os.environ[VARIABLE] = before
    file.unlink(missing_ok=True)
