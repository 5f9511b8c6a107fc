"""A set is recorded as the same in every process, whatever the order that it is iterated in."""

import asyncio
import os
import sys
from typing import Any

from pydantic import BaseModel

from substrate import Context, connect, durable
from tests.runs import QUICK, reached

WORDS = ["pear", "fig", "apple", "lime", "plum", "kiwi"]


class Named(BaseModel):
    words: frozenset[str]
    more: dict[str, set[str]] = {}
    raw: bytes | str = ""


@durable
async def takes(
    ctx: Context,
    words: set[str],
    groups: list[frozenset[frozenset[str]]],
    named: Named,
    mixed: set[bytes | str],
) -> list[str]:
    return sorted(words)


@durable
async def calls(ctx: Context) -> list[str]:
    found = await ctx.call(takes, *arguments())
    await ctx.receive("go")
    return found


def arguments() -> tuple[Any, ...]:
    """Return sets in all the places in which they may stand."""
    words = set(WORDS)
    groups = [frozenset({frozenset(WORDS[:3]), frozenset(WORDS[3:]), frozenset()})]
    named = Named(words=frozenset(WORDS), more={"a": set(WORDS)}, raw=b"\xff")
    return words, groups, named, {b"\xff", *WORDS, b"pear"}


async def _main(url: str, *, is_last: bool) -> None:
    async with connect(url) as client:
        await client.start(takes, *arguments(), id="run")
        await client.start(calls, id="calls")
        async with client.work([calls, takes], options=QUICK):
            await client.result("run")
            if is_last:
                await client.signal("calls", "go")
                assert await client.result("calls") == sorted(WORDS)
            else:
                await reached(client, "calls", "go.0")
    print(takes.encode_arguments(arguments(), {}))


async def test_a_set_is_the_same_in_every_process(store_url):
    """The same sets start the same run, and fit the same call, whatever the hash seed is."""
    inputs = []
    for seed in (1, 2, 3):
        command = [sys.executable, "-m", "tests.test_sets", store_url, str(seed == 3)]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        inputs.append(out)

    assert len(set(inputs)) == 1


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], is_last=sys.argv[2] == "True"))
