"""A conversation of hundreds of messages stays small, over its generations and whoever goes on."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from substrate import Client, Context, RunPaused, connect, durable
from substrate.agent import (
    Agent,
    Answer,
    Compact,
    Task,
    answered,
    any_of,
    budget,
    delegate,
    drop_results,
    drop_turns,
    max_turns,
    remember_first,
    summarise,
    tool,
)
from substrate.agent.conversation import conversation_of
from substrate.agent.history.request import read_request
from substrate.agent.history.result import result_in
from substrate.agent.history.rows import cut_of, input_of, value_of
from substrate.agent.history.usage import summed
from substrate.models.frame import canonical
from substrate.models.messages import Reply, Text, ToolMessage, Usage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import encode
from substrate.values.errors import BadRequest, TransportFailed
from tests.loops import TASK, answer_of
from tests.reader import ENDS, Reader, is_extraction, is_summary, read, reading
from tests.runs import QUICK, keys

ALL = (drop_results(), summarise(), drop_turns())
MESSAGES = 40


@tool(effect="pure")
def look(n: int) -> str:
    """Look."""
    return f"place {n}: " + "owl " * 700


class Talker(Reader):
    """A model that looks twice for each message, and answers with how many it has heard."""

    def _said(self, request: Request) -> Any:
        if is_summary(request):
            return "They speak of owls."
        *_, at = (i for i, m in enumerate(request.messages) if _is_of_a_person(m))
        turn = sum(isinstance(each, Reply) for each in request.messages[at:])
        said = request.messages[at].parts[0].text
        if "again" in said and turn == 0:
            return say(call("recall_result", key=said.rpartition(" ")[2]))
        if "again" in said:
            result = next(m for m in request.messages[at:] if isinstance(m, ToolMessage))
            return say(f"It said {result.results[0].content[:8]}")
        return say(call("look", n=len(self.asked))) if turn < 2 else say(f"To {said}")


def _is_of_a_person(message: Any) -> bool:
    if not isinstance(message, UserMessage):
        return False
    words = "".join(part.text for part in message.parts if isinstance(part, Text))
    return words.startswith("Message")


async def talk(client: Client, function: Any, said: Sequence[str]) -> list[dict[str, Any]]:
    """Say one message after the other, each once the one before is answered."""
    await client.start(function, Task(said[0]), None, id="talk")
    async with client.work([function], options=QUICK) as worker:
        for number, words in enumerate(said):
            if number:
                await client.signal("talk", "message", words, f"said-{number}")
            while len(await answers(client)) <= number:
                await worker.run_until_idle()
                await asyncio.sleep(0)
    return await answers(client)


async def answers(client: Client) -> list[dict[str, Any]]:
    """Return what was answered."""
    return [value_of(row) for row in await client.journal("talk") if row.name == "answer"]


async def test_a_long_talk(store_url: str) -> None:
    """Over generations: it fits, pairs are whole, rows rebuild each request, usage is all of it."""
    talker = Talker(window=12_000)
    agent = Agent(
        "talker",
        "Talk.",
        talker.model(),
        [look],
        any_of(answered(), max_turns(9), budget(usd=50)),
        compact=Compact(ALL, window=12_000),
    )
    said = [f"Message {n}." for n in range(MESSAGES)]
    said += ["Message again: tools.0/look.0", "Message again: g1/tools.0/look.0"]
    async with connect(store_url) as client:
        given = await talk(client, conversation_of(agent.durable), said)
        rows = await client.journal("talk")
        run = await client.get("talk")
        called = [row.key for row in rows if row.name in ("model", "summary")]
        rebuilt = [await read_request(client, "talk", key) for key in called]
        used = summed(await client.store.usages("talk#"))

    made = [cut for row in rows if (cut := cut_of(row)) is not None]
    assert [each["text"] for each in given[:-2]] == [f"To Message {n}." for n in range(MESSAGES)]
    assert [each["text"] for each in given[-2:]] == ["It said place 1:", "It said place 19"]
    assert talker.refused == 0
    assert run.generation >= 3
    assert len(made) >= 6
    assert len(talker.asked) >= 120
    sent = sorted(encode(canonical(each)) for each in talker.asked)
    assert sorted(map(encode, rebuilt)) == sent
    for each in talker.asked:
        calls = [c.id for m in each.messages if isinstance(m, Reply) for c in m.tool_calls]
        results = [
            r.call_id for m in each.messages if isinstance(m, ToolMessage) for r in m.results
        ]
        assert calls == results
    notices = [
        part for each in talker.asked for part in str(each.messages).split("[left out, ")[1:]
    ]
    assert any('recall_result("g1/' in each for each in notices)
    assert all("gives it back" in each or "earlier messages" in each for each in notices)
    assert used.cost_usd == Decimal("0.01") * len(talker.asked)
    assert given[-1]["used"]["cost_usd"] == str(used.cost_usd)


async def test_a_sub_agent(store_url: str) -> None:
    """A sub-agent has its own hook: its transcript stays small, and what that cost counts above."""
    inner = Reader(pages=24)
    child = Agent(
        "child", "Read.", inner.model(), [read], ENDS, compact=Compact(ALL, window=10_000)
    )
    outer = Reader()
    outer.turns = {0: say(call("child", task="Read it.")), 1: say("Done.")}
    async with connect(store_url) as client:
        ends = any_of(answered(), max_turns(9), budget(usd=5))
        agent = reading(outer.model(), None, [delegate(child, description="Read.")], ends)
        async with client.work([agent, child.durable]):
            await client.start(agent, TASK, id="a/1")
            answer = await client.result("a/1", agent)
        below = await client.journal("a/1#tools.0/child.0/child.0")

    made = [row for row in below if row.name == "compact"]
    assert (answer.text, inner.refused) == ("Done.", 0)
    assert len(made) >= 2
    assert answer.usage.cost_usd == Decimal("0.01") * (len(inner.asked) + len(outer.asked))


async def test_a_loop_in_a_tool(store_url: str) -> None:
    """A loop that a tool runs in the same journal makes room in its scope, and recalls there."""
    inner = Reader(window=60_000, pages=9, chars=30_000)
    inner.turns = {9: say(call("recall_result", key="tools.0/read.0"))}
    within = reading(inner.model(), Compact([drop_results()], window=60_000))

    @tool
    async def sub(ctx: Context) -> str:
        """Read."""
        return (await ctx.call(within, TASK)).text

    outer = Reader()
    outer.turns = {0: say(call("read", page=0)), 1: say(call("sub")), 2: say("Done.")}
    async with connect(store_url) as client:
        answer = await answer_of(client, reading(outer.model(), list(ALL), [read, sub]))
        rows = {row.key: row for row in await client.journal("a/1")}

    assert answer.text == "Done."
    made = [key for key, row in rows.items() if row.name == "compact"]
    assert made
    assert all(key.startswith("tools.1/sub.0/agent.0/") for key in made)
    none = rows["tools.1/sub.0/agent.0/tools.9/recall_result.0"]
    assert "there is no result of the key" in result_in(none).content
    notice = f'recall_result("{rows["tools.1/sub.0/agent.0/tools.0/read.0"].key}")'
    assert notice in str(inner.asked[-1].messages)


@pytest.mark.parametrize("other", [None, "another namespace", "no memory", "turns"])
async def test_hooks_that_change_in_its_middle(store_url: str, other: str | None) -> None:
    """A cut that was cut off goes on, or is given up, under whatever hook there is by then."""
    reader = Reader(
        pages=14,
        facts='{"facts": [{"subject": "Owls", "predicate": "are", "value": "two"}]}',
    )

    def fail(request: Request) -> None:
        if is_summary(request) and other != "done":
            raise BadRequest("the key is missing")

    reader.watch = fail
    policies: dict[str | None, Any] = {
        None: None,
        "another namespace": [remember_first("acme/cats", most=1), summarise()],
        "no memory": [summarise()],
        "turns": [drop_turns()],
    }
    async with connect(store_url) as client:
        first = Compact([remember_first("acme/owls"), summarise()], window=10_000)
        with pytest.raises(RunPaused):
            await answer_of(client, reading(reader.model(), first))
        assert any(map(is_extraction, reader.asked))
        names = await keys(client, "a/1")
        assert "compact.0/extract.0/remember.0" in names
        reader.watch = lambda request: None
        policy = policies[other]
        later = None if policy is None else Compact(policy, window=10_000)
        if later is None:
            reader.window = 10**9
        agent = reading(reader.model(), later)
        await client.resume("a/1")
        async with client.work([agent]):
            answer = await client.result("a/1", agent)
        open_rows = [row.key for row in await client.journal("a/1") if not row.is_settled]
        used = summed(await client.store.usages("a/1#"))

    assert answer.text == "Done."
    assert open_rows == []
    assert used.cost_usd == Decimal("0.01") * (len(reader.asked) - 1)
    if other == "another namespace":
        assert sum(map(is_extraction, reader.asked)) == 1 + (len(reader.of_turns) > 20)


async def test_what_tools_used_beside(store_url: str) -> None:
    """What a cut has cost is counted once, also where tools have model calls of their own."""
    reader, inner = Reader(pages=24), Reader(pages=-1)
    within = reading(inner.model(), None)

    @tool
    async def sub(ctx: Context, page: int, chars: int) -> str:
        """Read."""
        return f"{page}" + (await ctx.call(within, TASK)).text * (chars // 5)

    sub = tool(name="read")(sub.function)
    async with connect(store_url) as client:
        agent = reading(reader.model(), Compact([summarise()], window=10_000), [sub])
        answer = await answer_of(client, agent)
        made = await client.journal("a/1")

    assert answer.text == "Done."
    assert sum(row.name == "compact" for row in made) >= 2
    assert answer.usage.cost_usd == Decimal("0.01") * (len(reader.asked) + len(inner.asked))


async def test_two_loops_in_one_function(store_url: str) -> None:
    """Loops of one function, one after the other, have cuts of their own; a replay finds them."""
    readers = [Reader(pages=14), Reader(pages=14)]
    loops = [reading(each.model(), Compact(ALL, window=10_000)) for each in readers]

    @durable
    async def both(ctx: Context) -> list[str]:
        found: list[Answer] = [await ctx.call(loop, TASK) for loop in loops]
        await ctx.receive("go")
        return [each.text for each in found]

    async with connect(store_url) as client:
        async with client.work([both], options=QUICK) as worker:
            await client.start(both, id="run")
            await worker.run_until_idle()
        names = await keys(client, "run")
        async with client.work([both], options=QUICK):
            await client.signal("run", "go")
            assert await client.result("run") == ["Done.", "Done."]
        assert [each.refused for each in readers] == [0, 0]
        asked = [len(each.asked) for each in readers]
    assert sum(key.rpartition("/")[2].startswith("compact.") for key in names) >= 2
    assert asked == [asked[0]] * 2


async def test_another_model_sums_up(sqlite_url: str) -> None:
    """A summary may be another model's; one that is away pauses the run, which then goes on."""
    reader, other = Reader(pages=14), Reader(window=10**9)
    cheap = Model("scripted:cheap", script=other)
    async with connect(sqlite_url) as client:
        policy = Compact([summarise(cheap)], window=10_000)
        answer = await answer_of(client, reading(reader.model(), policy))

    assert (answer.text, reader.refused) == ("Done.", 0)
    assert [is_summary(each) for each in other.asked] == [True]
    assert answer.usage.cost_usd == Decimal("0.01") * (len(reader.asked) + 1)


