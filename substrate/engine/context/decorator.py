"""`durable`: turns an `async def f(ctx, …)` into a durable function; refuses anything else."""

import builtins
import inspect
from collections.abc import Callable, Coroutine
from types import UnionType
from typing import (
    Any,
    Concatenate,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)

from substrate.engine.context.context import Context
from substrate.engine.function.function import OPERATIONS, Durable
from substrate.values.errors import Misuse
from substrate.values.ids import check_name
from substrate.values.number import is_whole

P = ParamSpec("P")
R = TypeVar("R")


@overload
def durable(
    function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
) -> Durable[P, R]: ...
@overload
def durable(
    *, name: str | None = None, version: int = 1
) -> Callable[[Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]], Durable[P, R]]: ...
def durable(function: Any = None, /, *, name: str | None = None, version: int = 1) -> Any:
    """Make a durable function of an `async def f(ctx, …)`; use it bare or with options.

    Args:
        function: The function, where it is used bare. Its first parameter is the `Context`.
        name: What the journal knows it by; the function's name, if not told otherwise.
        version: An integer that you raise when old runs must stay on old code; give the worker both
            versions until the old runs have ended.

    Raises:
        Misuse: it is no coroutine function that takes a context.

    Example:
        >>> @durable
        ... async def greet(ctx, name: str) -> str:
        ...     return f"Hello, {name}."
        >>> greet.name, greet.version
        ('greet', 1)
    """

    def make(target: Callable[..., Coroutine[Any, Any, Any]]) -> Durable[..., Any]:
        if not callable(target):
            raise Misuse(f"@durable is given {target!r:.200}; put it on an `async def f(ctx, …)`")
        called = check_name(str(getattr(target, "__name__", "")) if name is None else name)
        if not is_whole(version) or version < 0:
            raise Misuse(f"version={version!r} of {called!r} is no whole number; write 1, 2, …")
        if not inspect.iscoroutinefunction(target):
            raise Misuse(f"{called!r} is not async; write `async def {called}(ctx, …)`")
        parameters = list(inspect.signature(target).parameters.values())
        if not parameters:
            raise Misuse(f"{called!r} takes no context; write `async def {called}(ctx, …)`")
        if not _may_be_context(parameters[0].annotation, target):
            raise Misuse(
                f"the first parameter of {called!r} is {parameters[0]}, and a durable function is "
                f"given its context there; write `async def {called}(ctx: Context, …)`"
            )
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise Misuse(f"{called!r}: name each argument, *{parameter.name} has no record")
        return Durable(target, called, version)

    return make if function is None else make(function)


def _may_be_context(hint: Any, target: object) -> bool:
    """Whether a parameter with this annotation may be given a context.

    Only a class that has none of a context's operations is refused: it surely is something else.
    """
    if isinstance(hint, str):  # `from __future__ import annotations`, or a quoted name
        name = hint.partition("[")[0]
        hint = getattr(target, "__globals__", {}).get(name, getattr(builtins, name, Any))
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_may_be_context(each, target) for each in get_args(hint))
    if origin is not None:
        hint = origin
    if not isinstance(hint, type) or hint in (Any, object, inspect.Parameter.empty):
        return True
    return not OPERATIONS.isdisjoint(dir(hint))
