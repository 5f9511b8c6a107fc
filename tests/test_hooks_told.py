"""What is wrong with a hook or a tool is told before any model is asked, with the cure."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field

from skills.web import fetch_url
from substrate import Context, Misuse, Retry, durable
from substrate.agent.end import End, EndReason
from substrate.agent.hook_checks import (
    answer_fault,
    brought_fault,
    checks_fault,
    model_fault,
    prompt_fault,
    tools_fault,
)
from substrate.agent.prompt import Prompt
from substrate.agent.stop import (
    all_of,
    answered,
    any_of,
    budget,
    confident,
    deadline,
    failed,
    max_turns,
    refused,
    signalled,
)
from substrate.agent.stop_trial import stop_fault
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, tool
from substrate.models.model import Model


class Opaque:
    """What has no JSON form."""


@tool
def look(what: str) -> str:
    """Look something up."""
    return what


def untyped(what) -> str:
    """Look something up."""
    return what


def opaque() -> Opaque:
    """Return what no model can be told."""
    return Opaque()


def locked(lock: threading.Event) -> str:
    """Wait."""
    return str(lock)


def sums(numbers: Iterable[int]) -> int:
    """Add up."""
    return sum(numbers)


def sums_all(numbers: dict[str, list[Iterable[int]]]) -> int:
    """Add up."""
    return sum(sum(each) for some in numbers.values() for each in some)


def counted(count: int = "x") -> str:  # type: ignore[assignment]
    """Count."""
    return str(count)


def named(name: str = None) -> str:  # noqa: RUF013  # type: ignore[assignment]
    """Name."""
    return name


def filed(file: Path = "x") -> str:  # type: ignore[assignment]
    """Read."""
    return str(file)


def fielded(count: int = Field(5)) -> str:
    """Count."""
    return str(count)


def right(  # noqa: PLR0917
    a: int = 1,
    b: float = 1,
    c: str | None = None,
    d: Path = Path(),
    e: Literal["x", "y"] = "x",
    f: tuple[int, ...] = (1, 2),
    g: Any = 5,
    h: Annotated[date, BeforeValidator(date.fromisoformat)] = date.min,
) -> str:
    """Have defaults that are of their types."""
    return f"{a}{b}{c}{d}{e}{f}{g}{h}"


def yields(count: int) -> Iterator[int]:
    """Count."""
    yield from range(count)


async def yields_later(count: int) -> Any:
    """Count."""
    for number in range(count):
        yield number


def unpacked(what: str, /) -> str:
    """Look something up."""
    return what


def unknown_type(what: "Nowhere") -> str:  # noqa: F821 - that is the mistake
    """Look something up."""
    return what


def calls_back() -> Callable[[], str]:
    """Return something to call."""
    return str


def makes_some() -> list[Tool]:
    """Make tools."""
    return [look]


class Looker:
    """Look something up."""

    def __call__(self, what: str) -> str:
        return what


@durable
async def research(ctx: Context, topic: str) -> str:
    """Research a topic."""
    return topic


TOOLS = {
    "nothing": ([look, None], "has None, which is no tool: None is no function; give functions"),
    "a word": (["look"], "has str 'look', which is no tool: 'look' is no function"),
    "a list in a list": ([look, [look]], r"has list \[FunctionTool.* is no tool"),
    "a maker": ([fetch_url], r"'fetch_url' makes tools and is none; call it, fetch_url\(…\)"),
    "a maker of some": ([makes_some], r"'makes_some' makes tools and is none; call it"),
    "a class": ([Looker], "is a class, and what a model is told .* write one that calls it"),
    "an object": ([Looker()], "is Looker, and what a model is told .* write one that calls it"),
    "a durable function": (
        [research],
        r"'research' is a durable function \(.*:\d+\); put @tool on",
    ),
    "two of a name": ([look, look], "has two called 'look'; give one another name: @tool"),
    "no type": ([untyped], "tool 'untyped': give the parameter 'what' a type"),
    "no such type": (
        [unknown_type],
        r"\(.*:\d+\): its types cannot be read: name 'Nowhere' is not",
    ),
    "what yields": ([sums], r"\(.*:\d+\): what yields is read once, .* write list"),
    "what yields, inside": ([sums_all], "what yields is read once"),
    "a type of no JSON": ([locked], r"a parameter cannot be described to a model: .*threading"),
    "a result of no JSON": ([opaque], r"\(.*:\d+\): it says that it returns Opaque, which has no"),
    "a function as result": (
        [calls_back],
        "it says that it returns .*Callable.*, which has no JSON",
    ),
    "a generator": ([yields], "it yields, and a model is told one value; return a list"),
    "an async generator": ([yields_later], "it yields, and a model is told one value"),
    "a default of another type": (
        [counted],
        "the default count='x' is not of its type int; give one that is",
    ),
    "no default": ([named], r"the default name=None is not of its type str; .* name: str \| None"),
    "a default of another class": ([filed], "the default file='x' is not of its type Path"),
    "a field for a default": ([fielded], r"count=.* is no default; write it into the type"),
    "by position only": ([unpacked], "tool 'unpacked': what is given by name; leave the `/` out"),
    "no list": (look, "is the tool 'look'; write a list of functions, even of one or none"),
    "a generator of tools": (
        (each for each in [look]),
        "is generator .*; write a list of functions",
    ),
    "no tools": (None, "is None; write a list of functions, even of one or none"),
}


@pytest.mark.parametrize("tools, told", TOOLS.values(), ids=TOOLS)
def test_tools(tools, told):
    """What is no tool is named, with what to write; nothing of it is told to a model first."""
    assert re.match(f"`tools` .*{told}", tools_fault(tools) or "")


@pytest.mark.parametrize("tools", [[], [look], (look,), [look, fetch_url()], [right]])
def test_tools_that_hold(tools):
    """Lists and tuples of tools and plain functions are taken, even empty ones."""
    assert tools_fault(tools) is None


@pytest.mark.parametrize(
    "option", [{"effect": "pure"}, {"timeout": timedelta(seconds=1)}, {"retry": Retry()}]
)
def test_options_of_a_tool_with_a_context(option):
    """What would say nothing of a tool that takes a ctx is refused: its steps have that."""
    with pytest.raises(Misuse, match=rf"write ctx\.step\(…, {next(iter(option))}=…\)"):

        @tool(**option)
        async def collect(ctx: Context, cents: int) -> str:
            """Collect money."""
            return ""


def nothing(task):
    print(task)


async def later(task):
    return "Be brief."


def without_task():
    return "Be brief."


def not_yet(task):
    raise NotImplementedError


PROMPTS = {
    "nothing": (nothing, "is the function nothing, which returns nothing; end it with `return"),
    "a lambda in versions": (Prompt.versions({"v1": nothing}), "which returns nothing"),
    "async": (later, "is async; write a plain def"),
    "of no task": (without_task, r"; write text, or def prompt\(task: Task\) -> str"),
    "a number": (7, r"is int 7; write text, or def prompt"),
    "none": (None, "is None; write text"),
}


@pytest.mark.parametrize("prompt, told", PROMPTS.values(), ids=PROMPTS)
def test_prompts(prompt, told):
    """A prompt that can give no text is told apart without rendering it."""
    assert re.search(told, prompt_fault(prompt) or "")


@pytest.mark.parametrize(
    "prompt", ["Be brief.", lambda task: task.text, not_yet, Prompt.versions({"v1": "Be brief."})]
)
def test_prompts_that_hold(prompt):
    """Text, functions of the task, and versions of these are taken."""
    assert prompt_fault(prompt) is None


async def ends_later(transcript):
    return None


def ends_late(transcript):
    if transcript.task.data.get("owls") == 30:
        return True
    return None


def says_bool(transcript) -> bool:
    return transcript.task.data["done"]


def compares(transcript):
    if transcript.task.data:
        return transcript.turns > 3
    return None


def doubts(transcript):
    return confident(0.8)(transcript)


class Ends:
    def __call__(self, transcript):
        return "soon" if transcript.task.data else None


STOPS = {
    "True in a line of its own": (ends_late, r"returns True in line \d+; give None to go on"),
    "what it says it returns": (says_bool, "says that it returns bool; give None to go on"),
    "a comparison": (compares, "returns transcript.turns > 3 in line"),
    "an object": (Ends(), "returns 'soon' in line"),
    "a part that is asked late": (
        any_of(answered(), max_turns(1), lambda transcript: True if transcript.turns else None),
        "`stop` has the function <lambda>, and it gave True",
    ),
    "a part of a part": (any_of(all_of(answered(), ends_late), max_turns(1)), "returns True in"),
    "confident in a function": (doubts, r"it asks confident\(\) inside of a function"),
    "not called": (answered, "is the function answered; write a condition, such as any_of"),
    "made by a number": (max_turns, "is the function max_turns, which makes a condition; call it"),
    "True": (lambda transcript: True, "it gave True; give None to go on, or an End"),
    "False": (lambda transcript: False, "it gave False; give None to go on, or an End"),
    "True later": (lambda transcript: transcript.turns > 9 or None, "it gave True"),
    "a word": (lambda transcript: "done", "it gave 'done'"),
    "a condition": (lambda transcript: answered(), "it makes conditions"),
    "async": (ends_later, "it gave 'a coroutine'"),
    "True in any_of": (any_of(lambda transcript: True, max_turns(3)), "it gave True"),
    "True in all_of": (all_of(max_turns(3), lambda transcript: True), "it gave True"),
    "none": (None, "is None; write a condition"),
    "an answer that does not end it": (
        any_of(all_of(answered(), max_turns(3)), max_turns(20)),
        r"`stop` does not end the loop where the model has answered; compose any_of\(answered",
    ),
    "no answer ends it": (any_of(budget(usd=1), max_turns(3)), "where the model has answered"),
    "a signal ends it": (any_of(signalled(tool=None), max_turns(3)), "the model has answered"),
}


@pytest.mark.parametrize("stop, told", STOPS.values(), ids=STOPS)
def test_stops(stop, told):
    """A condition that gives what is no verdict is told apart before the first turn."""
    assert re.search(told, stop_fault(stop) or "")


def by_task(transcript):
    return End(EndReason.MAX_TURNS) if transcript.turns >= transcript.task.data["most"] else None


def ends_or_not(transcript) -> End | None:
    def is_late() -> bool:
        return True

    return End(EndReason.MAX_TURNS) if is_late() else None


HELD = [
    any_of(answered(), max_turns(3), budget(usd=1)),
    any_of(confident(0.8), signalled(), refused(), failed(3), deadline(60), ends_or_not),
    all_of(confident(0.8), any_of(signalled(tool=None), answered())),
    by_task,
    ends_or_not,
    any_of(answered(), all_of(failed(3), max_turns(6)), max_turns(20)),
    any_of(signalled(), max_turns(50)),
    all_of(answered(), signalled()),
    any_of(budget(usd=1, mode="soft"), answered()),
    max_turns(1),
]


@pytest.mark.parametrize("stop", HELD)
def test_stops_that_hold(stop):
    """Conditions are taken, also one that needs what only real tasks have."""
    assert stop_fault(stop) is None


@pytest.mark.parametrize("compose", [any_of, all_of])
@pytest.mark.parametrize("wrong", [answered, max_turns, True, None])
def test_conditions_that_are_none(compose, wrong):
    """What is composed must be conditions: one that was not called is named."""
    with pytest.raises(
        Misuse, match=r"_of\(\) is given .*, which is no condition; call what makes"
    ):
        compose(answered(), wrong)


@pytest.mark.parametrize("answer", ["Nowhere", 7, int, [1], look])
def test_answers(answer):
    """What is no type with named fields is told apart, whatever it is."""
    assert re.match("`answer` (cannot be asked for|is .*, which is no type)", answer_fault(answer))


def test_models():
    """A name is no model; it is told how to write one."""
    assert model_fault("anthropic:x") == (
        "`model` is str 'anthropic:x'; write Model(\"provider:name\")"
    )
    assert model_fault(Model("scripted:x", script=[])) is None
    assert answer_fault(Task) is None


def one_parameter(answer):
    return None


def says_yes(answer, task) -> bool:
    return True


def compares_length(answer, task):
    return len(answer.text) < 9


def yields(answer, task):
    yield "wrong"


def by_line(answer: Answer, task: Task) -> str | None:
    return None if answer.text else "It is empty."


CHECKS = {
    "no list": (by_line, "is no list of checks"),
    "a word": (["by_line"], "'by_line' is no check; write def name"),
    "a class": ([Opaque], "is no check; write def name"),
    "of one parameter": ([by_line, one_parameter], r"one_parameter; give it two parameters"),
    "a truth": ([says_yes], "says that it returns bool; return None for an answer that passes"),
    "a comparison": ([compares_length], r"returns len\(answer.text\) < 9 in line"),
    "many words": ([yields], "which yields; return one text, or None"),
    "a dict": ({"by_line": by_line}, "is no list of checks"),
}


@pytest.mark.parametrize("checks, told", CHECKS.values(), ids=CHECKS)
def test_checks(checks, told):
    """What can be no check of an answer is told apart before a model is asked."""
    assert re.search(told, checks_fault(checks) or "")


@pytest.mark.parametrize("checks", [None, [], [by_line, lambda answer, task: None]])
def test_checks_that_hold(checks):
    """Functions are taken, and none."""
    assert checks_fault(checks) is None


def test_a_tool_that_a_condition_brings():
    """A tool of the name of one that a condition brings along is told apart."""

    @tool(name="finish")
    def finish(answer: str) -> str:
        """End it."""
        return answer

    hooks = SimpleNamespace(tools=[finish], stop=any_of(signalled(), max_turns(3)))
    assert re.search("two called 'finish'", brought_fault(hooks) or "")
    hooks.stop = any_of(signalled(tool="submit"), max_turns(3))
    assert brought_fault(hooks) is None
