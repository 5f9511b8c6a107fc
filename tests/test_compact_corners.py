"""Odd windows, huge results, models that nobody knows: a transcript that fits all the same."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from substrate import RunPaused, connect
from substrate.agent import (
    Agent,
    Compact,
    Panel,
    Policy,
    Task,
    answered,
    any_of,
    budget,
    drop_results,
    drop_turns,
    first,
    handoff,
    max_turns,
    remember_first,
    summarise,
    tool,
)
from substrate.agent.compacting import window_of
from substrate.agent.end import Advice, Measure
from substrate.agent.history.result import result_in
from substrate.agent.history.rows import input_of, value_of
from substrate.agent.history.usage import usage_of
from substrate.models.messages import Image, Reply, ToolMessage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.models.tokens import estimate
from substrate.values.errors import Misuse
from tests.loops import TASK, answer_of
from tests.reader import (
    ENDS,
    SUMMED_UP,
    Reader,
    cuts,
    is_extraction,
    is_summary,
    read,
    reading,
    tokens,
)
from tests.runs import keys
from tests.test_estimate import png

ALL = (drop_results(), summarise(), drop_turns())


@pytest.mark.parametrize(
    "options",
    [
        {"window": 0},
        {"window": -1},
        {"window": 255},
        {"window": 1.5},
        {"window": True},
        {"at": 0},
        {"at": 1.1},
        {"at": 0.5, "to": 0.5},
        {"to": float("nan")},
        {"at": "0.9"},
        {"keep": "read"},
        {"keep": [1]},
    ],
    ids=str,
)
def test_odd_options(options: dict[str, Any]) -> None:
    """A window, a part or a name that cannot be is refused when the hook is written."""
    with pytest.raises(Misuse):
        Compact(ALL, **options)


@pytest.mark.parametrize("given", [drop_results, [drop_results], "text", [1], 7, [None]])
def test_no_strategies(given: Any) -> None:
    """What is no list of strategies is refused when an agent is made, with what to write."""
    with pytest.raises(Misuse, match="compact"):
        Agent("reader", "Read.", Reader().model(), compact=given)


@pytest.mark.parametrize("keep", [0, -1, True, "3"])
def test_odd_numbers(keep: Any) -> None:
    """A number of results that cannot be is refused."""
    with pytest.raises(Misuse):
        drop_results(keep=keep)


def test_a_tool_of_that_name() -> None:
    """A tool that is called as the one that the hook brings along is refused."""

    @tool(effect="pure")
    def recall_result(key: str) -> str:
        """Mine."""
        return key

    with pytest.raises(Misuse, match="recall_result"):
        Agent("reader", "Read.", Reader().model(), [recall_result], compact=ALL)


@pytest.mark.parametrize("window", [256, 400, 1_000])
async def test_a_tiny_window(sqlite_url: str, window: int) -> None:
    """A window that holds next to nothing makes no cut after cut: the run ends as it would."""
    reader = Reader(window=10**9, pages=12, chars=2_000)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, reading(reader.model(), Compact(ALL, window=window)))
        names = await keys(client, "a/1")

    assert answer.text == "Done."
    assert sum(key.startswith("compact.") for key in names) <= 2 * 13
    assert sum(map(is_summary, reader.asked)) <= 13


@pytest.mark.parametrize(
    "model, more, window",
    [
        ("anthropic:claude-haiku-5-5", {}, 1_000_000),
        ("anthropic:claude-haiku-5-5", {"max_output_tokens": 64_000}, 936_000),
        ("anthropic:claude-haiku-5-5", {"max_output_tokens": 700_000}, 500_000),
        ("openai-chat:mine", {}, None),
        ("anthropic:nobody-knows", {}, None),
        ("scripted:reader", {"script": ["Done."]}, None),
    ],
)
async def test_the_window(model: str, more: dict[str, Any], window: int | None) -> None:
    """What a model may read is what the list says that it holds, less its longest answer."""
    found = Model(model, **more)

    assert await window_of(Compact(ALL), found) == window
    assert await window_of(Compact(ALL, window=32_000), Model("openai-chat:mine")) == 32_000


async def test_what_a_person_said_last(sqlite_url: str) -> None:
    """The last words of a person stay, also where the loop itself has said something since."""
    reader = Reader(pages=24)

    def warn(transcript: Any) -> Any:
        is_due = transcript.turns == 3 and not transcript.is_warned
        return Advice(Measure.WARN, "much was read") if is_due else None

    async with connect(sqlite_url) as client:

        async def script(request: Request) -> Reply:
            if len(reader.of_turns) == 1:
                await client.signal("a/1", "message", "And the attic.", "once")
            return reader(request)

        model = Model("scripted:reader", script=script)
        policy = Compact([summarise(), drop_turns()], window=10_000)
        ends = any_of(answered(), max_turns(60), warn)
        answer = await answer_of(client, reading(model, policy, stop=ends))
        made = await cuts(client)

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert len(made) >= 2
    said = [str(each.messages) for each in reader.of_turns[4:]]
    assert all("And the attic." in each and "much was read" in each for each in said)


async def test_little_that_can_go(sqlite_url: str) -> None:
    """Where a task fills most of a window, there is no cut with each turn: each has its worth."""
    reader = Reader(window=10**9, pages=24, chars=600)
    agent = reading(reader.model(), Compact([drop_results(), drop_turns()], window=10_000))
    async with connect(sqlite_url) as client:
        async with client.work([agent]):
            await client.start(agent, Task("Read. " * 5_600), id="a/1")
            await client.result("a/1", agent)
        made = await cuts(client)

    assert 1 <= len(made) <= 5
    assert all(before - after >= 1_000 for before, after in map(tokens, made))


@pytest.mark.parametrize("policy", [ALL, (drop_results(),), (drop_turns(),), (summarise(),), ()])
async def test_an_unknown_window(store_url: str, policy: Any) -> None:
    """Of a model that nobody knows nothing is cut before it is full; then room is made at once."""
    reader = Reader(pages=30)
    async with connect(store_url) as client:
        answer = await answer_of(client, reading(reader.model(), list(policy)))
        made = await cuts(client)

    assert answer.text == "Done."
    assert 1 <= reader.refused <= 6
    assert {input_of(row)["cause"] for row in made} == {"full"}


@pytest.mark.parametrize("chars", [60_000, 5_000_000])
@pytest.mark.parametrize("window", [10_000, None])
@pytest.mark.parametrize("policy", [ALL, (drop_turns(),), (summarise(),)], ids=["all", "t", "s"])
async def test_one_huge_result(
    sqlite_url: str, chars: int, window: int | None, policy: Any
) -> None:
    """A result that is larger than the window by itself is cut, and can be had back in parts."""
    reader = Reader(pages=1, chars=chars)
    reader.turns = {1: say(call("recall_result", key="tools.0/read.0", start=chars - 10))}
    async with connect(sqlite_url) as client:
        agent = reading(reader.model(), Compact(policy, window=window))
        answer = await answer_of(client, agent)
        given = {row.key: row for row in await client.journal("a/1")}

    assert answer.text == "Done."
    assert "left out, to make room" in str(reader.of_turns[1].messages[-1])
    assert result_in(given["tools.1/recall_result.0"]).content.endswith("x" * 18)


async def test_a_task_that_does_not_fit(sqlite_url: str) -> None:
    """A task that is larger than the window stays whole: a person is told."""
    reader = Reader(window=1_000)
    agent = reading(reader.model(), Compact(ALL, window=1_000))
    async with connect(sqlite_url) as client:
        async with client.work([agent]):
            await client.start(agent, Task("Read. " * 4_000), id="a/1")
            with pytest.raises(RunPaused, match="give it a larger one"):
                await client.result("a/1", agent)
        assert await cuts(client) == []
    assert reader.refused == 1


async def test_resumed_in_vain(sqlite_url: str) -> None:
    """A run that is resumed where nothing fits is not cut or summed up once more each time."""
    reader = Reader()
    reader.watch = lambda request: setattr(
        reader, "window", 100 if len(reader.asked) > 5 else 10_000
    )
    agent = reading(reader.model(), list(ALL))
    async with connect(sqlite_url) as client:
        with pytest.raises(RunPaused, match="give it a larger one"):
            await answer_of(client, agent)
        made, refused, asked = len(await cuts(client)), reader.refused, len(reader.asked)
        for _ in range(2):
            await client.resume("a/1")
            async with client.work([agent]):
                with pytest.raises(RunPaused):
                    await client.result("a/1", agent)
        again = len(await cuts(client))

    assert (made, again) == (3, 3)
    assert (len(reader.asked), reader.refused) == (asked, refused + 2)


async def test_a_person_says_too_much(sqlite_url: str) -> None:
    """What a person said last stays whole, and everything else makes room for it."""
    reader = Reader(pages=14)
    words = "Mind this. " * 1_500

    async with connect(sqlite_url) as client:

        async def script(request: Request) -> Reply:
            if len(reader.of_turns) == 9:
                await client.signal("a/1", "message", words, "once")
            return reader(request)

        model = Model("scripted:reader", script=script)
        answer = await answer_of(client, reading(model, Compact(ALL, window=10_000)))

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert words in str(reader.of_turns[-1].messages)


async def test_said_while_it_sums_up(store_url: str) -> None:
    """What people say while a summary is asked for is heard, and stays."""
    reader = Reader(pages=24)

    async with connect(store_url) as client:

        async def script(request: Request) -> Reply:
            if is_summary(request):
                await client.signal("a/1", "message", "And the attic.", "once")
            return reader(request)

        model = Model("scripted:reader", script=script)
        answer = await answer_of(client, reading(model, Compact([summarise()], window=10_000)))
        names = await keys(client, "a/1")

    assert answer.text == "Done."
    assert any(key.startswith("heard.") for key in names)
    assert len([key for key in names if key.startswith("compact.") and "/" not in key]) >= 2
    assert sum("And the attic." in str(each.messages) for each in reader.of_turns) >= 3


async def test_pictures(sqlite_url: str) -> None:
    """A picture counts by what it shows: the task's stays, and fills what it fills."""
    reader = Reader(window=30_000, pages=14, chars=9_000)
    agent = reading(reader.model(), Compact(ALL, window=30_000))
    task = Task("Look.", attachments=tuple(Image(png(1500, 1500)) for _ in range(4)))
    async with connect(sqlite_url) as client:
        async with client.work([agent]):
            await client.start(agent, task, id="a/1")
            answer = await client.result("a/1", agent)
        made = await cuts(client)

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert made
    assert sum(isinstance(p, Image) for p in reader.of_turns[-1].messages[0].parts) == 4


