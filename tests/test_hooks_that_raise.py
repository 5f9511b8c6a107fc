"""A hook that raises whatever there is pauses its run, named, and mended the run goes on."""

import asyncio
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator

from substrate import Context, RunPaused, RunStatus, connect, durable
from substrate.agent import Answer, Prompt, Task, TypedAnswer, begin, tool
from substrate.agent.end import Advice, End, EndReason
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.values.errors import CheckpointRefused, Refused
from tests.loops import ENDS, TASK
from tests.runs import QUICK
from tests.troubled import TroubledStore, troubled


class Own(BaseException):
    """An error that is no `Exception`, as some libraries have."""


ERRORS = {
    "SystemExit": SystemExit(2),
    "SystemExit without a code": SystemExit(),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(),
    "a BaseException": Own("mine"),
    "a group": BaseExceptionGroup("several", [SystemExit(1), ValueError("no")]),
    "StopIteration": StopIteration(),
    "an Exception": LookupError("no owl"),
}
error: BaseException | None = None
"""What the hook under test raises; None once it is mended."""


def check(given: Any) -> Any:
    """Raise what the test says, else give back what is given."""
    if error is not None:
        raise error
    return given


class Broken(Sequence[Any]):
    """Tools that are made when they are read."""

    def __getitem__(self, at: Any) -> Any:
        return [look][check(at)]

    def __len__(self) -> int:
        return 1


class Owl(BaseModel):
    name: Annotated[str, BeforeValidator(check)]


class Mind:
    """Hooks that are properties."""

    prompt, tools, stop = "Be brief.", (), staticmethod(ENDS)

    @property
    def model(self) -> Model:
        return check(MODEL)


@tool(effect="pure")
def look(what: str) -> str:
    """Look."""
    return what


@tool(effect="pure")
def find(what: Annotated[str, BeforeValidator(check)]) -> str:
    """Find."""
    return what


@tool
async def seek(ctx: Context, what: Annotated[str, BeforeValidator(check)]) -> str:
    """Seek."""
    return what


async def script_later(request: Any) -> Any:
    await asyncio.sleep(0)
    return check("done")


def refuse(request: Any) -> Any:
    raise Refused("no")


MODEL = Model("scripted:test", script=["done"])
PLAIN = {"prompt": "Be brief.", "model": MODEL, "tools": [], "stop": ENDS, "answer": None}
OWL = say('{"name": "Tawny"}')


def calls(name: str) -> Model:
    return Model("scripted:test", script=[say(call(name, what="owls")), "done"])


HOOKS: dict[str, tuple[str, Any]] = {
    "prompt": ("prompt", {"prompt": lambda task: check("Be brief.")}),
    "a prompt in versions": (
        "prompt",
        {"prompt": Prompt.versions({"v1": lambda task: check("Be brief.")})},
    ),
    "stop": ("stop", {"stop": lambda transcript: check(ENDS(transcript))}),
    "tools": ("tools", {"tools": Broken()}),
    "model": ("model", Mind()),
    "a script": (
        "model",
        {"model": Model("scripted:test", script=lambda request: check("done"))},
    ),
    "a script that awaits": ("model", {"model": Model("scripted:test", script=script_later)}),
    "a script in a fallback": (
        "model",
        {
            "model": Model(
                "scripted:a",
                script=refuse,
                fallback=[Model("scripted:b", script=lambda request: check("done"))],
            )
        },
    ),
    "answer": ("answer", {"answer": Owl, "model": Model("scripted:test", script=[OWL])}),
    "a typed answer": (
        "answer",
        {"answer": TypedAnswer(Owl), "model": Model("scripted:test", script=[OWL])},
    ),
    "a tool's type": ("tools", {"tools": [find], "model": calls("find")}),
    "the type of a tool with a ctx": ("tools", {"tools": [seek], "model": calls("seek")}),
}


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    turn = await begin(ctx, _hooks, task)
    while not (end := turn.stop()):
        reply = await turn.ask()
        await turn.call_tools(reply)
    return await turn.finish(end)


_hooks: Any = None


def use(given: Any) -> None:
    global _hooks  # noqa: PLW0603 - hooks are edited under a run
    _hooks = SimpleNamespace(**PLAIN | given) if isinstance(given, dict) else given


