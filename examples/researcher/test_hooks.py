"""The researcher's own tests: they need no key and no network."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import hooks
from agent.hooks import Report
from agent.library import SHELVES
from agent.loop import agent
from substrate import Promise, connect
from substrate.agent import Answer, Model, Task
from substrate.models.model import PROVIDERS


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no provider's key set."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        for key in provider.keys:
            monkeypatch.delenv(key, raising=False)


async def research(question: str) -> tuple[Answer, Sequence[Promise]]:
    """Ask the researcher; return its answer, and what was done for it."""
    async with connect("sqlite:///runs.db") as client, client.work([agent]):
        await client.start(agent, Task(question), id="r/1")
        return await client.result("r/1", agent), await client.journal("r/1")


async def test_three_parts() -> None:
    """Each specialist finds its part, in a run of its own, and the report has all of them."""
    answer, journal = await research("What is known of owls?")
    assert answer.is_complete
    report = answer.read(Report)
    assert [(each.part, each.source) for each in report.findings] == [
        (topic, SHELVES[topic][1]) for topic in ("owls/food", "owls/nests", "owls/legends")
    ]
    assert report.gaps == []
    children = [each for each in journal if each.kind == "child"]
    assert [each.name for each in children] == ["naturalist", "builder", "historian", "jury"]


async def test_a_jury() -> None:
    """Three models vote on the draft, each for itself, and the planner is told what most say."""
    await research("What is known of owls?")
    async with connect("sqlite:///runs.db") as client:
        journal = await client.journal("r/1#tools.1/jury.0/jury.0")
    votes = [each.key for each in journal if each.key.startswith("model.0/")]
    assert len(votes) == 3


async def test_a_jury_that_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that reports all the same says that it is doubted, and does not pass the judge."""
    monkeypatch.setitem(SHELVES, "owls/food", ("They always eat voles.", "Field notes, 1987"))
    answer, _ = await research("What is known of owls?")
    assert answer.reason == "unchecked"
    assert answer.read(Report).gaps == ["jury: most of it doubt this"]


async def test_a_specialist_that_fails() -> None:
    """The library has no legends of swifts: the report has what the others found, and the gap."""
    answer, _ = await research("What is known of swifts?")
    assert answer.is_complete
    report = answer.read(Report)
    assert [each.part for each in report.findings] == ["swifts/food", "swifts/nests"]
    [gap] = report.gaps
    assert gap.startswith("historian: ")


def told(text: str, source: str = "Box book") -> str:
    """Return a report of one finding, as a model says it."""
    finding = {"part": "owls/nests", "text": text, "source": source}
    return json.dumps({"title": "Owls", "findings": [finding], "gaps": []})


async def test_a_source_that_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes back with its name; one who says it thrice ends unchecked, and never as a report."""
    script = [told("They nest.", "A dream")] * 3
    monkeypatch.setattr(hooks, "model", Model("scripted:dreamer", script=script))
    answer, _ = await research("What is known of owls?")
    assert answer.reason == "unchecked"
    assert "No such source: A dream." in answer.detail


async def test_a_second_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the judge does not let pass goes back, and the better report counts."""
    script = [told("They always nest in boxes."), told("They nest in boxes.")]
    monkeypatch.setattr(hooks, "model", Model("scripted:hasty", script=script))
    answer, _ = await research("What is known of owls?")
    assert answer.is_complete
    assert answer.turns == 2
    assert answer.read(Report).findings[0].text == "They nest in boxes."
