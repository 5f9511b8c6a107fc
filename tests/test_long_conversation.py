"""A conversation does not die of its length: turns cost the same, a replay lets others run."""

from typing import Any

import pytest

from substrate.agent.tool import Tool
from tests.bench.conversation import converse, look, look_within

SHORT, LONG = 40, 400


@pytest.mark.parametrize("tool", [look, look_within], ids=["a step", "a tool with ctx"])
async def test_a_long_conversation(sqlite_url: str, record_property: Any, tool: Tool) -> None:
    """The 400th turn costs what the 40th did, and to resume at it costs less than to get there."""
    found = await converse(sqlite_url, LONG, [SHORT, LONG], tool)

    record_property("a turn's CPU at 400 turns, ms", f"{found.turn_ms[LONG]:.2f}")
    record_property("resume at 400 turns, s", f"{found.resume_s:.3f}")
    assert found.turn_ms[LONG] < 2.5 * found.turn_ms[SHORT]
    assert found.resume_s < found.cpu_ms / 1000
    assert found.longest_block_ms < 500
