"""An answer of a type: its schema for the model, what is wrong with a reply, its value.

>>> class Report(BaseModel):
...     title: str
>>> typed_answer_of(Report).schema["required"]
['title']

Invariants: pure; a value that is kept is JSON of which the type makes again what was checked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from inspect import isroutine
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from substrate.agent.tool_schema import field_errors, is_of_secrets
from substrate.engine.function.annotation import gist_of
from substrate.models.messages import Json, Reply, StopReason
from substrate.models.providers.answer_schema import read_answer
from substrate.values.difference import Allow, difference
from substrate.values.errors import Misuse

CORRECTIONS = 2
"""How often a model is told what is wrong before the next one is asked."""

_AGAIN = "Give the whole answer again: only JSON that fits the schema, with nothing around it."


@dataclass(frozen=True)
class TypedAnswer:
    """The type of an agent's answers, and how often a model may mend one that does not fit.

    A dataclass, a pydantic model, a TypedDict: what has named fields. Raises `Misuse` for others.
    """

    #: A class with named fields.
    type: Any
    #: How often a model may mend an answer that does not fit.
    corrections: int = CORRECTIONS
    #: The field in which two answers are the same, whatever else they say; None for all fields.
    decides: str | None = None

    def __post_init__(self) -> None:
        """Refuse now what no provider takes, and not after the first call."""
        if self.corrections < 0:
            raise Misuse(f"corrections={self.corrections!r} must be 0 or more")
        if isinstance(self.type, str):
            raise Misuse(f"answer={self.type!r} is text; give the class itself, without quotes")
        if isroutine(self.type) or self.schema.get("type") != "object":
            raise Misuse(
                f"answer={self.type!r} is no object with named fields, which is what providers "
                "take; put it into one: class Answer(BaseModel): …"
            )
        if is_of_secrets(self.schema):
            raise Misuse(
                f"answer={self.type!r} has a secret in it, and what a model gives is recorded and "
                "sent back to it; write str, or leave the field out"
            )

    @cached_property
    def schema(self) -> Mapping[str, Json]:
        """The JSON Schema of an answer. Its root is an object, also where the type is recursive."""
        try:
            schema = self._adapter.json_schema()
        except PydanticUserError as error:
            raise Misuse(f"answer={self.type!r} has no JSON form: {gist_of(error)}") from None
        root = schema.pop("$ref", None)
        return schema if root is None else {**schema["$defs"][root.rpartition("/")[2]], **schema}

    def problem(self, reply: Reply) -> str | None:
        """Say what is wrong with an answer, field by field, for the model to mend; else None."""
        return problem_with(self._read, reply)

    def marked(self, reply: Reply) -> Reply:
        """Return a reply with what it says beside its answer, which is nothing."""
        return reply

    def value(self, text: str) -> Json:
        """Return an answer as JSON of its type. Raises `ValueError` for no answer.

        With what the type has made of it, such as defaults; as the model gave it, where a type does
        not take its own form again: one with a serializer, or a validator that changes a value.
        """
        given = read_answer(text)
        checked = self._made(given)
        try:
            whole = self._adapter.dump_python(checked, mode="json", by_alias=True, round_trip=True)
            is_kept = difference(checked, self._made(whole), allow=Allow.WHOLE) is None
        except Exception:  # noqa: BLE001 - pydantic raises several kinds, a type's own code any
            is_kept = False
        return whole if is_kept else given

    def _read(self, text: str) -> Any:
        return self._made(read_answer(text))

    def _made(self, value: Json) -> Any:
        return self._adapter.validate_json(json.dumps(value))

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self.type)
        except PydanticUserError as error:
            message = f"answer={self.type!r} is no type of an answer: {gist_of(error)}"
            raise Misuse(f"{message}; write class Answer(BaseModel): …") from None


def problem_with(read: Callable[[str], object], reply: Reply) -> str | None:
    """Say what is wrong with an answer that is read like this, for the model to mend; else None."""
    try:
        read(reply.text)
    except ValidationError as error:
        wrong = field_errors(error)
    except (ValueError, RecursionError) as error:
        wrong = f"- it is not JSON: {error}"
    else:
        return None
    if reply.stop is StopReason.LENGTH:
        wrong += "\n- it was cut off at the longest output: make it shorter"
    return f"This answer does not fit what was asked for:\n{wrong}\n{_AGAIN}"


def typed_answer_of(answer: Any) -> TypedAnswer | None:
    """Return what the `answer` hook says: a type, a `TypedAnswer`, or None for words."""
    if answer is None or isinstance(answer, TypedAnswer):
        return answer
    try:
        return _typed(answer)
    except TypeError:  # it has no hash: no type, as `TypedAnswer` will say
        return TypedAnswer(answer)


@lru_cache(maxsize=64)
def _typed(type_: Any) -> TypedAnswer:
    """Return a type as it is asked for: its schema is made once, not with each call."""
    return TypedAnswer(type_)
