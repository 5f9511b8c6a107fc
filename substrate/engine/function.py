"""A durable function: `async def f(ctx, …)` with a name and a version the journal knows it by.

Its arguments and its result cross the journal as JSON. Where they are annotated with dataclasses,
pydantic models or the like, they come back as these, live and on every replay alike.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints, overload

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse, NotEncodable
from substrate.values.ids import check_name
from substrate.values.records import Json

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = (Any, None, type(None), bool, int, float, str, bytes, list, dict)
"""What is JSON already, or nearly, and needs no adapter."""


@dataclass(frozen=True)
class Durable(Generic[P, R]):
    """A registered function. `version` is pinned by each run when it starts."""

    function: Callable[..., Awaitable[R]]
    name: str
    version: int = 1

    def encode_arguments(self, *args: P.args, **kwargs: P.kwargs) -> Json:
        """Return the arguments as one JSON object by parameter name.

        Raises `Misuse` where they do not fit the signature, `NotEncodable` where they are not JSON.
        """
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise Misuse(f"{self.name}() cannot be called so: {error}") from None
        return Json(encode({k: self._dump(k, value) for k, value in bound.items()}))

    def decode_arguments(self, text: Json) -> Mapping[str, Any]:
        """Return recorded arguments as the types of the signature.

        Raises `Misuse` where the function takes these arguments no more.
        """
        arguments = {name: self._load(name, value) for name, value in decode(text).items()}
        try:
            self._signature.bind(**arguments)
        except TypeError as error:
            raise Misuse(f"{self.name}() cannot be called as recorded: {error}") from None
        return arguments

    def encode_some(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the arguments as their JSON values, by parameter name."""
        return {name: self._dump(name, value) for name, value in arguments.items()}

    @property
    def parameters(self) -> Sequence[str]:
        """The names of the parameters, without the context."""
        return tuple(self._signature.parameters)

    async def run(self, ctx: Any, arguments: Json) -> R:
        """Call the function with recorded arguments."""
        return await self.function(ctx, **self.decode_arguments(arguments))

    def encode_result(self, value: R) -> Json:
        """Return the result as JSON, or raise `NotEncodable`."""
        return Json(encode(self._dump("return", value)))

    def decode_result(self, text: Json) -> R:
        """Return a recorded result as the type that the function returns."""
        result: R = self._load("return", decode(text))
        return result

    def _dump(self, name: str, value: Any) -> Any:
        adapter = self._adapters.get(name)
        if adapter is None:
            return value
        try:
            return adapter.dump_python(value, mode="json", warnings="error")
        except Exception as error:  # noqa: BLE001 - pydantic_core raises several kinds of its own
            raise NotEncodable(f"{self.name}(): {name} has no JSON form: {error}") from None

    def _load(self, name: str, value: Any) -> Any:
        adapter = self._adapters.get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise Misuse(
                f"{self.name}(): the recorded {name} no longer fits its type: {error}"
            ) from None

    @cached_property
    def _signature(self) -> inspect.Signature:
        whole = inspect.signature(self.function)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @cached_property
    def _adapters(self) -> Mapping[str, TypeAdapter[Any]]:
        """One adapter for each annotation that is more than plain JSON."""
        typed = {*self._signature.parameters, "return"}
        try:
            hints = get_type_hints(self.function, include_extras=True)
            return {
                name: TypeAdapter(hint)
                for name, hint in hints.items()
                if name in typed and hint not in _PLAIN
            }
        except (NameError, PydanticUserError) as error:
            raise Misuse(
                f"the types of {self.name}() cannot be read: {error}; use types that pydantic "
                "knows, imported where the function is defined"
            ) from None


@overload
def durable(function: Callable[Concatenate[Any, P], Awaitable[R]], /) -> Durable[P, R]: ...
@overload
def durable(
    *, name: str | None = None, version: int = 1
) -> Callable[[Callable[Concatenate[Any, P], Awaitable[R]]], Durable[P, R]]: ...
def durable(function: Any = None, /, *, name: str | None = None, version: int = 1) -> Any:
    """Make a durable function of an `async def f(ctx, …)`.

    >>> @durable
    ... async def greet(ctx, name: str) -> str:
    ...     return f"Hello, {name}."
    >>> greet.name, greet.version
    ('greet', 1)

    `version` is an integer that you raise when old runs must stay on old code; give the worker
    both versions until the old runs have ended. Raises `Misuse` for anything but a coroutine
    function with a context parameter.
    """

    def make(target: Callable[..., Awaitable[Any]]) -> Durable[Any, Any]:
        called = check_name(name or str(getattr(target, "__name__", "")))
        if not inspect.iscoroutinefunction(target):
            raise Misuse(f"{called!r} is not async; write `async def {called}(ctx, …)`")
        parameters = list(inspect.signature(target).parameters.values())
        if not parameters:
            raise Misuse(f"{called!r} takes no context; write `async def {called}(ctx, …)`")
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise Misuse(f"{called!r}: name each argument, *{parameter.name} has no record")
        return Durable(target, called, version)

    return make if function is None else make(function)
