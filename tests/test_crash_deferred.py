"""An agent that goes on while people are asked survives every kill: each decision is followed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from substrate import connect
from substrate.testing import Side
from substrate.values.gates import GateState
from tests.deferrer import Case
from tests.struck import least, struck

ANSWER = "forbidden was not called: ada denied it: no | paid A | paid b | saw C | waited for E"


def new_case(url: str, folder: Path, name: str, *, talks: bool) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"deferrer/{name}", folder, talks)


async def to_its_end(case: Case, *, at_once: bool) -> None:
    """Decide open gates while nobody works, all or one, and drive on, until none is left."""
    while await case.decide_one():
        while at_once and await case.decide_one():
            pass
        assert case.drive() == 0


def by_effect(case: Case, effect: str) -> list[str]:
    """Return what was done with an effect, each time that it was."""
    return sorted(note for note in case.notes.elements() if note.startswith(f"{effect} "))


def without_doubt(answer: str) -> str:
    """Return an answer as if a call that may have happened had told that it did."""
    known = re.sub(r"OutcomeUnknown: [^|]*'pay_once'[^|]*(?= \||$)", "paid A", answer)
    known = re.sub(r"OutcomeUnknown: [^|]*'wait_for_me'[^|]*(?= \||$)", "waited for E", known)
    return " | ".join(sorted(known.split(" | ")))


async def states(case: Case) -> dict[str, GateState]:
    """Return how each gate was decided, by its key."""
    async with connect(case.url) as client:
        found = await client.store.gates.of_tree(case.run_id)  # type: ignore[arg-type]
    return {each.id.partition("#")[2]: each.state for each in found}


@pytest.mark.parametrize("talks", [False, True], ids=["run", "conversation"])
@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_every_commit(
    store_url: str,
    tmp_path: Path,
    moment: Side,
    record_property: Callable[[str, object], None],
    *,
    talks: bool,
) -> None:
    """While people are asked, and after they have decided: nothing decided is lost or done twice.

    Counted outside: `once` once, `idempotent` by one key, and nothing that was denied.
    """
    kills = repeated = doubts = 0
    control = new_case(store_url, tmp_path, "control", talks=talks)
    assert control.drive() == 0
    await to_its_end(control, at_once=True)
    assert await control.answer() == ANSWER
    decided = await states(control)
    for phase in range(3):
        for boundary in struck(store_url, 3):
            case = new_case(store_url, tmp_path, f"{phase}.{boundary}", talks=talks)
            if phase:
                assert case.drive() == 0
            if phase == 2:  # it has gone on, and waits with an answer
                await case.decide_one("wait_for_me")
                assert case.drive() == 0
            while phase and await case.decide_one():
                pass
            if case.drive(boundary, moment) == 0:
                break
            kills += 1

            assert case.drive() == 0
            await to_its_end(case, at_once=bool(boundary % 4 > 1))

            answer = await case.answer()
            assert without_doubt(answer) == ANSWER
            assert await states(case) == decided
            for order in ("A", "E"):
                times = by_effect(case, "once").count(f"once {order}")
                assert times == 1 or (times == 0 and "OutcomeUnknown" in answer)
            assert "once D" not in by_effect(case, "once")
            doubts += "OutcomeUnknown" in answer
            assert len(set(by_effect(case, "idempotent"))) == 1
            told = [note for note in set(case.notes) if note.startswith("told")]
            assert sorted(told) == sorted(n for n in set(control.notes) if n.startswith("told"))
            repeated += case.notes.total() - control.notes.total()
    assert kills >= least(store_url, 18, 3)
    told_ = f"{kills} kills, 0 decisions lost, 0 once twice, {doubts} in doubt, {repeated} repeated"
    store, kind = store_url.partition(":")[0], "conversation" if talks else "run"
    record_property(f"crash matrix of deferred calls, {kind}, {store}, {moment} COMMIT", told_)
