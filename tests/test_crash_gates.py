"""An agent that asks people survives every kill: each decision counts once, and is followed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from substrate import connect
from substrate.testing import Side
from substrate.values.gates import GateState
from tests.asker import Case
from tests.struck import least, struck

ANSWER = "paid A | {edited}paid b | saw C | forbidden was not called: ada denied it: no | blue"


def new_case(url: str, folder: Path, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"asker/{name}", folder)


async def to_its_end(case: Case) -> None:
    """Decide all open gates while nobody works, and drive on; again, while more are asked."""
    while await case.decide_one():
        while await case.decide_one():
            pass
        assert case.drive() == 0


def by_effect(case: Case, effect: str) -> list[str]:
    """Return what was done with an effect, each time that it was."""
    return [
        note
        for note, times in case.notes.items()
        for _ in range(times)
        if note.startswith(f"{effect} ")
    ]


def without_doubt(answer: str) -> str:
    """Return an answer as if the call that may have happened had told that it did."""
    return re.sub(r"^OutcomeUnknown: [^|]*(?= \|)", "paid A", answer)


async def states(case: Case) -> dict[str, GateState]:
    """Return how each gate was decided, by its key."""
    async with connect(case.url) as client:
        found = await client.store.gates.of_tree(case.run_id)  # type: ignore[arg-type]
    return {each.id.partition("#")[2]: each.state for each in found}


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_every_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Before people have decided, and after: the same gates, decided once, and the same answer.

    Counted outside: `once` once, `idempotent` by one key, and nothing that was denied.
    """
    store = store_url.partition(":")[0]
    control = new_case(store_url, tmp_path, "control")
    assert control.drive() == 0
    await to_its_end(control)
    decided = await states(control)
    kills = repeated = doubts = 0
    for phase in range(2):
        for boundary in struck(store_url):
            case = new_case(store_url, tmp_path, f"{phase}.{boundary}")
            if phase:  # decided by people already, all but one
                assert case.drive() == 0
                for _ in range(3):
                    await case.decide_one()
            if case.drive(boundary, moment) == 0:
                break
            kills += 1

            assert case.drive() == 0
            await to_its_end(case)

            assert without_doubt(case.answer) == control.answer
            assert await states(case) == decided
            is_in_doubt = case.answer != control.answer
            assert by_effect(case, "once") in ([["once A"], []] if is_in_doubt else [["once A"]])
            doubts += is_in_doubt
            assert len(set(by_effect(case, "idempotent"))) == 1
            told = [note for note in set(case.notes) if note.startswith("told")]
            assert sorted(told) == sorted(n for n in set(control.notes) if n.startswith("told"))
            repeated += case.notes.total() - control.notes.total()
    assert kills >= least(store_url, 20)
    told_ = f"{kills} kills, 0 decisions lost, 0 once twice, {doubts} in doubt, {repeated} repeated"
    record_property(f"crash matrix of gates, {store}, {moment} COMMIT", told_)


async def test_never_killed(store_url: str, tmp_path: Path) -> None:
    """Five calls, four gates of people and one that a rule decides, and an answer with them all."""
    case = new_case(store_url, tmp_path, "whole")
    assert case.drive() == 0
    assert by_effect(case, "once") == []
    await to_its_end(case)
    edited = 'A person changed the arguments before the call; what ran is {"order":"b"}. Result:\n'
    assert case.answer == ANSWER.format(edited=edited)
    assert sorted((await states(case)).values()) == [
        GateState.ANSWERED,
        GateState.APPROVED,
        GateState.AUTO_APPROVED,
        GateState.DENIED,
        GateState.EDITED,
    ]
    assert len([note for note in case.notes.elements() if note.startswith("told")]) == 4