@pytest.mark.parametrize("scale", [0.6, 1.7, 2.5])
async def test_counts_of_its_own(sqlite_url: str, scale: float) -> None:
    """What is counted is the provider's count: an estimate that is wrong is put right by it."""
    reader = Reader(pages=30, scale=scale)
    async with connect(sqlite_url) as client:
        agent = reading(reader.model(), Compact([drop_results(), drop_turns()], window=10_000))
        answer = await answer_of(client, agent)
        made = await cuts(client)
        sent = {input_of(row)["before"]: after for row in made for after in [tokens(row)[1]]}
        used = {row.key: row for row in await client.journal("a/1") if row.name == "model"}

    assert (answer.text, reader.refused) == ("Done.", 0)
    for key, after in sent.items():
        assert 0.75 < after / usage_of(used[key]).input_tokens < 1.35


async def test_skill_text_stays(sqlite_url: str) -> None:
    """The results of the tools that the hook keeps stay word for word, whatever else goes."""

    @tool(effect="pure")
    def read_skill(name: str) -> str:
        """Read a skill."""
        return f"The skill {name}: " + "always count twice. " * 60

    reader = Reader(pages=30)
    reader.turns = {0: say(call("read_skill", name="owls"))}
    policy = Compact(ALL, window=10_000, keep=["read_skill"])
    async with connect(sqlite_url) as client:
        agent = reading(reader.model(), policy, [read, read_skill])
        answer = await answer_of(client, agent)
        assert len(await cuts(client)) >= 2

    assert (answer.text, reader.refused) == ("Done.", 0)
    whole = "The skill owls: " + "always count twice. " * 60
    assert all(whole in str(each.messages) for each in reader.of_turns[1:])


