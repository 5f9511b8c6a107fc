"""The values that a wait for a `bool` accepts: true and false, and the words for yes and no.

pydantic alone would also accept ``"1"``, ``"on"``, ``"t"``, 0 and 1.0. An answer to "shall I pay?"
has to be a word that means yes or no.
"""

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

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


def answered(hint: Any) -> Any:
    """Return the type with its `bool` replaced, also inside a union or `Annotated`."""
    if hint is bool:
        return Annotated[bool, _YesOrNo()]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(map(answered, get_args(hint)))]  # noqa: UP007 - made of a tuple
    if get_origin(hint) is Annotated:
        type_, *others = get_args(hint)
        return Annotated[answered(type_), *others]
    return hint


@cache
def yes_and_no() -> TypeAdapter[Any]:
    """Return the adapter that checks an answer to a yes-or-no question."""
    return TypeAdapter(answered(bool))
