"""Mistakes, one a line, each marked with who sees it: `test_types` holds both checkers to it.

``seen`` is by both, ``seen: pyright`` by one, ``unseen`` by none, with the reason after it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from skills.sql import query_sql
from substrate import Client, Context, Durable, Effect, bound, durable
from substrate.agent import Agent, Tools, delegate, handoff, judge
from substrate.agent import begin as begin_turn
from substrate.agent.checks import Checks, rubric, schema
from substrate.agent.compact import Compact, drop_results, summarise
from substrate.agent.condition import Condition, Needs
from substrate.agent.stop import answered, any_of, confident, deadline, failed, max_turns, signalled
from substrate.agent.task import Task
from substrate.agent.tool import tool
from substrate.agent.turn import ask, begin, verdict
from substrate.models.model import Model
from substrate.models.providers.scripted import say
from tests.typed.right import (
    Report,
    add,
    book,
    charge,
    collect,
    fetch,
    give_back,
    kid,
    length,
    look,
    loose,
    number,
    stop,
    take_back,
    withdraw,
)


@durable
async def steps(ctx: Context) -> None:
    """Steps that cannot be called so."""
    await ctx.step(length, 5)  # seen
    await ctx.step(length)  # seen
    await ctx.step(length, "a", "b")  # seen
    await ctx.step(length, txt="a")  # seen
    await ctx.step(fetch, "one")  # seen
    await ctx.step(fetch, 1, 2)  # seen
    await ctx.step(fetch, "one", effect="once", timeout=5)  # seen
    await ctx.step(fetch, 1, efect="once")  # seen
    await ctx.step(fetch, 1, effect="idempotant")  # seen
    await ctx.step(fetch, 1, timeout="5 s")  # seen
    await ctx.step(fetch, 1, retry=3)  # seen
    await ctx.step(fetch, 1, language=5)  # seen
    await ctx.step(bound(fetch, "one"), effect="once")  # seen
    await ctx.step(fetch(1))  # seen
    await ctx.step(kid, "lamp")  # seen
    await ctx.step(charge, "five")  # seen
    await ctx.step(charge)  # seen
    await ctx.step(charge, 5, "mine", effect="once", timeout=1)  # unseen: a text may be the key
    await ctx.step(book, 5, 5, effect="idempotent")  # seen
    await ctx.step(withdraw, 5)  # seen
    await ctx.step(withdraw, "five", effect="transactional")  # seen
    await ctx.step(fetch, 1, effect="transactional")  # seen
    await ctx.step(fetch, 1, undo=fetch)  # seen
    await ctx.step(length, "a", undo=take_back)  # seen
    await ctx.step(fetch, 1, undo=number)  # seen
    await ctx.step(charge, 5, effect="once", reconcile=length)  # seen
    number_of: str = await ctx.step(length, "a")  # seen
    print(number_of)


@durable
async def below(ctx: Context) -> list[int]:
    """Durable functions that cannot be called so, and what they don't give."""
    await ctx.call(kid, 5)  # seen
    await ctx.call(kid)  # seen
    await ctx.call(kid, "lamp", peaces=2)  # seen
    await ctx.call(fetch, 1)  # seen
    await ctx.spawn(kid, 5)  # seen
    await ctx.spawn(kid, "lamp", 1, 2)  # seen
    await ctx.spawn(kid, "lamp", on_dead="wail")  # seen
    await ctx.spawn(fetch, 1)  # seen
    await ctx.map(length, [1])  # seen
    await ctx.map(kid, [1])  # seen
    lengths: list[str] = await ctx.map(length, ["a"])  # seen
    await kid(ctx, 5)  # seen
    await kid("lamp")  # seen
    kid.of(5)  # seen
    print(lengths)
    return await ctx.call(kid, "lamp")  # seen


@durable
async def mixed(ctx: Context, client: Client) -> None:
    """What works, and no type can say: arguments and options that are both given by name."""
    await ctx.step(fetch, 1, language="de", effect="once")  # seen
    await ctx.spawn(kid, "lamp", pieces=2, timeout=60)  # seen
    await client.start(kid, "lamp", pieces=2, id="kid")  # seen


@durable
async def together(ctx: Context) -> None:
    """Values that are taken for others, and operations that nobody awaits."""
    a, b = await ctx.gather(ctx.step(fetch, 1), ctx.step(length, "a"))
    print(a + 1)  # seen
    _, _ = await ctx.gather(ctx.step(fetch, 1))  # seen
    await ctx.gather(fetch, length)  # seen
    winner = await ctx.race(ctx.step(fetch, 1), ctx.step(length, "a"))
    winner.value.upper()  # seen
    if winner.place == 1:
        winner.value.upper()  # seen
    approved: str = await ctx.receive("approved", bool)  # seen
    await ctx.receive("approved", Report(""))  # seen
    await ctx.receive("approved", "bool")  # unseen: a text may be a type that comes later
    await ctx.receive("approved", timeout="5")  # seen
    if ctx.receive("approved", bool):  # seen: pyright
        ctx.step(charge, 5)  # seen
    ctx.call(kid, "lamp")  # seen
    ctx.sleep(5)  # seen
    ctx.map(length, ["a"])  # seen
    ctx.receive("approved", bool)  # seen
    await ctx.gather([ctx.step(fetch, 1)])  # seen
    print(list(ctx.map(length, ["a"])))  # seen
    print(ctx.step(fetch, 1).upper())  # seen
    await ctx.receive(bool, "approved")  # seen
    await ctx.sleep("5")  # seen
    ctx.spawn(kid, "lamp")  # unseen: a child has methods of its own, so it is no plain coroutine
    await ctx.gather(asyncio.sleep(1))  # unseen: a coroutine, as operations are
    print(b, approved)


