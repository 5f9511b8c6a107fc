"""Whether a call fits the function that it is of, before anything of it is recorded.

An option of ours and a parameter of the function may have one name. Who gives such a one by name,
and not the function's by position, may mean either, so that is refused.
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
    """What a plain function takes: how many arguments by position, and which in all."""

    least: int
    most: int
    has_named_only: bool
    names: tuple[str, ...]
    """Of its parameters, but for ``*args`` and ``**keywords``."""
    is_async: bool


_shapes: WeakKeyDictionary[FunctionType, Shape] = WeakKeyDictionary()


def shape_of(fn: object) -> Shape | None:
    """Return the shape of a plain function, or of a method's; None where a closer look is needed.

    It is looked at once: Python audits each look at a function's code, and a hook of our own hears
    that (`substrate.store.sqlite.exclusive`), several times in a step.
    """
    if type(fn) is MethodType:
        fn = fn.__func__
    if type(fn) is not FunctionType or fn.__dict__:  # it may be wrapped, or say another signature
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
    """Whether a call of it gives a coroutine: as `inspect.iscoroutinefunction` says."""
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
    """Raise `Misuse` where the function cannot be called with these arguments.

    `options` are those that `caller` takes itself, `given` those of them that it was given.
    """
    if not given and _surely_fits(fn, len(args), keywords):
        return
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins do not tell
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
    """Raise `Misuse` where an option could also be meant for the function.

    `count` is how many arguments the function is given by position.
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
    """Return what a keyword that nobody takes may be meant for, as the end of an error."""
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    unknown = [word for word in keywords if word not in signature.parameters]
    if takes_any or not unknown:
        return ""
    there_are = [*options, *signature.parameters]
    if found := get_close_matches(unknown[0], there_are, n=1):
        return f"; did you mean {found[0]}=?"
    takes = signature.replace(return_annotation=signature.empty)
    if not options:
        return f"; it takes {takes}"
    return f"; it takes {takes}, and the options of {caller} are {', '.join(sorted(options))}"


def _surely_fits(fn: Callable[..., Any], count: int, keywords: Mapping[str, Any]) -> bool:
    """Say quickly that a plain call fits; False where that takes a closer look."""
    if keywords or (shape := shape_of(fn)) is None:
        return False
    if type(fn) is MethodType:
        count += 1
    return shape.least <= count <= shape.most and not shape.has_named_only


def _name_of(fn: object) -> str:
    return str(getattr(fn, "__name__", None) or type(fn).__name__)