@pytest.fixture(autouse=True)
def _mended():
    raise_next(None)


def raise_next(raised: BaseException | None) -> None:
    global error  # noqa: PLW0603 - as above
    error = raised


@pytest.mark.parametrize("raised", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("name, hooks", HOOKS.values(), ids=HOOKS)
async def test_it_pauses(sqlite_url, name, hooks, raised):
    """Whatever a hook raises, the run is paused: with the hook, the line, the class, the cure."""
    use(hooks)
    raise_next(raised)
    async with connect(sqlite_url) as client, client.work([agent], options=QUICK) as worker:
        await client.start(agent, TASK, id="a/1")
        await worker.run_until_idle()
        with pytest.raises(RunPaused) as caught:
            await client.result("a/1")
        told = caught.value.failure.message
        raise_next(None)
        await client.resume("a/1")
        answer = await client.result("a/1", agent)

    assert re.search(rf"the hook `{name}` \({re.escape(__file__)}:\d+\) is at fault: ", told), told
    assert type(raised).__name__ in told
    assert told.endswith("; mend it, and resume the run: it goes on from here")
    assert answer.reason == "answered"


SHAPES = {
    "a detail that is no text": ("stop", {"stop": lambda t: End(EndReason.BUDGET, 5)}),
    "an advice of no measure": ("stop", {"stop": lambda t: Advice("compact", "x")}),
    "an advice that says no text": ("stop", {"stop": lambda t: Advice("warn", None)}),
    "a model that is none": ("model", {"model": lambda: 5}),
    "settings that are no JSON": (
        "model",
        {"model": Model("scripted:x", script=["done"], settings={"stop": {1}})},
    ),
    "no prompt at all": ("prompt", SimpleNamespace(model=MODEL, tools=[], stop=ENDS)),
    "no model at all": ("model", SimpleNamespace(prompt="", tools=[], stop=ENDS)),
    "no tools at all": ("tools", SimpleNamespace(prompt="", model=MODEL, stop=ENDS)),
    "no stop at all": ("stop", SimpleNamespace(prompt="", model=MODEL, tools=[])),
    "a prompt of bytes": ("prompt", {"prompt": lambda task: b"Be brief."}),
    "a prompt that is none": ("prompt", {"prompt": None}),
    "a prompt without versions": ("prompt", {"prompt": Prompt({}, {})}),
    "an answer of no class": ("answer", {"answer": 5}),
    "an answer without fields": ("answer", {"answer": list[int]}),
    "a turn of a script": ("", {"model": Model("scripted:x", script=lambda request: 5)}),
}


@pytest.mark.parametrize("name, hooks", SHAPES.values(), ids=SHAPES)
async def test_it_gives_what_is_none(store_url, name, hooks):
    """What is none of what a hook gives pauses the run and is named; mended, it goes on."""
    use(hooks)
    async with connect(store_url) as client, client.work([agent], options=QUICK) as worker:
        await client.start(agent, TASK, id="a/1")
        await worker.run_until_idle()
        assert (await client.get("a/1")).status is RunStatus.PAUSED, await client.journal("a/1")
        with pytest.raises(RunPaused, match=f"the hook `{name}`" if name else "give say") as caught:
            await client.result("a/1")
        assert "\n" not in caught.value.failure.message
        use({})
        await client.resume("a/1")
        assert (await client.result("a/1", agent)).reason == "answered"


async def test_a_prompt_that_a_database_refuses(sqlite_url):
    """A prompt whose row is refused pauses the run as well: a shorter one mends it."""

    class Refusing(TroubledStore):
        async def commit(self, batch: Any, *, wait: bool = False) -> Any:
            if any("poison" in (checkpoint.promise.value or "") for checkpoint in batch):
                raise CheckpointRefused("the row is refused")
            return await self._store.commit(batch, wait=wait)

    use({"prompt": "poison"})
    async with troubled(sqlite_url) as (client, store):
        client.store = Refusing(store._store)
        async with client.work([agent], options=QUICK) as worker:
            await client.start(agent, TASK, id="a/1")
            await worker.run_until_idle()
            with pytest.raises(RunPaused, match=r"the hook `prompt`.*: the row is refused"):
                await client.result("a/1")
            use({})
            await client.resume("a/1")
            assert (await client.result("a/1", agent)).reason == "answered"
