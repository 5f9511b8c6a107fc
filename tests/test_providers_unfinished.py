"""A run outlives replies that are broken: nothing of them has an effect, and what follows is legal.

Real runs of the real loop over the real SDKs, one scenario on all five providers. Each request is
judged by what its provider documents that it refuses; what became of the run is printed as a table,
which stands in `substrate/models/README.md`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from substrate import RunPaused, connect
from substrate.agent.end import Stop
from substrate.agent.stop import answered, any_of, budget, max_turns
from substrate.agent.tool import Tool, tool
from substrate.models.model import Model
from tests.llm_providers import SETUPS, Called, complete, said, served, unfinished, without_counts
from tests.llm_servers import Answer, Json, gemini_events, refusal, stream
from tests.loops import answer_of, make_agent
from tests.strict import check

README = Path("substrate/models/README.md")
QUICK = {"read_timeout": 0.4}
ENDS = any_of(answered(), max_turns(6))
MALFORMED = "Malformed function call: print(default_api.wipe(folder=)"


def tools_of(wiped: list[str]) -> Sequence[Tool]:
    """Return a tool that does much where it is told little, and one whose words cannot be sent."""

    @tool(effect="pure")
    async def wipe(folder: str = ".", depth: int = 9) -> str:
        """Wipe a folder."""
        wiped.append(folder)
        return f"{folder} is wiped"

    @tool(effect="pure")
    async def read() -> str:
        """Read a page that was cut in the middle of a character."""
        return "broken \ud83d text"

    return [wipe, read]


def wipe(provider: str, *written: str | None, stop: str | None = None) -> Answer:
    """Return a reply that calls `wipe`, under one id each time."""
    calls: list[Called] = [("same", "wipe", each) for each in written]
    return stream(*said(provider, "I wipe.", *calls, stop=stop))


def malformed(provider: str) -> Answer:
    """Return a reply whose arguments are no object, as far as its provider lets one through."""
    if provider == "google":
        finish = "MALFORMED_FUNCTION_CALL"
        return stream(*gemini_events(finish=finish, finishMessage=MALFORMED))
    return wipe(provider, '{"folder": ')


def silent(provider: str) -> Answer:
    """Return a reply that stops in the middle, and whose connection is kept alive."""
    return stream(*unfinished(provider)[:2], beat=": keep-alive\n\n")


def uncounted(provider: str) -> Answer:
    """Return a reply that nobody counted."""
    events = said(provider, "I wipe.", ("same", "wipe", '{"folder": "x"}'))
    return stream(*without_counts(events))


Broken = Callable[[str], Answer]
CASES: dict[str, tuple[Broken, str, list[str]]] = {
    "cut off before the arguments": (
        lambda each: wipe(each, None, stop="cut"),
        "answered, 2 calls",
        [],
    ),
    "cut off after the arguments": (
        lambda each: wipe(each, '{"folder": "x"}', stop="cut"),
        "answered, 2 calls",
        [],
    ),
    "filtered, with a call": (
        lambda each: wipe(each, None, stop="filtered"),
        "refused, 1 call",
        [],
    ),
    "two calls under one id": (
        lambda each: wipe(each, '{"folder": "x"}', '{"folder": "y"}'),
        "answered, 2 calls",
        ["x", "y"],
    ),
    "malformed arguments": (malformed, "answered, 2 calls", []),
    "a result that is half a character": (
        lambda each: stream(*said(each, "", ("a", "read", "{}"))),
        "answered, 2 calls",
        [],
    ),
    "without a word": (lambda each: stream(*said(each)), "answered, 2 calls", []),
    "silent, but kept alive": (silent, "answered, 2 calls", []),
    "an unknown reason to stop": (
        lambda each: stream(*said(each, "Half an ans", stop="tired")),
        "answered, 2 calls",
        [],
    ),
    "a redirect": (
        lambda each: refusal(307, {}, location="http://127.0.0.1:9/"),
        "paused: BadRequest",
        [],
    ),
}


async def outcome_of(
    url: str, provider: str, bodies: Sequence[Json], tools: Sequence[Tool], *, ends: Stop = ENDS
) -> str:
    """Run an agent to its end; return how it ended, after how many calls of its model."""
    model = Model(SETUPS[provider].model, settings=QUICK)
    agent = make_agent(model, tools, ends)
    async with connect(url) as client:
        try:
            reason = (await answer_of(client, agent)).reason
        except RunPaused as paused:
            return f"paused: {paused.failure.type}"
    return f"{reason}, {len(bodies)} call{'s' * (len(bodies) > 1)}"


@pytest.mark.parametrize("provider", sorted(SETUPS))
@pytest.mark.parametrize("case", CASES)
async def test_broken_replies(monkeypatch, sqlite_url, record_property, provider, case):
    """Nothing of a broken reply has an effect; the run goes on, and its next request is legal."""
    broken, expected, done = CASES[case]
    wiped: list[str] = []
    answers = broken(provider), stream(*complete(provider))
    async with served(monkeypatch, provider, *answers) as server:
        outcome = await outcome_of(sqlite_url, provider, server.bodies, tools_of(wiped))

    for body in server.bodies:
        check(provider, body)
    record_property("matrix", ["Broken replies", case, provider, outcome])
    assert (outcome, sorted(wiped)) == (expected, done)
    assert f"| {case} |{f' {outcome} |' * len(SETUPS)}" in README.read_text()


@pytest.mark.parametrize("provider", sorted(SETUPS))
async def test_a_budget_ends_what_nobody_counts(monkeypatch, sqlite_url, provider):
    """A budget ends a run whose provider counts nothing."""
    ends = any_of(answered(), budget(tokens=3000), max_turns(40))
    async with served(monkeypatch, provider, *(uncounted(provider) for _ in range(42))) as server:
        outcome = await outcome_of(sqlite_url, provider, server.bodies, tools_of([]), ends=ends)

    assert outcome.startswith("budget, ")
    assert len(server.bodies) < 20
    for body in server.bodies:
        check(provider, body)
