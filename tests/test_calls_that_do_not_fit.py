"""A call of the kit with a wrong, a missing or an unknown argument says what the call takes."""

from typing import Annotated, Any

import pytest
from pydantic import Field

import substrate
from substrate import Client, Context, Retry, RunFailed, Secret, WorkerOptions, connect, durable
from substrate.agent import Fallback, Model, Prompt, Task, answered, begin, budget, max_turns, tool
from substrate.agent.end import End
from substrate.values.misfit import what_it_takes
from tests.fork import HOOKS, Fork
from tests.runs import QUICK

ANY: Any = substrate  # the mistakes are not for a type checker
client: Any = None


async def step(x: int = 1) -> int:
    return x


@durable
async def kid(ctx: Context, n: int = 1) -> int:
    return n


def own(size: int) -> None: ...


class Mine:
    """A class of somebody's own, whose name is one of the kit's."""

    def start(self, *, owls: int) -> None: ...


Mine.start.__qualname__ = "Client.start"


class Opaque:
    """What pydantic does not know."""


RETRY = "It takes max_attempts=, initial=, factor="
CALLS: dict[str, tuple[Any, str]] = {
    "a model's unknown setting": (
        lambda ctx: Model("scripted:x", script=["a"], temprature=1),
        (
            "'temprature'; it takes id, offline=, script=, max_output_tokens=, settings=, "
            "base_url=, key=, fallback=, price=, patience=; what its provider is told stands in "
            "settings={'temprature': …}"
        ),
    ),
    "a model's near word": (
        lambda ctx: Model("scripted:x", script=["a"], max_tokens=1),
        "'max_tokens'; did you mean 'max_output_tokens'? It takes id, offline=",
    ),
    "no model": (lambda ctx: ANY.agent.Model(), "'id'; it takes id, offline="),
    "a fallback": (
        lambda ctx: Fallback("openai:x", onn=["quota"]),
        "'onn'; did you mean 'on'? It takes model, on=",
    ),
    "a budget by position": (lambda ctx: ANY.agent.budget(5), "; it takes usd=, tokens=, mode="),
    "a budget in euros": (lambda ctx: budget(eur=5), "; it takes usd=, tokens=, mode="),
    "turns by another name": (lambda ctx: max_turns(turns=5), "'turns'; it takes limit"),
    "a condition of no arguments": (
        lambda ctx: answered(*[5]),
        "but 1 was given; it takes no arguments",
    ),
    "a tool": (
        lambda ctx: tool(efect="pure"),
        "did you mean 'effect'? It takes function, name=, description=, effect=",
    ),
    "a retry": (
        lambda ctx: ctx.step(step, retry=Retry(max_atempts=3)),
        f"'max_atempts'; did you mean 'max_attempts'? {RETRY}",
    ),
    "a retry by position": (lambda ctx: Retry(*[3]), "; it takes max_attempts=, initial="),
    "a worker's options": (
        lambda ctx: WorkerOptions(treads=3),
        "did you mean 'threads'? It takes concurrency=, threads=, lease=",
    ),
    "no task": (lambda ctx: Task(words="x"), "'words'; it takes text, data="),
    "a task of no text": (lambda ctx: Task(*[5]), "Task(5) is no text; write Task('…')"),
    "a prompt's versions": (
        lambda ctx: Prompt.versions({"a": "b"}, splt={}),
        "'splt'; did you mean 'split'? It takes texts, split=, name=",
    ),
    "an end": (lambda ctx: End(), "'reason'; it takes reason, detail="),
    "a secret": (lambda ctx: Secret(nme="x"), "did you mean 'name'? It takes name"),
    "hooks that are not handed over": (
        lambda ctx: begin(*[ctx]),
        "'hooks' and 'task'; it takes ctx, hooks, task",
    ),
    "an option of durable": (
        lambda ctx: durable(nme="x"),
        "did you mean 'name'? It takes function, name=, version=",
    ),
    "durable on no function": (
        lambda ctx: durable(*[5]),
        "@durable is given 5; put it on an `async def f(ctx, …)`",
    ),
    "a start without an id": (
        lambda ctx: client.start(kid),
        "'id'; it takes function, *args, id=, queue=, priority=, at=, timeout=, **keywords",
    ),
    "a signal without a name": (
        lambda ctx: client.signal("a"),
        "'name'; it takes id, name, value=",
    ),
    "a worker without functions": (lambda ctx: client.work(), "'functions'; it takes functions, "),
    "a connection": (
        lambda ctx: connect("sqlite:///x.db", clok=1),
        "did you mean 'clock'? It takes url, clock=",
    ),
    "no items": (lambda ctx: ctx.map(step), "'items'; it takes fn, items, limit="),
    "one item": (
        lambda ctx: ctx.map(step, 5),
        (
            "map() is given items=5, which is no list; give what step() is called with, one item a "
            "call: ctx.map(step, [1, 2])"
        ),
    ),
    "a limit by another name": (
        lambda ctx: ctx.map(step, [1], concurrency=1),
        "'concurrency'; it takes fn, items, limit=",
    ),
    "a wait by another name": (
        lambda ctx: ctx.receive("x", timeot=5),
        "did you mean 'timeout'? It takes name, type=, timeout=",
    ),
    "a wait for a number": (lambda ctx: ctx.receive("x", 5), "a signal cannot be 5: it is no type"),
    "a wait for a list": (
        lambda ctx: ctx.receive("x", [1, 2]),
        (
            "a signal cannot be [1, 2]: it is no type; give ctx.receive('x', …) a type that "
            "pydantic knows, such as bool or a class of yours, and timeout= by its name"
        ),
    ),
    "a wait for a function": (
        lambda ctx: ctx.receive("x", own),
        "a signal cannot be the function own",
    ),
    "a wait for an object": (
        lambda ctx: ctx.receive("x", Opaque()),
        "it is no type; give ctx.receive('x', …)",
    ),
    "a wait for an unknown class": (
        lambda ctx: ctx.receive("x", Opaque),
        "Unable to generate pydantic-core schema for",
    ),
    "a sleep in seconds": (lambda ctx: ctx.sleep(seconds=5), "'seconds'; it takes duration"),
    "a race of none": (lambda ctx: ctx.race(), "at least one operation; write ctx.race(ctx."),
    "a child of too many": (
        lambda ctx: ctx.spawn(kid, 1, 2),
        "kid() cannot be called so: too many positional arguments; it takes (n: int = 1)",
    ),
    "no operation": (lambda ctx: ctx.spwan(kid), "no attribute 'spwan'; did you mean 'spawn'?"),
    "nothing of the package": (
        lambda ctx: ANY.agent.Modle,
        "no attribute 'Modle'; did you mean 'Model'?",
    ),
    "a function of one's own": (lambda ctx: own(sice=1), "did you mean 'size'? It takes size"),
    "a class of one's own": (lambda ctx: Mine().start(id="x"), "argument 'id'"),
}


