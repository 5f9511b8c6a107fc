"""A step: one call to be checkpointed. What is called, and what the journal shows of it."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from substrate.engine.failure import Raised, error_of, failure_of
from substrate.engine.function.annotation import Annotation
from substrate.engine.function.arguments import Arguments
from substrate.engine.function.bound import Bound
from substrate.engine.function.function import Durable
from substrate.engine.function.place import described
from substrate.engine.function.returns import check_result
from substrate.engine.function.signature import check_fit, shape_of
from substrate.engine.run.journal import Expected
from substrate.engine.step.options import NO_OPTIONS, OPTIONS, Options
from substrate.values.clock import time_limit
from substrate.values.codec import decode
from substrate.values.errors import Failure, Misuse, Paused
from substrate.values.ids import check_name
from substrate.values.records import (
    Blob,
    Effect,
    JsonText,
    Promise,
    PromiseState,
)
from substrate.values.retry import NO_RETRY, Retry

_KEY = "idempotency_key"

LONGEST_CALL = 60.0
"""How many seconds a call may last that has an intent and no `timeout` of its own."""


def _is_none(error: Exception) -> None:
    return None


def _ignore() -> None:
    """Do nothing about a person's hurry: nothing but the wait itself is in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be called, and how. `input` is what the journal shows of its arguments.

    With `wants_key`, the call is given its `idempotency_key`. Without a fingerprint of its own, a
    step is known by its name and its input.

    `undo` is the record of what makes up for it. `reconcile` is asked about a ``once`` call of
    which nobody knows whether it happened; it takes no arguments but its key.

    An error of `pause_on` that is not retried, or no more, is for a person to mend: nothing is
    recorded for the step but the attempts, the run is paused and shows it, and when it is resumed
    the step is called again. One of `let_through` is raised where the step is awaited, and is not
    recorded either. One of which `fault_in` gives a failure is a mistake in code: like one of
    `pause_on`, and never retried; the failure is what the run is paused with.

    `keep` makes JSON of what the call returned. Raises `NotEncodable`, `NotKept` where it cannot.

    `add_usage` adds up what two attempts used, each as its record or None: then what failed
    attempts used counts as well, and the step's row tells it already while it waits.

    `on_hurried` is called where a person asks for the next attempt before it is due.
    """

    name: str
    call: Callable[..., Any]
    wants_key: bool = False
    input: JsonText | None = None
    fingerprint: str | None = None
    effect: Effect = Effect.PURE
    retry: Retry = NO_RETRY
    timeout: float | None = None
    undo: JsonText | None = None
    reconcile: Callable[..., Any] | None = None
    pause_on: tuple[type[Exception], ...] = ()
    let_through: tuple[type[Exception], ...] = ()
    fault_in: Callable[[Exception], Failure | None] = _is_none
    keep: Callable[[Any], Any] | None = None
    add_usage: Callable[[Any, Any], Any] | None = None
    on_hurried: Callable[[], None] = _ignore
    blobs: tuple[Blob, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.reconcile is not None and self.effect is not Effect.ONCE:
            raise Misuse(
                f"step {self.name!r}: reconcile= is for effect='once'; "
                f"one that is {self.effect.value!r} leaves nothing to find out"
            )

    @property
    def has_intent(self) -> bool:
        """Whether the call is announced in the journal before it is made."""
        if self.effect is Effect.TRANSACTIONAL:
            return False
        return self.effect is Effect.ONCE or self.undo is not None

    @property
    def limit(self) -> float | None:
        """After how many seconds a call is cut off. One that has an intent always ends."""
        return LONGEST_CALL if self.timeout is None and self.has_intent else self.timeout


def step_of(
    fn: Callable[..., Any],
    arguments: Arguments,
    asked: Expected,
    options: Options = NO_OPTIONS,
    result: Annotation | None = None,
) -> Step:
    """Prepare a call of a function whose result is of a type; its undo is left to the caller."""
    effect = _effect_of(options.get("effect", Effect.PURE))
    timeout = options.get("timeout")
    reconcile = options.get("reconcile")
    is_transactional = effect is Effect.TRANSACTIONAL
    return Step(
        name=asked.name,
        call=_in_transaction(fn, arguments) if is_transactional else arguments.of(fn),
        wants_key=takes_key(fn),
        input=asked.input,
        effect=effect,
        retry=options.get("retry", NO_RETRY),
        timeout=time_limit(timeout),
        reconcile=None if reconcile is None else arguments.of(reconcile),
        keep=None if result is None else result.dump,
    )


def check_step(fn: Callable[..., Any], arguments: Arguments, options: Options) -> None:
    """Raise `Misuse` where a step could not be made as it is asked for."""
    if options:
        _check_options(options)
    effect = _effect_of(options.get("effect", Effect.PURE))
    # None stands for the transaction, which there is only when the call is made.
    args = (None, *arguments.args) if effect is Effect.TRANSACTIONAL else arguments.args
    check_fit(
        "ctx.step",
        fn,
        args,
        _with_key(fn, arguments.keywords),
        options=OPTIONS,
        given=options.keys(),
    )
    if effect is Effect.ONCE or options.get("undo") is not None:
        # Now: a result that cannot be recorded would be found when its effect has been made.
        check_result(fn)
    if (reconcile := options.get("reconcile")) is not None:
        keywords = _with_key(reconcile, arguments.keywords)
        check_fit("ctx.step", reconcile, arguments.args, keywords)


def _check_options(options: Options) -> None:
    """Refuse an option of a wrong type now: once the call was made it would be too late."""
    retry: object = options.get("retry", NO_RETRY)
    if not isinstance(retry, Retry):
        raise Misuse(f"retry={retry!r} is no Retry; write Retry(max_attempts=3), or leave it out")
    time_limit(options.get("timeout"))
    undo: object = options.get("undo")
    if undo is not None and not isinstance(undo, Durable):
        raise Misuse(
            f"undo={described(undo)} is no durable function; put @durable on it: it has a ctx"
        )
    reconcile: object = options.get("reconcile")
    if reconcile is not None and (isinstance(reconcile, Durable) or not callable(reconcile)):
        raise Misuse(
            f"reconcile={described(reconcile)} is no function; give one that takes the step's "
            "arguments and returns Done(value), NotDone() or None"
        )


def _with_key(fn: Callable[..., Any], keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords with the key that the kit fills in itself."""
    if _KEY in keywords:
        raise Misuse(
            f"{_KEY}= is the kit's: it fills it with a key that stays the same at every attempt; "
            "leave it out, or call your own something else"
        )
    return {**keywords, _KEY: ""} if takes_key(fn) else keywords


