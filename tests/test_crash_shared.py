"""A run that follows a namespace, and one that writes in it, killed at any commit of either."""

from collections.abc import Callable
from pathlib import Path

import pytest

from substrate.testing import Side
from tests.memories import Counts, counts
from tests.sharing import Case
from tests.stores import database
from tests.struck import struck


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Whoever follows hears each text once, in order, whenever both of them die."""
    kills = 0
    for boundary in struck(store_url, 4):
        case = new_case(store_url, tmp_path, boundary)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        assert case.drive() == 0
        assert counts(case.url) == Counts(0, 0, 0)
        with database(case.url) as db:
            assert db.value("SELECT count(*) FROM followers WHERE is_due = 1") == 0
    assert kills > 5
    store = store_url.partition(":")[0]
    record_property(f"crash matrix of followers, {store}, {moment} COMMIT", f"{kills} kills")


def new_case(url: str, folder: Path, boundary: int) -> Case:
    """Return a run with a database of its own."""
    world = folder / f"{boundary}"
    world.mkdir()
    if url.startswith("sqlite"):
        return Case(f"sqlite:///{world}/runs.db", f"shared/{boundary}", world)
    return Case(url, f"shared/{boundary}", world)