async def test_a_call_that_is_asked_about_stays(store_url: str) -> None:
    """A call of which a person is being asked stays until its outcome is told."""

    @tool(approve=Policy(wait=False))
    def publish(text: str) -> str:
        """Publish."""
        return "published"

    reader = Reader(pages=24)
    reader.turns = {0: say(call("publish", text="Owls."))}
    async with connect(store_url) as client:
        policy = Compact([summarise(), drop_turns()], window=10_000)
        agent = reading(reader.model(), policy, [read, publish])
        async with client.work([agent]):
            await client.start(agent, TASK, id="a/1")
            while len(reader.of_turns) < 25:
                await asyncio.sleep(0.02)
        made = await cuts(client)

    assert len(made) >= 2
    assert all("publish was not called yet" in str(e.messages) for e in reader.of_turns[1:])
    for each in reader.of_turns:
        assert _pairs(each)


def _pairs(request: Request) -> bool:
    """Whether each call has its result right behind it."""
    calls = [c.id for m in request.messages if isinstance(m, Reply) for c in m.tool_calls]
    found = [r.call_id for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
    return calls == found


async def test_memory_first(store_url: str) -> None:
    """What is worth keeping becomes facts before it goes; what was remembered is not kept anew."""

    @tool(effect="pure")
    def recall(question: str) -> str:
        """Recall."""
        return '<remembered-1 id="x">Anna lives in Bonn</remembered-1>'

    facts = (
        '{"facts": [{"subject": "Page 1", "predicate": "says", "value": "OWL-1"}, '
        '{"subject": "", "predicate": "says", "value": "nothing"}]}'
    )
    reader = Reader(pages=26, facts=facts)
    reader.turns = {1: say(call("recall", question="Where does Anna live?"))}
    policy = Compact([remember_first("acme/owls"), summarise()], window=10_000)
    async with connect(store_url) as client:
        agent = reading(reader.model(), policy, [read, recall])
        answer = await answer_of(client, agent)
        made = await cuts(client)
        names = await keys(client, "a/1")
        found = value_of(made[0])

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert len(made) >= 2
    assert found["asked"] == ["compact.0/extract.0", "compact.0/summary.0"]
    assert found["facts"] == 1
    assert "compact.0/extract.0/remember.0" in names
    shown = [str(each.messages) for each in reader.asked if is_extraction(each)]
    assert all("Bonn" not in each and SUMMED_UP not in each for each in shown)
    assert all("Do it." in each for each in shown)
    assert answer.usage.cost_usd == Decimal("0.01") * len(reader.asked)


@pytest.mark.parametrize("said", ["", "no JSON", '{"facts": 1}', say(call("read", page=1))])
async def test_no_facts(sqlite_url: str, said: Any) -> None:
    """A reply that gives no facts keeps nothing, and the rest is done all the same."""
    reader = Reader(pages=14, facts=said)
    policy = Compact([remember_first("acme/owls"), summarise()], window=10_000)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, reading(reader.model(), policy))
        made = await cuts(client)

    assert answer.text == "Done."
    assert "extract" in value_of(made[0])["failed"]
    assert value_of(made[0])["cut"]["summary"] == "compact.0/summary.0"


