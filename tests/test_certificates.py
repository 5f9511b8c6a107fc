"""A client that a test makes is made at once: it loads one certificate, not those of the world."""

import httpx
import httpx2
import pytest


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_one_is_trusted(library):
    """A client of either library trusts the one authority that is there for the tests."""
    assert len(library.create_ssl_context().get_ca_certs()) == 1
