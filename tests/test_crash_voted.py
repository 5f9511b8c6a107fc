"""A panel survives every kill: its votes, its answer and its cost are those of one never killed."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from substrate import connect
from substrate.testing import Side
from substrate.values.codec import decode
from tests import voting
from tests.advised import Case
from tests.struck import least, struck
from tests.test_crash_advised import new_case


async def votes(case: Case) -> list[str]:
    """Return the keys of all replies that are recorded, of members and judges, as ids."""
    async with connect(case.url) as client:
        used = await client.store.usages(f"{case.run_id}#")
    # The row of a panel has what was estimated: nobody has replied there.
    is_reply = [(id_, not decode(each)["model"].startswith("panel:")) for id_, each in used]
    return [id_.removeprefix(f"{case.run_id}#") for id_, is_own in is_reply if is_own]


def counted(notes: Counter[str]) -> Counter[str]:
    """Return what was noted by those that answer."""
    return Counter({key: n for key, n in notes.items() if not key.startswith("slow")})


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """No recorded reply is paid twice, and who was not waited for is not asked again.

    Counted outside: a request is made again only where its reply was not recorded at the kill.
    """
    control = new_case(store_url, tmp_path, "control", voting)
    assert control.drive() == 0
    kills = repeated = 0
    for boundary in struck(store_url):
        case = new_case(store_url, tmp_path, f"{boundary}", voting)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        noted, recorded = case.outside.notes, await votes(case)

        assert case.drive() == 0

        assert json.loads(case.answer) == json.loads(control.answer)
        assert set(counted(case.outside.notes)) == set(counted(control.outside.notes))
        again = (counted(case.outside.notes) - counted(control.outside.notes)).total()
        assert again == counted(noted).total() - len(recorded)
        repeated += again
        for turn in (0, 1):
            if f"model.{turn}/quick.0" in recorded:
                assert case.outside.notes[f"slow {turn}"] == noted[f"slow {turn}"]
    assert kills >= least(store_url, 10)
    store = store_url.partition(":")[0]
    told = f"{kills} kills, 0 answers lost, {repeated} replies asked for again, none recorded"
    record_property(f"crash matrix of panels, {store}, {moment} COMMIT", told)


async def test_never_killed(store_url: str, tmp_path: Path) -> None:
    """A run that is not killed has it all: a straggler, a missing vote, a judge asked again."""
    case = new_case(store_url, tmp_path, "whole", voting)
    assert case.drive() == 0
    recorded = await votes(case)
    answer = json.loads(case.answer)
    child = "tools.0/counters.0/counters.0#model.0"

    assert (answer["text"], answer["turns"]) == ("Two.", 2)
    assert sorted(recorded) == sorted(
        [
            "model.0/quick.0",
            "model.1/quick.0",
            *(f"check.1/rubric.0/{each}.0" for each in ("kind", "stern")),
            *(f"{child}/judge.{k}/{each}.0" for k in (0, 1) for each in ("mild", "strict")),
            *(f"{child}/{each}" for each in ("one.0", "two.0")),
        ]
    )
    assert case.outside.notes["slow 0"] == case.outside.notes["slow 1"] == 1
