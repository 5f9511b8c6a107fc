"""`Durable`: an `async def f(ctx, …)` with the name and version under which runs record it.

Its arguments and its result are recorded as JSON. If they are annotated with dataclasses, pydantic
models or similar types, they are read back as these types, in the live run and on each replay. An
argument that would not read back as an equal value is refused. A result that would not pauses the
run. See `annotation`.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    final,
    get_type_hints,
)

from pydantic import PydanticUserError

from substrate.engine.function.annotation import Annotation, gist_of, shown
from substrate.engine.function.bound import Bound
from substrate.engine.function.place import described
from substrate.engine.function.plain import PLAIN, changes_in, is_plain, may_be_plain
from substrate.engine.function.signature import check_meaning, near
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse, NotEncodable, NotKept
from substrate.values.records import JsonText
from substrate.values.secret import hidden_in

if TYPE_CHECKING:
    from substrate.engine.context.context import Context

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

OPERATIONS = frozenset(
    ("step", "call", "spawn", "sleep", "receive", "gather", "now", "emit", "run_id")
)
"""Attributes of a context: each type that may stand for one has at least one of these."""

DEFAULTS = "(default)"
"""The key of the defaults among recorded arguments. No parameter can have this name."""


@final
class Later:
    """The context that a function will be given, for type checkers. It has no instances.

    What starts a function asks for one that takes a `Later`. A `Durable` does and a plain function
    doesn't, so that a forgotten ``@durable`` is seen in the editor, with the arguments checked.
    """


@dataclass(frozen=True, slots=True)
class MadeFor:
    """What a durable function was made for that has a declared name of its own, such as an agent.

    Two functions of one name that were made for two things are never taken for one.
    """

    #: The thing.
    thing: object = field(repr=False)
    #: What it is, in a word.
    kind: str
    #: The name of the module that made it.
    module: str
    #: The file and line at which it was made; empty if unknown.
    place: str


@dataclass(frozen=True)
class Durable(Generic[P, R_co]):
    """A registered function. `version` is pinned by each run when it starts."""

    #: The async function itself.
    function: "Callable[Concatenate[Context, P], Coroutine[Any, Any, R_co]]"
    #: What the journal knows it by.
    name: str
    #: What each run pins when it starts.
    version: int = 1
    #: What it was made for, where it is no function of somebody's own.
    made_for: MadeFor | None = field(default=None, compare=False)

    def __call__(
        self, ctx: "Context | Later", /, *args: P.args, **keywords: P.kwargs
    ) -> Coroutine[Any, Any, R_co]:
        """Call the function itself, as a unit test does: with a context, or what stands for one.

        Nothing is recorded of the call. In a run, that is `Context.call`. Raises `Misuse` where no
        context is given.
        """
        if not any(hasattr(ctx, operation) for operation in OPERATIONS):
            raise Misuse(
                f"{self.name}() is given {ctx!r} in the place of its ctx; write "
                f"ctx.call({self.name}, …) inside a run, and client.start({self.name}, …, id=…) "
                "outside of one"
            )
        called: Callable[..., Coroutine[Any, Any, R_co]] = self.function
        return called(ctx, *args, **keywords)

    def of(
        self, *args: P.args, **keywords: P.kwargs
    ) -> "Bound[[Context | Later], Coroutine[Any, Any, R_co]]":
        """Bind arguments, so that only options are left for `start`.

        Type checkers cannot tell the function's own keywords from options in one call; here they
        can.

        >>> @durable
        ... async def greet(ctx, name: str, greeting: str = "Hello") -> str:
        ...     return f"{greeting}, {name}."
        >>> bound = greet.of("Ada", greeting="Good morning")  # client.start(bound, id="greet/1")
        """
        return Bound(self, args, keywords)

    def encode_arguments(
        self,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        caller: str = "",
        options: Mapping[str, object] = MappingProxyType({}),
        known: JsonText | None = None,
    ) -> JsonText:
        """Return the arguments as one JSON object by parameter name.

        `known` are the recorded arguments of this call, if any: arguments that encode to the same
        are not validated again.
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
        written = self._written(bound, known)
        text = encode(written)
        # A row would hold the mask in the place of the secret, which the function would then get.
        # With `known`, the call is recorded already, and its record stays as it is.
        if known is None and hidden_in(written) is not written:
            raise Misuse(
                f"an argument of {self.name}() holds a secret that was revealed, and arguments are "
                "recorded; give it the Secret itself, and reveal it there"
            )
        return JsonText(text)

    def with_defaults(self, arguments: JsonText) -> JsonText:
        """Return arguments with the defaults of those that were not given, as a run records them.

        So a deploy that changes a default changes no run under way. A default that JSON has no form
        for, or that holds a revealed secret, is not recorded: it is taken from the code that drives
        the run.
        """
        if not self._defaults:
            return arguments
        given = decode(arguments)
        added = {
            name: value
            for name, value in self._defaults.items()
            if name not in given and hidden_in(value) is value
        }
        return JsonText(encode({DEFAULTS: added, **given})) if added else arguments

    def decode_arguments(self, text: JsonText) -> Mapping[str, Any]:
        """Return recorded arguments as the types of the signature.

        A default that was recorded for a parameter which is gone by now is left out.
        Raises `Misuse` where the function takes these arguments no more.
        """
        recorded = decode(text)
        defaults = recorded.pop(DEFAULTS, {})
        known = {name: defaults[name] for name in defaults if name in self.signature.parameters}
        arguments = {name: self._load(name, value) for name, value in (known | recorded).items()}
        try:
            self.signature.bind(**arguments)
        except TypeError as error:
            raise Misuse(f"{self.name}() cannot be called as recorded: {error}") from None
        return arguments

    def encode_some(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the arguments as their JSON values, by parameter name."""
        return self._written(arguments)

    @property
    def parameters(self) -> Sequence[str]:
        """The names of the parameters, without the context."""
        return tuple(self.signature.parameters)

    def encode_result(self, value: object) -> JsonText:
        """Return the result as JSON.

        Raises `Misuse` where it is not of the type that the function says it returns, nor of one
        that is converted to it (see `annotation`). Raises `NotEncodable` where it is no JSON, and
        `NotKept` where it would not read back.
        """
        annotation = self._annotations.get("return")
        if annotation is None:
            self._check_plain(value)
            self._check_members("return", value)
            return JsonText(encode(value))
        try:
            return JsonText(encode(annotation.dump(value)))
        except NotKept:
            if reason := annotation.refusal(value):
                raise self._wrong_result(value, reason) from None
            raise

    def decode_result(self, text: JsonText) -> R_co:
        """Return a recorded result as the type that the function returns."""
        result: R_co = self._load("return", decode(text))
        return result

    def _written(
        self, arguments: Mapping[str, Any], known: JsonText | None = None
    ) -> dict[str, Any]:
        """Return arguments as they are recorded, by parameter name.

        Those that encode to `known` are not validated again.
        """
        typed = self._annotations
        for name, plain in self._plain.items():
            if name in arguments and not may_be_plain(plain, arguments[name]):
                self._refuse_unless_default(name, arguments[name])
        for name in arguments.keys() - typed.keys():
            self._check_members(name, arguments[name])
        if typed.keys().isdisjoint(arguments):
            return dict(arguments)
        if known is not None:
            with suppress(NotEncodable):
                in_first_form = {
                    name: typed[name].as_ever(value) if name in typed else value
                    for name, value in arguments.items()
                }
                given = JsonText(encode(in_first_form))
                # A child's row holds the defaults as well, that of a call does not.
                if known in (given, self.with_defaults(given)):
                    return in_first_form
        return {
            name: typed[name].dump(value) if name in typed else value
            for name, value in arguments.items()
        }

    def _load(self, name: str, value: Any) -> Any:
        annotation = self._annotations.get(name)
        return value if annotation is None else annotation.load(value)

    def _check_members(self, name: str, value: object) -> None:
        """Refuse an enum member without an annotation: its plain value would be read back."""
        if lost := changes_in(value, name):
            message = (
                f"{self.name}(): {lost}; annotate it with the type that it has, or give its value"
            )
            raise NotKept(message, lost, encode(hidden_in(value)))

    def _check_plain(self, value: object) -> None:
        """Refuse a result that is not of the plain type that the function is annotated with."""
        plain = self._hints.get("return", Any)
        if plain is not Any and not is_plain(plain, value):
            raise self._wrong_result(value)

    def _refuse_unless_default(self, name: str, value: object) -> None:
        """Refuse an argument that is not of its plain type, unless it is the default itself."""
        if value is not self.signature.parameters[name].default:
            raise Misuse(
                f"{self.name}() takes {name}: {shown(self._hints[name])}, and was given a "
                f"{type(value).__name__}; give that, or change what it says"
            )

    def _wrong_result(self, value: object, reason: str = "") -> Misuse:
        says = shown(self._hints["return"])
        why = f": {reason}" if reason else ""
        return Misuse(
            f"{self.name}() returned a {type(value).__name__} and says that it returns {says}{why}"
            "; return that, or change what it says"
        )

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature without the context."""
        whole = inspect.signature(self.function)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @cached_property
    def _defaults(self) -> Mapping[str, Any]:
        """The JSON values of the defaults, by parameter name."""
        written: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.default is not parameter.empty:
                with suppress(NotEncodable):
                    value = self._written({name: parameter.default})[name]
                    encode(value)
                    written[name] = value
        return written

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        """The annotations by parameter name, and that of the result as ``return``."""
        typed = {*self.signature.parameters, "return"}
        try:
            hints = get_type_hints(self.function, include_extras=True)
        except NameError as error:
            raise self._unreadable(error) from None
        return {name: hint for name, hint in hints.items() if name in typed}

    @cached_property
    def _plain(self) -> Mapping[str, type]:
        """The parameters of plain types that can be checked: not `Any`, and not None."""
        return {
            name: hint
            for name, hint in self._hints.items()
            if name != "return" and hint in PLAIN and hint not in (Any, None, type(None))
        }

    @cached_property
    def _annotations(self) -> Mapping[str, Annotation]:
        """The annotations of types that are not plain JSON, by parameter name and ``return``."""
        try:
            return {
                name: Annotation(f"{self.name}()", name, hint)
                for name, hint in self._hints.items()
                if hint not in PLAIN
            }
        except (NameError, PydanticUserError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: PydanticUserError | NameError) -> Misuse:
        return Misuse(
            f"the types of {self.name}() cannot be read: {gist_of(error)}; use types that pydantic "
            "knows, imported where the function is defined"
        )


def not_durable(given: object, instead: str = "") -> Misuse:
    """Return the error for an argument that should be a durable function and is none."""
    name = getattr(given, "name", None)
    if isinstance(getattr(given, "durable", None), Durable):
        return Misuse(
            f"{name!r} is an agent; give it to delegate(), or tasks to it by ctx.map({name}, "
            "[task]): so its child has a part of the budget"
        )
    if isinstance(name, str) and callable(getattr(given, "function", None)):
        return Misuse(
            f"{name!r} is a tool; put @durable on a function that calls it like any function: "
            f"{name}(…)"
        )
    return Misuse(f"{described(given)} is no durable function; put @durable on it{instead}")
