"""A conversation survives every kill: nothing said or decided is lost, doubled or moved."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from substrate import connect
from substrate.testing import Side
from tests.struck import least, struck
from tests.talking import ALSO, SAID, Case

STRIDE = 6
"""Of so many commits one is killed at on SQLite."""


def new_case(url: str, folder: Path, name: str) -> Case:
    """Return a run with a database of its own on SQLite, with an id of its own on Postgres."""
    folder = folder / name
    folder.mkdir()
    if url.startswith("sqlite"):
        url = f"sqlite:///{folder}/runs.db"
    return Case(url, f"talking/{name}", folder)


async def heard(case: Case) -> list[tuple[str, str | None]]:
    """Return what the run was told, in order, by the rows that hold it, and what it carried on."""
    names = ("prompt", "message", "heard", "carried", "answer")
    async with connect(case.url) as client:
        rows = await client.journal(case.run_id)
    return [(row.key, row.value) for row in rows if row.name in names]


async def replies(case: Case) -> int:
    """Return how many replies are recorded."""
    async with connect(case.url) as client:
        return len(await client.store.usages(f"{case.run_id}#"))


def asked(case: Case) -> Counter[str]:
    """Return what the model was asked."""
    return Counter({note: n for note, n in case.notes.items() if note.startswith("asked ")})


def is_in_doubt(case: Case) -> bool:
    """Whether nobody knows if the call was made that must not be made twice."""
    return "OutcomeUnknown" in case.answer["answers"][0]["text"]


@pytest.mark.parametrize("moment", list(Side))
async def test_killed_at_any_commit(
    store_url: str, tmp_path: Path, moment: Side, record_property: Callable[[str, object], None]
) -> None:
    """The same messages in the same order, the same answers and cost, and the refund made once.

    What people say and decide is killed at its commits as well, and done again.
    """
    store = store_url.partition(":")[0]
    control = new_case(store_url, tmp_path, "control")
    assert control.drive() == 0
    kills = repeated = doubts = 0
    for boundary in struck(store_url, STRIDE, times=2):
        case = new_case(store_url, tmp_path, f"{boundary}")
        if case.drive(boundary, moment) == 0:
            break
        kills += 1
        called, recorded = asked(case).total(), await replies(case)

        assert case.drive() == 0

        again = asked(case).total() - asked(control).total()
        assert again == called - recorded
        repeated += again
        if is_in_doubt(case):
            doubts += 1
            assert case.notes["once A"] <= 1
            assert [key for key, _ in await heard(case)] == [key for key, _ in await heard(control)]
            continue
        assert case.answer == control.answer
        assert await heard(case) == await heard(control)
        assert set(asked(case)) == set(asked(control))
        assert case.notes["once A"] == 1
    assert kills >= least(store_url, 36, STRIDE)
    told = f"{kills} kills, 0 messages or answers lost, doubled or moved, {doubts} in doubt"
    record_property(
        f"crash matrix of a conversation, {store}, {moment} COMMIT", f"{told}, {repeated} repeated"
    )


async def test_never_killed(sqlite_url: str, tmp_path: Path) -> None:
    """A conversation that is not killed has it all: a message in between, and a new generation."""
    case = new_case(sqlite_url, tmp_path, "whole")
    assert case.drive() == 0
    first, second, third = SAID

    assert [each["text"] for each in case.answer["answers"]] == [
        f"{first} | {ALSO} | refunded A",
        f"{first} | {ALSO} | {second} | An owl.",
        f"{first} | {ALSO} | {second} | {third}",
    ]
    assert case.answer["generation"] == 1
    assert [key for key, _ in await heard(case)] == [
        *("prompt.0", "heard.8", "answer.0"),
        *("message.0", "prompt.1", "answer.1", "carried.0"),
        *("g1/message.0", "g1/prompt.0", "g1/answer.0", "g1/message.1"),
    ]
