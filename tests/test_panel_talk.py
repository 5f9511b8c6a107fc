"""A panel answers in a conversation, across its generations, and what it costs is carried on."""

from decimal import Decimal

from substrate import connect
from substrate.agent import Panel, answered, any_of, max_turns
from substrate.agent.conversation import conversation_of
from substrate.agent.history.rows import value_of
from substrate.models.messages import Reply
from substrate.models.panel import majority
from substrate.models.request import Request
from tests.loops import make_agent
from tests.test_conversation import ID, talk
from tests.test_panel import cent, does


async def test_a_talk_with_a_panel(store_url: str) -> None:
    """Each message is answered by all members, and no vote of another generation counts."""

    def script(request: Request) -> Reply:
        return cent(f"Answer {sum(isinstance(each, Reply) for each in request.messages)}.")

    panel = Panel({"a": does(script, "a"), "b": does(script, "b")}, merge=majority)
    talker = conversation_of(make_agent(panel, stop=any_of(answered(), max_turns(3))))
    async with connect(store_url) as client:
        await talk(client, talker, *(f"Message {n}." for n in range(40)))
        run = await client.get(ID)
        rows = await client.journal(ID)
        turns = [each for each in rows if each.key.rpartition("/")[2].startswith("model.")]

    told = [value_of(each)["panel"] for each in turns]
    assert [each["why"] for each in told] == ["2 of 2 votes"] * len(turns)
    assert {each["usage"]["cost_usd"] for each in told} == {str(Decimal("0.02"))}
    assert (len(turns), run.generation > 0) == (40, True)
