"""A tool: a typed Python function that the model may call.

Its schema comes from its signature and docstring. What the model sends is checked against it
first, and what is wrong goes back to the model, field by field. A parameter called
`idempotency_key` is not the model's: the kit fills it with a key that stays the same however
often this call is made. A first parameter called `ctx` makes the tool a durable function. A
parameter that is a `Secret` is not the model's either: its default names the secret.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import to_jsonable_python

from substrate.engine.context import Context
from substrate.engine.function import Durable
from substrate.models.messages import Json, ToolSpec
from substrate.values.codec import encode
from substrate.values.errors import Misuse, NotEncodable
from substrate.values.ids import check_name
from substrate.values.records import AnyEffect, Effect
from substrate.values.retry import NO_RETRY, Retry
from substrate.values.secret import Secret

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)

OURS = ("ctx", "idempotency_key")
"""Parameters that the kit fills in; the model does not see them."""


class InvalidArguments(Exception):
    """The model's arguments do not fit the tool. Its message names each field and what is wrong."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what the model is told about it and what the kit must know.

    Called, it is that function: ``add(1, 2)`` in a unit test, with `await` where it is async, and
    with a ctx where it takes one. Nothing is checked or recorded then.

    `effect` says what a crash in its middle means; a tool that declares nothing is `once`: it is
    never called twice for the same request, and after a crash the model is told that nobody knows
    whether it happened. Reads should say ``effect="pure"``. A `once` tool without a
    `timeout` is cut off after 60 s.
    """

    name: str
    description: str
    function: Callable[..., Any]
    arguments: type[BaseModel]
    effect: Effect = Effect.ONCE
    timeout: timedelta | None = None
    retry: Retry = NO_RETRY

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call the function."""
        return self.function(*args, **keywords)

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return ToolSpec(self.name, self.description, _schema(self.arguments))

    @property
    def takes(self) -> frozenset[str]:
        """Which of the kit's own parameters the function takes."""
        return frozenset(inspect.signature(self.function).parameters).intersection(OURS)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that its parameters name."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(each.default for each in parameters if isinstance(each.default, Secret))

    def check(self, arguments: Mapping[str, Json]) -> dict[str, Any]:
        """Return the arguments as the function's types, or raise `InvalidArguments`."""
        try:
            checked = self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            told = f"{self.name} was not called, its arguments are wrong:\n{field_errors(error)}"
            raise InvalidArguments(told) from None
        fields = type(checked).model_fields
        return {str(field.alias): getattr(checked, name) for name, field in fields.items()}

    def with_function(self, function: Callable[..., Any]) -> "Tool":
        """Return the same tool, as the model sees it, done by another function."""
        return replace(self, function=function)

    def as_durable(self) -> Durable[..., Json]:
        """Return a tool that takes a `ctx` as the durable function that it is."""

        # The arguments are those of the call's row, so that it reads as any other tool's.
        async def run(ctx: Context, call_id: str, tool: str, arguments: dict[str, Json]) -> Json:
            result = await self.function(ctx, **self.check(arguments))
            if ctx.strand.idle:  # what it never awaited pauses the run, also where it returns that
                return None
            return jsonable(result)

        # What goes wrong in it is told of the tool's own function, at its own line.
        run.__signature__ = inspect.signature(run)  # type: ignore[attr-defined]
        run.__wrapped__ = self.function  # type: ignore[attr-defined]
        return Durable(run, self.name)


@dataclass(frozen=True, slots=True)
class FunctionTool(Tool, Generic[F_co]):
    """A tool that `tool` has made: type checkers know its function, and so how it is called."""

    function: F_co  # type: ignore[assignment]  # a bound of it would keep tools from being a list

    @property
    def __call__(self) -> F_co:  # type: ignore[override]  # what a call of the tool calls
        """The function."""
        return self.function