async def test_a_budget_bounds_a_summary(store_url: str) -> None:
    """A summary counts in the budget, and is not asked for where it would not be paid."""
    reader = Reader(pages=60)
    async with connect(store_url) as client:
        ends = any_of(answered(), max_turns(60), budget(tokens=80_000))
        agent = reading(reader.model(), Compact([summarise()], window=10_000), stop=ends)
        answer = await answer_of(client, agent)

    used = answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.reason == "budget"
    assert used <= 80_000
    read_in_all = sum(map(estimate, reader.asked))
    assert answer.usage.input_tokens == read_in_all


def _size(request: Request) -> int:
    from substrate.models.tokens import estimate

    return estimate(request)


async def test_an_adaptive_budget(sqlite_url: str) -> None:
    """A budget that advises to make room has it made as the hook says."""
    reader = Reader(window=10**9, pages=60)
    async with connect(sqlite_url) as client:
        ends = any_of(answered(), max_turns(60), budget(tokens=60_000, mode="adaptive"))
        agent = reading(reader.model(), [drop_results(), summarise()], stop=ends)
        answer = await answer_of(client, agent)
        made = await cuts(client)

    assert answer.reason == "budget"
    assert answer.usage.input_tokens + answer.usage.output_tokens <= 60_000
    assert {input_of(row)["cause"] for row in made} == {"budget"}


