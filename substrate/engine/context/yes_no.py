"""What a person may answer: yes and no where a `bool` is asked for, and a number for a number.

pydantic alone would also take ``"1"``, ``"on"``, ``"t"``, 0 and 1.0 for a `bool`. An answer to
"shall I pay?" has to be a word that means yes or no. And it would take true for 1, where somebody
asked "how many?".
"""

from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import core_schema

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


class _YesOrNo:
    """Makes pydantic accept a bool or one of the four words, in upper or lower case."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        strict = core_schema.bool_schema(strict=True)
        # Strict mode takes no words: pydantic tries a union strictly first, so that in
        # `bool | str` the text "yes" stays text.
        return core_schema.lax_or_strict_schema(
            core_schema.no_info_before_validator_function(_parsed, strict), strict
        )


def _parsed(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    word = value.strip().casefold() if isinstance(value, str) else None
    if word not in _WORDS:
        raise ValueError(f"{value!r} is no answer; send true, false, yes or no")
    return _WORDS[word]


class _NoBool:
    """Makes pydantic refuse a bool that it would convert to a number."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        strict = handler(source)  # where nothing is converted, a bool is refused anyway
        lax = core_schema.no_info_before_validator_function(_no_bool, strict)
        return core_schema.lax_or_strict_schema(lax, strict)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - what pydantic reads
    return value


def answered(hint: Any) -> Any:
    """Return the type that takes what a person may answer, in the place of this one."""
    found = _with_yes_and_no(hint)
    return Annotated[found, _NoBool()] if _takes_bool_for_number(hint) else found


_NUMBERS = (int, float, complex)
_OTHERS = (str, NoneType)


def _takes_bool_for_number(hint: Any) -> bool:
    """Whether a type is one of numbers, or of numbers, words and nothing: no bool is of it."""
    members = _members(hint)
    plain = {each for each in members if each in _NUMBERS or _is_choice(each)}
    return bool(plain) and all(each in plain or each in _OTHERS for each in members)


def _is_choice(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return not any(isinstance(each, bool) for each in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Enum) and issubclass(hint, int)


def _members(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [found for each in get_args(hint) for found in _members(each)]
    return _members(get_args(hint)[0]) if get_origin(hint) is Annotated else [hint]


def _with_yes_and_no(hint: Any) -> Any:
    """Return the type with its `bool` replaced, also inside a union or `Annotated`."""
    if hint is bool:
        return Annotated[bool, _YesOrNo()]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(map(_with_yes_and_no, get_args(hint)))]  # noqa: UP007 - made of a tuple
    if get_origin(hint) is Annotated:
        type_, *others = get_args(hint)
        return Annotated[_with_yes_and_no(type_), *others]
    return hint


@cache
def yes_and_no() -> TypeAdapter[Any]:
    """Return the adapter that checks an answer to a yes-or-no question."""
    return TypeAdapter(answered(bool))