@overload
def tool(function: F, /) -> FunctionTool[F]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: AnyEffect = Effect.ONCE,
    timeout: timedelta | None = None,
    retry: Retry = NO_RETRY,
) -> Callable[[F], FunctionTool[F]]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect | str = Effect.ONCE,
    timeout: timedelta | None = None,
    retry: Retry = NO_RETRY,
) -> Any:
    """Make a tool of a function; use it bare or with what differs from the defaults.

    >>> @tool(effect="pure", timeout=timedelta(seconds=5))
    ... async def weather(city: str) -> str:
    ...     "Return today's weather in a city."
    ...     return f"It rains in {city}."
    >>> weather.spec.parameters["required"]
    ['city']

    Raises `Misuse` for a function without docstring, or with a parameter that has no type.
    """

    def make(target: Callable[..., Any]) -> FunctionTool[Callable[..., Any]]:
        called = check_name(name or target.__name__)
        told = description or inspect.getdoc(target)
        if not told:
            raise Misuse(f"tool {called!r} has no docstring; the model chooses tools by it")
        if "ctx" in inspect.signature(target).parameters:
            _check_durable(called, target)
        arguments = _arguments(called, target)
        checked = _effect(called, effect)
        return FunctionTool(called, told, target, arguments, checked, timeout, retry)

    return make if function is None else make(function)


def as_tool(thing: Tool | Callable[..., Any]) -> Tool:
    """Return a tool as it is, and a plain function as a tool with the defaults."""
    return thing if isinstance(thing, Tool) else _tool_of(thing)


@lru_cache(maxsize=512)
def _tool_of(function: Callable[..., Any]) -> Tool:
    """Return a function as a tool: its schema is made once, not with each turn."""
    return tool(function)


def jsonable(value: Any) -> Json:
    """Return a tool's result as JSON: dataclasses, pydantic models, sets and dates included.

    Raises `NotEncodable` for what has no JSON form.
    """
    try:
        plain = to_jsonable_python(value, inf_nan_mode="strings", bytes_mode="base64")
    except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds of its own
        raise NotEncodable(f"{type(value).__name__} has no JSON form: {error}") from None
    return plain


def render(value: Json) -> str:
    """Return a result as the text that the model reads: words as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    text = encode(value)
    # The journal's own marks for what JSON cannot hold are not for the model.
    return _plain(value) if '{"$' in text else text


def _plain(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def field_errors(error: ValidationError) -> str:
    """Return what is wrong, a line for each field, as a model is told."""
    return "\n".join(
        f"- {'.'.join(str(part) for part in problem['loc']) or 'the whole'}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )


def _effect(name: str, effect: Effect | str) -> Effect:
    allowed = [each for each in Effect if each is not Effect.TRANSACTIONAL]
    if effect not in allowed:
        raise Misuse(f"tool {name!r}: effect={effect!r}; write one of {', '.join(allowed)}")
    return Effect(effect)


def _check_durable(name: str, function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise Misuse(f"tool {name!r} takes a ctx, so it must be `async def`")
    if next(iter(inspect.signature(function).parameters)) != "ctx":
        raise Misuse(f"tool {name!r}: ctx must be its first parameter")


def _arguments(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model of the parameters. Its fields are numbered, for a name may be pydantic's."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in OURS:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Misuse(f"tool {name!r}: *{parameter.name} cannot be described to a model")
        if parameter.name not in hints:
            raise Misuse(f"tool {name!r}: give the parameter {parameter.name!r} a type")
        if _is_secret(hints[parameter.name]):
            _check_secret(name, parameter)
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        field = Field(default=default, alias=parameter.name)
        fields[f"field_{len(fields)}"] = (hints[parameter.name], field)
    arguments: type[BaseModel] = create_model(
        f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields
    )
    if '"writeOnly"' in encode(_schema(arguments)):
        raise Misuse(
            f"tool {name!r}: a model would give a secret among its arguments, and what it gives is "
            f"recorded and sent back to it; {_NAME_IT}"
        )
    return arguments


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


_NAME_IT = 'name it in a parameter\'s default: key: Secret[str] = Secret("STRIPE_KEY")'


@lru_cache(maxsize=512)
def _schema(arguments: type[BaseModel]) -> dict[str, Json]:
    schema = TypeAdapter(arguments).json_schema()
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return schema
