"""Plans: random trees of what a run can do, what they mean, and the function that does them.

A plan is a list of nodes, each of them JSON: `plans` draws one, `interpret` runs it as a durable
function, `meaning` says what it comes to. `calls` and `undone` count what reached the world. Names
tell what a step does: ``fails`` always, ``flaky`` at its first call, ``works`` never.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from substrate import Context, Done, NotDone, Pending, Retry, StepFailed, durable

Node = list[Any]
FOREVER = 10_000_000

calls: Counter[str] = Counter()
undone: Counter[str] = Counter()


async def work(name: str) -> str:
    calls[name] += 1
    await asyncio.sleep(0)
    if name.startswith("fails") or (name.startswith("flaky") and calls[name] == 1):
        raise ValueError(name)
    return name


async def look(name: str) -> Any:
    return Done(name) if calls[name] else NotDone()


async def take_back(name: str) -> None:
    undone[name] += 1


@durable
async def undo(ctx: Context, name: str) -> None:
    await ctx.step(take_back, name)


@durable
async def interpret(ctx: Context, body: list[Node], end: str = "") -> list[Any]:
    values = [await do(ctx, node) for node in body]
    if end == "fails":
        raise ValueError("off")
    return values


async def do(ctx: Context, node: Node) -> Any:
    """Do one thing of a plan; what fails comes to the name of the first that failed."""
    try:
        match node:
            case ["gather", nodes]:
                return await ctx.gather(*(begin(ctx, each) for each in nodes))
            case ["map", bodies, limit]:
                return await ctx.map(interpret, bodies, limit)
            case ["race", nodes]:
                return list(await ctx.race(*(begin(ctx, each) for each in nodes)))
            case _:
                return await begin(ctx, node)
    except StepFailed as error:
        return error.message


def begin(ctx: Context, node: Node) -> Pending[Any]:
    """Return the operation that one node stands for."""
    match node:
        case ["step", name, "saga"]:
            return ctx.step(work, name, undo=undo)
        case ["step", name, "once"]:
            return ctx.step(work, name, effect="once", reconcile=look)
        case ["step", name, effect]:
            return ctx.step(work, name, effect=effect)
        case ["flaky", name, delay]:
            again = Retry(max_attempts=2, initial=timedelta(seconds=delay), jitter=0)
            return ctx.step(work, name, retry=again)
        case ["sleep", seconds]:
            return ctx.sleep(seconds)
        case ["signal", name]:
            return ctx.receive(name)
        case ["call", body]:
            return ctx.call(interpret, body)
        case ["spawn", body]:
            return ctx.spawn(interpret, body)
    raise AssertionError(node)


def meaning(node: Node) -> Any:
    """Return what a node comes to. In a race all but one wait for ever."""
    match node:
        case ["step" | "flaky" | "signal", name, *_]:
            return name
        case ["sleep", _]:
            return None
        case ["call" | "spawn", body]:
            return [meaning(each) for each in body]
        case ["map", bodies, _]:
            return [[meaning(each) for each in body] for body in bodies]
        case ["gather", nodes]:
            return failure_in(nodes) or [meaning(each) for each in nodes]
        case ["race", nodes]:
            place = next(i for i, each in enumerate(nodes) if not is_endless(each))
            return failure_in([nodes[place]]) or [place, meaning(nodes[place])]
    raise AssertionError(node)


def failure_in(nodes: list[Node]) -> str | None:
    return next((each[1] for each in nodes if str(each[1]).startswith("fails")), None)


def is_endless(node: Node) -> bool:
    return node in (["signal", "never"], ["sleep", FOREVER]) or (
        node[0] in ("call", "spawn") and any(map(is_endless, node[1]))
    )


def steps_in(node: Any) -> Iterator[Node]:
    """Return every step of a plan, the innermost too."""
    if isinstance(node, list):
        if node and node[0] in ("step", "flaky"):
            yield node
        for each in node:
            yield from steps_in(each)


def plans() -> st.SearchStrategy[list[Node]]:
    """Draw what a run does, one thing after another. Names are given by `named`."""
    effects = st.sampled_from(["pure", "idempotent", "once", "saga"])
    step = st.builds(lambda effect: ["step", "works", effect], effects)
    fails = st.just(["step", "fails", "pure"])
    flaky = st.builds(lambda delay: ["flaky", "flaky", delay], st.sampled_from([0, 60]))
    sleep = st.builds(lambda seconds: ["sleep", seconds], st.sampled_from([0, 1, 3600]))
    leaf = st.one_of(step, step, flaky, sleep, st.just(["signal", "s"]))
    endless = st.recursive(
        st.sampled_from([["signal", "never"], ["sleep", FOREVER]]),
        lambda inner: st.builds(
            lambda how, each: [how, [each]], st.sampled_from(["call", "spawn"]), inner
        ),
        max_leaves=2,
    )

    def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        body = st.lists(inner, min_size=1, max_size=3)
        branch = st.one_of(
            leaf,
            fails,
            st.builds(lambda how, what: [how, what], st.sampled_from(["call", "spawn"]), body),
        )
        return st.one_of(
            branch,
            st.builds(lambda each: ["gather", each], st.lists(branch, min_size=1, max_size=4)),
            st.builds(
                lambda bodies, limit: ["map", bodies, limit],
                st.lists(body, max_size=3),
                st.sampled_from([None, 1, 2]),
            ),
            st.builds(
                lambda losers, winner, place: [
                    "race",
                    [*losers[:place], winner, *losers[place:]],
                ],
                st.lists(endless, min_size=1, max_size=3),
                branch,
                st.integers(0, 3),
            ),
        )

    return st.lists(st.recursive(leaf, grown, max_leaves=6), min_size=1, max_size=4)


def named(plan: Any, numbers: Iterator[int]) -> Any:
    """Give each step and each signal that comes a name of its own."""
    if not isinstance(plan, list):
        return plan
    if plan and plan[0] in ("step", "flaky", "signal") and plan[1] != "never":
        return [plan[0], f"{plan[1]}{next(numbers)}", *plan[2:]]
    return [named(each, numbers) for each in plan]


def sagas_in(body: list[Node]) -> set[str]:
    """Return the names of the steps that the run itself makes up for."""
    return {name for _, name, how in own_steps(body) if how == "saga"}


def own_steps(node: Any) -> Iterator[Node]:
    """Return the steps that a run makes itself, not a child of it."""
    if isinstance(node, list):
        if node and node[0] == "spawn":
            return
        if node and node[0] in ("step", "flaky"):
            yield node
        for each in node:
            yield from own_steps(each)
