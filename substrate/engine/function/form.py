"""The forms in which pydantic dumps a typed value, with one result in every process.

- A set becomes a list, sorted by the JSON of its items: the order in which Python iterates over a
  set differs from process to process.
- A model's field that was not set may be left out if validation gives it the same value again. Then
  it comes back as not set.
"""

from collections import deque
from collections.abc import Iterator, Sized
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from substrate.values.codec import decode, encode
from substrate.values.difference import is_remade
from substrate.values.errors import NotEncodable


@dataclass(frozen=True, slots=True)
class Form:
    """Whether fields are named by alias, and whether bytes, datetimes and decimals are tagged."""

    by_alias: bool = False
    is_tagged: bool = False

    def of(self, adapter: TypeAdapter[Any], value: Any, *, is_lenient: bool = False) -> Any:
        """Return the value as pydantic dumps it, its sets in any order.

        In a tagged form the result is made of Python values, of which `plain` makes JSON. Raises
        what pydantic raises; unless `is_lenient`, also for a value that is not of the type.
        """
        return adapter.dump_python(
            value,
            mode="python" if self.is_tagged else "json",
            by_alias=self.by_alias or None,
            round_trip=self.by_alias,
            warnings="none" if is_lenient else "error",
        )

    def arranged(self, value: Any, dumped: Any, *, drops: bool = False) -> Any:
        """Return the dump of a value with its sets sorted; `drops` leaves out fields not set.

        Walks through the value and its dump side by side. A part of the dump that has another shape
        than its value comes from a custom serializer, and stays as it is.
        """
        if isinstance(value, (set, frozenset)):
            if not _is_alike(value, dumped, list):
                return dumped  # a set still, which `plain` sorts
            # One set object is iterated in the same order each time, so the two correspond.
            items = zip(value, dumped, strict=True)
            return sorted((self.arranged(*each, drops=drops) for each in items), key=encode)
        if isinstance(value, (list, tuple, deque)):
            if not _is_alike(value, dumped, (list, tuple)):
                return dumped
            pairs = zip(value, dumped, strict=True)
            return [self.arranged(*each, drops=drops) for each in pairs]
        if isinstance(value, dict):
            if not _is_alike(value, dumped, dict):
                return dumped
            both = zip(value.values(), dumped.items(), strict=True)
            return {key: self.arranged(one, other, drops=drops) for one, (key, other) in both}
        # Not `isinstance`: importing RootModel builds a schema, which loads every pydantic plugin.
        if getattr(type(value), "__pydantic_root_model__", False):
            return self.arranged(value.root, dumped, drops=drops)
        if not isinstance(dumped, dict):
            return dumped
        return self._object(value, dumped, drops=drops)

    def _object(self, value: Any, dumped: dict[Any, Any], *, drops: bool) -> dict[Any, Any]:
        found = dict(dumped)
        for name, alias in _names_of(value):
            key = alias if self.by_alias or name not in dumped else name
            if key not in dumped:
                continue
            is_model = isinstance(value, BaseModel) and name in type(value).model_fields
            if drops and is_model and name not in value.model_fields_set and is_remade(value, name):
                del found[key]
            else:
                found[key] = self.arranged(getattr(value, name), dumped[key], drops=drops)
        return found


FORMS = (Form(), Form(by_alias=True), Form(by_alias=True, is_tagged=True))


def plain(value: Any) -> Any:
    """Return a value that `codec` can encode: other parts are replaced by pydantic's JSON."""
    if isinstance(value, dict):
        return {_plain_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=encode)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    try:
        return decode(encode(value))
    except NotEncodable:
        return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")


def _plain_key(key: Any) -> str:
    return key if isinstance(key, str) else next(iter(to_jsonable_python({key: None})))


def _names_of(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of an object, each with its name in the forms by alias."""
    if isinstance(value, BaseModel):
        known = type(value).model_fields
        yield from ((name, known[name].serialization_alias or name) for name in known)
        yield from ((name, name) for name in value.__pydantic_extra__ or ())
    elif is_dataclass(value):
        named = getattr(value, "__pydantic_fields__", {})
        for each in fields(value):
            yield each.name, getattr(named.get(each.name), "serialization_alias", None) or each.name


def _is_alike(value: Sized, dumped: Any, kinds: type[Sized] | tuple[type[Sized], ...]) -> bool:
    return isinstance(dumped, kinds) and len(dumped) == len(value)
