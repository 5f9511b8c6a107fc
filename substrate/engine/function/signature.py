"""Checks that arguments fit a function's signature, before anything of the call is recorded.

An option of an operation and a parameter of the function may have the same name. If it is given by
name, it could be meant for either, so the call is refused: unless the function gets its own
argument by position.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from substrate.values.errors import Misuse


class Shape(NamedTuple):
    """The parameters of a plain function: how many by position, and all names."""

    least: int
    most: int
    has_named_only: bool
    names: tuple[str, ...]
    """Names of its parameters, without ``*args`` and ``**keywords``."""
    is_async: bool


_shapes: WeakKeyDictionary[FunctionType, Shape] = WeakKeyDictionary()


def shape_of(fn: object) -> Shape | None:
    """Return the shape of a plain function or method; None if only `inspect` can tell.

    Cached, since reading a function's code raises a Python audit event, which calls a hook of our
    own (`substrate.store.sqlite.exclusive`). Without the cache, each step would call it several
    times.
    """
    if type(fn) is MethodType:
        fn = fn.__func__
    if type(fn) is not FunctionType or fn.__dict__:  # may have `__wrapped__` or `__signature__`
        return None
    shape = _shapes.get(fn)
    if shape is None:
        code = fn.__code__
        shape = _shapes[fn] = Shape(
            least=code.co_argcount - len(fn.__defaults__ or ()),
            most=code.co_argcount,
            has_named_only=bool(code.co_kwonlyargcount),
            names=code.co_varnames[: code.co_argcount + code.co_kwonlyargcount],
            is_async=inspect.iscoroutinefunction(fn),
        )
    return shape


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine; the same answer as `inspect.iscoroutinefunction`."""
    inside: Callable[..., Any] = fn
    while type(inside) is partial:
        inside = inside.func
    shape = shape_of(inside)
    return inspect.iscoroutinefunction(fn) if shape is None else shape.is_async


def check_fit(
    caller: str,
    fn: Callable[..., Any],
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    *,
    options: Collection[str] = (),
    given: Collection[str] = (),
) -> None:
    """Raise `Misuse` if the function cannot be called with these arguments.

    `options` are the names that the operation `caller` takes itself; `given` are those among them
    that this call uses.
    """
    if not given and _surely_fits(fn, len(args), keywords):
        return
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    name = _name_of(fn)
    check_meaning(caller, name, signature, len(args), given)
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        hint = near(keywords, signature, caller, options)
        raise Misuse(f"{name}() cannot be called so: {error}{hint}") from None


def check_meaning(
    caller: str, name: str, signature: inspect.Signature, count: int, given: Collection[str]
) -> None:
    """Raise `Misuse` if a given option could also be meant for the function.

    `count` is the number of arguments that the function gets by position.
    """
    if not given or signature.parameters.keys().isdisjoint(given):
        return
    for place, parameter in enumerate(signature.parameters.values()):
        if parameter.name in given and parameter.kind is not parameter.POSITIONAL_ONLY:
            if place < count and parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            raise Misuse(
                f"{parameter.name}= may be meant for {caller} or for {name}(), which has a "
                f"parameter of that name: give {name}() its own by position, and then "
                f"{parameter.name}= is for {caller}; or rename the parameter"
            )


def near(
    keywords: Collection[str],
    signature: inspect.Signature,
    caller: str,
    options: Collection[str],
) -> str:
    """Return the end of an error about a misfit: a similar name, or what can be given."""
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    unknown = [word for word in keywords if word not in signature.parameters]
    takes = signature.replace(return_annotation=signature.empty)
    if not unknown:
        return f"; it takes {takes}"
    if takes_any:
        return ""
    there_are = [*options, *signature.parameters]
    if found := get_close_matches(unknown[0], there_are, n=1):
        return f"; did you mean {found[0]}=?"
    if not options:
        return f"; it takes {takes}"
    return f"; it takes {takes}, and the options of {caller} are {', '.join(sorted(options))}"


def _surely_fits(fn: Callable[..., Any], count: int, keywords: Mapping[str, Any]) -> bool:
    """Whether a plain call certainly fits; False if only its signature can show that."""
    if keywords or (shape := shape_of(fn)) is None:
        return False
    if type(fn) is MethodType:
        count += 1  # `self`
    return shape.least <= count <= shape.most and not shape.has_named_only


def _name_of(fn: object) -> str:
    return str(getattr(fn, "__name__", None) or type(fn).__name__)
