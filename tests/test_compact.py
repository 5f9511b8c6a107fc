"""A transcript stays small: what is left out is recorded, and the same on every replay."""

import asyncio
import os
import signal
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from substrate import Client, RunPaused, connect
from substrate.agent import Compact, drop_results, drop_turns, summarise
from substrate.agent.history.request import read_request
from substrate.agent.history.result import result_in
from substrate.agent.history.rows import input_of, value_of
from substrate.models.frame import canonical
from substrate.models.messages import StopReason
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import encode
from tests.analyst import LIMITS
from tests.loops import TASK, answer_of
from tests.processes import Process
from tests.reader import SUMMED_UP, Reader, cuts, is_summary, reading, tokens
from tests.runs import keys


def compacting(*strategies: Any, **more: Any) -> Compact:
    """Return a policy for a context of 10,000 tokens."""
    return Compact(strategies, window=10_000, **more)


async def test_old_results_go(store_url: str) -> None:
    """Where the context fills, old results go before the model refuses anything."""
    reader = Reader()
    async with connect(store_url) as client:
        agent = reading(reader.model(), compacting(drop_results()))
        answer = await answer_of(client, agent)
        made = await cuts(client)
        names = [key for key in await keys(client, "a/1") if key.startswith("model.")]
        rebuilt = [await read_request(client, "a/1", key) for key in names]

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert [row.key for row in made] == ["compact.0", "compact.1"]
    assert all(before >= 8_500 and after <= 4_500 for before, after in map(tokens, made))
    said = str(reader.of_turns[-1].messages)
    assert 'left out, to make room: 3,008 characters; recall_result("tools.0/read.0")' in said
    assert list(map(encode, rebuilt)) == [encode(canonical(each)) for each in reader.asked]


async def test_summed_up(store_url: str) -> None:
    """The oldest turns are summed up; the task and the last turns stay as they are."""
    reader = Reader()
    async with connect(store_url) as client:
        answer = await answer_of(client, reading(reader.model(), compacting(summarise())))
        made = await cuts(client)
        names = await keys(client, "a/1")
        asked = [key for key in names if key.startswith("model.") or "summary" in key]
        rebuilt = [await read_request(client, "a/1", key) for key in asked]

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert len(made) >= 2
    assert all(before >= 8_500 and after <= 3_500 for before, after in map(tokens, made))
    assert value_of(made[0])["asked"] == ["compact.0/summary.0"]
    assert (input_of(made[0])["from"], input_of(made[0])["policy"]) == ("model.0", "summarise()")
    assert SUMMED_UP in str(reader.of_turns[-1].messages[1])
    assert "Do it." in str(reader.of_turns[-1].messages[0])
    sent = sorted(encode(canonical(each)) for each in reader.asked)
    assert sorted(map(encode, rebuilt)) == sent
    assert answer.usage.cost_usd == Decimal("0.01") * len(reader.asked)


async def test_turns_go(store_url: str) -> None:
    """Where nothing else is wanted, the oldest turns go, and the model is told."""
    reader = Reader()
    async with connect(store_url) as client:
        answer = await answer_of(client, reading(reader.model(), compacting(drop_turns())))
        made = await cuts(client)

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert len(made) >= 2
    assert "earlier messages]" in str(reader.of_turns[-1].messages[1])


async def test_had_back(store_url: str) -> None:
    """What was left out the model may have back, a part at a time, by the key that stands there."""
    back = call("recall_result", key="tools.0/read.0")
    more = call("recall_result", key="tools.0/read.0", start=20_000)
    made_up = call("recall_result", key="tools.0/../x")
    reader = Reader(window=100_000, pages=9, chars=30_000)
    reader.turns = {10: say(back, more, made_up)}
    async with connect(store_url) as client:
        agent = reading(reader.model(), Compact([drop_results()], window=60_000))
        answer = await answer_of(client, agent)
        given = {row.key: row for row in await client.journal("a/1")}

    first, rest, none = (result_in(given[f"tools.10/recall_result.{i}"]) for i in range(3))
    whole = "page 0: " + "x" * 30_000
    assert answer.text == "Done."
    assert first.content.partition("\n")[2] + rest.content.partition("\n")[2] == whole
    assert first.content.startswith("[characters 0 to 20,000 of 30,008; for more:")
    assert (none.is_error, none.content.startswith("there is no result of the key")) == (True, True)
    offered = [[tool.name for tool in each.tools] for each in reader.asked]
    assert offered[0] == ["read"]  # it costs nothing before there is something to give back
    assert offered[-1] == ["read", "recall_result"]
    told = ["gives it back" in str(each.messages) for each in reader.asked]
    assert told == ["recall_result" in each for each in offered]


