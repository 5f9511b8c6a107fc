"""A conversation is one run: it waits between messages, and goes on with all that was said."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from substrate import Client, connect
from substrate.agent.agent import Agent
from substrate.agent.conversation import Conversation, conversation_of
from substrate.agent.decisions import approve
from substrate.agent.handoff import handoff
from substrate.agent.history.request import read_request
from substrate.agent.history.rows import value_of
from substrate.agent.stop import answered, any_of, budget, max_turns, signalled
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.models.frame import canonical
from substrate.models.messages import Text, ToolMessage, Usage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.records import RunStatus
from tests.bench.talk import converse
from tests.loops import make_agent

ID = "talk/1"
ENDS = any_of(answered(), max_turns(3))


@tool(effect="pure")
def look(what: str) -> str:
    """Look something up."""
    return f"{what}: two"


class Echo:
    """A model that looks first where it is told to, and else says what it was told last."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Any:
        self.seen.append(request)
        last = request.messages[-1]
        if isinstance(last, UserMessage) and "look" in words(last):
            return say("I look.", call("look", what="owls"))
        return say(f"You said {words(last)!r}." if isinstance(last, UserMessage) else "Two owls.")


def words(message: UserMessage) -> str:
    return message.parts[0].text if isinstance(message.parts[0], Text) else ""


def talk_of(model: Any, *tools: Any, stop: Any = ENDS) -> Conversation:
    return conversation_of(make_agent(Model("scripted:talk", script=model), tools, stop))


async def talk(client: Client, function: Conversation, *messages: Any) -> None:
    """Say each message once the one before is answered, each time to a worker of its own."""
    for n, message in enumerate(messages):
        if n or await client.store.get(ID) is not None:
            await client.signal(ID, "message", message)
        else:
            await client.start(function, Task(message), None, id=ID)
        await drive(client, function)


async def drive(client: Client, function: Conversation) -> None:
    async with client.work([function]) as worker:
        await worker.run_until_idle()


async def answers(client: Client) -> Sequence[dict[str, Any]]:
    return [value_of(row) for row in await client.journal(ID) if row.name == "answer"]


async def test_it_goes_on_with_all_that_was_said(store_url: str) -> None:
    """Each message is answered with all before it; between them the run is suspended."""
    model = Echo()
    function = talk_of(model, look)
    async with connect(store_url) as client:
        await talk(client, function, "Good morning.", "Please look.", "Thanks.")
        run = await client.get(ID)
        found = [each["text"] for each in await answers(client)]
        requests = await asked(client)

    assert run.status is RunStatus.SUSPENDED
    assert found == ["You said 'Good morning.'.", "Two owls.", "You said 'Thanks.'."]
    roles = [type(each).__name__[0] for each in model.seen[-1].messages]
    assert "".join(roles) == "URURTRU"
    assert [canonical(each)["messages"] for each in model.seen] == requests


async def asked(client: Client) -> Sequence[Any]:
    """Return the messages of each model call, as they are read from the rows."""
    keys = [row.key for row in await client.journal(ID) if row.name == "model"]
    return [(await read_request(client, ID, key))["messages"] for key in keys]


async def test_it_continues_as_itself(store_url: str) -> None:
    """A long conversation goes on with a fresh journal; the model is told all the same."""
    model = Echo()
    function = talk_of(model, look)
    async with connect(store_url) as client:
        await talk(client, function, *(f"Message {n}." for n in range(40)))
        run = await client.get(ID)
        present = await client.store.journal(run.id, run.generation_seq)
        requests = await asked(client)

    assert run.generation == 2
    assert len(present) < 60  # of 160
    assert len(model.seen) == 40
    assert [len(each.messages) for each in model.seen] == [2 * n + 1 for n in range(40)]
    assert [words(each) for each in model.seen[-1].messages[::2]] == [
        f"Message {n}." for n in range(40)
    ]
    assert [canonical(each)["messages"] for each in model.seen] == requests


async def test_turns_are_counted_for_each_message(sqlite_url: str) -> None:
    """A limit of turns is one of a message: the next one has as many again."""

    def model(request: Request) -> Any:
        return say("Again.", call("look", what="owls"))

    async with connect(sqlite_url) as client:
        await talk(client, talk_of(model, look), "One.", "Two.")
        found = await answers(client)

    assert [each["reason"] for each in found] == ["max_turns", "max_turns"]
    assert [each["turns"] for each in found] == [4, 4]  # three, and the last words


async def test_a_budget_is_of_the_whole(store_url: str) -> None:
    """A budget ends a conversation for good, also in a later generation: no call is made."""
    calls: list[Request] = []

    def model(request: Request) -> Any:
        calls.append(request)
        return replace(say("Yes."), usage=Usage(100, 0, cost_usd=Decimal("0.01")), model="m")

    function = talk_of(model, stop=any_of(answered(), budget(usd=0.30)))
    async with connect(store_url) as client:
        await talk(client, function, *(f"Message {n}." for n in range(34)))
        run = await client.get(ID)
        found = await answers(client)

    assert run.generation == 1
    assert len(calls) == 29  # two are kept for the next turn, and a last one
    assert [each["reason"] for each in found] == ["answered"] * 29 + ["budget"] * 5
    assert found[-1]["text"] == ""
    assert "$0.2900 of $0.30 spent" in found[-1]["detail"]


