"""An agent with an approval, sub-agents and panels at once survives kills, within its budget."""

import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from substrate import connect
from substrate.agent.history.usage import summed
from substrate.models.messages import Usage
from substrate.testing import Side
from substrate.values.gates import GateState
from tests.desk import BUDGET, Case
from tests.stores import database
from tests.struck import least, struck

STRIDE = 4
"""Of so many commits one is killed at on SQLite."""


def new_case(url: str, folder: Path, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"desk/{name}", folder)


async def to_its_end(case: Case) -> None:
    """Approve what is asked while nobody works, and drive on, for as long as more is asked."""
    while await case.decide():
        assert case.drive() == 0


async def states(case: Case) -> dict[str, GateState]:
    """Return how each gate was decided, by its place."""
    async with connect(case.url) as client:
        found = await client.store.gates.of_tree(case.run_id)  # type: ignore[arg-type]
    return {each.id.removeprefix(case.run_id): each.state for each in found}


async def used(case: Case) -> Usage:
    """Return what is recorded of it and of all below it."""
    async with connect(case.url) as client:
        return summed(await client.store.usages(f"{case.run_id}#"))


def grants(case: Case) -> dict[str, str]:
    """Return what each child was granted."""
    with database(case.url) as db:
        rows = db.rows(
            "SELECT id, granted FROM promises WHERE granted IS NOT NULL AND id LIKE :below",
            below=f"{case.run_id}#%",
        )
    return {id_.removeprefix(case.run_id): str(granted) for id_, granted in rows}


def asked(case: Case) -> Counter[str]:
    """Return what models were asked, and for how much."""
    return Counter({note: n for note, n in case.notes.items() if note.startswith("asked ")})


def called(case: Case, effect: str) -> list[str]:
    """Return what was done with an effect, each time that it was."""
    return [note for note in case.notes.elements() if note.startswith(f"{effect} ")]


def dollars(notes: Counter[str]) -> Decimal:
    """Return what was asked cost together."""
    return sum((Decimal(note.rpartition(" ")[2]) * n for note, n in notes.items()), Decimal(0))


def is_in_doubt(case: Case) -> bool:
    """Whether nobody knows if the call was made that must not be made twice."""
    return re.match(r"OutcomeUnknown: ", case.answer["text"]) is not None


async def check(case: Case, control: Case) -> None:
    """See that a run that was killed came to what one came to that was not."""
    assert await states(case) == await states(control)
    assert len(set(called(case, "idempotent"))) == 1
    assert grants(case) == grants(control)
    cost = (await used(case)).cost_usd
    assert cost is not None
    assert cost <= BUDGET
    if is_in_doubt(case):
        assert len(called(case, "once")) <= 1
        return
    assert case.answer == control.answer
    assert called(case, "once") == ["once A"]
    assert await used(case) == await used(control)
    assert set(asked(case)) == set(asked(control))


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Before people have decided, and after: the same gates, grants, votes, answer and cost.

    Counted outside: `once` once, `idempotent` by one key, and no model call made again but the one
    that was in flight at the kill.
    """
    store = store_url.partition(":")[0]
    control = new_case(store_url, tmp_path, "control")
    assert control.drive() == 0
    await to_its_end(control)
    kills = repeated = doubts = 0
    for phase in range(2):
        for boundary in struck(store_url, STRIDE, times=2):
            case = new_case(store_url, tmp_path, f"{phase}.{boundary}")
            if phase:  # all that was asked is approved already
                assert case.drive() == 0
                assert await case.decide() == 2
            if case.drive(boundary, moment) == 0:
                break
            kills += 1

            assert case.drive() == 0
            await to_its_end(case)

            await check(case, control)
            doubts += is_in_doubt(case)
            again = asked(case) - asked(control)
            repeated += again.total()
            assert dollars(asked(case)) <= BUDGET + dollars(again)
    assert kills >= least(store_url, 24, STRIDE)
    told = f"{kills} kills, 0 decisions, votes or answers lost, 0 once twice, {doubts} in doubt"
    record_property(
        f"crash matrix of all at once, {store}, {moment} COMMIT", f"{told}, {repeated} asked again"
    )


async def test_never_killed(sqlite_url: str, tmp_path: Path) -> None:
    """A run that is not killed has it all: two gates, children, panels, and most of a budget."""
    case = new_case(sqlite_url, tmp_path, "whole")
    assert case.drive() == 0
    assert called(case, "once") == called(case, "idempotent") == []
    assert await case.decide() == 2
    assert case.drive() == 0

    assert case.answer["text"] == "refunded A | paid B | Two."
    assert [key.rpartition("/")[2] for key in grants(case)] == ["buyer.0", "board.0"]
    assert set((await states(case)).values()) == {GateState.APPROVED}
    assert {note.split()[1] for note in asked(case)} == {"quick", "buyer", "a", "b"}
    assert BUDGET / 2 < Decimal(case.answer["usage"]["cost_usd"]) <= BUDGET
