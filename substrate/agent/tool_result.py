"""What a tool returns: JSON for the model, of the type that the tool says it returns.

A type that has no JSON form is refused when the tool is made, before any model is asked. A value
that is not of the type is a mistake of the tool's author: nobody tells it to the model.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from substrate.engine.function.annotation import problem_in, shown
from substrate.engine.function.place import in_place
from substrate.engine.function.returns import no_form
from substrate.models.messages import Json
from substrate.values.codec import encode
from substrate.values.errors import NotEncodable, NotKept

_ANYTHING = (Any, object, inspect.Signature.empty)
_PLAIN = (None, type(None), bool, int, float, str, bytes, list, dict)


def return_type_problem(function: Callable[..., Any]) -> str | None:
    """Say why what a function says it returns could not be told to a model; None where it can."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "it yields, and a model is told one value; return a list"
    hint = _hint(function)
    if hint in _ANYTHING or hint in _PLAIN:
        return None
    if problem := no_form(hint):
        return f"it says that it returns {problem}; return text, or what has a form, and say so"
    return None


def as_json(function: Callable[..., Any], value: Any) -> Json:
    """Return what a tool's function returned as JSON: dataclasses, models, sets, dates included.

    Raises `NotEncodable` for what has no JSON form, `NotKept` for what is not of the type that the
    function says it returns.
    """
    if inspect.iscoroutine(value):
        value.close()
        called, at = value.__name__, in_place(value.cr_code)
        raise NotEncodable(
            f"{_name(function)} returned {called}(…){at}, which is async and was not awaited; "
            f"write `return await {called}(…)`"
        )
    try:
        plain: Json = to_jsonable_python(value, inf_nan_mode="strings", bytes_mode="base64")
    except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds of its own
        kind = type(value).__name__
        raise NotEncodable(f"{_name(function)} returned {kind}, no JSON form: {error}") from None
    hint = _hint(function)
    wrong = _wrong(hint, value)
    # A Decimal in the place of JSON means what it is written as; what yields is no list, though.
    if wrong and (isinstance(value, Iterator) or _wrong(hint, plain)):
        raise NotKept(
            f"{_name(function)} returned {wrong}, and says that it returns {shown(hint)}; return "
            "that, or change what it says",
            lost="its type",
            value=encode(plain),
        )
    return plain


def _wrong(hint: Any, value: Any) -> str | None:
    """Say what a value is that is not of the type; None where it is, or means it."""
    kind = type(value).__name__
    if hint in _ANYTHING:
        return None
    if isinstance(value, Iterator):  # looking into that would use it up
        return None if _may_yield(hint) else f"a {kind}, which yields"
    if hint in _PLAIN:
        plain = type(None) if hint is None else hint
        means_it = (plain is float and isinstance(value, int)) or (
            plain is list and isinstance(value, tuple)
        )
        return None if means_it or isinstance(value, plain) else f"a {kind}"
    adapter = _adapter(hint)
    if adapter is None:
        return None
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return f"a {kind} in which {problem_in(error, 'result')}"
    except Exception as error:  # noqa: BLE001 - a type's own validators are user code
        return f"a {kind} of which its own check raises {type(error).__name__}"
    return None


def _may_yield(hint: Any) -> bool:
    """Whether a type is one of what yields, or may be."""
    each = get_args(hint) if get_origin(hint) in (Annotated, Union, UnionType) else ()
    kind = get_origin(hint) or hint
    return any(map(_may_yield, each)) or kind in (Iterator, Iterable, Generator, *_ANYTHING)


def _hint(function: Callable[..., Any]) -> Any:
    """Return the type that a call of the function comes to, once it was awaited."""
    hint = _hint_of(function)
    if get_origin(hint) in (Awaitable, Coroutine):
        return get_args(hint)[-1]
    return Any if hint is NoReturn else hint


@lru_cache(maxsize=512)
def _hint_of(function: Callable[..., Any]) -> Any:
    return get_type_hints(function, include_extras=True).get("return", Any)


@lru_cache(maxsize=512)
def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except (NameError, PydanticUserError):
        return None


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', 'the tool')}(){in_place(function)}"
