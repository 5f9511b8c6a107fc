"""Whatever text a model or a person gives, a gate keeps it, and the run goes on."""

from typing import Any

import pytest

from substrate.agent import Policy, answer, approve, ask_human, deny, tool
from substrate.agent.rules import read_rule
from substrate.models.providers.scripted import call
from substrate.values.errors import Misuse
from tests.test_approvals import answered, asking, open_gates

ODD = ["\ud800", "a\x00b", "\udfff\ud83d", "\ufffe", "\u202e"]
"""Half characters, a NUL, and what a terminal would obey."""


@pytest.mark.parametrize("text", ODD, ids=ascii)
@pytest.mark.parametrize("summary", [None, lambda text: f"send {text}"], ids=["exact", "own line"])
async def test_an_approval(store_url: str, text: str, summary: Any) -> None:
    """A call with such arguments is asked about, edited and made with exactly what was decided."""
    sent: list[str] = []

    @tool(approve=Policy(summary=summary, to=text))
    def send(text: str) -> str:
        """Send it."""
        sent.append(text)
        return "sent"

    async with asking(store_url, send, calls=(call("send", text=text),)) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by=f"ada{text}", why=f"why {text}", edit={"text": f"{text}!"})
        assert "sent" in await answered(client, agent)
    assert sent == [f"{text}!"]


@pytest.mark.parametrize("text", ODD, ids=ascii)
async def test_a_denial(store_url: str, text: str) -> None:
    """Nothing is called, and the model is told."""

    @tool(approve=True)
    def send(text: str) -> str:
        """Send it."""
        raise AssertionError

    async with asking(store_url, send, calls=(call("send", text=text),)) as (client, agent):
        (gate,) = await open_gates(client)
        await deny(client, gate, by=f"ada{text}", why=f"why {text}")
        assert "why" in await answered(client, agent)


@pytest.mark.parametrize("text", ODD, ids=ascii)
@pytest.mark.parametrize("choices", [False, True])
async def test_a_question(store_url: str, text: str, choices: bool) -> None:  # noqa: FBT001
    """A model's question is asked, and what is answered is told to it."""
    given = {"choices": [f"a{text}", "b"]} if choices else {}
    asks = call("ask_human", question=f"Which {text}?", **given)
    async with asking(store_url, ask_human(), calls=(asks,)) as (client, agent):
        (gate,) = await open_gates(client)
        await answer(client, gate, "b", by="ada", why=text)
        assert "b" in await answered(client, agent)


@pytest.mark.parametrize("text", ODD[:3], ids=ascii)
def test_a_rule(text: str) -> None:
    """A rule with such text is refused: it would not be kept as it is."""
    with pytest.raises(Misuse, match="half a character or a NUL"):
        read_rule(f'allow send where text = "{text}"', by="ada", now=0)
