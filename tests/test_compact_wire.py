"""After a cut each provider's own SDK sends what its server takes, thoughts and calls and all."""

from typing import Any

import pytest

from substrate import connect
from substrate.agent import (
    Agent,
    Compact,
    answered,
    any_of,
    drop_results,
    drop_turns,
    max_turns,
    remember_first,
    summarise,
    tool,
)
from substrate.agent.end import Advice, Measure
from substrate.agent.history.rows import cut_of
from substrate.models.mending.rules import PROVIDERS
from substrate.models.model import Model
from tests.llm_providers import SETUPS, complete, served
from tests.llm_servers import stream
from tests.test_delegate import worked
from tests.test_mending_handed_over import thinking

SUMMED_UP = "There were owls in the barn."
FACTS = '{"facts": [{"subject": "Barn", "predicate": "has", "value": "owls", "replaces": false}]}'


@tool(effect="pure")
def look(where: str = "barn") -> str:
    """Look for owls."""
    return "An owl, and \ud83d. " * 300


def advise(transcript: Any) -> Any:
    """Advise a cut after the third turn."""
    is_due = transcript.turns == 3 and transcript.cut_at is None
    return Advice(Measure.COMPACT, "much was said") if is_due else None


POLICIES: dict[str, tuple[list[Any], list[str]]] = {
    "results": ([drop_results(keep=1)], []),
    "summary": ([summarise()], [SUMMED_UP]),
    "memory": ([remember_first("acme/owls"), summarise()], [FACTS, SUMMED_UP]),
    "turns": ([drop_turns()], []),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_taken(monkeypatch: Any, sqlite_url: str, provider: str, policy: str) -> None:
    """A run that thinks, calls, makes room and goes on ends, and its server refuses nothing."""
    strategies, said = POLICIES[policy]
    turn = stream(*thinking(provider))
    agent = Agent(
        "looker",
        "Look.",
        Model(SETUPS[provider].model),
        [look],
        any_of(answered(), max_turns(9), advise),
        compact=Compact(strategies, at=0.6, to=0.3),
    )
    aside = [stream(*complete(provider, words)) for words in said]
    answers = (turn, turn, turn, *aside, turn, stream(*complete(provider, "So.")))
    async with served(monkeypatch, provider, *answers) as server, connect(sqlite_url) as client:
        answer = await worked(client, agent)
        rows = await client.journal("a/1")

    made = [cut for row in rows if (cut := cut_of(row)) is not None]
    assert (answer.text, len(server.bodies)) == ("So.", len(answers))
    assert len(made) == 1
    assert made[0].failed == {}
    assert made[0].facts == (policy == "memory")
    assert made[0].messages + made[0].results > 0
    assert (SUMMED_UP in str(server.bodies[-1])) == (SUMMED_UP in said)
