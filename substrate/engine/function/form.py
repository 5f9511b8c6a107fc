"""The forms in which pydantic writes a typed value, made the same in every process.

A set is a list that is sorted by what its items are written as: the order in which Python iterates
over it depends on the process. Where a field of a model was not set and whoever reads it makes the
same of it again, it may be left out, so that it comes back as not set.
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
    """By which names fields are written, and whether bytes, moments and decimals are tagged."""

    by_alias: bool = False
    is_tagged: bool = False

    def of(self, adapter: TypeAdapter[Any], value: Any, *, is_lenient: bool = False) -> Any:
        """Return the value as pydantic writes it, its sets in any order.

        A tagged one is left as what it is where `plain` is to make JSON of it. Raises what pydantic
        raises, also where the value is not of the type, unless that `is_lenient`.
        """
        return adapter.dump_python(
            value,
            mode="python" if self.is_tagged else "json",
            by_alias=self.by_alias or None,
            round_trip=self.by_alias,
            warnings="none" if is_lenient else "error",
        )

    def arranged(self, value: Any, dumped: Any, *, drops: bool = False) -> Any:
        """Return what was written of a value in its one order; `drops` leaves out what was not set.

        A walk through both. What has another shape than its value is left as it is written: a
        serializer of its own made it.
        """
        if isinstance(value, (set, frozenset)):
            if not _is_alike(value, dumped, list):
                return dumped  # a set still, which `plain` sorts
            items = zip(value, dumped, strict=True)  # one set is iterated in one order
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
        # So asked, since the import of RootModel builds a schema, and loads all plugins for that.
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
    """Return a value with what `codec` can tag as it is, and all else as pydantic's JSON."""
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
    """Give the fields of an object with their names in a form by alias."""
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
