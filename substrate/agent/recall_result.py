"""`recall_result`: the tool by which a model has back what was left out of a tool's result.

It is given to it from the first cut on that leaves results out: what its provider had cached is
lost then anyway, so the tool costs nothing before.

Invariants: it reads results of this run's own loop and nothing else; a part of a result is bounded,
however long that is.
"""

import re
from typing import Annotated

from pydantic import Field

from substrate.agent.history.keys import TOOLS, UNKNOWN, in_generation
from substrate.agent.history.result import ResultNotFound, result_in
from substrate.agent.tool import Tool, tool
from substrate.engine.context.context import Context

RECALL_RESULT = "recall_result"
"""The tool's name."""

MOST = 20_000
"""So many characters are given back at a time."""


def recall_result_tool(ctx: Context) -> Tool:
    """Return the tool for the loop of this context: the same one each time."""
    found = ctx.notes.get(_Made)
    if not isinstance(found, _Made):
        found = ctx.notes[_Made] = _Made(_tool(ctx))
    return found.tool


class _Made:
    """The tool of a context: its schema is made once, not with each turn."""

    __slots__ = ("tool",)

    def __init__(self, tool: Tool) -> None:
        self.tool: Tool = tool


def _tool(ctx: Context) -> Tool:
    async def recall_result(
        key: Annotated[str, Field(description="The key that stands where it was left out.")],
        start: Annotated[int, Field(ge=0, description="From which character on.")] = 0,
    ) -> str:
        """Give back a tool result that was left out, up to 20,000 characters of it at a time."""
        content = await _result(ctx, key)
        part = content[start : start + MOST]
        if len(part) == len(content):
            return part
        end = start + len(part)
        more = f'; for more: recall_result("{key}", {end})' if end < len(content) else ""
        return f"[characters {start:,} to {end:,} of {len(content):,}{more}]\n{part}"

    return tool(effect="pure")(recall_result)


async def _result(ctx: Context, key: str) -> str:
    """Return what a settled call gave. Raises `ResultNotFound`."""
    own = in_generation(ctx.id_prefix.removeprefix(f"{ctx.run_id}#"))
    called = in_generation(key).removeprefix(own)
    if _CALL.fullmatch(called) and in_generation(key) == own + called:
        settled = f"{key}/{UNKNOWN}.0"  # where a person has said what became of it
        rows = await ctx.earlier([key, settled])
        row, found = rows.get(key), rows.get(settled)
        if row is not None and row.is_settled:
            return result_in(row, found if found is not None and found.is_settled else None).content
    raise ResultNotFound(
        f"there is no result of the key {key[:200]!r}; a key stands where a result was left out"
    )


_CALL = re.compile(rf"{TOOLS}\.\d{{1,9}}/[A-Za-z_][A-Za-z0-9_-]{{0,63}}\.\d{{1,9}}")
"""A call of the loop itself: what a model makes up may be any text, and never reaches a store."""