async def test_one_more_try(store_url: str) -> None:
    """A context that is full all the same is made room in, and the model asked once more."""
    reader = Reader(pages=20)
    wide = Reader(window=10**9, pages=0)
    model = reader.model(fallback=[Fallback(wide.model(), on=["context"])])
    async with connect(store_url) as client:
        policy = Compact(ALL, window=1_000_000)  # which it does not have
        answer = await answer_of(client, reading(model, policy))
        made = await cuts(client)

    assert (answer.text, wide.asked) == ("Done.", [])
    assert reader.refused >= 1
    assert {input_of(row)["cause"] for row in made} == {"full"}


async def test_a_panel(sqlite_url: str) -> None:
    """A panel's smallest window counts, and not what its members have read together."""
    small, large = Reader(pages=20), Reader(window=10**9, pages=20)
    panel = Panel({"small": small.model(), "large": large.model()}, merge=first)
    async with connect(sqlite_url) as client:
        agent = reading(panel, Compact(ALL, window=10_000))
        answer = await answer_of(client, agent)
        made = await cuts(client)

    assert (answer.text, small.refused) == ("Done.", 0)
    assert 2 <= len(made) <= 4
    assert max(map(estimate, small.asked)) > 7_500


async def test_two_handoffs(store_url: str) -> None:
    """Whoever a conversation is handed to has room made by the hook of its own, else the first."""
    readers = [Reader(pages=9), Reader(window=6_000, pages=9), Reader(pages=20)]
    third = Agent("third", "Read.", readers[2].model(), [read], ENDS)
    second = Agent(
        "second",
        "Read.",
        readers[1].model(),
        [read, handoff(third, description="Give it on.")],
        ENDS,
        compact=Compact([drop_results(), drop_turns()], window=6_000),
    )
    one = Agent(
        "one",
        "Read.",
        readers[0].model(),
        [read, handoff(second, description="Give it on.")],
        ENDS,
        compact=Compact(ALL, window=10_000),
    )
    readers[0].turns = {9: say(call("hand_over_to_second"))}
    readers[1].turns = {9: say(call("hand_over_to_third"))}
    async with connect(store_url) as client:
        answer = await answer_of(client, one.durable)
        made = [str(input_of(row)["policy"]) for row in await cuts(client)]

    assert answer.text == "Done."
    assert [each.refused for each in readers] == [0, 0, 0]
    assert "drop_results(keep=3), drop_turns()" in made
    assert made[-1] == "drop_results(keep=3), summarise(), drop_turns()"
