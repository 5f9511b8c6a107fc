"""Of a panel that answers, one voice is heard live, or it is told who has voted."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from substrate import connect
from substrate.agent import Panel, first, judge, majority
from substrate.agent.events import LiveEvent, ModelAsked, StepRetry, TextDelta, event_in
from substrate.models.model import Model
from substrate.models.request import Request
from tests.fork import HOOKS, Fork
from tests.llm_servers import Ending, chat_events, stream, wire
from tests.loops import TASK, make_agent
from tests.test_cli_terminal import terminal
from tests.test_panel import choice, does, says


async def heard(
    url: str, panel: Panel, listen: Callable[[LiveEvent], None] = lambda event: None
) -> list[LiveEvent]:
    """Run an agent of a panel; return which words were told live, and whose they were."""
    told: list[LiveEvent] = []

    def on_event(run_id: str, event: dict[str, Any]) -> None:
        found = event_in(event)
        if isinstance(found, TextDelta | ModelAsked):
            told.append(found)
        if found is not None:
            listen(found)

    agent = make_agent(panel)
    async with connect(url) as client, client.work([agent], on_event=on_event):
        await client.start(agent, TASK, id="a/1")
        await client.result("a/1", agent)
    return told


def words(told: list[LiveEvent]) -> str:
    """Return what was told of words, with a bar where somebody else began."""
    return "".join(each.text if isinstance(each, TextDelta) else "|" for each in told)


async def test_the_first_that_speaks(sqlite_url: str) -> None:
    """With first, the words of one member are told, and not mixed with another's."""
    has_spoken = asyncio.Event()

    async def late(request: Request) -> str:
        await has_spoken.wait()
        return "Three owls."

    def early(request: Request) -> str:
        has_spoken.set()
        return "Two owls."

    panel = Panel({"late": does(late, "late"), "early": does(early, "early")}, merge=first)
    told = await heard(sqlite_url, panel)

    assert words(told) == "|Two owls."
    assert told[0] == ModelAsked("scripted:early")


async def test_who_speaks_after_one_that_failed(sqlite_url: str) -> None:
    """Where the one that spoke fails, what it said is void, and the next that speaks is heard."""
    has_failed = asyncio.Event()

    async def late(request: Request) -> str:
        await has_failed.wait()
        return "Two owls."

    def listen(event: LiveEvent) -> None:
        if isinstance(event, StepRetry):
            has_failed.set()

    answer = chat_events("Four owls, and one")
    async with wire(stream(*answer[:4], ending=Ending.CUT)) as server:
        cut = Model("openai-chat:m", base_url=f"{server.url}/v1")
        panel = Panel({"cut": cut, "late": does(late, "late")}, merge=first)
        told = await heard(sqlite_url, panel, listen)

    assert words(told).startswith("|Four")
    assert words(told).endswith("|Two owls.")
    assert words(told).count("|") == 2


@pytest.mark.parametrize("merge", [majority, judge(says(choice(1)), "Good.")])
async def test_no_voice_for_votes(sqlite_url: str, merge: Any) -> None:
    """Where votes are merged, nobody's words are told as if they were the answer."""
    panel = Panel({"a": says("Two."), "b": says("Three."), "c": says("Two.")}, merge=merge)

    told = await heard(sqlite_url, panel)

    assert [each for each in told if isinstance(each, TextDelta)] == []


VOTING = """
from substrate.agent import Panel, majority


async def late(request):
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "two owls"


def saying(name, text):
    return Model(f"scripted:{name}", script=[text, text])


model = Panel(
    {
        "left": saying("left", "Two \\x1b[31mowls."),
        "right": saying("right", "Three owls."),
        "late": Model("scripted:late", script=late),
    },
    merge=MERGE,
)
tools = []
"""


@pytest.mark.parametrize("command", ["run", "chat"])
def test_who_has_voted_is_seen(tmp_path: Path, command: str) -> None:
    """At a terminal each vote is told when it is cast, and then what they came to."""
    fork = Fork.make(tmp_path, hooks=HOOKS + VOTING.replace("MERGE", "majority"))
    asked = ["How many?"] if command == "run" else []
    with terminal(fork, command, *asked, columns="120") as window:
        if command == "chat":
            window.read_until("\x1b[?2004h")
            window.type("How many?\r")
        for vote in (r"vote of left  ok  \S+ \S+  Two \\x1b\[31mowls\.", r"vote of right  ok"):
            window.read_until_match(vote)
        window.read_until_match(r"turn 1 · panel:majority · (left, right|right, left) voted")
        (fork.folder / "go").touch()
        window.read_until("majority: 1 of 3 votes, a tie: the first member stands")
        window.read_until("said otherwise: right, late")
        window.read_until("Two \\x1b[31mowls.\r\n")
        assert "\x1b[31m" not in window.screen


async def test_the_voice_is_seen(tmp_path: Path) -> None:
    """At a terminal the words of the member that speaks first are shown as they come."""
    half = chat_events("Two owls, and a third.")[:4]
    async with wire(*[stream(*half, ending=Ending.HELD)] * 9) as server:
        held = f'Model("openai-chat:m", base_url="{server.url}/v1")'
        hooks = HOOKS + VOTING.replace("MERGE", "first").replace("majority", "first")
        hooks = re.sub(r'saying\("left".*\)', held, hooks)
        fork = Fork.make(tmp_path, hooks=hooks.replace('saying("right", "Three owls.")', held))

        def watch() -> None:
            with terminal(fork, "run", "How many?", columns="120") as window:
                window.read_until("Two owls, an")
                (fork.folder / "go").touch()
                window.read_until("first: it came first")
                window.read_until("not waited for: left, right")
                window.read_until("two owls")
                assert window.process.wait(30) == 0

        await asyncio.to_thread(watch)
