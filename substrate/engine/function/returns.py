"""What a step's function says that it returns, where that is more than JSON holds by itself.

Then the step's value crosses the journal as that type, live and on every replay alike: a dataclass,
a pydantic model, a set, a path. What JSON holds stays what it always was: a tuple is a list, an
enum member its value.
"""

import inspect
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from types import MappingProxyType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from pydantic import GetCoreSchemaHandler, PydanticUserError, TypeAdapter
from pydantic_core import core_schema

from substrate.engine.function.annotation import Annotation, gist_of, shown
from substrate.engine.function.place import in_place
from substrate.values.errors import Misuse


@dataclass(frozen=True, slots=True)
class Measured:
    """A step's result together with what it consumed, which has a column of its own."""

    value: Any
    usage: Any


_HELD = (NoneType, int, float, str, bytes, bytearray, date, Decimal, list, tuple, dict, UUID, Enum)
"""The classes of what the codec writes, and their subclasses."""

_COUNTED = (OrderedDict, Counter, defaultdict)
"""Dicts that are more than a dict, and come back as what they are."""

_PLAIN = frozenset(
    (None, Any, bool, Measured, *_HELD, "None", "Any", "bool", "int", "float", "str", "bytes")
) - {bytearray}
"""Annotations that need no closer look; as text where they are not evaluated.

`Measured` holds a value of any type.
"""

_NONE: Mapping[str, Any] = MappingProxyType({})


def result_of(fn: Callable[..., Any]) -> Annotation | None:
    """Return the type of a function's result, where its values need one; else None.

    Raises `Misuse` for a type that does not tell what its values are read back as.
    """
    hint = _hint(fn)
    try:
        if hint in _PLAIN:
            return None
    except TypeError:  # it has no hash
        return None
    return _typed(_bare(fn))


def check_result(fn: Callable[..., Any]) -> None:
    """Raise `Misuse` for a function that says it returns what has no JSON form.

    Before a call that can't be taken back: once it was made, it would be too late.
    """
    hint = _hint(fn)
    try:
        if hint in _PLAIN:
            return
    except TypeError:
        return
    if problem := _problem(_bare(fn)):
        raise Misuse(
            f"{getattr(fn, '__name__', fn)}(){in_place(fn)} says that it returns "
            f"{problem}; nothing was called: return what has a form, such as its id, and say so"
        )


@lru_cache(maxsize=1024)
def _typed(fn: Callable[..., Any]) -> Annotation | None:
    hint = _resolved(fn)
    if not _needs_type(hint, set()):
        return None
    hint = _told(fn, hint)
    try:
        return Annotation(f"{getattr(fn, '__name__', 'it')}()", "result", hint)
    except (NameError, PydanticUserError):
        return None  # what it returns may be JSON all the same


@lru_cache(maxsize=1024)
def _problem(fn: Callable[..., Any]) -> str | None:
    """Say why the type of a function's result has no JSON form; None where it may have one."""
    hint = _resolved(fn)
    return no_form(_told(fn, hint)) if _needs_type(hint, set()) else None


def _told(fn: Callable[..., Any], hint: Any) -> Any:
    """Return a type with what pydantic has to be told of a bytearray, wherever in it that stands.

    Raises `Misuse` for a `defaultdict` that does not tell of what: its factory has no JSON form.
    """
    if hint is bytearray:
        return Annotated[bytearray, _BYTES]
    if hint is defaultdict:
        raise Misuse(
            f"{getattr(fn, '__name__', fn)}(){in_place(fn)} says that it returns a "
            "defaultdict, and not of what, so nobody can make it again; nothing was called: write "
            "it as defaultdict[str, int], or return a dict"
        )
    origin, inside = get_origin(hint), get_args(hint)
    if not inside or origin in (Literal, Callable):
        return hint
    told = tuple(_told(fn, each) for each in inside)
    if told == inside:
        return hint
    if origin is Annotated:
        return Annotated[(told[0], *hint.__metadata__)]
    return Union[told] if origin in (Union, UnionType) else origin[told]  # noqa: UP007


def no_form(hint: Any) -> str | None:
    """Say which type has no JSON form, and why; None where it has one, or nobody can tell."""
    try:
        TypeAdapter(hint).json_schema(mode="serialization")
    except NameError:
        return None
    except PydanticUserError as error:
        return f"{shown(hint)}, which has no JSON form ({gist_of(error)})"
    return None


def _needs_type(hint: Any, seen: set[int]) -> bool:
    """Whether a type stands for values that the codec does not hold, or holds some."""
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if is_typeddict(hint):
        return any(_needs_type(each, seen) for each in hint.__annotations__.values())
    origin = get_origin(hint)
    inside = [getattr(hint, "__value__", None), *get_args(hint)]
    kinds = [each for each in (hint, origin) if isinstance(each, type)]
    if any(_is_strange(kind) for kind in kinds):
        return True
    return any(_needs_type(each, seen) for each in inside)


def _is_strange(kind: type) -> bool:
    """Whether the codec holds no values of a class."""
    if kind in (*_COUNTED, bytearray):
        return True
    if kind is object or issubclass(kind, _HELD) or kind.__module__ == "typing":
        return False
    return not (inspect.isabstract(kind) or getattr(kind, "_is_protocol", False))


class _AsBytes:
    """Has pydantic write a bytearray as bytes, and make one of them."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _bytearray_of,
            serialization=core_schema.plain_serializer_function_ser_schema(
                bytes, when_used="unless-none"
            ),
        )


def _bytearray_of(given: object) -> bytearray:
    if not isinstance(given, bytes | bytearray):  # a number would be so many zeros
        raise ValueError("it is no bytes")  # noqa: TRY004 - what pydantic hears
    return bytearray(given)


_BYTES = _AsBytes()


def _resolved(fn: Callable[..., Any]) -> Any:
    """Return the type that a call of a function comes to, once it was awaited."""
    hint = _hint(fn)
    try:
        hint = get_type_hints(fn, include_extras=True).get("return", hint)
    except (NameError, TypeError, AttributeError):  # of a name that is imported for checkers only
        return Any if isinstance(hint, str) else hint
    return get_args(hint)[-1] if get_origin(hint) in (Awaitable, Coroutine) else hint


def _hint(fn: Callable[..., Any]) -> Any:
    try:
        return getattr(_bare(fn), "__annotations__", _NONE).get("return")
    except NameError:
        return None


def _bare(fn: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(fn, partial):
        fn = fn.func
    return fn
