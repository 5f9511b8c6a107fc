"""A tool: a typed Python function that the model may call.

Its schema comes from its signature and docstring. What the model sends is checked against it
first, and what is wrong goes back to the model, field by field. A parameter called
`idempotency_key` is not the model's: the kit fills it with a key that stays the same however
often this call is made. A first parameter called `ctx` makes the tool a durable function. A
parameter that is a `Secret` is not the model's either: its default names the secret.

Invariant: what can be told from its code alone is told when it is made, before any model is asked.
"""

import inspect
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_args, get_origin, overload

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from substrate.agent.history.result import render
from substrate.agent.policy import Approve, Policy, policy_of
from substrate.agent.task import InvalidTask
from substrate.agent.tool_options import (
    OnUnknown,
    check_durable,
    check_on_unknown,
    check_options,
    description_of,
    effect_of,
    errors_of,
    name_of_function,
    refuse,
)
from substrate.agent.tool_result import as_json, return_type_problem
from substrate.agent.tool_schema import (
    OURS,
    InvalidArguments,
    arguments_of,
    field_errors,
    hints_of,
    schema_of,
)
from substrate.engine.context.context import Context
from substrate.engine.failure import failure_of
from substrate.engine.function.function import Durable
from substrate.engine.function.place import comes_from_code, in_place, place_of
from substrate.engine.run.user_code import is_ctrl_c
from substrate.models.messages import Json
from substrate.models.request import ToolSpec
from substrate.values.errors import Failure, Interrupt, InvalidId, Misuse
from substrate.values.ids import check_name
from substrate.values.records import AnyEffect, Effect
from substrate.values.retry import NO_RETRY, Retry
from substrate.values.secret import Secret

__all__ = ["FunctionTool", "InvalidArguments", "Tool", "as_tool", "render", "tool"]

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)

ERRORS_FOR_MODEL = (InvalidId, InvalidTask)
"""Mistakes that a model's arguments can be the cause of, and so are told to it."""


