"""The return annotation of a step's function, if the codec alone could not give its values back.

The step's value is then read back as that type, in the live run and on each replay: a dataclass, a
pydantic model, a set, a path. Values that the codec encodes itself come back as JSON has them: a
tuple as a list, an enum member as its value.
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
"""Classes whose values the codec encodes; their subclasses count too."""

_COUNTED = (OrderedDict, Counter, defaultdict)
"""Subclasses of dict whose values are read back as that class."""

_PLAIN = frozenset(
    (None, Any, bool, Measured, *_HELD, "None", "Any", "bool", "int", "float", "str", "bytes")
) - {bytearray}
"""Annotations that need no `Annotation`; also as text, since some modules do not evaluate theirs.

`Measured` is one of them, since its value may be of any type.
"""

_NONE: Mapping[str, Any] = MappingProxyType({})


def result_of(fn: Callable[..., Any]) -> Annotation | None:
    """Return the type of a function's result; None if the codec suffices for its values.

    Raises `Misuse` for a `defaultdict` without types.
    """
    hint = _hint(fn)
    try:
        if hint in _PLAIN:
            return None
    except TypeError:  # it has no hash
        return None
    return _typed(_bare(fn))


def check_result(fn: Callable[..., Any]) -> None:
    """Raise `Misuse` if a function is annotated to return a type that has no JSON form.

    Checked before the function is called: an effect that has happened cannot be taken back.
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
    hint = _with_bytes(fn, hint)
    try:
        return Annotation(f"{getattr(fn, '__name__', 'it')}()", "result", hint)
    except (NameError, PydanticUserError):
        return None  # the values that it returns may be JSON all the same


@lru_cache(maxsize=1024)
def _problem(fn: Callable[..., Any]) -> str | None:
    """Return why the type of a function's result has no JSON form; None if it may have one."""
    hint = _resolved(fn)
    return no_form(_with_bytes(fn, hint)) if _needs_type(hint, set()) else None


def _with_bytes(fn: Callable[..., Any], hint: Any) -> Any:
    """Return a type in which each `bytearray` has the annotation by which pydantic dumps bytes.

    Raises `Misuse` for a `defaultdict` without types: its factory is not recorded, and pydantic
    needs the types to choose a new one.
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
    parts = tuple(_with_bytes(fn, each) for each in inside)
    if parts == inside:
        return hint
    if origin is Annotated:
        return Annotated[(parts[0], *hint.__metadata__)]
    return Union[parts] if origin in (Union, UnionType) else origin[parts]  # noqa: UP007


def no_form(hint: Any) -> str | None:
    """Return which type has no JSON form, and why; None if it has one, or that is not known."""
    try:
        TypeAdapter(hint).json_schema(mode="serialization")
    except NameError:
        return None
    except PydanticUserError as error:
        return f"{shown(hint)}, which has no JSON form ({gist_of(error)})"
    return None


def _needs_type(hint: Any, seen: set[int]) -> bool:
    """Whether values of a type, or values inside them, are more than the codec gives back."""
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if is_typeddict(hint):
        return any(_needs_type(each, seen) for each in hint.__annotations__.values())
    origin = get_origin(hint)
    inside = [getattr(hint, "__value__", None), *get_args(hint)]
    kinds = [each for each in (hint, origin) if isinstance(each, type)]
    if any(_is_unknown_to_codec(kind) for kind in kinds):
        return True
    return any(_needs_type(each, seen) for each in inside)


def _is_unknown_to_codec(kind: type) -> bool:
    """Whether the codec does not give values of a class back as that class."""
    if kind in (*_COUNTED, bytearray):
        return True
    if kind is object or issubclass(kind, _HELD) or kind.__module__ == "typing":
        return False
    return not (inspect.isabstract(kind) or getattr(kind, "_is_protocol", False))


class _AsBytes:
    """Makes pydantic dump a bytearray as bytes, and validate bytes to a bytearray."""

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
    if not isinstance(given, bytes | bytearray):  # `bytearray(3)` would be three zeros
        raise ValueError("it is no bytes")  # noqa: TRY004 - what pydantic takes as a refusal
    return bytearray(given)


_BYTES = _AsBytes()


def _resolved(fn: Callable[..., Any]) -> Any:
    """Return the type of a function's result, after awaiting if the call returns an awaitable."""
    hint = _hint(fn)
    try:
        hint = get_type_hints(fn, include_extras=True).get("return", hint)
    except (NameError, TypeError, AttributeError):  # such as a name imported for checkers only
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
