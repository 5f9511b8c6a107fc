"""What `@tool` is given: checked where the tool is made, before any model is asked."""

import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, NoReturn, get_args

from substrate.engine.function.function import Durable
from substrate.engine.function.place import described, in_place
from substrate.values.clock import time_limit
from substrate.values.errors import Misuse
from substrate.values.records import Effect
from substrate.values.retry import Retry

OnUnknown = Literal["tell", "ask"]
"""Who learns of a call whose outcome nobody knows: the model is told, or a person is asked."""


def effect_of(name: str, effect: Effect | str) -> Effect:
    """Return what a tool says of its crashes. Raises `Misuse` for what it cannot be."""
    allowed = [each for each in Effect if each is not Effect.TRANSACTIONAL]
    if effect not in allowed:
        raise Misuse(f"tool {name!r}: effect={effect!r}; write one of {', '.join(allowed)}")
    return Effect(effect)


def description_of(name: str, target: object, given: object) -> str:
    """Return what a model is told of a tool. Raises `Misuse` for what tells it nothing."""
    if not callable(target):
        refuse(target)
    if given is None and not (inspect.getdoc(target) or "").strip():
        raise Misuse(
            f"tool {name!r} has no docstring; write one that says what it does: the model chooses "
            "tools by it"
        )
    description = inspect.getdoc(target) if given is None else given
    if not isinstance(description, str) or not description.strip():
        raise Misuse(
            f"tool {name!r}: description={given!r:.200} is no text; write what it does: the model "
            "chooses tools by it"
        )
    return description


def check_options(name: str, timeout: object, retry: object) -> None:
    """Refuse a timeout that is no duration, and a retry that is no `Retry`."""
    if timeout is not None and not isinstance(timeout, timedelta):
        raise Misuse(
            f"tool {name!r}: timeout={timeout!r} is no duration; write timedelta(seconds=5)"
        )
    if timeout is not None:
        time_limit(timeout)
    if retry is not None and not isinstance(retry, Retry):
        raise Misuse(f"tool {name!r}: retry={retry!r} is no Retry; write Retry(max_attempts=3)")


def errors_of(name: str, given: object) -> tuple[type[Exception], ...]:
    """Return the errors that are given as one or several. Raises `Misuse` for what is none."""
    errors = given if isinstance(given, tuple) else (given,)
    for each in errors:
        if not isinstance(each, type) or not issubclass(each, Exception):
            raise Misuse(
                f"tool {name!r}: pause_on={described(each)} is no class of errors; write "
                "pause_on=LookupError, or several in brackets"
            )
    return errors


def check_durable(name: str, function: Callable[..., Any], given: Sequence[str]) -> None:
    """Refuse a tool with a ``ctx`` that could not be a durable function, or has `given` options."""
    if not inspect.iscoroutinefunction(function):
        raise Misuse(f"tool {name!r} takes a ctx, so it must be `async def`")
    if next(iter(inspect.signature(function).parameters)) != "ctx":
        raise Misuse(f"tool {name!r}: ctx must be its first parameter")
    if given:
        raise Misuse(
            f"tool {name!r} takes a ctx, so {given[0]}= would say nothing of it: what it does are "
            f"its steps, so write ctx.step(…, {given[0]}=…), and leave it out here"
        )


def check_on_unknown(
    name: str, function: Callable[..., Any], on_unknown: object, effect: Effect
) -> None:
    """Refuse what `on_unknown` cannot be, and ``ask`` of a tool whose outcome is always known."""
    if on_unknown not in get_args(OnUnknown):
        raise Misuse(f"tool {name!r}: on_unknown={on_unknown!r}; write 'ask' or 'tell'")
    takes_ctx = "ctx" in inspect.signature(function).parameters
    if on_unknown == "ask" and (takes_ctx or effect is not Effect.ONCE):
        what = "takes a ctx" if takes_ctx else f"is {effect}"
        raise Misuse(
            f"tool {name!r} {what}, so on_unknown='ask' would ask nobody; it is for a tool that is "
            "'once'"
        )


def refuse(thing: object) -> NoReturn:
    """Say why a thing is no tool, and what to give. Raises `Misuse`."""
    own = thing.made_for.thing if isinstance(thing, Durable) and thing.made_for else thing
    if all(hasattr(own, hook) for hook in ("prompt", "model", "tools", "stop")):
        raise Misuse(
            f"{_agent_words(own)} is an agent; to have it asked by this one's model, write "
            'delegate(…, description="…") of it, and to have it take over, handoff(…)'
        )
    if isinstance(thing, Durable):
        raise Misuse(
            f"{thing.name!r} is a durable function{in_place(thing)}; put @tool on it, in the place "
            "of @durable, or let a tool ctx.call it"
        )
    raise Misuse(
        f"{described(thing)} is no function; give functions with a docstring, or what @tool makes "
        "of one"
    )


def _agent_words(hooks: object) -> str:
    name = getattr(hooks, "name", None) or getattr(hooks, "__name__", None)
    return repr(name) if isinstance(name, str) else described(hooks)


def name_of_function(target: object) -> str:
    """Return the name of a function. Raises `Misuse` for all else."""
    if isinstance(target, Durable):
        refuse(target)
    if not inspect.isroutine(target):
        kind = "a class" if isinstance(target, type) else type(target).__name__
        raise Misuse(
            f"{target!r:.80} is {kind}, and what a model is told of a tool comes from a function: "
            "write one that calls it, with a docstring and typed parameters"
        )
    return str(target.__name__)
