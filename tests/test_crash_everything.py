"""A run that uses every primitive, killed at any commit, comes to the same result."""

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest

from substrate.testing import Side
from tests.everything import Case, check_effects, check_nothing_twice, prepare
from tests.struck import struck


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Nothing committed is done again, nothing is lost, and nothing is left open.

    Counted outside: `once` at most once a key, `idempotent` with one key, a transaction exactly
    once, every undo done; `pure` is repeated only where its outcome was not committed at the kill.
    """
    store = store_url.partition(":")[0]
    kills = repeated = 0
    for boundary in struck(store_url, times=2):
        case = new_case(store_url, tmp_path, boundary)
        await prepare(case)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        called, recorded = case.outside.notes, case.recorded()
        assert case.drive() == 0
        repeated += check_nothing_twice(case, called, recorded)
    assert kills > 5
    record_property(
        f"crash matrix of everything, {store}, {moment} COMMIT",
        f"{kills} kills, 0 results lost, once called twice 0, transactions repeated 0, "
        f"undos left out 0, pure repeated {repeated} (each uncommitted at its kill)",
    )


FIRST, TAKEOVER = 14, 7
"""The commit at which the first worker is killed, and the commits of the second that are tried."""


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_while_it_takes_over(store_url: str, tmp_path: Path, moment: Side) -> None:
    """A worker that is killed while it takes a dead one's runs back loses and doubles nothing."""
    for boundary in takewhile(TAKEOVER.__ge__, struck(store_url, times=1)):
        case = new_case(store_url, tmp_path, boundary)
        await prepare(case)
        assert case.drive(FIRST, Side.AFTER) != 0
        assert case.drive(boundary, moment) != 0
        assert case.drive() == 0
        check_effects(case)


def new_case(url: str, folder: Path, boundary: int) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    world = folder / f"{boundary}"
    world.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{world}/runs.db"
    return Case(url, f"crash/{boundary}", world)
