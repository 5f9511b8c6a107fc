"""The type of a parameter, a result or a signal, and how values of that type are recorded.

pydantic dumps a value, and the dump is validated at once: a form is recorded only if it gives back
an equal value. There are three forms. Their order never changes, so that a value is written as
older journals hold it:

1. its JSON, by the names of its fields;
2. the same by alias, without what is computed;
3. the same with bytes, moments and decimals as what they are, which `codec` tags.

If no form gives the value back, all are tried again without the fields of models that were not set.
The last time, a value may be converted to the type: an int to a Decimal, a tuple to a list.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from substrate.engine.function.form import FORMS, Form, plain
from substrate.values.codec import encode
from substrate.values.difference import Allow, difference
from substrate.values.errors import Misuse, NotEncodable, NotKept

_VALUES = re.compile(r"input_value=.*?, (?=input_type=)", re.DOTALL)
_MASK = "**********"
_READERS = ("function-before", "function-wrap", "function-plain", "call", "json")
_WIDER = ("coerce_numbers_to_str", "populate_by_name", "validate_by_name")
_PROSE = frozenset({"title", "description", "default", "examples"})
_CURE = "annotate it with the type that it has, or give what is lost a form that reads back"
_ORDER = " has an order, which would be lost"
_IN_ORDER = "give a list of pairs"
_KEEP_OUT = (
    "keep it out of arguments, results and signals: let the step that needs it read it from the "
    "environment or a vault"
)


class _OwnCode:
    """Turns `SystemExit` and `KeyboardInterrupt` of a type's own validators into a `RuntimeError`.

    A signal is validated in a task of the worker's. If one of these left a task, asyncio would stop
    the event loop, and every run of the worker with it.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if kind is not None and issubclass(kind, (SystemExit, KeyboardInterrupt)):
            raise RuntimeError(f"its type's own code raised {kind.__name__}") from error


_OWN_CODE = _OwnCode()


