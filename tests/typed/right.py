"""A program that is right: two type checkers find nothing, and what it runs is what they say.

`test_types` checks it, and runs it: ``python right.py sqlite:///runs.db``.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, assert_type

from substrate import (
    Bound,
    Child,
    Client,
    Context,
    Done,
    Durable,
    Effect,
    NotDone,
    Retry,
    Run,
    Transaction,
    Winner,
    bound,
    connect,
    durable,
)
from substrate.agent import (
    Agent,
    Answer,
    Checks,
    Compact,
    Condition,
    End,
    EndReason,
    Model,
    Needs,
    Outcome,
    Panel,
    Stop,
    Task,
    Tool,
    Tools,
    Transcript,
    answered,
    any_of,
    budget,
    confident,
    deadline,
    delegate,
    drop_results,
    drop_turns,
    failed,
    first,
    handoff,
    judge,
    majority,
    max_turns,
    refused,
    remember_first,
    rubric,
    schema,
    signalled,
    summarise,
    tool,
)
from substrate.agent import begin as begin_turn
from substrate.agent.calling import call_tools
from substrate.agent.turn import ask, begin, finish, follow_advice, hear, verdict
from substrate.models.messages import Reply
from substrate.models.providers.scripted import call, say


@dataclass(frozen=True)
class Report:
    """What somebody says of an order."""

    title: str
    pages: int = 1


def length(text: str) -> int:
    """Return how long a text is."""
    return len(text)


async def fetch(page: int, language: str = "en") -> str:
    """Return a page."""
    return f"{language} {page}"


def report(title: str) -> Report:
    """Return a report."""
    return Report(title)


async def charge(cents: int, idempotency_key: str) -> str:
    """Charge so much."""
    return f"{cents} {bool(idempotency_key)}"


def book(cents: int, currency: str = "EUR", *, idempotency_key: str) -> bytes:
    """Book so much in a currency."""
    return f"{cents} {currency} {bool(idempotency_key)}".encode()


async def ping(idempotency_key: str = "") -> None:
    """Do something that needs a key at most."""


def withdraw(tx: Transaction, cents: int) -> int:
    """Take so much out of an account."""
    return len(tx.execute("SELECT 1 AS one")) * cents


async def look(cents: int, idempotency_key: str) -> Done | NotDone | None:
    """Say whether a charge has happened."""
    return NotDone()


class Shop:
    """Something that has methods."""

    async def price(self, item: str, pieces: int = 1) -> float:
        """Return what so many pieces cost."""
        return len(item) * 1.5 * pieces


@durable
async def give_back(ctx: Context, cents: int, result: str | None) -> None:
    """Make up for a charge."""


@durable
async def take_back(ctx: Context, page: int, language: str = "en") -> None:
    """Make up for a page."""


@durable
async def kid(ctx: Context, item: str, pieces: int = 1) -> list[str]:
    """Return so many items."""
    return [item] * pieces


@durable(name="numbers", version=2)
async def number(ctx: Context) -> int:
    """Return a number."""
    return await ctx.step(length, "four")


@durable
async def steps(ctx: Context) -> str:
    """Call steps in all ways."""
    shop = Shop()
    assert_type(await ctx.step(length, "abc"), int)
    assert_type(await ctx.step(length, text="abc"), int)
    assert_type(await ctx.step(report, "lamps"), Report)
    assert isinstance(await ctx.step(report, "lamps"), Report)
    assert_type(await ctx.step(fetch, 1), str)
    assert_type(await ctx.step(fetch, 1, "de"), str)
    assert_type(await ctx.step(fetch, 1, language="de"), str)
    assert_type(await ctx.step(fetch, 1, name="page", retry=Retry(max_attempts=2)), str)
    assert_type(await ctx.step(fetch, 1, "de", timeout=timedelta(seconds=5)), str)
    assert_type(await ctx.step(bound(fetch, 1, language="de"), effect="once", timeout=5), str)
    assert_type(await ctx.step(fetch, 1, effect=Effect.ONCE, undo=take_back), str)
    assert_type(await ctx.step(charge, 5), str)
    assert_type(await ctx.step(charge, 5, effect="idempotent", undo=give_back), str)
    assert_type(await ctx.step(charge, 5, effect="once", reconcile=look), str)
    assert_type(await ctx.step(book, 5, "USD", effect="idempotent"), bytes)
    assert_type(await ctx.step(ping), None)
    assert_type(await ctx.step(withdraw, 5, effect="transactional"), int)
    assert_type(await ctx.step(shop.price, "lamp", name="price"), float)
    assert_type(await ctx.step(lambda: 3, name="three"), int)
    return await ctx.step(fetch, 2)


@durable
async def below(ctx: Context) -> list[str]:
    """Call, spawn and map other functions."""
    assert_type(await ctx.call(kid, "lamp"), list[str])
    assert_type(await ctx.call(kid, item="lamp", pieces=2), list[str])
    child = await ctx.spawn(kid, "lamp", 2, name="kids", timeout=60).start()
    assert_type(child, Child[list[str]])
    assert_type(await child, list[str])
    assert_type(await ctx.spawn(number), int)
    assert_type(await ctx.spawn(kid, "lamp", pieces=2), list[str])
    assert_type(await ctx.spawn(kid.of("lamp", pieces=2), on_dead="wait"), list[str])
    assert_type(await ctx.map(length, ["a", "bc"]), list[int])
    assert_type(await ctx.map(fetch, [1, 2], limit=1), list[str])
    assert_type(await ctx.map(charge, [1, 2]), list[str])
    assert_type(await ctx.map(kid, ["a"]), list[list[str]])
    return await ctx.call(kid, "lamp")


@durable
async def together(ctx: Context) -> str:
    """Do several things side by side."""
    a, b = await ctx.gather(ctx.step(length, "abc"), ctx.call(kid, "lamp"))
    assert_type(a, int)
    assert_type(b, list[str])
    many = await ctx.gather(*[ctx.step(fetch, page) for page in range(3)])
    assert_type(many, list[str])
    first, _, third = await ctx.gather(ctx.step(fetch, 1), ctx.sleep(0), ctx.spawn(number))
    assert_type((first, third), tuple[str, int])
    winner = await ctx.race(ctx.step(length, "abc"), ctx.receive("never", Report))
    assert_type(winner, Winner[int, Literal[0]] | Winner[Report, Literal[1]])
    if winner.place == 0:
        assert_type(winner.value, int)
    else:
        assert_type(winner.value, Report)
    place, won = await ctx.race(ctx.step(fetch, 1), ctx.sleep(60))
    assert_type(won, str | None)
    assert_type(winner.index, Literal[0, 1])
    assert_type(await ctx.race(*[ctx.step(fetch, page) for page in range(3)]), Winner[str])
    return f"{a} {b} {place} {won}"


@durable
async def waits(ctx: Context, rest: int) -> list[str]:
    """Wait for people, and go on as another generation."""
    assert_type(await ctx.receive("approved", bool), bool)
    assert_type(await ctx.receive("report", Report, timeout=60), Report)
    assert_type(await ctx.receive("pages", list[int]), list[int])
    assert_type(await ctx.receive("perhaps", int | None), int | None)
    assert_type(await ctx.receive("mode", Literal["slow", "fast"]), Literal["slow", "fast"])
    assert_type(await ctx.receive("anything"), Any)
    assert_type(await ctx.poll("more"), list[Any])
    assert_type(await ctx.sleep(timedelta(0)), None)
    if rest > 1:
        return ctx.continue_as(rest - 1)
    if rest:
        return ctx.continue_as(waits.of(rest - 1))
    return [str(ctx.now()), str(ctx.uuid()), str(ctx.random())]


@durable
async def goes_on(ctx: Context, rest: int) -> str:
    """End in another generation, whichever way that is written."""
    if rest > 2:
        return "over" if rest > 3 else ctx.continue_as(rest - 1)
    if rest == 2:
        following: str = ctx.continue_as(rest=rest - 1)
        assert_type(await ctx.step(length, "checked"), int)
        return following
    match rest:
        case 1:
            return await later(ctx, rest)
        case _:
            return await ctx.step(fetch, rest)


async def later(ctx: Context, rest: int) -> str:
    """Go on, for whoever returns this."""
    return ctx.continue_as(goes_on.of(rest - 1))


@durable
async def only_goes_on(ctx: Context, rest: int) -> object:
    """Have no result of its own."""
    if rest:
        return ctx.continue_as(rest - 1)
    raise ValueError("enough")


@tool(effect="pure", pause_on=(TypeError, LookupError))
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@tool
async def collect(ctx: Context, order: int, idempotency_key: str) -> str:
    """Charge for an order, once a person has approved it."""
    return await ctx.step(charge, order)


def shout(text: str) -> str:
    """Say it loud."""
    return text.upper()


def prompt(task: Task) -> str:
    """Tell the model what it is."""
    return f"Answer: {task.text}"


turns = [say(call("add", a=1, b=2)), say("3")]
model = Model("scripted:adds", script=turns, fallback=[Model("scripted:no", script=[say("0")])])
tools: list[Tool | Any] = [add, collect, shout]
stop = any_of(answered(), max_turns(20), budget(usd=0.50))


def plain(transcript: Transcript) -> End | None:
    """End by a signal that somebody else has declared."""
    return End(EndReason.SIGNALLED, "enough") if "enough" in transcript.signals else None


def names_pages(answer: Answer, task: Task) -> str | None:
    """Want pages."""
    return None if "page" in answer.text else f"Say what {task.text} is."


async def is_short(answer: Answer, task: Task) -> str | None:
    """Want few words."""
    return None if len(answer.text) < 99 else "Be brief."


jury = Panel([model, "openai:o"], merge=judge(Panel({"a": model}, merge=majority), "Right."))
compact = Compact([drop_results(keep=2), remember_first("acme/owls", most=5), drop_turns()], to=0.2)
compacts = [drop_results(), summarise(), summarise(Model("openai:gpt-6-luna"))]
board = rubric("It is kind.", judge=Panel([model], merge=first), name="kind")

strict = Agent(
    "strict",
    prompt,
    model,
    tools=[collect],
    stop=any_of(
        *(confident(0.8), signalled("stop", tool="finish"), refused(), failed(3)),
        *(deadline(timedelta(hours=1)), deadline(datetime(2030, 1, 1, tzinfo=UTC)), plain),
        Condition(plain, Needs(signals=("enough",), tools=(add,))),
    ),
    answer=Report,
    checks=Checks(
        [names_pages, is_short, schema(Report), rubric("It has pages.", judge=model), board],
        corrections=1,
    ),
)
loose = Agent("loose", prompt, model, checks=[names_pages, is_short], compact=compact)
terse = Agent("terse", prompt, model, compact=compacts)
helpers: Tools = [
    delegate(loose, description="Ask it.", retry=Retry(max_attempts=2), max_depth=3, approve=True),
    handoff(strict, name="to_strict"),
]
chief = Agent("chief", "Have it done.", model, [*helpers, add])


@durable
async def asks_many(ctx: Context) -> list[str]:
    """Give an agent many tasks."""
    outcomes = await ctx.map(loose, ["a", "b"], limit=2)
    assert_type(outcomes, list[Outcome])
    assert_type(await ctx.map(loose, [Task("a")]), list[Outcome])
    assert_type(await ctx.spawn(loose.durable, Task("a")), Answer)
    return [each.text for each in outcomes]


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    """Run the loop, as a fork does."""
    transcript = await begin(ctx, prompt, task)
    while not (end := verdict(ctx, stop, transcript)):
        transcript = await follow_advice(ctx, model, transcript, end, tools)
        reply = await ask(ctx, model, transcript, tools)
        transcript += reply
        transcript += await call_tools(ctx, tools, reply)
        transcript += await hear(ctx)
    return await finish(ctx, model, transcript, end, tools)


@dataclass(frozen=True)
class Hooks:
    """The hooks of another agent, as a value."""

    prompt: str
    model: Model
    tools: Tools
    stop: Stop


HOOKS = Hooks("Be brief.", model, tools, stop)


@durable
async def handed_over(ctx: Context, task: Task) -> Answer:
    """Run the loop over hooks that are handed over once."""
    turn = await begin_turn(ctx, HOOKS, task)
    while not (end := turn.stop()):
        reply = await turn.ask()
        assert_type(reply, Reply)
        await turn.call_tools(reply)
    assert_type(end, End)
    return await turn.finish(end)


async def unit() -> None:
    """Call tools and bound functions as the functions that they are."""
    assert_type(add(1, b=2), int)
    assert_type(add.function(1, 2), int)
    assert_type(bound(length, text="abc"), Bound[[], int])
    assert add(1, b=2) == bound(length, text="abc")() == 3


async def main(client: Client) -> None:
    """Start everything, and look at what came of it."""
    agents: list[Durable[..., Any]] = [agent, handed_over]
    everything: list[Durable[..., Any]] = [
        steps,
        below,
        together,
        waits,
        goes_on,
        kid,
        number,
        *agents,
    ]
    async with client.work([*everything, give_back, take_back]):
        assert_type(await client.start(steps, id="steps"), Run)
        await client.start(kid, "lamp", 2, id="kid", timeout=60)
        await client.start(kid.of("lamp", pieces=2), id="kid/2", queue="default")
        await client.start(waits, 2, id="waits")
        await client.start(goes_on, 3, id="goes_on")
        await client.start(agent, Task("What is 1 + 2?"), id="agent")
        await client.start(handed_over, Task("What is 1 + 2?"), id="handed_over")
        said: dict[str, Any] = {"approved": True, "report": {"title": "x"}, "pages": [1]}
        said.update({"perhaps": None, "mode": "slow", "anything": {}})
        for name, value in said.items():
            for _ in range(3):
                await client.signal("waits", name, value)
        await client.start(below, id="below")
        await client.start(together, id="together")
        assert_type(await client.result("steps", steps), str)
        assert_type(await client.result("kid"), Any)
        assert_type(await client.result("goes_on", goes_on), str)
        assert await client.result("goes_on", goes_on) == "en 0"
        assert await client.result("kid/2", kid) == ["lamp", "lamp"]
        assert await client.result("below", below) == ["lamp"]
        assert (await client.result("agent", agent)).text == "3"
        assert (await client.result("handed_over", handed_over)).text == "3"
        print(await client.result("together", together), await client.result("waits", waits))


async def run(url: str) -> None:
    """Open the database and do it."""
    await unit()
    async with connect(url) as client:
        await main(client)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
