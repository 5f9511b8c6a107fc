"""A map that its budget does not pay for in full stays within it, wherever it is killed."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from substrate.testing import Side
from substrate.values.codec import decode
from tests.surveying import BUDGET, PLACES, Case
from tests.test_crash_desk import asked, dollars, grants, used

BOUNDARIES = {"sqlite": (6, 11, 19), "postgresql": (8, 15)}
"""Commits at which one is killed: as the first children start, and as others end."""


def new_case(url: str, folder: Path, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"surveying/{name}", folder)


async def check(case: Case) -> Counter[str]:
    """See that what is recorded is within the budget; return what each child was granted."""
    cost = (await used(case)).cost_usd
    assert cost is not None
    assert BUDGET / 2 < cost <= BUDGET
    assert Decimal(case.answer["usage"]["cost_usd"]) == cost
    return Counter(decode(each)["usd"] for each in grants(case).values())  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_in_the_middle(store_url: str, tmp_path: Path, moment: Side) -> None:
    """Twice killed, it spends no more, beside the calls in flight, and grants nothing anew."""
    control = new_case(store_url, tmp_path, "control")
    assert control.drive() == 0
    whole = await check(control)
    assert dollars(asked(control)) <= BUDGET
    assert 0 < whole["0"] < PLACES  # those for which nothing was left
    for boundary in BOUNDARIES[store_url.partition(":")[0]]:
        case = new_case(store_url, tmp_path, f"{boundary}")
        assert case.drive(boundary, moment) != 0
        assert case.drive(boundary, moment) != 0
        assert case.drive() == 0

        found = await check(case)
        assert found.keys() == whole.keys()
        assert found.total() == whole.total()
        # What was asked and not recorded at the kills was asked again.
        assert dollars(asked(case)) - (await used(case)).cost_usd <= _in_flight(case)


def _in_flight(case: Case) -> Decimal:
    """Return what was asked more than once, each time but one."""
    return dollars(Counter({note: n - 1 for note, n in asked(case).items() if n > 1}))