async def test_nothing_stays_open(sqlite_url: str) -> None:
    """A summary that was tried in vain is closed where the hook is gone before there is one."""
    reader = Reader(pages=11)

    def fail(request: Request) -> None:
        if is_summary(request):
            raise TransportFailed("it was cut off", usage=Usage(9, 9, cost_usd=Decimal(0)))

    def conversation(compact: Compact | None) -> Any:
        return conversation_of(reading(reader.model(patience=0), compact))

    reader.watch = fail
    async with connect(sqlite_url) as client:
        function = conversation(Compact([summarise()], window=10_000))
        await client.start(function, TASK, None, id="talk")
        async with client.work([function], options=QUICK) as worker:
            await worker.run_until_idle()
        begun = [row.key for row in await client.journal("talk") if not row.is_settled]
        reader.window = 10**9
        function = conversation(None)
        await client.resume("talk")
        async with client.work([function], options=QUICK) as worker:
            await worker.run_until_idle()
        left = [row.key for row in await client.journal("talk") if not row.is_settled]

    assert "compact.0/summary.0" in begun
    assert left == ["run", "message.0"]


async def test_rows_of_a_cut_are_few(sqlite_url: str) -> None:
    """A loop whose context does not fill writes no row more; one that fills writes one a cut."""
    small, large = Reader(pages=5), Reader(pages=20)
    async with connect(sqlite_url) as client:
        await answer_of(client, reading(small.model(), Compact(ALL, window=10_000)), "a/1")
        await answer_of(
            client, reading(large.model(), Compact([drop_results()], window=10_000)), "a/2"
        )
        plain = [row.name for row in await client.journal("a/1")]
        cut = [row for row in await client.journal("a/2") if row.name == "compact"]

    assert {"prompt", "model", "read", "agent"} == set(plain)
    assert len(cut) == 2
    assert all(input_of(row)["cause"] == "fill" for row in cut)