def _in_transaction(fn: Callable[..., Any], arguments: Arguments) -> Callable[..., Any]:
    """Return the call of a function whose first argument will be the transaction."""
    if inspect.iscoroutinefunction(fn):
        raise Misuse(
            f"{fn.__name__!r} is async; a transactional step is a plain "
            f"`def {fn.__name__}(tx, …)`, since nothing may be awaited while it holds locks"
        )
    return arguments.after(fn)


def name_of(fn: object, given: object = None) -> str:
    """Return the name of a function's steps: the given one, else its own; ``""`` without either."""
    if not callable(fn):
        raise _no_function(fn)
    name = getattr(fn, "__name__", None)
    if name is None and (isinstance(fn, Durable) or (given is None and hasattr(fn, "function"))):
        raise _no_function(fn)  # a durable function, or a tool
    return str(name or "") if given is None else check_name(given)


def idempotency_key(promise_id: str, closed: int = 0) -> str:
    """Return the key to hand to the other side: the same for every attempt at a promise.

    Where so many keys of it were closed there, it is the next one.
    """
    return str(uuid5(NAMESPACE_OID, f"{promise_id}#{closed}" if closed else promise_id))


def read_step(promise: Promise) -> Any:
    """Return a settled step's result, or its failure."""
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    return decode(JsonText("null") if promise.value is None else promise.value)


def read_typed(result: Annotation, promise: Promise) -> Any:
    """Return a settled step's result as its type, or its failure.

    Raises `Paused` where the type has changed and takes the record no more.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    try:
        return result.load(decode(JsonText("null") if promise.value is None else promise.value))
    except Misuse as error:
        raise Paused(failure_of(error)) from None


def takes_key(fn: Callable[..., Any]) -> bool:
    """Whether a function wants the idempotency key, by a parameter of that name."""
    fn = fn.func if isinstance(fn, partial) else fn
    if (shape := shape_of(fn)) is not None:
        return _KEY in shape.names
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__"):  # a hundred times quicker
        return _KEY in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return _KEY in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _effect_of(given: Effect | str) -> Effect:
    if isinstance(given, Effect):
        return given
    try:
        return Effect(given)
    except ValueError:
        words = [each.value for each in Effect]
        found = get_close_matches(str(given), words, n=1)
        hint = f"did you mean {found[0]!r}? Else " if found else ""
        raise Misuse(
            f"effect={given!r} is none; {hint}use 'pure', 'idempotent', 'once' or 'transactional'"
        ) from None


def _no_function(given: object) -> Misuse:
    if isinstance(given, Durable):
        return Misuse(f"{given.name!r} is a durable function; use ctx.call, which gives it a ctx")
    if isinstance(given, Coroutine):
        given.close()  # else Python warns of it besides, at some later moment
        return Misuse(
            "a step takes a function and its arguments, so that it can tell whether to call it; "
            "write ctx.step(fetch, url), not ctx.step(fetch(url))"
        )
    if isinstance(given, Bound):
        return Misuse(
            f"{str(given)!r} is bound to its arguments, and would be given others here; give the "
            "function itself"
        )
    if callable(given):
        name = getattr(given, "name", "it")
        return Misuse(f"{name!r} is no plain function; give the step its own: {name}.function")
    return Misuse(f"a step takes a function and its arguments, not {described(given)}")
