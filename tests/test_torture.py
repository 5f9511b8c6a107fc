"""The kinds of torture that take minutes with `make torture`, in seconds.

A connection that falls silent is given up after half a minute, so that kind is not here:
`test_silence` has its parts, each with a shorter patience.
"""

from pathlib import Path

import pytest

from tests.torture.family import family_storm
from tests.torture.scopes import cut_off_in_scopes
from tests.torture.tally import Tally


@pytest.fixture
def tally() -> Tally:
    return Tally()


async def test_a_storm_on_children(store_url: str, tmp_path: Path, tally: Tally):
    """Roots, children and grandchildren whose workers are killed are all done, and none is dead."""
    await family_storm(store_url, tmp_path, 30, 8, tally)
    assert tally.faults == []
    assert tally.counts["kills"] >= 4


async def test_cancel_scopes(store_url: str, tmp_path: Path, tally: Tally):
    """Workers that are cut off by scopes leave nothing behind; no crash is counted, no run lost."""
    await cut_off_in_scopes(store_url, tmp_path, 20, 25, tally)
    assert tally.faults == []
