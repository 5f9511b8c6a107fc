"""What a fork sets is checked where it is set: an odd argument is named, with what to write."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from substrate import Misuse, OstinatoError, Retry, WorkerOptions
from substrate.agent import (
    Fallback,
    Model,
    Prompt,
    all_of,
    any_of,
    budget,
    max_turns,
    tool,
)
from tests.fork import HOOKS, Fork


def look(what: str) -> str:
    """Look something up."""
    return what


def own(transcript: dict[str, int]) -> None:
    """A condition, a prompt or a script: what takes one thing."""


HUGE = 10**400
SPANS = {0, 1, 1.5, timedelta(seconds=1)}

ODD: tuple[Any, ...] = (
    *(None, "", "1", "a b", "é", b"x", 0, 1, -1, 1.5, True, float("nan"), float("inf")),
    *(Decimal(1), Decimal("NaN"), Decimal("sNaN"), HUGE, timedelta(seconds=1), timedelta(-1)),
    *([], {}, (), ["a"], (1, 2, 3), {"a": 1}, {1: "a"}, object(), object, look, own),
)


def with_(maker: Callable[..., Any], name: str, *args: Any) -> Callable[[Any], Any]:
    """Return the maker with one of its options open."""
    return lambda given: maker(*args, **{name: given})


TEXTS = {"v": "a", "w": "b"}

# What makes each thing, and which of the odd values are right for it.
PLACES: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "budget usd": (with_(budget, "usd"), (1, 1.5, Decimal(1))),
    "budget tokens": (with_(budget, "tokens"), (1, HUGE)),
    "budget mode": (lambda it: budget(usd=1, mode=it), ()),
    "max_turns": (max_turns, (1, HUGE)),
    "any_of": (any_of, (own, look)),
    "all_of": (all_of, (own, look)),
    "Retry max_attempts": (with_(Retry, "max_attempts"), (1, HUGE)),
    "Retry max_paid": (with_(Retry, "max_paid"), (None, 1, HUGE)),
    "Retry factor": (with_(Retry, "factor"), (1, 1.5)),
    "Retry jitter": (with_(Retry, "jitter"), (0, 1)),
    "Retry initial": (with_(Retry, "initial"), tuple(SPANS)),
    "Retry max_delay": (with_(Retry, "max_delay"), tuple(SPANS)),
    "Retry patience": (with_(Retry, "patience"), (None, *SPANS)),
    "Retry retry_on": (with_(Retry, "retry_on"), ((),)),
    "Retry give_up_on": (with_(Retry, "give_up_on"), ((),)),
    "Retry safe_on": (with_(Retry, "safe_on"), ((),)),
    "WorkerOptions concurrency": (with_(WorkerOptions, "concurrency"), (1,)),
    "WorkerOptions threads": (with_(WorkerOptions, "threads"), (1,)),
    "WorkerOptions lease": (with_(WorkerOptions, "lease"), tuple(SPANS - {0})),
    "WorkerOptions poll": (with_(WorkerOptions, "poll"), tuple(SPANS - {0})),
    "WorkerOptions shutdown_grace": (with_(WorkerOptions, "shutdown_grace"), tuple(SPANS)),
    "WorkerOptions idle_timeout": (with_(WorkerOptions, "idle_timeout"), tuple(SPANS)),
    "Model": (Model, ()),
    "Model offline": (with_(Model, "offline", "openai:x"), (None,)),
    "Model script": (with_(Model, "script", "openai:x"), (None,)),
    "Model of a script": (with_(Model, "script", "scripted:x"), ([], (), ["a"], look, own)),
    "Model max_output_tokens": (with_(Model, "max_output_tokens", "openai:x"), (None, 1, HUGE)),
    "Model settings": (with_(Model, "settings", "openai:x"), ({}, {"a": 1})),
    "Model read_timeout": (
        lambda it: Model("openai:x", settings={"read_timeout": it}),
        (1, 1.5),
    ),
    "Model base_url": (with_(Model, "base_url", "openai:x"), (None,)),
    "Model key": (with_(Model, "key", "openai:x"), (None,)),
    "Model fallback": (with_(Model, "fallback", "openai:x"), ([], ())),
    "Model price": (with_(Model, "price", "openai:x"), (None,)),
    "Model price of input": (lambda it: Model("openai:x", price=(it, 1)), (0, 1, 1.5, Decimal(1))),
    "Model patience": (with_(Model, "patience", "openai:x"), tuple(SPANS)),
    "Fallback": (Fallback, ()),
    "Fallback on": (with_(Fallback, "on", "openai:x"), ([], {}, ())),
    "Prompt": (Prompt.versions, ()),
    "Prompt text": (
        lambda it: Prompt.versions({"v": it}),
        ("", "1", "a b", "é", look, own, object),
    ),
    "Prompt split": (with_(Prompt.versions, "split", TEXTS), (None, {})),
    "Prompt share": (lambda it: Prompt.versions(TEXTS, {"v": it}), (0, 1)),
    "Prompt name": (with_(Prompt.versions, "name", TEXTS), ()),
    "tool": (tool(), (look, own)),
    "tool name": (lambda it: tool(name=it)(look), (None,)),
    "tool description": (lambda it: tool(description=it)(look), (None, "1", "a b", "é")),
    "tool effect": (lambda it: tool(effect=it)(look), (None,)),
    "tool timeout": (lambda it: tool(timeout=it)(look), (None, timedelta(seconds=1))),
    "tool retry": (lambda it: tool(retry=it)(look), (None,)),
    "tool pause_on": (lambda it: tool(pause_on=it)(look), ((),)),
}

NOT_SHOWN = {"Model base_url", "Model key"}  # they may hold a secret


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_argument_is_refused_with_its_value_and_what_to_write(place):
    """An argument of a wrong type or odd value is refused as it is given, shown, with a remedy."""
    make, right = PLACES[place]
    wrong = []
    for given in ODD:
        is_right = any(type(each) is type(given) and repr(each) == repr(given) for each in right)
        try:
            make(given)
        except OstinatoError as error:
            told = str(error)
            is_shown = place in NOT_SHOWN or _shown(given) in told or given in ((), None)
            if is_right or not is_shown or not re.search("[;:] ", told):
                wrong.append((given, told))
        except Exception as error:  # noqa: BLE001 - the fault that is looked for
            wrong.append((given, f"{type(error).__name__}: {error}"))
        else:
            if not is_right:
                wrong.append((given, "taken"))
    assert not wrong


def _shown(given: object) -> str:
    """Return the least of a value that a message has to show."""
    if given is look or given is own or given is object:
        return given.__name__  # type: ignore[attr-defined]
    if type(given) is object:
        return "<object object"
    if isinstance(given, timedelta):
        return f"{given!r:.18}"
    if isinstance(given, list | tuple | dict) and given:  # its first may be what is wrong with it
        return repr(next(iter(given)))
    return repr(given)[:30]


def test_a_key_itself_in_the_place_of_its_variable_is_refused_and_not_shown():
    """Who gives `key=` the key, and not its variable's name, is told so without the key."""
    with pytest.raises(Misuse, match="never the key itself") as caught:
        Model("openai:x", key="sk-proj-12345-marked")
    assert "marked" not in str(caught.value)


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("a b", "write 'a_b'"),
        ("1st", "write '_1st'"),
        ("-x", "write '_-x'"),
        ("<lambda>", "a lambda needs name="),
        ("é", "give one: a letter or _"),
        ("", "give one: a letter or _"),
    ],
)
def test_what_cannot_be_a_name_is_told_with_one_that_can(name, remedy):
    """A text that cannot be a name is told with a name like it; only a lambda is told of name=."""
    with pytest.raises(OstinatoError, match=re.escape(remedy)):
        tool(name=name)(look)


@pytest.mark.parametrize(
    "last", ["stop = answered", "if True:\n    stop = answered", "fine, stop = 1, answered"]
)
def test_a_hook_that_is_set_twice_is_told_with_the_line_in_force(tmp_path, last):
    """A hook that is wrong is told with the line that set it last, whatever kind of line it is."""
    fork = Fork.make(tmp_path, hooks=f"{HOOKS}\n{last}\n")
    line = f"{HOOKS}\n{last}".count("\n") + 1

    done = fork.do("run", "How many owls?")

    assert done.code == 2
    assert f"agent/hooks.py:{line}: `stop` is the function answered" in done.err