async def test_another_policy(store_url: str) -> None:
    """A replay under another policy, another window or none leaves out what was left out then."""
    reader = Reader(pages=14, fails_at=11)
    async with connect(store_url) as client:
        policy = compacting(drop_results(keep=2), summarise())
        with pytest.raises(RunPaused):
            await answer_of(client, reading(reader.model(), policy))
        made = await cuts(client)
        before = reader.of_turns[-1]
        for other in (None, compacting(drop_turns(), at=0.2, to=0.1), [summarise()]):
            with pytest.raises(RunPaused):
                await resumed(client, reading(reader.model(), other))
            assert reader.of_turns[-1].messages == before.messages
        assert await cuts(client) == made
    assert [input_of(row)["before"] for row in made] == ["model.11"]


async def resumed(client: Client, agent: Any) -> Any:
    """Resume the run, and drive it to its end."""
    await client.resume("a/1")
    async with client.work([agent]):
        return await client.result("a/1", agent)


NO_SUMMARIES = {
    "empty": "",
    "blank": " \n",
    "a call": say(call("read", page=1)),
    "words and a call": say("I read on.", call("read", page=1)),
    "refused": replace(say("No."), stop=StopReason.REFUSAL),
    "cut off": replace(say("I have"), stop=StopReason.LENGTH),
    "too long": "as it was " * 4_000,
}


@pytest.mark.parametrize("said", NO_SUMMARIES.values(), ids=NO_SUMMARIES)
async def test_no_summary(sqlite_url: str, said: Any) -> None:
    """A reply that is no summary changes nothing of the transcript; after three nobody is asked."""
    reader = Reader(window=60_000, pages=30, summary=said)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, reading(reader.model(), compacting(summarise())))
        made = await cuts(client)

    assert answer.text == "Done."
    assert sum(map(is_summary, reader.asked)) == 3
    assert [value_of(row)["missed"] for row in made] == ["scripted:reader"] * 3
    assert all(value_of(row)["cut"]["gone"] == [] for row in made)
    assert len(reader.of_turns[-1].messages) == 2 * 31 + 1
    assert answer.usage.cost_usd == Decimal("0.01") * len(reader.asked)


async def test_a_summary_after_a_miss(sqlite_url: str) -> None:
    """A miss is forgotten once there is a summary, and what can be left out without one is."""
    reader = Reader(window=30_000, pages=40)
    said = iter(["", "", SUMMED_UP, *[""] * 9])
    reader.watch = lambda request: (
        setattr(reader, "summary", next(said)) if is_summary(request) else None
    )
    async with connect(sqlite_url) as client:
        policy = compacting(summarise(), drop_turns())
        answer = await answer_of(client, reading(reader.model(), policy))
        missed = [value_of(row)["missed"] is not None for row in await cuts(client)]

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert missed[:3] == [True, True, False]
    assert sum(missed) >= 4


def _drive(url: str, log: Path) -> None:
    asyncio.run(_run(url, log))


async def _run(url: str, log: Path) -> None:
    reader = Reader(pages=14)

    def note(request: Request) -> None:
        if is_summary(request):
            with log.open("a") as file:
                file.write("summed up\n")
        if SUMMED_UP in str(request.messages):
            os.kill(os.getpid(), signal.SIGKILL)

    reader.watch = note
    agent = reading(reader.model(), [summarise()])
    async with connect(url) as client, client.work([agent], options=LIMITS):
        await client.start(agent, TASK, id="a/1")
        await client.result("a/1", agent)


async def test_a_crash_after_a_full_context(store_url: str, tmp_path: Path) -> None:
    """A cut of a context that was full holds after a crash, and its summary is paid for once."""
    log = tmp_path / "log"
    process = Process(target=_drive, args=(store_url, log))
    process.start()
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == -signal.SIGKILL

    reader = Reader(pages=-1)
    async with connect(store_url) as client:
        agent = reading(reader.model(), None)
        async with client.work([agent], options=LIMITS):
            answer = await client.result("a/1", agent)
        made = await cuts(client)

    assert (answer.text, log.read_text()) == ("Done.", "summed up\n")
    assert [input_of(row)["cause"] for row in made] == ["full"]
    assert SUMMED_UP in str(reader.asked[0].messages[1])