Errors = type[Exception] | tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what the model is told about it and what the kit must know.

    Called, it is that function: ``add(1, 2)`` in a unit test, with `await` where it is async, and
    with a ctx where it takes one. Nothing is checked or recorded then.

    `effect` says what a crash in its middle means; a tool that declares nothing is `once`: it is
    never called twice for the same request, and after a crash the model is told that nobody knows
    whether it happened. Reads should say ``effect="pure"``. A `once` tool without a
    `timeout` is cut off after 60 s.

    What it raises is told to the model, which may mend it. A mistake in its code is for its author:
    a `Misuse`, a name that is not there, a module that cannot be imported pause the run, and so
    does each error of `pause_on`. Resumed, the run calls it again, but for a `once` tool, of whose
    call nobody knows then whether it happened.
    """

    #: What the model calls it.
    name: str
    #: What the model chooses it by.
    description: str
    #: What is called.
    function: Callable[..., Any]
    #: The pydantic model that its arguments are checked against.
    arguments: type[BaseModel]
    #: What a crash in its middle means.
    effect: Effect = Effect.ONCE
    #: After how long an attempt is cut off.
    timeout: timedelta | None = None
    #: How it is tried again.
    retry: Retry = NO_RETRY
    #: Errors that are for a person, and not for the model.
    pause_on: tuple[type[Exception], ...] = ()
    #: Who is asked before it is called; None where nobody is.
    approve: Policy | None = None
    #: Whether a person is asked what became of a call of which nobody knows that, or the model is
    #: told that nobody knows.
    on_unknown: OnUnknown = "tell"

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call the function."""
        return self.function(*args, **keywords)

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return ToolSpec(self.name, self.description, schema_of(self.arguments))

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
            message = f"{self.name} was not called, its arguments are wrong:\n{field_errors(error)}"
            raise InvalidArguments(message) from None
        except BaseException as error:  # what is wrong for a model, pydantic tells it itself
            if is_ctrl_c(error):
                raise
            failure = failure_of(error)
            cause = f"{failure.type}: {failure.message}{failure.place}"
            raise Misuse(
                f"the types of the tool {self.name!r} raise {cause}; let a validator raise "
                "ValueError for what the model is to mend"
            ) from error
        fields = type(checked).model_fields
        return {str(field.alias): getattr(checked, name) for name, field in fields.items()}

    def shown(self, checked: Mapping[str, Any]) -> dict[str, Json]:
        """Return checked arguments as the JSON that people are shown, defaults included."""
        return {name: to_jsonable_python(value) for name, value in checked.items()}

    def with_function(self, function: Callable[..., Any]) -> "Tool":
        """Return the same tool, as the model sees it, done by another function."""
        return replace(self, function=function)

    def as_durable(
        self,
        begin: Callable[[Context], None] = lambda ctx: None,
        ran: Mapping[str, Json] | None = None,
    ) -> Durable[..., Json]:
        """Return a tool that takes a `ctx` as the durable function that it is.

        Args:
            begin: Called with the context of the call before anything else.
            ran: The arguments that a person has put in the place of the model's.
        """

        # The arguments are those of the call's row, so that it reads as any other tool's.
        async def run(ctx: Context, call_id: str, tool: str, arguments: dict[str, Json]) -> Json:
            begin(ctx)
            try:
                given = self.check(arguments if ran is None else ran)
                result = await self.function(ctx, **given)
                if (
                    ctx.task_state.forgotten()
                ):  # what it never awaited pauses the run, also if it returns that
                    return None
                return as_json(self.function, result)
            except (Interrupt, CancelledError, GeneratorExit):
                raise
            except BaseException as error:
                failure = self.fault_in(error)
                if failure is None or is_ctrl_c(error) or ctx.is_own_cancellation(error):
                    raise
                ctx.pause(failure)

        # What goes wrong in it is told of the tool's own function, at its own line.
        run.__signature__ = inspect.signature(run)  # type: ignore[attr-defined]
        run.__wrapped__ = self.function  # type: ignore[attr-defined]
        return Durable(run, self.name)

    def fault_in(self, error: BaseException) -> Failure | None:
        """Return what pauses the run for an error that no model can mend; None for any other."""
        if isinstance(error, (*ERRORS_FOR_MODEL, InvalidArguments)):
            return None
        is_fault = isinstance(error, Misuse) or (
            isinstance(error, (NameError, ImportError)) and comes_from_code(error)
        )
        # Where a person is asked of all errors, that holds for SystemExit and its like, too.
        is_for_person = isinstance(error, self.pause_on) or (
            Exception in self.pause_on and not isinstance(error, Exception)
        )
        if not is_fault and not is_for_person:
            return None
        failure = failure_of(error)
        at = ":".join(map(str, failure.frame[:2])) if failure.frame else place_of(self.function)
        cause = failure.message or failure.type
        message = f"the tool {self.name!r}{f' ({at})' * bool(at)} is at fault: {cause}"
        message += "; mend it, and resume the run: it goes on from here"
        if self.effect is Effect.ONCE and "ctx" not in self.takes:
            message += ". The call may have happened, and is not made again: the model is told that"
        return replace(failure, message=message)


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
    effect: AnyEffect | None = None,
    timeout: timedelta | None = None,
    retry: Retry | None = None,
    pause_on: Errors = (),
    approve: Approve | None = None,
    on_unknown: OnUnknown = "tell",
) -> Callable[[F], FunctionTool[F]]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: AnyEffect | str | None = None,
    timeout: timedelta | None = None,
    retry: Retry | None = None,
    pause_on: Errors = (),
    approve: Approve | None = None,
    on_unknown: OnUnknown = "tell",
) -> Any:
    """Make a tool of a function; use it bare or with what differs from the defaults.

    Args:
        function: The function, where it is used bare. Its parameters and its result have types, and
            its docstring tells the model what it does. A parameter called ``idempotency_key`` is
            filled by the kit; with a first one called ``ctx`` it is a durable function; a `Secret`
            as a default is not the model's to see.
        name: What the model calls it; the function's name, if not told otherwise.
        description: What the model is told of it, in place of the docstring.
        effect: What a crash in its middle means: ``once`` (it is not called again, and the model is
            told that nobody knows), unless it says ``pure`` or ``idempotent``.
        timeout: After how long an attempt is cut off; 60 s for one that is ``once``.
        retry: How it is tried again; one attempt, if not told otherwise.
        pause_on: Errors of which a person is asked, and not the model; `Exception` for all.
        approve: Whether a person is asked before each call: True, a function of the arguments (or
            of some of them) that says so, or a `Policy`. The call waits, for days if need be, and
            holds nothing; a denial, with its reason, is a result that the model sees.
        on_unknown: With ``"ask"`` a person is asked what became of a ``once`` call whose outcome
            nobody knows, since a crash or a cut-off came in its middle: done, not done, or the
            model is left to it. With ``"tell"`` the model is told that nobody knows.

    Raises:
        Misuse: it is no function, has no docstring, or a parameter or a result that could not be
            told to a model; or `effect`, `timeout` or `retry` of a tool that takes a ``ctx``, whose
            steps have their own.

    Example:
        >>> @tool(effect="pure", timeout=timedelta(seconds=5))
        ... async def weather(city: str) -> str:
        ...     "Return today's weather in a city."
        ...     return f"It rains in {city}."
        >>> weather.spec.parameters["required"]
        ['city']
    """

    def make(target: Callable[..., Any]) -> FunctionTool[Callable[..., Any]]:
        called = check_name(name_of_function(target) if name is None else name)
        text = description_of(called, target, description)
        _check_made(called, target)
        if "ctx" in inspect.signature(target).parameters:
            given = {"effect": effect, "timeout": timeout, "retry": retry}
            check_durable(called, target, [word for word in given if given[word] is not None])
        arguments = arguments_of(called, target)
        _check_returned(called, target)
        effect_ = Effect.ONCE if effect is None else effect_of(called, effect)
        check_options(called, timeout, retry)
        retry_ = NO_RETRY if retry is None else retry
        errors = errors_of(called, pause_on)
        names = [str(field.alias) for field in arguments.model_fields.values()]
        policy = policy_of(called, approve, names)
        check_on_unknown(called, target, on_unknown, effect_)
        return FunctionTool(
            name=called,
            description=text,
            function=target,
            arguments=arguments,
            effect=effect_,
            timeout=timeout,
            retry=retry_,
            pause_on=errors,
            approve=policy,
            on_unknown=on_unknown,
        )

    return make if function is None else make(function)


def as_tool(thing: object) -> Tool:
    """Return a tool as it is, and a plain function as a tool with the defaults.

    Raises `Misuse` for all else.
    """
    if isinstance(thing, Tool):
        return thing
    if inspect.isroutine(thing):
        return _tool_of(thing)
    return tool(thing) if callable(thing) else refuse(thing)


@lru_cache(maxsize=512)
def _tool_of(function: Callable[..., Any]) -> Tool:
    """Return a function as a tool: its schema is made once, not with each turn."""
    return tool(function)


def _check_made(name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that makes tools, before anything is said of its parameters."""
    hint = hints_of(name, function).get("return")
    if any((get_origin(each) or each) in (Tool, FunctionTool) for each in (hint, *get_args(hint))):
        raise Misuse(
            f"{function.__name__!r} makes tools and is none; call it, {function.__name__}(…), and "
            "give what it returns"
        )


def _check_returned(name: str, function: Callable[..., Any]) -> None:
    """Refuse a function whose result no model could be told."""
    if problem := return_type_problem(function):
        raise Misuse(f"tool {name!r}{in_place(function)}: {problem}")
