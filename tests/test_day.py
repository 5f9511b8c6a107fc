"""A task is told today's date in the asker's time zone; it is recorded, and the same on replays."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from substrate import Client, Context, connect, durable
from substrate.agent.history.request import read_request
from substrate.agent.task import Answer, Task
from substrate.engine.step.step import Step
from substrate.models.messages import Text, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.testing import ManualClock
from substrate.testing.cassette import cassette
from substrate.values.codec import decode, fingerprint
from substrate.values.errors import Misuse
from substrate.values.records import Kind
from tests.fork import HOOKS, Fork
from tests.loops import TASK, make_agent, row
from tests.runs import QUICK, reached

TELLING = HOOKS.replace(
    "TURNS[sum(isinstance(message, Reply) for message in request.messages)]",
    "say(request.messages[0].parts[-1].text)",
)


async def told(client: Client, task: Task) -> str:
    """Run an agent to its end; return the last part of what its model was told first."""
    seen = []

    def script(request: Request) -> str:
        seen.append(request.messages[0].parts[-1].text)
        return "Done."

    agent = make_agent(Model("scripted:test", script=script))
    async with client.work([agent], options=QUICK):
        await client.start(agent, task, id="a/1")
        await client.result("a/1")
    return seen[0]


@pytest.mark.parametrize(
    "zone, day",
    [
        (None, "Today is Friday, 2027-01-15, in the time zone UTC."),
        ("UTC", "Today is Friday, 2027-01-15, in the time zone UTC."),
        ("Pacific/Kiritimati", "Today is Friday, 2027-01-15, in the time zone Pacific/Kiritimati."),
        ("Pacific/Pago_Pago", "Today is Thursday, 2027-01-14, in the time zone Pacific/Pago_Pago."),
    ],
)
async def test_the_day_is_told(store_url, zone, day):
    """The model is told the day of the week and the date in the task's zone; UTC without one."""
    async with connect(store_url, ManualClock()) as client:
        assert await told(client, Task("What is due today?", timezone=zone)) == day


@pytest.mark.parametrize(
    "moment, zone, day",
    [
        ("2027-01-14T22:59:59", "Europe/Vienna", "Thursday, 2027-01-14"),
        ("2027-01-14T23:00:00", "Europe/Vienna", "Friday, 2027-01-15"),
        ("2027-07-14T21:59:59", "Europe/Vienna", "Wednesday, 2027-07-14"),  # summer time
        ("2027-07-14T22:00:00", "Europe/Vienna", "Thursday, 2027-07-15"),
        ("2026-12-31T23:59:59", None, "Thursday, 2026-12-31"),
        ("2027-01-01T00:00:00", None, "Friday, 2027-01-01"),
        ("2028-02-29T10:00:00", "America/Los_Angeles", "Tuesday, 2028-02-29"),
        ("2028-03-01T07:59:59", "America/Los_Angeles", "Tuesday, 2028-02-29"),
        ("2028-03-01T08:00:00", "America/Los_Angeles", "Wednesday, 2028-03-01"),
        ("2027-01-14T18:14:59", "Asia/Kathmandu", "Thursday, 2027-01-14"),  # 5 h 45 min
        ("2027-01-14T18:15:00", "Asia/Kathmandu", "Friday, 2027-01-15"),
    ],
)
async def test_at_midnight(sqlite_url, moment, zone, day):
    """A second before midnight where the asker lives it is one day, and at midnight the next."""
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    clock = ManualClock(round(now.timestamp() * 1000))
    async with connect(sqlite_url, clock) as client:
        said = await told(client, Task("What is due today?", timezone=zone))
    assert said == f"Today is {day}, in the time zone {zone or 'UTC'}."


@pytest.mark.parametrize(
    "zone, near", [("Europe/Viena", "Europe/Vienna"), ("America/NewYork", "America/New_York")]
)
def test_a_mistyped_zone(zone, near):
    """A zone that is nearly one is told which was meant."""
    with pytest.raises(Misuse, match=f"did you mean '{near}'"):
        Task("Go.", timezone=zone)


@pytest.mark.parametrize("zone", ["Mars/Phobos", "", "../etc/passwd", "europe/nowhere", "\0"])
def test_an_unknown_zone(zone):
    """A zone that there is not is refused with what to write; an empty one is none."""
    if not zone:
        assert Task("Go.", timezone=zone).timezone == ""
        return
    with pytest.raises(Misuse, match="is no time zone that this machine knows"):
        Task("Go.", timezone=zone)