@durable
async def again(ctx: Context, rest: int) -> str:
    """Another generation of the wrong kind."""
    if rest > 1:
        return ctx.continue_as(again.of("one"))  # seen
    if rest:
        return ctx.continue_as("one", "two")  # unseen: a context is of no certain function
    return ctx.continue_as  # seen


@durable
async def forgets(ctx: Context, rest: int) -> str:  # seen
    """Another generation that is not returned."""
    ctx.continue_as(rest - 1)


@durable  # seen
async def no_context(ctx: str, item: str) -> None:
    """Take no context."""


@durable  # seen
def not_async(ctx: Context) -> None:
    """Be no coroutine function."""


@tool(effect="maybe")  # seen
def misspelt(text: str) -> str:
    """Have no such effect."""
    return text


@tool(effect="transactional")  # seen
def transactional(text: str) -> str:
    """Have an effect that a tool can't have."""
    return text


@tool(pause_on="TypeError")  # seen
def no_errors(text: str) -> str:
    """Name no class of errors."""
    return text


async def tools(ctx: Context) -> None:
    """Tools that cannot be called so."""
    add("one")  # seen
    collect(ctx, 5, "key")  # seen
    print(add(1).upper())  # seen
    await collect(5, "key")  # seen
    print(add.efect)  # seen


def hook(task: str) -> str:
    """Take no task."""
    return task


def says_true(transcript: object) -> bool:
    """Say that it ends, and not how."""
    return True


@dataclass(frozen=True)
class Unfinished:
    """Hooks without an end."""

    prompt: str
    model: Model
    tools: Tools


async def hooks(ctx: Context, task: Task, model: Model) -> None:
    """Hooks that are none."""
    transcript = await begin(ctx, hook, task)  # seen
    verdict(ctx, answered, transcript)  # seen
    verdict(ctx, says_true, transcript)  # seen
    await ask(ctx, "anthropic:claude", transcript)  # seen
    await ask(ctx, model, transcript, [add, None])  # seen
    await ask(ctx, model, transcript, add)  # seen
    await ask(ctx, model, transcript, [query_sql])  # unseen: any function may be a tool
    await ask(ctx, model, transcript, answer=Report("x"))  # seen
    any_of(answered, max_turns(3))  # seen
    any_of(says_true, max_turns(3))  # seen
    confident("0.8")  # seen
    failed()  # seen
    deadline("tomorrow")  # seen
    signalled(tool=5)  # seen
    Condition(says_true)  # seen
    Needs(signals=["stop"])  # seen
    Checks([says_true])  # seen
    Compact([drop_results], window=32_000)  # seen
    Compact([drop_results()], windows=32_000)  # seen
    drop_results(3)  # seen
    summarise("anthropic:claude")  # seen
    rubric("Good.")  # seen
    rubric("Good.", judge="anthropic:claude")  # seen
    judge(3, "Good.")  # seen
    schema()  # seen
    delegate("scout")  # seen
    delegate(loose, depth=3)  # seen
    delegate(loose, retry=3)  # seen
    handoff(5)  # seen
    Agent("scout", "Look.", "anthropic:claude")  # seen
    Agent("scout", "Look.", model, add)  # seen
    Agent("scout", "Look.", model, stop=answered)  # seen
    await ctx.map(loose, [1])  # seen
    names: list[str] = await ctx.map(loose, ["a"])  # seen
    print(names)
    await begin_turn(ctx, Unfinished("", model, []), task)  # seen
    Model("scripted:x", script="no")  # unseen: a text is a sequence of texts
    Model("scripted:x", script=[say("yes")], fallback=3)  # seen
    print(stop(task))  # seen


async def outside(client: Client, raw: Any) -> None:
    """Starts that cannot be."""
    client.work([fetch])  # seen
    client.work(kid)  # seen
    await client.start(kid, 5, id="x")  # seen
    await client.start(kid, id="x")  # seen
    await client.start(kid, "lamp", 1, 2, id="x")  # seen
    await client.start(kid, "lamp")  # seen
    await client.start(kid, "lamp", id=5)  # seen
    await client.start(kid.of(5), id="x")  # seen
    await client.start(fetch, 1, id="x")  # seen
    await client.start(kid, "lamp", id="x", priorty=5)  # seen
    client.start(number, id="x")  # seen
    text: str = await client.result("x", number)  # seen
    await client.result("x", fetch)  # seen
    Durable(fetch, "fetch")  # seen
    Effect("maybe")  # unseen: any text may be one
    print(text, raw, look, give_back)
