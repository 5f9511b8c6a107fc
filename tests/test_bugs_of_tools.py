"""A bug in a tool is seen by whoever wrote it: the run is paused for it, or tells it at its end."""

import importlib
import logging
from pathlib import Path
from typing import Any

import pytest

from substrate import Context, OutcomeUnknown, RunPaused, connect
from substrate.agent.tool import tool
from substrate.models.providers.scripted import call, say
from substrate.values.errors import Misuse
from tests.fork import HOOKS, Fork
from tests.loops import TASK, answer_of, make_agent, row, scripted
from tests.runs import QUICK, keys

HERE = Path(__file__)


def line_of(words: str) -> int:
    """Return the line of this file that has the words at its end."""
    (number,) = (
        i for i, line in enumerate(HERE.read_text().splitlines(), 1) if line.endswith(words)
    )
    return number


class Work:
    """What a tool does: a bug at first, and then what it should."""

    def __init__(self) -> None:
        self.is_mended = False
        self.calls = 0

    def do(self) -> str:
        self.calls += 1
        if not self.is_mended:
            return nothing_of_that_name  # noqa: F821 - the bug
        return "two"


def plain(work: Work) -> Any:
    @tool(effect="pure")
    def find(what: str) -> str:
        """Find something."""
        return work.do()

    return find


def waiting(work: Work) -> Any:
    @tool(effect="idempotent")
    async def find(what: str) -> str:
        """Find something."""
        return work.do()

    return find


def with_ctx(work: Work) -> Any:
    @tool
    async def find(ctx: Context, what: str) -> str:
        """Find something."""
        return work.do()

    return find


@pytest.mark.parametrize("make", [plain, waiting, with_ctx])
async def test_a_name_that_is_not_there(store_url, make):
    """The run is paused at the line of the bug, asks no model, and goes on once that is mended."""
    work = Work()
    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [make(work)])

    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        at = f"{HERE}:{line_of('# noqa: F821 - the bug')}"
        told = rf"NameError: the tool 'find' \({at}\) is at fault: name .*; mend it, and resume"
        with pytest.raises(RunPaused, match=told):
            await client.result("a/1")
        assert "model.1" not in await keys(client, "a/1")
        work.is_mended = True
        await client.resume("a/1")
        assert (await client.result("a/1", agent)).text == "done"
        assert (await row(client, "tools.0/find.0")).value == '"two"'
    assert work.calls == 2


async def test_in_a_call_that_is_made_once(store_url):
    """A call that may not be made twice pauses the run, and is not made again when it goes on."""
    work = Work()

    @tool
    def charge(cents: int) -> str:
        """Charge somebody."""
        return work.do()

    agent = make_agent(scripted(say(call("charge", cents=5)), say("done")), [charge])

    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused, match=r"is at fault.* is not made again: the model is told"):
            await client.result("a/1")
        work.is_mended = True
        await client.resume("a/1")
        assert (await client.result("a/1", agent)).text == "done"
        told = (await row(client, "tools.0/charge.0")).error
    assert OutcomeUnknown.__name__ in told
    assert "nothing_of_that_name" in told
    assert work.calls == 1


async def test_a_module_that_is_not_there(sqlite_url):
    """A tool that cannot import what it needs pauses the run."""

    @tool(effect="pure")
    def find(what: str) -> str:
        """Find something."""
        import nopandas  # type: ignore[import-not-found]

        return str(nopandas)

    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [find])

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused, match=r"'find' \(.*test_bugs.*No module named 'nopandas'"):
            await client.result("a/1")


async def test_what_a_model_wrote(sqlite_url):
    """An unknown name in a model's own code, and a module that it named, are told to it."""

    @tool(effect="pure")
    def run(code: str) -> str:
        """Run Python."""
        names: dict[str, Any] = {}
        exec(code, names)
        return str(names["x"])

    @tool(effect="pure")
    def evaluate(code: str) -> str:
        """Evaluate Python."""
        return str(eval(compile(code, "model.py", "eval")))

    @tool(effect="pure")
    def explain(module: str) -> str:
        """Explain a module."""
        return str(importlib.import_module(module).__doc__)

    calls = (
        call("run", code="def f():\n    return y\nx = f()"),
        call("run", code="import nopandas"),
        call("evaluate", code="y"),
        call("explain", module="nopandas"),
    )
    agent = make_agent(scripted(say(*calls), say("done")), [run, evaluate, explain])

    async with connect(sqlite_url) as client:
        assert (await answer_of(client, agent)).text == "done"
        told = [(await row(client, f"tools.0/{key}")).error for key in ("run.0", "evaluate.0")]
        told += [(await row(client, f"tools.0/{key}")).error for key in ("run.1", "explain.0")]
    assert all("name 'y' is not defined" in each for each in told[:2])
    assert all("No module named 'nopandas'" in each for each in told[2:])


@pytest.mark.parametrize("errors", [TypeError, (LookupError, TypeError), Exception])
@pytest.mark.parametrize("effect", ["pure", "once"])
async def test_errors_that_a_person_is_asked_about(sqlite_url, errors, effect):
    """A tool names errors that are for its author, of whatever kind, in place of the model."""

    @tool(effect=effect, pause_on=errors)
    async def find(what: str) -> str:
        """Find something."""
        return what + 1  # type: ignore[operator]

    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [find])

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        with pytest.raises(RunPaused, match=r"TypeError: the tool 'find' \(.*\) is at fault: can"):
            await client.result("a/1")


class Own(BaseException):
    """An error that is no `Exception`, as some libraries have."""


