"""A person talks with an agent at a terminal, and goes on where they left."""

import pytest

from tests.fork import LIMIT_S, Fork
from tests.keeper import wait_until
from tests.test_cli_terminal import Terminal, terminal

HOOKS = r'''
import asyncio
from pathlib import Path

from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.messages import Text, ToolMessage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say


def note(called):
    with Path("calls").open("a") as calls:
        calls.write(called + chr(10))


def words(message):
    return [part.text for part in message.parts if isinstance(part, Text)]


def script(request):
    note("model")
    last = request.messages[-1]
    said = [words(each)[0] for each in request.messages if isinstance(each, UserMessage)]
    if isinstance(last, ToolMessage):
        return say(f"Done: {last.results[0].content}")
    if "look" in said[-1]:
        return say("I look.", call("look", what="owls"))
    if "refund" in said[-1]:
        return say("I refund.", call("refund", order="A-17", cents=2500))
    return say(f"You have said {len(said)} things, the last: {said[-1]}")


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    note("look")
    Path("looking").touch()
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    return f"{what}: two \x1b[2J\x1b]0;title\x07"


@tool(effect="idempotent", approve=True)
def refund(order: str, cents: int) -> str:
    """Pay back."""
    note(f"refund-{cents}")
    return f"{cents} paid back for {order}"


prompt = "Be brief."
model = Model("scripted:owls", script=script)
tools = [look, refund]
stop = any_of(answered(), max_turns(5))
'''


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose agent talks, looks and refunds."""
    return Fork.make(tmp_path, hooks=HOOKS)


def say(window: Terminal, words: str) -> None:
    window.type(f"{words}\r")


def test_a_talk(fork):
    """Question, tool, approval, kill -9, restart, history, a message from a second terminal."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        window.read_until("\x1b[?2004h")
        say(window, "Good morning.")
        window.read_until("You have said 1 things, the last: Good morning.")
        say(window, "Please look.")
        window.read_until("Done: owls: two")
        say(window, "A refund, please.")
        window.read_until("cents = 2500")
        window.read_until("l later >")
        say(window, "y")
        window.read_until("Done: 2500 paid back for A-17")
        fork.hold()
        say(window, "Please look again.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.kill()

    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        window.read_until("Done: 2500 paid back for A-17")
        window.read_until("> Please look again.")
        window.read_until('look(what="owls")')
        said = fork.do("say", "trip", "And what of the attic?")
        assert said.code == 0
        fork.let_go()
        window.read_until("And what of the attic?")
        window.read_until("You have said 5 things, the last: And what of the attic?")
        say(window, "/cost")
        window.read_until("so far")
        say(window, "/quit")
        code = window.process.wait(LIMIT_S)

    assert code == 0
    assert fork.run("trip")["status"] == "suspended"
    assert fork.calls.count("refund-2500") == 1
