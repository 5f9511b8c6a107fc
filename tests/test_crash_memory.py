"""A run that writes memory, and a child of it that is undone, killed at any commit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from substrate.testing import Side
from tests.memories import STANDING, Case, Counts, counts, standing
from tests.struck import least, struck

STRIDE = 3
"""Of so many commits one is killed at on SQLite."""


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """No row is written twice, none is lost, none is there without its promise, at the kill too.

    Counted in the database: right after the kill, and when the run has ended.
    """
    store = store_url.partition(":")[0]
    kills = 0
    for boundary in struck(store_url, STRIDE):
        case = new_case(store_url, tmp_path, boundary)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        if kills > 1:  # before the first commit there are no tables
            assert counts(case.url) == Counts(0, 0, 0)
        assert case.drive() == 0
        assert counts(case.url) == Counts(0, 0, 0)
        assert standing(case.url, case.namespace) == STANDING
    assert kills >= least(store_url, 36, STRIDE)
    record_property(
        f"crash matrix of memory, {store}, {moment} COMMIT",
        f"{kills} kills, facts twice 0, lost 0, rows without their promise 0",
    )


def new_case(url: str, folder: Path, boundary: int) -> Case:
    """Return a run with a database of its own."""
    world = folder / f"{boundary}"
    world.mkdir()
    if url.startswith("sqlite"):
        return Case(f"sqlite:///{world}/runs.db", f"crash/{boundary}", world)
    return Case(url, f"crash/{boundary}", world)
