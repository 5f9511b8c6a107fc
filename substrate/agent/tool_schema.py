"""The JSON Schema of a tool's arguments, and what is wrong with arguments that a model gives.

Invariants: a parameter that the kit fills in, and one that is a `Secret`, is not the model's; what
cannot be described to a model is refused when the tool is made.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo

from substrate.engine.function.annotation import gist_of, shown
from substrate.engine.function.place import in_place
from substrate.models.messages import Json
from substrate.values.codec import encode
from substrate.values.errors import Misuse
from substrate.values.secret import Secret

OURS = ("ctx", "idempotency_key")
"""Parameters that the kit fills in; the model does not see them."""

_NAME_IT = 'name it in a parameter\'s default: key: Secret[str] = Secret("STRIPE_KEY")'


class InvalidArguments(Exception):
    """The model's arguments do not fit the tool. Its message names each field and what is wrong."""


def field_errors(error: ValidationError) -> str:
    """Return what is wrong, a line for each field, as a model is told."""
    return "\n".join(
        f"- {'.'.join(str(part) for part in problem['loc']) or 'the whole'}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )


@lru_cache(maxsize=512)
def schema_of(arguments: type[BaseModel]) -> dict[str, Json]:
    """Return the JSON Schema of a tool's arguments, as the model sees them."""
    schema = TypeAdapter(arguments).json_schema()
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return schema


def hints_of(name: str, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the types of a tool's function, by parameter. Raises `Misuse`."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise Misuse(
            f"tool {name!r}{in_place(function)}: its types cannot be read: {error}; import them "
            "where the function is defined, at run time too"
        ) from None


def arguments_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Return what a model's arguments are checked against, made of the function's parameters.

    Its fields are numbered, for a name may be pydantic's. Raises `Misuse` for a parameter that no
    model could be told of.
    """
    hints = hints_of(name, function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in OURS:
            continue
        _check_parameter(name, function, parameter, hints)
        if _is_secret(hints[parameter.name]):
            _check_secret(name, parameter)  # it has no field, so no model can give it
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        if default is not ...:
            _check_default(name, parameter, hints[parameter.name])
        field = Field(default=default, alias=parameter.name)
        fields[f"field_{len(fields)}"] = (hints[parameter.name], field)
    config = ConfigDict(extra="forbid")
    try:
        arguments: type[BaseModel] = create_model(f"{name}_arguments", __config__=config, **fields)
        schema = schema_of(arguments)
    except PydanticUserError as error:
        raise Misuse(
            f"tool {name!r}{in_place(function)}: a parameter cannot be described to a model: "
            f"{gist_of(error)}; give it a type that JSON has a form for"
        ) from None
    if _may_yield(TypeAdapter(arguments).core_schema):
        raise Misuse(
            f"tool {name!r}{in_place(function)}: what yields is read once, and its arguments are "
            "shown to people and recorded, too; write list[…], or Sequence[…]"
        )
    if is_of_secrets(schema):
        raise Misuse(
            f"tool {name!r}: a model would give a secret among its arguments, and what it gives is "
            f"recorded and sent back to it; {_NAME_IT}"
        )
    return arguments


def is_of_secrets(schema: Mapping[str, Any]) -> bool:
    """Whether something of such a type holds a secret, which is in no journal."""
    return '"writeOnly"' in encode(schema)


def _check_parameter(
    name: str, function: Callable[..., Any], parameter: inspect.Parameter, hints: Mapping[str, Any]
) -> None:
    """Refuse a parameter that no model could be told of."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Misuse(
            f"tool {name!r}: *{parameter.name} cannot be described to a model; write a list, "
            f"{parameter.name}: list[str]"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise Misuse(f"tool {name!r}: {parameter.name} is given by name; leave the `/` out")
    if parameter.name == "self" and parameter.name not in hints:
        raise Misuse(
            f"tool {name!r} is a method that no object is bound to; give that of one, as in "
            f"tools = [Shop().{function.__name__}]"
        )
    if parameter.name not in hints:
        raise Misuse(f"tool {name!r}: give the parameter {parameter.name!r} a type")


def _may_yield(schema: Any) -> bool:
    """Whether pydantic gives an iterator for a type that has this schema, or that is a part."""
    if isinstance(schema, dict):
        return schema.get("type") == "generator" or any(map(_may_yield, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_may_yield, schema))


def _check_default(name: str, parameter: inspect.Parameter, hint: Any) -> None:
    """Refuse a default that is not of its parameter's type: the function is given it as it is.

    A model that leaves the argument out is not who could mend that.
    """
    default = parameter.default
    if isinstance(default, FieldInfo):
        raise Misuse(
            f"tool {name!r}: {parameter.name}={default!r:.200} is no default; write it into the "
            f"type, {parameter.name}: Annotated[…, Field(…)], and the default after it"
        )
    kind = _bare(hint)
    try:
        if kind is type(default):
            return  # its own checks may take only what a model writes
        TypeAdapter(hint).validate_python(default, strict=True)
    except ValidationError:
        cure = f", or write {parameter.name}: {shown(hint)} | None" if default is None else ""
        raise Misuse(
            f"tool {name!r}: the default {parameter.name}={default!r:.200} is not of its type "
            f"{shown(hint)}; give one that is{cure}"
        ) from None
    except Exception:  # noqa: BLE001 - a type's own validators, and types that are refused later
        return


def _bare(hint: Any) -> Any:
    """Return the class that a type is of, without what pydantic is told beside it."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return get_origin(hint) or hint


def _is_secret(hint: Any) -> bool:
    """Whether a parameter is a `Secret`, or one that may be None."""
    if get_origin(hint) in (Annotated, Union, UnionType):
        return any(map(_is_secret, get_args(hint)))
    return (get_origin(hint) or hint) is Secret


def _check_secret(name: str, parameter: inspect.Parameter) -> None:
    if not isinstance(parameter.default, Secret | None):
        raise Misuse(
            f"tool {name!r}: the model is not asked for the secret {parameter.name!r}; {_NAME_IT}"
        )