@durable
async def calls(ctx: Context, name: str) -> Any:
    made = CALLS[name][0](ctx)
    return await made if hasattr(made, "__await__") else repr(made)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Provide a database for all of them: each is a run of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('calls') / 'runs.db'}"


@pytest.mark.parametrize("name", CALLS)
async def test_in_a_run(url, name):
    """The run's failure has, on one line, what was meant and what there is."""
    global client
    run_id = f"calls/{list(CALLS).index(name)}"
    async with connect(url) as client, client.work([calls, kid], options=QUICK):
        await client.start(calls, name, id=run_id)
        with pytest.raises(RunFailed) as caught:
            await client.result(run_id)

    # Newer Pythons name the near word themselves.
    told = caught.value.failure.message.replace(". Did you mean", "; did you mean")
    assert CALLS[name][1] in told
    assert "\n" not in told
    assert "errors.pydantic.dev" not in told


def test_a_class_of_ones_own_is_not_taken_for_the_kits():
    """What the calling code names itself is told by its own arguments, whatever its name."""
    with pytest.raises(TypeError) as caught:
        Mine().start(id="x")  # type: ignore[call-arg]

    assert "function" not in what_it_takes(caught.value)


LISTED = Annotated[int, Field(gt=1), ["a", "list"]]


@durable
async def waits(ctx: Context) -> Any:
    return await ctx.receive("x", LISTED)


async def test_a_type_with_what_has_no_hash(url):
    """A type beside which a list stands is a type of a signal as any other."""
    async with connect(url) as client, client.work([waits], options=QUICK):
        await client.start(waits, id="waits")
        await client.signal("waits", "x", 7)
        assert await client.result("waits") == 7


def test_the_near_word_of_a_newer_python():
    """Where Python names the near word itself, what the call takes follows it."""
    message = "Retry.__init__() got an unexpected keyword argument 'max_atempts'. Did you mean 'x'?"

    assert what_it_takes(TypeError(message)).startswith(" It takes max_attempts=, initial=")


LOADED = {
    "a model": (
        'Model("scripted:owls", script=script)',
        'Model("scripted:owls", script=script, temprature=1)',
        "it takes id, offline=, script=",
    ),
    "a condition": ("max_turns(5)", "max_turns(turns=5)", "it takes limit; mend it"),
    "a tool": ('@tool(effect="pure")', '@tool(effect="pure", nme="x")', "did you mean 'name'? It"),
}


@pytest.mark.parametrize("right, wrong, told", LOADED.values(), ids=LOADED)
def test_in_the_hooks(tmp_path, right, wrong, told):
    """A command says it of hooks that it loads, with their line."""
    fork = Fork.make(tmp_path, hooks=HOOKS.replace(right, wrong))

    done = fork.do("run", "How many owls?")

    assert done.code == 2
    assert "error: agent/hooks.py:" in done.err
    assert told in done.err
    assert len(done.err.splitlines()) == 1


async def test_start_is_the_clients():
    """The call that is looked up is one of the kit's."""
    with pytest.raises(TypeError) as caught:
        await Client.get(object())  # type: ignore[call-arg, arg-type]

    assert what_it_takes(caught.value) == "; it takes id"
