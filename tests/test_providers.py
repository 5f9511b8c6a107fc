"""The same agent gives the same transcript on every provider, whatever a provider does to it.

Real runs of the real loop, over the real SDKs, against llmock, which breaks things as providers do
and judges how they were taken. What each fault cost is printed as a table.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from substrate import Client, Context, RunPaused, WorkerOptions, connect, durable
from substrate.agent.calling import call_tools
from substrate.agent.end import Advice, Measure, Verdict
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import tool
from substrate.agent.transcript import Transcript
from substrate.agent.turn import ask, begin, finish
from substrate.models.messages import Message, Reply, ToolMessage, UserMessage, message_from_json
from substrate.models.model import Model, disconnect
from substrate.values.codec import decode
from tests.llm_providers import SETUPS
from tests.llm_servers import CONTEXT_WINDOW, Json, Llmock, llmock
from tests.loops import make_agent

READ_TIMEOUT_S = 0.6


@tool(effect="pure")
async def search(query: str) -> str:
    """Search the library."""
    return f"two books on {query}"


@tool(effect="pure")
async def lend(title: str, days: int) -> str:
    """Lend a book."""
    if days > 30:
        raise ValueError(f"{days} days is too long")
    return f"{title} is yours for {days} days"


STOP = any_of(answered(), max_turns(6))


@durable
async def librarian(ctx: Context, task: Task) -> Answer:
    """Answer as the loop of every fork does, with the model that the task names."""
    model = Model(
        task.data["model"],
        settings={"read_timeout": READ_TIMEOUT_S},
        fallback=task.data.get("fallback", ()),
    )
    tools = [search, lend]
    transcript = await begin(ctx, "You are a librarian.", task)
    while not (end := STOP(transcript)):
        reply = await ask(ctx, model, transcript, tools)
        transcript += reply
        transcript += await call_tools(ctx, tools, reply)
    return await finish(ctx, model, transcript, end, tools)


@pytest.fixture(scope="module")
def running_llmock() -> Iterator[Llmock]:
    """Run one llmock for this file."""
    with llmock() as server:
        yield server


@pytest.fixture
async def mock(running_llmock, monkeypatch) -> AsyncIterator[Llmock]:
    """Point every provider's SDK at a fresh llmock."""
    running_llmock.reset()
    for setup in SETUPS.values():
        setup.env(monkeypatch, running_llmock.url + setup.mock_path)
    yield running_llmock
    await disconnect()


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[Client]:
    """Drive librarians."""
    async with (
        connect(f"sqlite:///{tmp_path}/runs.db") as client,
        client.work([librarian], options=WorkerOptions(concurrency=32)),
    ):
        yield client


# The same transcript everywhere


def said_in(messages: list[Message]) -> list[Any]:
    """Return messages without what is each provider's own: ids, and where words are cut."""
    told: list[Any] = []
    for message in messages:
        match message:
            case UserMessage():
                told.append(("user", message.to_json()["parts"]))
            case Reply():
                calls = [(call.name, call.arguments) for call in message.tool_calls]
                told.append(("assistant", message.text, calls, message.stop))
            case ToolMessage(results):
                told.append(("tools", [(r.name, r.content, r.is_error) for r in results]))
    return told


async def transcript_of(client: Client, run_id: str) -> list[Any]:
    """Return what a run's journal says was said, in order."""
    journal = {promise.key: promise for promise in await client.journal(run_id)}
    messages: list[Message] = []
    calls: dict[str, Any] = {}
    for key, promise in journal.items():
        if key.startswith("model."):
            messages.append(message_from_json(decode(promise.value)))
        elif key.startswith("tools."):
            calls[key] = (
                decode(promise.value) if promise.value else decode(promise.error)["message"]
            )
    return [*said_in(messages), sorted(map(str, calls.values()))]