@pytest.mark.parametrize("raised", [SystemExit(2), SystemExit(), KeyboardInterrupt(), Own("no")])
@pytest.mark.parametrize("kind", ["plain", "async", "of a ctx"])
async def test_all_errors_are_for_a_person(sqlite_url, kind, raised):
    """Where a tool names `Exception`, all that it raises pauses the run, SystemExit as well."""

    @tool(pause_on=Exception)
    def plain(what: str) -> str:
        """Find something."""
        raise raised

    @tool(pause_on=Exception)
    async def later(what: str) -> str:
        """Find something."""
        raise raised

    @tool(pause_on=Exception)
    async def of_ctx(ctx: Context, what: str) -> str:
        """Find something."""
        raise raised

    find = {"plain": plain, "async": later, "of a ctx": of_ctx}[kind]
    agent = make_agent(scripted(say(call(find.name, what="owls")), say("done")), [find])

    async with connect(sqlite_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        told = rf"the tool '{find.name}' \({HERE}:\d+\) is at fault: "
        with pytest.raises(RunPaused, match=told):
            await client.result("a/1")


@pytest.mark.parametrize("given", ["TypeError", BaseException, TypeError(), (TypeError, int), None])
def test_what_is_no_error(given):
    """Anything else than classes of errors is refused when the tool is made."""
    with pytest.raises(Misuse, match=r"pause_on=.* is no class of errors; write pause_on=Look"):

        @tool(pause_on=given)
        def find(what: str) -> str:
            """Find something."""
            return what


@pytest.mark.parametrize("effect", ["pure", "once"])
async def test_the_log_tells_of_it(sqlite_url, caplog, effect):
    """A worker logs what may be a bug, with its line, though the model is told and goes on."""

    @tool(effect=effect)
    def find(what: str) -> str:
        """Find something."""
        return what.uppr()  # type: ignore[attr-defined]

    agent = make_agent(scripted(say(call("find", what="owls")), say("done")), [find])

    with caplog.at_level(logging.WARNING, "ostinato"):
        async with connect(sqlite_url) as client:
            assert (await answer_of(client, agent)).text == "done"

    told = [each.getMessage() for each in caplog.records if "the tool 'find'" in each.getMessage()]
    at = f"{HERE}:{line_of('# type: ignore[attr-defined]')}, in find"
    assert len(told) == 1
    assert told[0].startswith(f"run a/1: the tool 'find' raised AttributeError (at {at}), and the")


BUG = ('    print("a tool that prints")', "    what.uppr()")
WHERE = "agent/hooks.py:31"


@pytest.mark.parametrize("effect", ["pure", "once"])
def test_the_terminal_tells_of_it(tmp_path, effect):
    """`run` and `show` name the line of what may be a bug, and how to see its traceback."""
    hooks = HOOKS.replace(*BUG).replace('effect="pure"', f'effect="{effect}"')
    fork = Fork.make(tmp_path, hooks=hooks)

    done = fork.do("run", "Owls?", "--id", "first")
    debugged = fork.do("run", "Owls?", "--id", "second", "--debug")
    shown = fork.do("show", "first")
    whole = fork.do("show", "first", "--key", "tools.0/look.0")

    assert (done.code, done.out) == (0, "Two owls.\n")
    told = f"tools.0/look.0 raised AttributeError at {WHERE}, and the model was told. A bug? "
    assert told in " ".join(done.err.split())
    assert "-m agent show first --key tools.0/look.0" in done.err
    (failed,) = [line for line in done.err.splitlines() if "failed" in line]
    assert WHERE in failed
    assert told in " ".join(shown.out.split())
    for traceback in (debugged.err, whole.out):
        assert "what.uppr()" in traceback
        assert "hooks.py" in traceback


IN_A_STEP = """async def find(what):
    return whatt


@durable
async def search(ctx, what):
    return await ctx.step(find, what)


@tool
async def look(ctx, what: str) -> str:
    \"\"\"Look something up.\"\"\"
    return await ctx.{}, what)


prompt"""


@pytest.mark.parametrize("made", ["step(find", "spawn(search"])
def test_the_terminal_tells_of_one_below(tmp_path, made):
    """A bug in what a tool calls, as a step or in a child, is told beside the answer, too."""
    begin, after = HOOKS.index("@tool("), HOOKS.index("prompt")
    hooks = HOOKS[:begin] + IN_A_STEP.format(made) + HOOKS[after + len("prompt") :]
    fork = Fork.make(tmp_path, hooks="from substrate import durable\n" + hooks)

    done = fork.do("run", "Owls?", "--id", "first")

    assert (done.code, done.out) == (0, "Two owls.\n"), done.err
    told = "tools.0/look.0 raised NameError at agent/hooks.py:37, and the model was told. A bug? "
    assert told in " ".join(done.err.split())


def test_the_terminal_tells_of_a_fault(tmp_path):
    """A name that is not there ends `run` as paused, with its line and what to type next."""
    fork = Fork.make(tmp_path, hooks=HOOKS.replace(BUG[0], "    nothing"))

    done = fork.do("run", "Owls?", "--id", "first")
    fork.replace("agent/hooks.py", "    nothing", "    pass")
    again = fork.do("resume", "first")

    assert (done.code, done.out) == (4, "")
    assert "paused: NameError: the tool 'look'" in done.err
    assert f"  at {WHERE}, in look" in done.err
    assert "-m agent resume first" in done.err
    assert (again.code, again.out) == (0, "Two owls.\n")
