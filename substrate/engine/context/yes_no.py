"""Yes and no: what a wait for a `bool` takes, and nothing else.

pydantic takes ``"1"``, ``"on"``, ``"t"``, 0 and 1.0 for a bool as well. What a person says to
"shall I pay?" is to be a word that means it.
"""

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import core_schema

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


class _YesOrNo:
    """Has pydantic take a bool, and the four words for one, in any case of letters."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        strict = core_schema.bool_schema(strict=True)
        # Lax or strict, so that in `bool | str` the text "yes" stays the text that it is.
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
    """Return a type whose bool takes true, false, yes and no only; also as one of several types."""
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
    """Return what takes true, false, yes and no."""
    return TypeAdapter(answered(bool))
