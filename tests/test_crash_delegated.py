"""An agent that hands tasks to others survives every kill, and so does what they may spend."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from substrate import connect
from substrate.testing import Side
from tests.delegating import Case
from tests.stores import database
from tests.struck import least, struck


def new_case(url: str, folder: Path, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"delegating/{name}", folder)


async def replies(case: Case) -> int:
    """Return how many replies are recorded, of the agent and of all below it."""
    async with connect(case.url) as client:
        return len(await client.store.usages(f"{case.run_id}#"))


def grants(case: Case) -> dict[str, str]:
    """Return what each child was granted, by its id below the run."""
    with database(case.url) as db:
        rows = db.rows(
            "SELECT id, granted FROM promises WHERE granted IS NOT NULL AND id LIKE :below",
            below=f"{case.run_id}#%",
        )
    return {id_.removeprefix(case.run_id): str(granted) for id_, granted in rows}


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Answer, cost and grants are those of a run never killed; no recorded reply is paid twice."""
    store = store_url.partition(":")[0]
    control = new_case(store_url, tmp_path, "control")
    assert control.drive() == 0
    kills = repeated = 0
    for boundary in struck(store_url):
        case = new_case(store_url, tmp_path, f"{boundary}")
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        called, recorded = case.outside.notes.total(), await replies(case)

        assert case.drive() == 0

        assert json.loads(case.answer) == json.loads(control.answer)
        assert grants(case) == grants(control)
        assert set(case.outside.notes) == set(control.outside.notes)
        again = case.outside.notes.total() - control.outside.notes.total()
        assert again == called - recorded
        repeated += again
    assert kills >= least(store_url, 30)
    told = f"{kills} kills, 0 answers lost, {repeated} replies asked for again, none recorded"
    record_property(f"crash matrix of sub-agents, {store}, {moment} COMMIT", told)


async def test_never_killed(store_url: str, tmp_path: Path) -> None:
    """A run that is not killed has it all: a grandchild, a second try, a map, a handoff."""
    case = new_case(store_url, tmp_path, "whole")
    assert case.drive() == 0
    answer = json.loads(case.answer)
    granted = grants(case)
    kinds = Counter(id_.rpartition("/")[2] for id_ in granted)

    assert answer["reason"] == "answered"
    assert answer["text"].startswith("Two owls, deep. | 'stubborn' has no answer (2 tries")
    assert answer["text"].endswith("closer goes on with this conversation from here.")
    assert '["An owl.","An owl."]' in answer["text"]
    assert answer["usage"]["cost_usd"] == "0.11"
    assert kinds == {"middle.0": 1, "deep.0": 1, "stubborn.0": 1, "stubborn.1": 1} | {
        "0": 1,
        "1": 1,
    }