async def test_a_replay_is_told_the_same_day(store_url):
    """A run that goes on days later tells its model the day on which it was begun."""
    seen = []

    def script(request: Request):
        seen.append(request.messages[0])
        return say(call("look")) if len(seen) == 1 else "Done."

    clock = ManualClock()
    agent = make_agent(Model("scripted:test", script=script), prompt="Be brief.")
    async with connect(store_url, clock) as client:
        async with client.work([agent], options=QUICK) as worker:
            await client.start(agent, TASK, id="a/1")
            await reached(client, "a/1", "model.0")
            await worker.run_until_idle()
        (first,) = set(map(repr, seen))
        clock.advance(5 * 86400)
        async with client.work([agent], options=QUICK):
            await client.result("a/1")
        recorded = decode((await row(client, "prompt.0")).value)["task"]

    assert set(map(repr, seen)) == {first}
    assert "Today is Friday, 2027-01-15" in first
    assert recorded == seen[0].to_json()


async def test_a_run_of_an_older_version(store_url):
    """A run whose prompt was recorded before there was a day goes on as it was told."""
    seen = []

    def script(request: Request) -> str:
        seen.append(list(request.messages))
        return "Done."

    @durable(name="agent")
    async def older(ctx: Context, task: Task) -> Answer:
        async def render() -> Any:
            return {"system": "Be brief.", "task": task.message.to_json()}

        same = fingerprint(Kind.STEP.value, "prompt")
        await ctx.checkpoint(Step(name="prompt", call=render, fingerprint=same)).settled()
        await asyncio.Event().wait()
        raise AssertionError("it is stopped here")

    agent = make_agent(Model("scripted:test", script=script))
    async with connect(store_url) as client:
        async with client.work([older], options=replace(QUICK, shutdown_grace=timedelta(0))):
            await client.start(older, TASK, id="a/1")
            await reached(client, "a/1", "prompt.0")
        async with client.work([agent], options=QUICK):
            answer = await client.result("a/1", agent)
        rebuilt = await read_request(client, "a/1", "model.0")

    assert answer.text == "Done."
    assert seen == [[TASK.message]]
    assert rebuilt["messages"] == [TASK.message.to_json()]


def test_the_record_of_a_task_without_a_zone():
    """A task without a zone has the record that it had before there were any."""
    record = TypeAdapter(Task).dump_python(TASK, mode="json")

    assert record == {"text": "Do it.", "data": {}}


async def test_a_cassette_answers_on_another_day(tmp_path):
    """What was recorded on one day, or before models were told of it, is found on any other."""
    file, answers = tmp_path / "owls.json", ["Two."]
    model = Model("scripted:test", script=lambda request: answers.pop())

    def asked(*day: str) -> Request:
        return Request("", [UserMessage((Text("Owls?"), *map(Text, day)))])

    one, other = (f"Today is Friday, 2027-01-{day}, in the time zone UTC." for day in (15, 22))
    await cassette(file, model, record=True).answer(asked(one))

    replies = [await cassette(file, model).answer(asked(*day)) for day in ([other], [one], [])]

    assert [reply.text for reply in replies] == ["Two."] * 3


def test_the_zone_is_the_askers(tmp_path):
    """OSTINATO_TIMEZONE says which day it is, is checked, and does not part a run from its id."""
    fork = Fork.make(tmp_path, hooks=TELLING)

    asked = fork.do("run", "Which day?", "--id", "first", OSTINATO_TIMEZONE="Asia/Tokyo")
    again = fork.do("run", "Which day?", "--id", "first")
    wrong = fork.do("run", "Which day?", OSTINATO_TIMEZONE="Mars/Phobos")
    fork.write(".env", "OSTINATO_TIMEZONE=America/Lima\n")
    filed = fork.do("run", "Which day?")

    assert (asked.code, asked.out[:9], again.code) == (0, "Today is ", 0)
    assert asked.out.endswith(", in the time zone Asia/Tokyo.\n")
    assert again.out == asked.out
    assert filed.out.endswith(", in the time zone America/Lima.\n")
    assert wrong.code == 2
    assert "'Mars/Phobos' is no time zone that this machine knows" in wrong.err
