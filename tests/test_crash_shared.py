"""Runs that follow a namespace, write in it and vote there, killed at any commit of any of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from substrate.testing import Side
from tests.memories import Counts, counts
from tests.sharing import Case
from tests.stores import database
from tests.struck import least, struck

STRIDE = 7
"""Of so many commits one is killed at on SQLite."""


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Each text is heard once, each vote counted once, and each outcome is one, whoever dies."""
    kills, store = 0, store_url.partition(":")[0]
    for boundary in struck(store_url, STRIDE):
        case = new_case(store_url, tmp_path, boundary)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        assert case.drive() == 0
        assert counts(case.url) == Counts(0, 0, 0)
        with database(case.url) as db:
            assert db.value("SELECT count(*) FROM followers WHERE is_due = 1") == 0
            ns = f"acme/{case.run_id}"
            states = db.rows(f"SELECT state FROM motions WHERE ns = '{ns}' ORDER BY n")
            votes = db.value(f"SELECT count(*) FROM ballots WHERE ns = '{ns}'")
            decided = db.rows(f"SELECT gone_n FROM decisions WHERE ns = '{ns}'")
        assert [state for (state,) in states] == ["open", "passed", "open", "expired"]
        assert votes == 2
        assert decided == [(None,)]
    assert kills >= least(store_url, 45, STRIDE)
    record_property(f"crash matrix of followers, {store}, {moment} COMMIT", f"{kills} kills")


def new_case(url: str, folder: Path, boundary: int) -> Case:
    """Return a run with a database of its own."""
    world = folder / f"{boundary}"
    world.mkdir()
    if url.startswith("sqlite"):
        return Case(f"sqlite:///{world}/runs.db", f"shared/{boundary}", world)
    return Case(url, f"shared/{boundary}", world)