async def test_it_is_summed_up_in_later_generations(sqlite_url: str) -> None:
    """An adaptive budget has a conversation summed up where its calls have grown, at any length."""
    sizes: list[int] = []

    def model(request: Request) -> Any:
        sizes.append(len(request.messages))
        return replace(say("Yes."), usage=Usage(100 * len(request.messages), 0), model="m")

    function = talk_of(model, stop=any_of(answered(), budget(tokens=140_000, mode="adaptive")))
    async with connect(sqlite_url) as client:
        await talk(client, function, *(f"Message {n}." for n in range(60)))
        run = await client.get(ID)
        rows = await client.journal(ID)
        found = await answers(client)
        requests = await asked(client)

    summaries = [row.key for row in rows if row.name == "summary"]
    assert run.generation > 1
    assert summaries
    assert all("/" in key for key in summaries)
    assert {each["reason"] for each in found} == {"answered"}
    assert min(sizes[-10:]) < max(sizes) / 2
    assert len(requests) == 60


async def test_a_message_that_says_nothing(sqlite_url: str) -> None:
    """An empty message is answered by nobody, and ends nothing."""
    model = Echo()
    async with connect(sqlite_url) as client:
        await talk(client, talk_of(model), "One.", "  ", None, {"a": 1})
        found = [each["text"] for each in await answers(client)]

    assert found == ["You said 'One.'.", "You said '{\"a\":1}'."]


async def test_who_ends_the_work_ends_that_on_one_message(store_url: str) -> None:
    """A signal to `signalled` ends the work on one message; the next ones are worked on as ever."""
    tools: list[int] = []

    def model(request: Request) -> Any:
        tools.append(len(request.tools) if request.may_call_tools else 0)
        return say("Yes.")

    function = talk_of(model, stop=any_of(answered(), signalled(), max_turns(5)))
    async with connect(store_url) as client:
        await talk(client, function, "One.")
        for number in range(2):
            await client.signal(ID, "stop", "enough")
            await talk(client, function, *(f"{number}, {n}." for n in range(8)))
        found = [each["reason"] for each in await answers(client)]

    assert found == ["answered", *["signalled", *["answered"] * 7] * 2]
    assert tools == [1, *[0, *[1] * 7] * 2]


async def test_a_replay_asks_nothing_again(store_url: str) -> None:
    """A run that stops in the middle of each message goes on there, and asks nothing again."""
    echo, broken = Echo(), set[int]()

    def model(request: Request) -> Any:
        turns = len(request.messages)
        if turns not in broken:
            broken.add(turns)
            raise RuntimeError("not yet")  # which pauses the run
        return echo(request)

    function = talk_of(model, look)
    async with connect(store_url) as client:
        for n in range(12):
            await talk(client, function, f"Please look {n}.")
            while (await client.get(ID)).status is RunStatus.PAUSED:
                await client.resume(ID)
                await drive(client, function)
        run = await client.get(ID)
        found = [each["text"] for each in await answers(client)]
        requests = await asked(client)

    assert run.generation == 1
    assert found == ["Two owls."] * 12
    assert len(echo.seen) == 24
    assert [canonical(each)["messages"] for each in echo.seen] == requests


async def test_a_handoff_holds_for_the_next_message(store_url: str) -> None:
    """Once it was handed over, the other agent answers, in a later generation as well."""
    billing = Agent("billing", "You are billing.", Model("scripted:billing", script=Echo()))

    def first(request: Request) -> Any:
        if any(isinstance(each, ToolMessage) for each in request.messages):
            return say("I am the first.")
        return say("To billing.", call("hand_over_to_billing"))

    give = handoff(billing, description="For invoices.")
    async with connect(store_url) as client:
        await talk(client, talk_of(first, give), *(f"Message {n}." for n in range(20)))
        run = await client.get(ID)
        found = [each["text"] for each in await answers(client)]
        prompts = {
            row.key: value_of(row)["system"]
            for row in await client.journal(ID)
            if row.name == "prompt"
        }

    assert run.generation == 1
    assert found[0] == "Two owls."  # what billing says of the tool's result
    assert found[1:] == [f"You said 'Message {n}.'." for n in range(1, 20)]
    assert set(list(prompts.values())[1:]) == {"You are billing."}


async def test_a_gate_in_a_conversation(store_url: str) -> None:
    """A call that waits for a person holds the conversation up; a message does not decide it."""
    paid: list[int] = []

    @tool(effect="idempotent", approve=True)
    def refund(cents: int) -> str:
        """Pay back."""
        paid.append(cents)
        return "paid"

    def model(request: Request) -> Any:
        if isinstance(request.messages[-1], UserMessage) and len(request.messages) == 1:
            return say("I refund.", call("refund", cents=5))
        return Echo()(request)

    function = talk_of(model, refund)
    async with connect(store_url) as client:
        await talk(client, function, "Refund it.", "Yes, do.")
        before = list(paid)
        (gate,) = await client.store.gates.pending()
        await approve(client, gate, by="Ada")
        await drive(client, function)
        found = [each["text"] for each in await answers(client)]

    assert before == []
    assert paid == [5]
    assert found == ["You said 'Yes, do.'."]  # read after the result, before the next model call


async def test_a_message_costs_the_same(tmp_path: Path, record_property: Any) -> None:
    """The 200th message costs the kit no more than 1.3 times the 5th, in CPU and in bytes.

    Where others use the machine, its caches make one of them dearer by chance. What grows does so
    in each of three talks.
    """
    for talk_ in range(3):
        found = await converse(f"sqlite:///{tmp_path}/{talk_}.db", 222)
        cpu = [min(found.cpu_s[n : n + 21]) for n in (1, 200)]
        octets = [sum(found.octets[n : n + 21]) for n in (1, 200)]  # of three generations
        assert octets[1] < 1.3 * octets[0]
        if cpu[1] < 1.3 * cpu[0]:
            break

    record_property("CPU at the 5th and the 200th message, ms", [f"{1000 * s:.2f}" for s in cpu])
    assert cpu[1] < 1.3 * cpu[0]
