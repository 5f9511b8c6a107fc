"""Encodes dataclasses and pydantic models without an annotation: in steps' arguments and signals.

Each is dumped by its own class, also inside lists and dicts. Values that JSON has stay as they are.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, PydanticUserError

from substrate.engine.function.annotation import Annotation, gist_of
from substrate.values.codec import encode
from substrate.values.errors import NotEncodable
from substrate.values.records import JsonText
from substrate.values.secret import hidden_arguments


def encoded(value: Any, *, is_whole: bool = False) -> JsonText:
    """Return a value as JSON. Raises `NotEncodable` if a part of it has no form that reads back.

    With `is_whole`, fields of models that were not set are written too: for a value that is not
    read back as its class, which would add them.
    """
    try:
        return JsonText(encode(value))
    except NotEncodable:
        if not holds_objects(value):
            raise
    return JsonText(encode(hidden_arguments(_written(value, is_whole=is_whole))))


def _written(value: object, *, is_whole: bool) -> object:
    if _is_object(value):
        kind: Any = type(value)
        return _annotation_of(kind).dump(value, is_whole=is_whole)
    if isinstance(value, Mapping):
        return {key: _written(each, is_whole=is_whole) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_written(each, is_whole=is_whole) for each in value]
    return value


def holds_objects(value: Any) -> bool:
    """Whether a value is a dataclass or a pydantic model, or has one in its lists and dicts."""
    stack, seen = [value], set()
    while stack:
        each = stack.pop()
        if _is_object(each):
            return True
        if isinstance(each, Mapping | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            stack.extend(each.values() if isinstance(each, Mapping) else each)
    return False


def _is_object(value: object) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


@lru_cache(maxsize=512)
def _annotation_of(kind: type) -> Annotation:
    try:
        return Annotation(kind.__qualname__, "it", kind)
    except (NameError, PydanticUserError) as error:
        raise NotEncodable(
            f"{kind.__qualname__} has no JSON form: {gist_of(error)}; give its fields types that "
            "pydantic knows"
        ) from None
