"""A loop that is warned, sums up, has children work and mends its answer survives every kill.

So does one whose answers go back for a doubt, for a check and for a judge; and one whose context
fills, where results go, facts to memory, and a summary takes the place of turns.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from substrate import connect
from substrate.agent.history.rows import cut_of
from substrate.testing import Side
from substrate.values.codec import decode
from tests import advised, checked, compacted
from tests.advised import Case
from tests.struck import least, struck


def new_case(url: str, folder: Path, name: str, module: ModuleType = advised) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"advised/{name}", folder, module.__name__)


async def replies(case: Case) -> int:
    """Return how many replies are recorded, of the agent and of its children."""
    async with connect(case.url) as client:
        return len(await client.store.usages(f"{case.run_id}#"))


async def keys(case: Case) -> set[str]:
    """Return the keys of the agent's journal."""
    async with connect(case.url) as client:
        return {promise.key for promise in await client.journal(case.run_id)}


MODULES = [advised, checked, compacted]


@pytest.mark.parametrize("module", MODULES, ids=lambda each: each.__name__.rpartition(".")[2])
@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str,
    tmp_path: Path,
    moment: Side,
    module: ModuleType,
    record_property: Callable[[str, object], None],
) -> None:
    """The answer, its cost and the rows are those of a run never killed; no reply is paid twice.

    Counted outside: a request is made again only where its reply was not recorded at the kill.
    """
    control = new_case(store_url, tmp_path, "control", module)
    assert control.drive() == 0
    kills = repeated = 0
    for boundary in struck(store_url):
        case = new_case(store_url, tmp_path, f"{boundary}", module)
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        called, recorded = case.outside.notes.total(), await replies(case)

        assert case.drive() == 0

        assert json.loads(case.answer) == json.loads(control.answer)
        assert set(case.outside.notes) == set(control.outside.notes)
        assert await keys(case) == await keys(control)
        again = case.outside.notes.total() - control.outside.notes.total()
        assert again == called - recorded
        repeated += again
    assert kills >= least(store_url, 12)
    store = store_url.partition(":")[0]
    told = f"{kills} kills, 0 answers lost, {repeated} replies asked for again, none recorded"
    name = module.__name__.rpartition(".")[2]
    record_property(f"crash matrix of the loop, {name}, {store}, {moment} COMMIT", told)


async def test_never_killed(store_url: str, tmp_path: Path) -> None:
    """A run that is not killed has all of it: three children, a warning, a summary, a mending."""
    case = new_case(store_url, tmp_path, "whole")
    assert case.drive() == 0
    async with connect(case.url) as client:
        names = Counter(promise.name for promise in await client.journal(case.run_id))
        used = [decode(each) for _, each in await client.store.usages(f"{case.run_id}#")]
    answer = json.loads(case.answer)

    assert (answer["value"], answer["reason"], answer["turns"]) == ({"owls": 2}, "answered", 5)
    assert names["model"] == 5
    assert (names["warning"], names["summary"], names["spent"]) == (1, 1, 3)
    assert answer["usage"]["cost_usd"] == "0.09"
    assert len(used) == 9


async def test_never_killed_and_checked(store_url: str, tmp_path: Path) -> None:
    """A run that is not killed has all of it: a doubt, a check, and a judge that is asked again."""
    case = new_case(store_url, tmp_path, "whole", checked)
    assert case.drive() == 0
    async with connect(case.url) as client:
        keys = [promise.key for promise in await client.journal(case.run_id)]
    answer = json.loads(case.answer)

    assert (answer["text"], answer["reason"]) == ("Two owls, in the attic.", "signalled")
    assert (answer["ended_by"], answer["turns"]) == ("agent", 5)
    assert answer["usage"]["cost_usd"] == "0.08"
    assert {"revision.2", "check.2/names_owls.0", "check.3/rubric.1", "check.4/rubric.0"} <= {*keys}


async def test_never_killed_and_compacted(store_url: str, tmp_path: Path) -> None:
    """A run that is not killed has all of it: results go, facts are kept, a summary is none."""
    case = new_case(store_url, tmp_path, "whole", compacted)
    assert case.drive() == 0
    async with connect(case.url) as client:
        rows = {promise.key: promise for promise in await client.journal(case.run_id)}
        cuts = [cut for row in rows.values() if (cut := cut_of(row))]
    answer = json.loads(case.answer)

    assert (answer["text"], answer["turns"]) == ("Two owls.", 9)
    assert answer["usage"]["cost_usd"] == f"{len(case.outside.notes) / 100:.2f}"
    assert {"compact.0/extract.0/remember.0", "compact.0/summary.0"} <= rows.keys()
    assert cuts[0].messages > 0
    assert any(cut.failed for cut in cuts)
    assert any(cut.results for cut in cuts)
