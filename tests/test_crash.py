"""A run that is killed at any commit comes to the same answer, and nothing committed is redone."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from substrate import Promise, PromiseState, connect
from substrate.testing import Side
from tests.analyst import Case, Outside, make_fork
from tests.struck import least, struck

KILLED = -9


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The analyst's fork, made once: its code and its shop don't change."""
    return make_fork(tmp_path_factory.mktemp("analyst"))


async def journal_of(case: Case) -> Sequence[Promise]:
    """Read what the run has recorded; nothing when its start was not committed."""
    async with connect(case.url) as client:
        return await client.store.journal(case.run_id)


def outcomes(journal: Sequence[Promise]) -> dict[str, object]:
    """Return what each promise came to; an unknown outcome stands for whatever it would be."""
    return {
        promise.key: "unknown" if "OutcomeUnknown" in (promise.error or "") else promise.value
        for promise in journal
    }


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    fork: Path, store_url: str, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """Killed before or after any commit, the run ends with the answer of one never killed.

    Counted outside the journal: `once` is called at most once a key, `idempotent` with one key,
    and `pure` is repeated only where its outcome was not committed at the kill.
    """
    folder = fork / f"{moment}-{store_url.partition(':')[0]}"
    folder.mkdir()
    control = new_case(fork, folder, store_url, "control")
    assert control.drive() == 0
    expected = outcomes(await journal_of(control))
    whole = Outside.read(control.tally)
    kills = repeated = unknown = 0
    for boundary in struck(store_url):
        case = new_case(fork, folder, store_url, f"{boundary}")
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        committed = await journal_of(case)
        called = Outside.read(case.tally).repeatable

        assert case.drive() == 0

        outside = Outside.read(case.tally)
        assert json.loads(case.answer.read_text())["text"] == answer_of(control)
        ended = outcomes(await journal_of(case))
        lost = {key for key, value in ended.items() if value == "unknown"}
        assert without(ended, lost) == without(expected, lost)
        assert all(n <= 1 for n in outside.of("once").values())
        assert len(outside.of("idempotent")) == 1
        in_flight = called - resolved(committed)
        assert outside.repeatable - whole.repeatable == in_flight
        repeated += in_flight.total()
        unknown += len(lost)
    assert kills >= least(store_url, len(expected) // 2)
    store = store_url.partition(":")[0]
    record_property(
        f"crash matrix, {store}, {moment} COMMIT",
        f"{kills} kills, 0 answers lost, once called twice 0, pure repeated {repeated} "
        f"(each uncommitted at its kill), outcomes unknown {unknown}",
    )


def without(journal: dict[str, object], lost: set[str]) -> dict[str, object]:
    """Leave out what is not comparable: unknown outcomes, and the run's own row with its usage."""
    return {key: value for key, value in journal.items() if key not in lost | {"run"}}


def new_case(fork: Path, folder: Path, url: str, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder / name}.db"
    return Case(fork, url, f"crash/{name}", folder / f"{name}.tally", folder / f"{name}.json")


def answer_of(case: Case) -> str:
    """Return the text of a case's answer."""
    text: str = json.loads(case.answer.read_text())["text"]
    return text


def resolved(journal: Sequence[Promise]) -> Counter[str]:
    """Return how many calls of the model and of each tool have their outcome recorded."""
    return Counter(promise.name for promise in journal if promise.state is not PromiseState.PENDING)
