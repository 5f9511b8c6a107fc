"""Whatever an error raises while it is described is data, and ends no process."""

import sys
from typing import Any

import pytest

from substrate import Context, Retry, RunFailed, connect, durable
from substrate.agent.tool import tool
from substrate.engine.failure import failure_of
from substrate.models.providers.scripted import call, say
from tests.loops import answer_of, make_agent, row, scripted
from tests.runs import QUICK


class InItsText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class InItsRepr(ValueError):
    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        raise KeyboardInterrupt


class InItsArgs(Exception):
    @property
    def args(self) -> Any:
        raise KeyboardInterrupt


class InItsNotes(Exception):
    @property
    def __notes__(self) -> Any:
        raise SystemExit


class InItsDetails(Exception):
    @property
    def details(self) -> Any:
        raise KeyboardInterrupt


class InAnyAttribute(Exception):
    def __getattribute__(self, name: str) -> Any:
        sys.exit(4)


class _Nameless(type):
    @property
    def __name__(cls) -> str:
        raise SystemExit(5)


class InItsName(Exception, metaclass=_Nameless):
    pass


class _Text(str):
    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        sys.exit(6)


class InWhatItsTextIs(Exception):
    def __str__(self) -> str:
        return _Text("words")


class InAGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise KeyboardInterrupt


def grouped() -> Exception:
    return ExceptionGroup("several", [InItsText(), InAnyAttribute()])


def in_a_cause() -> Exception:
    error = ValueError("told")
    error.__cause__ = InAnyAttribute()
    return error


HOSTILE: list[Any] = [
    InItsText,
    InItsRepr,
    InItsArgs,
    InItsNotes,
    InItsDetails,
    InItsName,
    InWhatItsTextIs,
    lambda: InAGroup("several", [ValueError("one")]),
    grouped,
    in_a_cause,
]


def made(number: int) -> Exception:
    return HOSTILE[number]()


async def fails(number: int) -> None:
    raise made(number)


@durable
async def raises(ctx: Context, number: int) -> None:
    raise made(number)


@durable
async def steps(ctx: Context, number: int) -> None:
    retry = Retry(max_attempts=2, initial=0)
    await ctx.gather(ctx.step(fails, number, retry=retry), ctx.sleep(0))


@durable
async def innocent(ctx: Context) -> str:
    return (await ctx.receive("go", str)) + await ctx.step(fine)


async def fine() -> str:
    return "fine"


@pytest.mark.parametrize("made", [*HOSTILE, InAnyAttribute], ids=lambda made: made.__qualname__)
def test_it_is_described(made):
    """A record is made of any exception: its class and its place are known, whatever it raises."""
    try:
        raise made()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is described
        failure = failure_of(error)
    assert type(failure.message) is str
    assert failure.type == type.__dict__["__name__"].__get__(type(made()))
    assert failure.traceback is not None
    assert "test_errors_that_raise.py" in failure.traceback


@pytest.mark.parametrize("function", [raises, steps], ids=["the function", "a step"])
async def test_only_the_run_fails(store_url, function):
    """The run that raised it has failed, its worker goes on, and no run beside it is charged."""
    functions = [raises, steps, innocent]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        await client.start(innocent, id="innocent")
        for number in range(len(HOSTILE)):
            await client.start(function, number, id=f"run/{number}")
            with pytest.raises(RunFailed):
                await client.result(f"run/{number}")
        await client.signal("innocent", "go", "all ")
        assert await client.result("innocent") == "all fine"
        assert (await client.get("innocent")).crashes == 0


async def test_no_question_can_be_asked(store_url):
    """A run whose error cannot even be asked for its class has failed, with the class's name."""

    @durable
    async def unheard_of(ctx: Context) -> None:
        raise InAnyAttribute

    async with connect(store_url) as client, client.work([unheard_of, innocent], options=QUICK):
        await client.start(innocent, id="innocent")
        await client.start(unheard_of, id="run")
        with pytest.raises(RunFailed, match=r"InAnyAttribute: \(its own code raises SystemExit"):
            await client.result("run")
        await client.signal("innocent", "go", "all ")
        assert await client.result("innocent") == "all fine"


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_in_a_tool(sqlite_url, number):
    """A tool that raises it has failed, and the model is told; so has one with a ctx."""

    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        raise made(number)

    @tool
    async def search(ctx: Context) -> str:
        """Search."""
        raise made(number)

    script = scripted(say(call("look"), call("search")), say("done"))
    agent = make_agent(script, [look, search])
    async with connect(sqlite_url) as client:
        assert (await answer_of(client, agent)).text == "done"
        assert (await row(client, "tools.0/look.0")).error is not None
        assert (await row(client, "tools.0/search.0")).error is not None