class Annotation:
    """The type of a parameter, a result or a signal; messages call it `name` of `owner`."""

    def __init__(self, owner: str, name: str, hint: Any) -> None:
        self._owner = owner
        self._name = name
        self._hint = hint
        self._adapter: TypeAdapter[Any] = TypeAdapter(hint)

    def as_ever(self, value: Any) -> Any:
        """Return the first form of a value, unread. Raises `NotEncodable` where it has none."""
        try:
            with _OWN_CODE:
                return FORMS[0].of(self._adapter, value)
        except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds of its own
            raise self._not_encodable(error) from None

    def dump(self, value: Any, *, is_whole: bool = False) -> Any:
        """Return what is recorded of a value: the same in every process.

        With `is_whole`, fields of models that were not set are written too, and count as set when
        they are read: for readers that have another type, or none.

        Raises `NotEncodable` if it has no JSON form, `NotKept` if no form gives an equal value.
        """
        problem: Exception | None = None
        found: str | None = None
        shown: Any = None
        is_of_type = False
        for form, allow in self._tries(is_whole=is_whole):
            try:
                dumped = self._in_form(form, value, allow)
            except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds
                problem = error
                continue
            lost = self._lost(value, dumped, allow)
            if lost is None:
                return dumped
            if Allow.CONVERTED not in allow:
                is_of_type = True
            # The last tries allow the most differences: one that is left now is the real reason.
            elif found is None:
                found, shown = lost, dumped
        if found is None:
            if reason := self.refusal(value):
                raise NotEncodable(f"{self._owner}: {self._is_not(reason)}; {_cure_of(reason)}")
            raise self._not_encodable(problem)
        if is_of_type:
            raise self._not_kept(found, shown)
        raise NotEncodable(f"{self._owner}: {self._is_not(found)}; {_cure_of(found)}")

    def make(self, value: Any) -> Any:
        """Return a JSON value as the type. Raises `ValidationError`, or what its validators do."""
        with _OWN_CODE:
            return self._adapter.validate_python(value)

    def load(self, value: Any) -> Any:
        """Return a recorded value as the type. Raises `Misuse` if it no longer fits the type."""
        try:
            return self.make(value)
        except ValidationError as error:
            message = str(error)
        except Exception as error:  # noqa: BLE001 - a type's own validators are user code
            message = f"reading it raises {type(error).__name__}: {error}"
        raise Misuse(f"{self._owner}: the recorded {self._name} no longer fits its type: {message}")

    def refusal(self, value: Any) -> str | None:
        """Return why a value is not of the type without any conversion; None if it is."""
        try:
            with _OWN_CODE:
                self._adapter.validate_python(value, strict=True)
        except ValidationError as error:
            return problem_in(error, self._name)
        return None

    def is_exact(self, text: str, value: Any) -> bool:
        """Whether a JSON text, or its decoded value, is of the type without any conversion."""
        try:
            with _OWN_CODE:
                self._adapter.validate_json(text, strict=True)
        except Exception:  # noqa: BLE001 - a type's own validators are user code
            try:
                with _OWN_CODE:
                    self._adapter.validate_python(value, strict=True)
            except Exception:  # noqa: BLE001 - likewise
                return False
        return True

    def _tries(self, *, is_whole: bool) -> Iterator[tuple[Form, Allow]]:
        """Yield the forms in the order of trial, each with the differences that it may have."""
        is_open = Allow.OPEN if self._is_open else Allow.NOTHING
        levels = (Allow.NOTHING, Allow.MADE, Allow.MADE | Allow.CONVERTED)
        if is_whole:
            levels = (Allow.NOTHING, Allow.WHOLE, Allow.WHOLE | Allow.CONVERTED)
        for more in levels:
            for form in FORMS:
                yield form, is_open | more

    def _in_form(self, form: Form, value: Any, allow: Allow) -> Any:
        with _OWN_CODE:
            dumped = form.of(self._adapter, value, is_lenient=Allow.CONVERTED in allow)
        drops = Allow.MADE in allow
        if drops or self._may_hold_sets:
            dumped = form.arranged(value, dumped, drops=drops)
        return plain(dumped) if form.is_tagged else dumped

    def _lost(self, value: Any, dumped: Any, allow: Allow) -> str | None:
        """Return which part of a value a form does not give back; None if it gives back all."""
        try:
            back = self.make(dumped)
        except ValidationError as error:
            return f"{self._name} would be refused when it is read: {problem_in(error, self._name)}"
        except Exception as error:  # noqa: BLE001 - a type's own validators are user code
            return f"reading {self._name} raises {type(error).__name__}"
        if Allow.CONVERTED in allow and self._chooses_members:
            # In a union of an enum and text, a member and its text are two different values.
            allow &= ~Allow.CONVERTED
        return difference(value, back, self._name, allow)

    def _not_encodable(self, error: Exception | None) -> NotEncodable:
        message = _VALUES.sub("", str(error))  # without values, which may be secret
        return NotEncodable(
            f"{self._owner}: {self._name} has no JSON form as {shown(self._hint)}: {message}"
        )

    def _is_not(self, lost: str) -> str:
        return f"{self._name} is not of the annotated type {shown(self._hint)}: {lost}"

    def _not_kept(self, lost: str, dumped: Any) -> NotKept:
        try:
            text = encode(dumped)
        except NotEncodable:
            text = _MASK
        message = f"{self._owner}: {self._name} would not read back as {shown(self._hint)}"
        return NotKept(
            f"{message}: {lost}; {_cure_of(lost)}", lost, None if _MASK in text else text
        )

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of accepted values; empty if there is none, or the type accepts more."""
        if _takes_more(self._adapter.core_schema):
            return {}
        try:
            bare: dict[str, Any] = _bare(self._adapter.json_schema(schema_generator=_Telling))
        except Exception:  # noqa: BLE001 - pydantic raises several kinds, a type's own code any
            return {}
        return bare

    @cached_property
    def _is_open(self) -> bool:
        """Whether the type contains `Any`, and no union that could be confused with it.

        In the place of an `Any`, an enum member or a UUID is recorded as its JSON and comes back as
        that. In a union of an enum or UUID with text, the same JSON could mean either.
        """
        return "any" in self._kinds and not self._chooses_members

    @cached_property
    def _may_hold_sets(self) -> bool:
        return not self._kinds.isdisjoint(("set", "frozenset", "any", "extra"))

    @property
    def _chooses_members(self) -> bool:
        return "a choice" in self._kinds

    @cached_property
    def _kinds(self) -> set[str]:
        kinds: set[str] = set()
        _kinds_in(self._adapter.core_schema, kinds, in_union=False)
        return kinds


class _Telling(GenerateJsonSchema):
    """Tells more of a type than pydantic does by itself: keys of a dict, and decimals as text."""

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        told = super().dict_schema(schema)
        if "patternProperties" not in told and (keys := schema.get("keys_schema")):
            told.setdefault("propertyNames", self.generate_inner(keys))
            if told["propertyNames"] == {"type": "string"}:  # as every key is
                del told["propertyNames"]
        return told

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        told = super().decimal_schema(schema)
        forms = told.get("anyOf", [])
        for each in forms:  # a number, and the same as text
            each.update({**forms[0], "type": each["type"], "format": "decimal"})
            each.pop("pattern", None)  # it refuses what is taken: 1e2
        return told


def _takes_more(schema: Any) -> bool:
    """Whether the type may accept a value that its JSON Schema does not describe."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "lax-or-strict":  # a bool of ours, or a type of the standard library
            return _takes_more(schema.get("strict_schema"))
        if kind in _READERS or any(map(schema.get, _WIDER)):
            return True
        if not isinstance(schema.get("validation_alias", ""), str):
            return True
        return any(_takes_more(each) for k, each in schema.items() if k != "serialization")
    return isinstance(schema, list | tuple) and any(map(_takes_more, schema))


