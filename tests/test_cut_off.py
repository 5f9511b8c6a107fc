"""Nothing of a reply that was cut off or refused has an effect, and the model is told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from substrate import connect
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer
from substrate.agent.tool import tool
from substrate.models.messages import Reply, StopReason, ToolMessage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from tests.loops import answer_of, make_agent

WIPED: list[str] = []
ENDS = any_of(answered(), max_turns(9))


@tool
def wipe(folder: str = ".") -> str:
    """Wipe a folder."""
    WIPED.append(folder)
    return f"wiped {folder}"


def cut(reply: Reply, stop: StopReason = StopReason.LENGTH) -> Reply:
    """Return a reply that ended for this reason."""
    return replace(reply, stop=stop)


async def run(
    url: str, turns: Sequence[Any], stop: Any = ENDS, **more: Any
) -> tuple[Answer, list[Request]]:
    """Run an agent over these turns; return its answer, and what its model was asked."""
    WIPED.clear()
    seen: list[Request] = []

    def script(request: Request) -> Any:
        seen.append(request)
        return turns[min(len(seen), len(turns)) - 1]

    model = Model("scripted:test", script=script, max_output_tokens=4096, **more)
    async with connect(url) as client:
        return await answer_of(client, make_agent(model, [wipe], stop)), seen


def results(request: Request) -> list[str]:
    """Return what the model is told of its last calls."""
    message = next(m for m in reversed(request.messages) if isinstance(m, ToolMessage))
    return [each.content for each in message.results]


CALLS = say("I clean up.", call("wipe", folder="/tmp/a"), call("wipe"))


async def test_cut_off(store_url: str) -> None:
    """No call of a reply that was cut off is made: all have a result that says why."""
    answer, seen = await run(store_url, [cut(CALLS), say("Done.")])

    assert WIPED == []
    told = (
        "cut off at the longest output (4096 tokens): nothing of this reply was executed; "
        "make it shorter"
    )
    assert results(seen[1]) == [told, told]
    assert (answer.reason, answer.text, answer.turns) == ("answered", "Done.", 2)


@pytest.mark.parametrize("parts", [CALLS, say(call("wipe"))])
async def test_refused(store_url: str, parts: Reply) -> None:
    """No call of a reply that was refused or filtered is made, and the run ends as refused."""
    answer, seen = await run(store_url, [cut(parts, StopReason.REFUSAL), say("Done.")])

    assert (WIPED, len(seen)) == ([], 1)
    assert (answer.reason, answer.turns) == ("refused", 1)


async def test_refused_and_on(sqlite_url: str) -> None:
    """A loop that goes on after a refusal has a transcript that can be sent: calls have results."""

    def stop(transcript: Any) -> Any:
        return answered()(transcript) if transcript.turns > 1 else None

    _, seen = await run(sqlite_url, [cut(CALLS, StopReason.REFUSAL), say("Done.")], stop)

    assert WIPED == []
    assert results(seen[1]) == ["not called: the reply that asks for it was refused"] * 2


async def test_cut_off_again_and_again(sqlite_url: str) -> None:
    """A model that is cut off each time ends the loop as failed, after three tries."""
    answer, seen = await run(sqlite_url, [cut(CALLS)])

    assert (WIPED, len(seen)) == ([], 3)
    assert answer.reason == "failed"
    assert "3 replies were not what was asked for, the last: cut off at the" in answer.detail


async def test_cut_off_and_another_model(sqlite_url: str) -> None:
    """A model that is cut off each time is passed over for one that takes invalid replies."""
    larger = Model("scripted:larger", script=["?", "?", "?", "Done."], max_output_tokens=9999)
    answer, seen = await run(sqlite_url, [cut(CALLS)], fallback=[Fallback(larger, on=["invalid"])])

    assert (WIPED, len(seen)) == ([], 3)
    assert (answer.reason, answer.text) == ("answered", "Done.")


EMPTY = [say(""), say(), say(" \n"), cut(say("")), cut(say(""), StopReason.TOOL_CALLS)]


@pytest.mark.parametrize("empty", EMPTY)
async def test_an_empty_answer(sqlite_url: str, empty: Reply) -> None:
    """An empty reply is no answer: the model is told, and gives one."""
    answer, seen = await run(sqlite_url, [empty, say("Here.")])

    assert (answer.reason, answer.text, answer.turns) == ("answered", "Here.", 2)
    assert len(seen[1].messages) == 3


async def test_only_empty_answers(sqlite_url: str) -> None:
    """A model that says nothing three times has failed, and the answer says so."""
    answer, seen = await run(sqlite_url, [say("")])

    assert (answer.reason, answer.text, len(seen)) == ("failed", "", 3)
    assert answer.detail.startswith("3 replies were not what was asked for, the last: Your reply")


async def test_an_answer_that_was_cut_off(sqlite_url: str) -> None:
    """Words that were cut off are an answer, which says so."""
    answer, _ = await run(sqlite_url, [cut(say("Once upon a"))])

    assert (answer.reason, answer.text) == ("answered", "Once upon a")
    assert answer.detail == "cut off at the model's longest output"
