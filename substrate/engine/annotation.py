"""An annotation of a durable function: how values of its type cross the journal.

A value is written as pydantic writes it, and read back at once: it is recorded only in a form that
gives back what was given. There are three forms, tried in this order, so that what older journals
hold stays as it is:

1. its JSON, by the names of its fields;
2. the same by alias, without what is computed;
3. the same with bytes, moments and decimals as what they are, which `codec` tags.
"""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from substrate.values.codec import decode, encode
from substrate.values.difference import difference
from substrate.values.errors import Misuse, NotEncodable, NotKept

_VALUES = re.compile(r"input_value=.*?, (?=input_type=)", re.DOTALL)
_MASK = "**********"
_CURE = "annotate it with the type that it has, or give what is lost a form that reads back"
_KEEP_OUT = (
    "keep it out of arguments and results: let the step that needs it read it from the environment "
    "or a vault"
)


class Annotation:
    """The type of one parameter of a function, or of what it returns."""

    def __init__(self, function: str, name: str, hint: Any) -> None:
        self._function = function
        self._name = name
        self._hint = hint
        self._adapter: TypeAdapter[Any] = TypeAdapter(hint)

    def as_ever(self, value: Any) -> Any:
        """Return the first form of a value, unread. Raises `NotEncodable` where it has none."""
        return self._in_form(_by_name, value)

    def dump(self, value: Any) -> Any:
        """Return what is recorded of a value.

        Raises `NotEncodable` where it has no JSON form, `NotKept` where none gives it back.
        """
        problem: NotEncodable | None = None
        found: str | None = None
        shown: Any = None
        for form in (_by_name, _by_alias, _tagged):
            try:
                dumped = self._in_form(form, value)
            except NotEncodable as error:
                problem = problem or error
                continue
            lost = self._lost(value, dumped)
            if lost is None:
                return dumped
            found, shown = found or lost, shown if found else dumped
        if problem is not None and found is None:
            raise problem
        raise self._not_kept(found or "", shown)

    def load(self, value: Any) -> Any:
        """Return a recorded value as the type. Raises `Misuse` where it fits the type no more."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            raise Misuse(
                f"{self._function}(): the recorded {self._name} no longer fits its type: {error}"
            ) from None

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the type as it stands, without being made so."""
        try:
            self._adapter.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    def _in_form(self, form: Callable[[TypeAdapter[Any], Any], Any], value: Any) -> Any:
        try:
            return form(self._adapter, value)
        except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds of its own
            told = _VALUES.sub("", str(error))  # which may be secret
            raise NotEncodable(
                f"{self._function}(): {self._name} has no JSON form as {_shown(self._hint)}: {told}"
            ) from None

    def _lost(self, value: Any, dumped: Any) -> str | None:
        """Say what of a value a form does not give back; None where it gives back all."""
        try:
            back = self._adapter.validate_python(dumped)
        except ValidationError as error:
            return f"{self._name} would be refused when it is read: {_problem(error)}"
        except Exception as error:  # noqa: BLE001 - a type's own validators are user code
            return f"reading {self._name} raises {type(error).__name__}"
        lost = difference(value, back, self._name)
        if lost and self._is_open:
            lost = difference(value, back, self._name, is_open=True)
        return lost

    def _not_kept(self, lost: str, dumped: Any) -> NotKept:
        cure = _KEEP_OUT if lost.endswith(" is a secret") else _CURE
        try:
            text = encode(dumped)
        except NotEncodable:
            text = _MASK
        told = f"{self._function}(): {self._name} would not read back as {_shown(self._hint)}"
        return NotKept(f"{told}: {lost}; {cure}", lost, None if _MASK in text else text)

    @cached_property
    def _is_open(self) -> bool:
        """Whether the type has places for anything, and leaves no doubt which these are.

        An enum member or a UUID stands there as its JSON, as everywhere without a type. It could
        also come from a union that takes text as well: then nothing tells the two apart.
        """
        kinds: set[str] = set()
        _kinds_in(self._adapter.core_schema, kinds, in_union=False)
        return "any" in kinds and "a choice" not in kinds


def _by_name(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.dump_python(value, mode="json", warnings="error")


def _by_alias(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error")


def _tagged(adapter: TypeAdapter[Any], value: Any) -> Any:
    return _plain(adapter.dump_python(value, by_alias=True, round_trip=True, warnings="error"))


def _plain(value: Any) -> Any:
    """Return a value with what `codec` can tag as it is, and all else as pydantic's JSON."""
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    try:
        return decode(encode(value))
    except NotEncodable:
        return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="constants")


def _plain_key(key: Any) -> str:
    return key if isinstance(key, str) else next(iter(to_jsonable_python({key: None})))


def _kinds_in(schema: Any, kinds: set[str], *, in_union: bool) -> None:
    """Collect whether a schema takes anything somewhere, and chooses an enum or UUID somewhere."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "any":
            kinds.add("any")
        elif in_union and kind in ("enum", "uuid"):
            kinds.add("a choice")
        inside = kind in ("union", "tagged-union") or (in_union and kind != "model-field")
        for each in schema.values():
            _kinds_in(each, kinds, in_union=inside)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            _kinds_in(each, kinds, in_union=in_union)


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