async def test_one_transcript(mock, client):
    """One task gives one transcript on all providers: words, parallel calls, results, errors."""
    both = [
        {"name": "search", "arguments": {"query": "owls"}},
        {"name": "lend", "arguments": {"title": "Owls", "days": 90}},
    ]
    script = [
        {"type": "reply", "text": "I look.", "tool_calls": both},
        {
            "type": "reply",
            "tool_calls": [{"name": "lend", "arguments": {"title": "Owls", "days": 9}}],
        },
        {"type": "reply", "text": "Owls is yours for 9 days."},
    ]
    transcripts, answers = {}, {}
    for provider, setup in SETUPS.items():
        mock.script(*script)
        task = Task("Lend me a book on owls", {"model": setup.model})
        await client.start(librarian, task, id=f"one/{provider}")
        answers[provider] = await client.result(f"one/{provider}", librarian)
        transcripts[provider] = await transcript_of(client, f"one/{provider}")

    first = transcripts["anthropic"]
    assert transcripts == dict.fromkeys(SETUPS, first)
    assert len(first) == 4
    assert {(a.text, a.reason, a.turns) for a in answers.values()} == {
        ("Owls is yours for 9 days.", "answered", 3)
    }
    assert mock.findings() == []


# The fault matrix

# Long, so that a server is still writing when its client turns away.
WORDS = {"type": "reply", "text": "word " * 8000}


def broken(kind: str, **more: Any) -> list[Json]:
    """Return a stream of words that breaks."""
    return [WORDS, {"type": "stream_fault", "kind": kind, "after_chunks": 4, **more}]


ANSWERED = "answered"
FAULTS: dict[str, tuple[list[Json], str, int]] = {
    "none": ([], ANSWERED, 1),
    "429, retry after 0.4 s": ([{"type": "fail", "status": 429, "retry_after": 0.4}], ANSWERED, 2),
    "429 twice": ([{"type": "fail", "status": 429, "retry_after": 0.2, "times": 2}], ANSWERED, 3),
    "500": ([{"type": "fail", "status": 500}], ANSWERED, 2),
    "503": ([{"type": "fail", "status": 503}], ANSWERED, 2),
    "529 twice": ([{"type": "fail", "status": 529, "times": 2}], ANSWERED, 3),
    "400": ([{"type": "fail", "status": 400}], "BadRequest", 1),
    "401": ([{"type": "fail", "status": 401}], "Unusable", 1),
    "402": ([{"type": "fail", "status": 402}], "QuotaExhausted", 1),
    "disconnect": (broken("disconnect"), ANSWERED, 2),
    "truncate": (broken("truncate"), ANSWERED, 2),
    "stall": (broken("stall", stall_seconds=20), ANSWERED, 2),
    "malformed chunk": (broken("malformed"), ANSWERED, 2),
    "slow first token": ([{"type": "slow_first_token", "seconds": 0.3}], ANSWERED, 1),
    "silence before it": ([{"type": "delay", "seconds": 20}], ANSWERED, 2),
    "bad tool arguments": ([{"type": "tool_fault", "kind": "malformed_arguments"}], ANSWERED, 1),
    "unknown tool": ([{"type": "tool_fault", "kind": "unknown_tool"}], ANSWERED, 1),
    "context window": ([], "ContextOverflow", 1),
}


async def outcome_of(client: Client, provider: str, fault: str) -> tuple[str, int]:
    """Run a librarian against a fault; return how it ended, and its calls for the first turn."""
    run_id, model = f"{provider}/{slug(fault)}", f"{provider}:{slug(fault)}"
    text = "word " * CONTEXT_WINDOW if fault == "context window" else f"Find owls ({fault})"
    await client.start(librarian, Task(text, {"model": model}), id=run_id)
    try:
        ending = (await client.result(run_id, librarian)).reason
    except RunPaused as paused:
        return paused.failure.type, 1
    asked = next(p for p in await client.journal(run_id) if p.key == "model.0")
    return ending, 1 + len(decode(asked.attempts) if asked.attempts else ())


def slug(fault: str) -> str:
    """Return a fault's name as a model's, so that each run meets its own."""
    return fault.replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("provider", SETUPS)
