"""The watcher's own tests: weeks in milliseconds, since the clock is the test's own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from agent import hooks
from agent.beliefs import believed
from agent.board import BOARD, serve
from agent.watch import OUTBOX, PATIENT, next_morning, watch
from substrate import Client, RunStatus, connect
from substrate.agent import Model
from substrate.models.messages import Reply, StopReason, Text
from substrate.models.model import PROVIDERS
from substrate.testing import ManualClock

DAY_S = 24 * 60 * 60


@pytest.fixture(autouse=True)
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Work in an empty folder, with no provider's key set, and a board."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        for key in provider.keys:
            monkeypatch.delenv(key, raising=False)
    server = serve()
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told() -> list[str]:
    """Return what the person was told so far."""
    lines = OUTBOX.read_text(encoding="utf-8").splitlines() if OUTBOX.exists() else []
    return [line.partition("  ")[2] for line in lines]


async def wake(client: Client) -> None:
    """Be a worker for as long as there is something to do."""
    async with client.work([watch]) as worker:
        await worker.run_until_idle()
    assert (await client.get("w")).status is RunStatus.SUSPENDED


async def test_weeks_of_notices(board: str) -> None:
    """Told is what is new, and nothing twice: not where a notice goes, and comes again."""
    clock = ManualClock()
    always = ["A lamp is sold.", "A cat is missing."]
    weeks = {0: [*always, always[0]], 3: [*always, "A room is free."], 9: always[:1], 15: always}
    weeks[20] = ["A cat is missing.", "A choir looks for a bass."]
    async with connect("sqlite:///runs.db", clock) as client:
        await client.start(watch.of(board), id="w")
        for day in range(22):
            if day in weeks:
                BOARD.write_text("\n".join(weeks[day]), encoding="utf-8")
            await wake(client)
            clock.advance(DAY_S)
        journal = await client.journal("w")
    assert told() == [*always, "A room is free.", "A choir looks for a bass."]
    mornings = [each for each in journal if each.name == "look"]
    asked = [each for each in journal if each.kind == "child"]
    assert len(mornings) == 22
    assert len(asked) == 5, "a page that is as it was costs no model call"


async def test_what_was_believed(board: str) -> None:
    """Corrected on the third day, it says on the fifth what it believed on the second."""
    clock = ManualClock()
    days = ["", "The choir meets on Friday.", "The choir meets on Saturday.", "A cat.", "A dog."]
    at: list[datetime] = []
    async with connect("sqlite:///runs.db", clock) as client:
        await client.start(watch.of(board), id="w")
        for page in days:
            BOARD.write_text(page, encoding="utf-8")
            await wake(client)
            at.append(datetime.fromtimestamp(clock.now_ms() / 1000, UTC))
            clock.advance(DAY_S)
        said = []
        for day, moment in enumerate(at, 1):
            async with client.work([believed]):
                await client.start(believed.of("w", "choir", moment), id=f"asked/{day}")
                said.append(await client.result(f"asked/{day}", believed))
        sources = [each.partition(", by ")[2] for each in said[1] + said[4]]
        steps = await client.store.promises(sources)
    days_said = [[each.partition(",")[0] for each in answer] for answer in said]
    saturday = ["meets_on Saturday"]
    assert days_said == [[], ["meets_on Friday"], saturday, saturday, saturday]
    assert [step.name for step in steps.values()] == ["remember", "remember"]


async def test_a_page_that_is_away(board: str) -> None:
    """It is tried for an hour; the third morning in a row is news; what came meanwhile is told."""
    clock = ManualClock()
    async with connect("sqlite:///runs.db", clock) as client:
        await client.start(watch.of(board), id="w")
        for _ in range(5):
            for _ in range(PATIENT.max_attempts):
                await wake(client)
                clock.advance(60 * 60)
            clock.advance(DAY_S - 60 * 60 * PATIENT.max_attempts)
        assert len(told()) == 1
        assert "could not be read on 3 mornings" in told()[0]
        BOARD.write_text("A lamp is sold.", encoding="utf-8")
        await wake(client)
    assert told()[1:] == ["A lamp is sold."]


async def test_a_model_that_fails(board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it declines to read is told the next morning, and what it says again is not told."""
    refused = Reply((Text("I would rather not."),), StopReason.REFUSAL, "scripted", "")
    turns = [
        refused,
        '{"notices": ["A lamp is sold."]}',
        '{"notices": ["A lamp is sold.", "A cat"]}',
    ]
    clock = ManualClock()
    known: list[list[str]] = []
    async with connect("sqlite:///runs.db", clock) as client:
        await client.start(watch.of(board), id="w")
        for page, turn in zip(("lamp", "lamp", "lamp and cat"), turns, strict=True):
            monkeypatch.setattr(hooks, "model", Model("scripted:moody", script=[turn]))
            BOARD.write_text(page, encoding="utf-8")
            await wake(client)
            known.append(told())
            clock.advance(DAY_S)
    assert known == [[], ["A lamp is sold."], ["A lamp is sold.", "A cat"]]


async def test_a_worker_that_was_away(board: str) -> None:
    """After ten days without a worker it looks once, and not ten times."""
    clock = ManualClock()
    BOARD.write_text("A lamp is sold.", encoding="utf-8")
    async with connect("sqlite:///runs.db", clock) as client:
        await client.start(watch.of(board), id="w")
        await wake(client)
        clock.advance(10 * DAY_S)
        await wake(client)
        journal = await client.journal("w")
    assert len([each for each in journal if each.name == "look"]) == 2


@pytest.mark.parametrize(
    "now, then, hours",
    [
        (datetime(2026, 3, 28, 6, tzinfo=UTC), datetime(2026, 3, 29, 5, tzinfo=UTC), 23),
        (datetime(2026, 10, 24, 5, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC), 25),
        (datetime(2026, 7, 1, 4, tzinfo=UTC), datetime(2026, 7, 1, 5, tzinfo=UTC), 1),
    ],
)
def test_mornings(now: datetime, then: datetime, hours: int) -> None:
    """Seven is seven, whatever the clocks do."""
    assert next_morning(now) == then
    assert (then - now).total_seconds() == hours * 60 * 60