def _bare(schema: Any) -> Any:
    """Return a schema without the names and the prose that pydantic adds."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {k: _bare(v) for k, v in schema.items() if k not in _PROSE}
    # Here the keys are names of fields and types: one called "title" or "default" must stay.
    for named in ("properties", "$defs"):
        if isinstance(found := schema.get(named), dict):
            bare[named] = {k: _bare(v) for k, v in found.items()}
    return bare


def _kinds_in(schema: Any, kinds: set[str], *, in_union: bool) -> None:
    """Collect whether a schema has `Any`, sets, extra fields, or a union with an enum or UUID."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind in ("any", "set", "frozenset"):
            kinds.add(kind)
        elif in_union and kind in ("enum", "uuid"):
            kinds.add("a choice")
        if "allow" in (schema.get("extra_behavior"), schema.get("extra_fields_behavior")):
            kinds.add("extra")
        inside = kind in ("union", "tagged-union") or (in_union and kind != "model-field")
        for each in schema.values():
            _kinds_in(each, kinds, in_union=inside)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            _kinds_in(each, kinds, in_union=in_union)


def problem_in(error: ValidationError, name: str) -> str:
    """Return where a value was refused, the type found there, and why; never the value itself."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join([name, *(str(part) for part in first["loc"])])
    return f"{place} is {type(first['input']).__name__}: {first['msg']}"


def gist_of(error: PydanticUserError | NameError) -> str:
    """Return pydantic's message about a type that it can't use: one line, without its hints."""
    message = error.message if isinstance(error, PydanticUserError) else str(error)
    told = str(message).split("\n\n", 1)[0].partition(" Set `arbitrary_types_allowed")[0]
    return " ".join(told.split()).rstrip(".")


def _cure_of(lost: str) -> str:
    if lost.endswith(" is a secret"):
        return _KEEP_OUT
    return _IN_ORDER if lost.endswith(_ORDER) else _CURE


def shown(hint: Any) -> str:
    """Return a type as it is written in source code."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
