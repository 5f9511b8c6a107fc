"""A durable function: `async def f(ctx, …)` with a name and a version the journal knows it by.

Its arguments and its result cross the journal as JSON. Where they are annotated with dataclasses,
pydantic models or the like, they come back as these, live and on every replay alike.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints, overload

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from substrate.engine.signature import check_meaning, near
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

    def encode_arguments(
        self,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        caller: str = "",
        options: Mapping[str, object] = MappingProxyType({}),
    ) -> Json:
        """Return the arguments as one JSON object by parameter name.

        `options` are those that `caller` takes itself, None where one was not given. Raises
        `Misuse` where the arguments do not fit the signature, or an option may be meant for the
        function, `NotEncodable` where they are not JSON.
        """
        given = [name for name, value in options.items() if value is not None]
        check_meaning(caller, self.name, self.signature, len(args), given)
        try:
            bound = self.signature.bind(*args, **keywords).arguments
        except TypeError as error:
            hint = near(keywords, self.signature, caller, options)
            raise Misuse(f"{self.name}() cannot be called so: {error}{hint}") from None
        return Json(encode({k: self._dump(k, value) for k, value in bound.items()}))

    def decode_arguments(self, text: Json) -> Mapping[str, Any]:
        """Return recorded arguments as the types of the signature.

        Raises `Misuse` where the function takes these arguments no more.
        """
        arguments = {name: self._load(name, value) for name, value in decode(text).items()}
        try:
            self.signature.bind(**arguments)
        except TypeError as error:
            raise Misuse(f"{self.name}() cannot be called as recorded: {error}") from None
        return arguments

    def encode_some(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the arguments as their JSON values, by parameter name."""
        return {name: self._dump(name, value) for name, value in arguments.items()}

    @property
    def parameters(self) -> Sequence[str]:
        """The names of the parameters, without the context."""
        return tuple(self.signature.parameters)

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
    def signature(self) -> inspect.Signature:
        """The signature without the context."""
        whole = inspect.signature(self.function)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @cached_property
    def _adapters(self) -> Mapping[str, TypeAdapter[Any]]:
        """One adapter for each annotation that is more than plain JSON."""
        typed = {*self.signature.parameters, "return"}
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