async def test_faults(mock, client, provider, record_property):
    """No fault of a provider costs a run that can go on, and none is answered by a vain call."""
    mock.script(
        *(
            {**each, "match": {"model": slug(fault)}}
            for fault, (behaviours, _, _) in FAULTS.items()
            for each in behaviours
        )
    )

    outcomes = dict(
        zip(
            FAULTS,
            await asyncio.gather(*(outcome_of(client, provider, fault) for fault in FAULTS)),
            strict=True,
        )
    )
    for fault, (ending, calls) in outcomes.items():
        cell = f"{calls} call{'s' * (calls > 1)}" if ending == ANSWERED else ending
        record_property("matrix", ["Faults", fault, provider, cell])

    assert outcomes == {fault: (ending, calls) for fault, (_, ending, calls) in FAULTS.items()}
    assert mock.findings() == []


# Fallback, from each provider to the next

NEXT = dict(zip(SETUPS, [*list(SETUPS)[1:], next(iter(SETUPS))], strict=True))


@pytest.mark.parametrize(
    "status, reason",
    [
        (529, "overloaded"),
        (429, "quota"),
        (402, "quota"),
        (413, "context"),
        (401, "unusable"),
        (404, "unusable"),
    ],
    ids=str,
)
async def test_fallback(mock, client, status, reason):
    """A provider that cannot answer, for whatever reason, is passed over; the journal says why."""
    mock.script({"type": "fail", "status": status, "times": None, "match": {"model": "away"}})

    async def run(provider: str) -> tuple[str, list[tuple[str, str]], bool]:
        models = {"model": f"{provider}:away", "fallback": [f"{NEXT[provider]}:here"]}
        run_id = f"{status}/{provider}"
        await client.start(librarian, Task(f"Find owls for {provider}", models), id=run_id)
        answer = await client.result(run_id, librarian)
        rows = [p for p in await client.journal(run_id) if p.key.startswith("model.")]
        replies = [decode(row.value) for row in rows]
        passed = [(each["model"], each["reason"]) for each in replies[0]["passed_over"]]
        return answer.reason, passed, all(r["provider"] == NEXT[provider] for r in replies)

    outcomes = await asyncio.gather(*map(run, SETUPS))

    assert outcomes == [("answered", [(f"{each}:away", reason)], True) for each in SETUPS]
    calls = mock.statuses().count(status)
    # An overload is tried once more; then the breaker spares it. A full context is each turn's own,
    # and what was said is summed up first, by the same model, as long as there is less to say.
    assert calls == {529: 2, 429: 2, 413: 8}.get(status, 1) * len(SETUPS)


class Loan(BaseModel):
    """A loan."""

    title: str
    days: int


@pytest.mark.parametrize("provider", SETUPS)
async def test_what_we_add(mock, client, provider):
    """A warning, a summary and a correction are said in an order that every provider takes."""
    calls = [{"name": "search", "arguments": {"query": "owls"}}]
    mock.script(
        *[{"type": "reply", "tool_calls": calls}] * 3,
        {"type": "reply", "text": "Owls, and how to lend them."},
        {"type": "reply", "tool_calls": calls},
        {"type": "reply", "text": "Owls, for nine days."},
        {"type": "reply", "text": '{"title": "Owls", "days": 9}'},
    )

    def advise(transcript: Transcript) -> Verdict:
        """Advise a warning after the second turn and a summary after the third."""
        if transcript.turns == 3 and not transcript.summaries:
            return Advice(Measure.COMPACT, "much was said")
        is_warned = transcript.turns < 2 or transcript.is_warned
        return None if is_warned else Advice(Measure.WARN, "Much was said")

    ends = any_of(answered(), max_turns(9), advise)
    model = Model(SETUPS[provider].model, settings={"read_timeout": READ_TIMEOUT_S})
    agent = make_agent(model, [search], ends, answer=Loan, name="advised")
    async with client.work([agent]):
        await client.start(agent, Task("Find owls"), id=f"advised/{provider}")
        answer = await client.result(f"advised/{provider}", agent)
    keys = [promise.key for promise in await client.journal(f"advised/{provider}")]

    assert answer.read(Loan) == Loan(title="Owls", days=9)
    assert {"warning.0", "summary.0", "model.5"} <= set(keys)
    assert mock.findings() == []
