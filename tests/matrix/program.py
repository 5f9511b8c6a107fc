"""What an installed kit must be able to do, in one program: it ends with 0, or says what is wrong.

It runs where nothing of this repository is on the path, in the folder that its database is made in.
No `assert`: it must say the same under ``-O``.
"""

import asyncio
from datetime import timedelta
from uuid import NAMESPACE_OID, uuid5

from skills.sql import query_sql
from skills.web import fetch_url
from substrate import Context, Retry, __version__, connect, durable
from substrate.agent.calling import call_tools
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.agent.tool import tool
from substrate.agent.turn import ask, begin, finish, follow_advice, hear, verdict
from substrate.models.messages import Reply, ToolMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request

LONG = "long enough for a blob " * 5_000


def double(n: int) -> int:
    """Run in a thread."""
    return 2 * n


async def shout(text: str) -> str:
    """Run on the loop."""
    return text.upper()


async def charge(cents: int, idempotency_key: str) -> str:
    """Take money."""
    return f"{cents} under {idempotency_key}"


@durable
async def child(ctx: Context, n: int) -> int:
    """Be a run of its own."""
    return await ctx.step(double, n)


@durable
async def parent(ctx: Context) -> list[object]:
    """Use what there is."""
    doubled, shouted = await ctx.gather(ctx.step(double, 1), ctx.step(shout, "a"))
    mapped = await ctx.map(double, [1, 2, 3], limit=2)
    spawned = await ctx.spawn(child, 4)
    called = await ctx.step(once_more, 5, retry=Retry(max_attempts=2))
    winner = await ctx.race(ctx.sleep(timedelta(days=1)), ctx.step(double, 6))
    charged = await ctx.step(charge, 100, effect="idempotent")
    long = await ctx.step(shout, LONG)
    return [doubled, shouted, mapped, spawned, called, winner.value, charged, len(long)]


def once_more(n: int) -> int:
    """Be tried again, should it fail."""
    return n + 1


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    return f"{what}: two"


def script(request: Request) -> Reply:
    """Call the tool, then answer with what it said."""
    results = [
        result.content
        for message in request.messages
        if isinstance(message, ToolMessage)
        for result in message.results
    ]
    return say(f"I found {results[0]}.") if results else say(call("look", what="owls"))


MODEL = Model("scripted:owls", script=script)
TOOLS = [look, fetch_url(), query_sql("sqlite:///shop.db")]
STOP = any_of(answered(), max_turns(5))


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    """Work on the task until a stop condition holds."""
    transcript = await begin(ctx, "Be brief.", task)
    while not (end := verdict(ctx, STOP, transcript)):
        transcript = await follow_advice(ctx, MODEL, transcript, end, TOOLS)
        reply = await ask(ctx, MODEL, transcript, TOOLS)
        transcript += reply
        transcript += await call_tools(ctx, TOOLS, reply)
        transcript += await hear(ctx)
    return await finish(ctx, MODEL, transcript, end, TOOLS)


async def results() -> tuple[list[object], str]:
    """Run both, and return what they came to."""
    async with connect("sqlite:///runs.db") as client, client.work([parent, child, agent]):
        await client.start(parent, id="parent")
        await client.start(agent, Task("What is there?"), id="agent")
        answer = await client.result("agent", agent)
        return await client.result("parent"), answer.text


KEY = uuid5(NAMESPACE_OID, "parent#charge.0")
EXPECTED = ([2, "A", [2, 4, 6], 8, 6, 12, f"100 under {KEY}", len(LONG)], "I found owls: two.")


async def main() -> None:
    """Run everything twice: the second time, all of it is read from the database."""
    for _ in range(2):
        if (found := await results()) != EXPECTED:
            raise SystemExit(f"{found!r} is not {EXPECTED!r}")
    print(f"ostinato {__version__} works")


if __name__ == "__main__":
    asyncio.run(main())
