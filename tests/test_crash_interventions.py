"""What people and stopping workers do to runs survives a kill at any of its commits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from substrate.testing import Side
from tests.interventions import ENDS, Case
from tests.struck import least, struck

STRIDE = 3
"""Of so many commits one is killed at on SQLite."""


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Cancelled is cancelled, resumed is done, given up is given up; and nothing is left open."""
    store = store_url.partition(":")[0]
    kills = 0
    for boundary in struck(store_url, STRIDE):
        case = new_case(store_url, tmp_path, boundary)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        assert case.drive() == 0
        assert await case.ends() == ENDS
        assert case.open_rows() == []
    assert kills > least(store_url, 20, STRIDE)
    told = f"{kills} kills, 0 ends lost, 0 rows left open"
    record_property(f"crash matrix of interventions, {store}, {moment} COMMIT", told)


def new_case(url: str, folder: Path, boundary: int) -> Case:
    """Return a world with a database of its own on SQLite, with ids of its own on Postgres."""
    world = folder / f"{boundary}"
    world.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{world}/runs.db"
    return Case(url, f"world-{boundary}", world)
