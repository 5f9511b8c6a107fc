"""A step: one call to be checkpointed, its options, and how its recorded outcome is read.

Whatever can be checked before the call is checked before the call: once it was made, an error
about an option or an argument would come too late.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
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
from substrate.engine.run.mismatch import RequestedCall
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
"""How many seconds a call may last if it has an intent, and no `timeout` of its own."""


def _no_fault(error: BaseException) -> None:
    """Find no mistake in code."""


def _nothing() -> None:
    """Have used nothing."""


def _ignore() -> None:
    """Do nothing when a person asks for the next attempt early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The function to call, and how to call it.

    Three groups of errors are not recorded as the step's outcome: `pause_on`, `raised_to_caller`
    and `fault_in`.
    """

    name: str
    #: Called without arguments, or with the key, or with a transaction.
    call: Callable[..., Any]
    #: Whether the function takes its `idempotency_key`.
    wants_key: bool = False
    #: The arguments, as the journal shows them.
    input: JsonText | None = None
    #: What a replay compares. Without it, the name and the input are compared.
    fingerprint: str | None = None
    effect: Effect = Effect.PURE
    retry: Retry = NO_RETRY
    timeout: float | None = None
    #: The record of the call that undoes the step.
    undo: JsonText | None = None
    #: Says whether a ``once`` call in doubt happened. It takes no argument but the key.
    reconcile: Callable[..., Any] | None = None
    #: Errors after which a person has to act. When no retry is left, the run is paused with the
    #: error, and only the attempts are recorded. When the run is resumed, the step is called again.
    pause_on: tuple[type[BaseException], ...] = ()
    #: Errors that are raised where the step is awaited, and leave no outcome.
    raised_to_caller: tuple[type[Exception], ...] = ()
    #: Returns a failure for an error that is a mistake in code. Such an error is never retried, and
    #: the run is paused with that failure.
    fault_in: Callable[[BaseException], Failure | None] = _no_fault
    #: Converts the result to JSON. Raises `NotEncodable` or `NotKept` if it cannot.
    keep: Callable[[Any], Any] | None = None
    #: Asked before each attempt but the first, with how many have failed. An error is the step's
    #: outcome, and no more attempts are made.
    refuses: Callable[[int], Awaitable[Exception | None]] | None = None
    #: Adds the usage of two attempts, each a record or None. With it, the usage of failed attempts
    #: counts, and is in the row while the step waits.
    add_usage: Callable[[Any, Any], Any] | None = None
    #: Asked where the run is cancelled in the middle of an attempt: what that has used, as a record
    #: that `add_usage` takes, or None. The row that is closed then holds it.
    used_by_now: Callable[[], Any] = _nothing
    #: Called when a person asks for the next attempt before it is due.
    on_hurried: Callable[[], None] = _ignore
    #: Long payloads that the row refers to.
    blobs: tuple[Blob, ...] = ()

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.reconcile is not None and self.effect is not Effect.ONCE:
            raise Misuse(
                f"step {self.name!r}: reconcile= is for effect='once'; "
                f"one that is {self.effect.value!r} leaves nothing to find out"
            )

    @property
    def has_intent(self) -> bool:
        """Whether an intent is committed before each call."""
        if self.effect is Effect.TRANSACTIONAL:
            return (
                False  # its writes and its outcome are one commit: after a crash, both or neither
            )
        return self.effect is Effect.ONCE or self.undo is not None

    @property
    def limit(self) -> float | None:
        """After how many seconds a call is cut off. None is never: only without an intent."""
        return LONGEST_CALL if self.timeout is None and self.has_intent else self.timeout


def step_of(
    fn: Callable[..., Any],
    arguments: Arguments,
    asked: RequestedCall,
    options: Options = NO_OPTIONS,
    result: Annotation | None = None,
) -> Step:
    """Return the step for a call; `result` is the type of its result. The caller adds the undo."""
    effect = _effect_of(options.get("effect", Effect.PURE))
    timeout = options.get("timeout")
    reconcile = options.get("reconcile")
    is_transactional = effect is Effect.TRANSACTIONAL
    return Step(
        name=asked.name,
        call=_taking_transaction(fn, arguments) if is_transactional else arguments.of(fn),
        wants_key=takes_key(fn),
        input=asked.input,
        effect=effect,
        retry=options.get("retry", NO_RETRY),
        timeout=time_limit(timeout),
        reconcile=None if reconcile is None else arguments.of(reconcile),
        keep=None if result is None else result.dump,
    )


def check_step(fn: Callable[..., Any], arguments: Arguments, options: Options) -> None:
    """Raise `Misuse` if the function, its arguments and the options do not fit together."""
    if options:
        _check_options(options)
    effect = _effect_of(options.get("effect", Effect.PURE))
    # None in place of the transaction, which exists only during the call.
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
        # Before the call: afterwards, a result type that cannot be recorded is found too late.
        check_result(fn)
    if (reconcile := options.get("reconcile")) is not None:
        keywords = _with_key(reconcile, arguments.keywords)
        check_fit("ctx.step", reconcile, arguments.args, keywords)


def no_undo_error(given: object) -> Misuse:
    """Return the error for an `undo=` that is no durable function."""
    if isinstance(given, Bound):  # what it is called with is known only when it is called
        return Misuse(
            f"undo={described(given)} has arguments already; give the durable function alone: "
            "it is called with the step's arguments, and with its `result` if it takes that"
        )
    return Misuse(
        f"undo={described(given)} is no durable function; put @durable on it: it has a ctx"
    )


def _check_options(options: Options) -> None:
    """Refuse an option of a wrong type."""
    retry: object = options.get("retry", NO_RETRY)
    if not isinstance(retry, Retry):
        raise Misuse(f"retry={retry!r} is no Retry; write Retry(max_attempts=3), or leave it out")
    time_limit(options.get("timeout"))
    undo: object = options.get("undo")
    if undo is not None and not isinstance(undo, Durable):
        raise no_undo_error(undo)
    reconcile: object = options.get("reconcile")
    if reconcile is not None and (isinstance(reconcile, Durable) or not callable(reconcile)):
        raise Misuse(
            f"reconcile={described(reconcile)} is no function; give one that takes the step's "
            "arguments and returns Done(value), NotDone() or None"
        )


def _with_key(fn: Callable[..., Any], keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords, with a placeholder for the key if the function takes one."""
    if _KEY in keywords:
        raise Misuse(
            f"{_KEY}= is the kit's: it fills it with a key that stays the same at every attempt; "
            "leave it out, or call your own something else"
        )
    return {**keywords, _KEY: ""} if takes_key(fn) else keywords


def _taking_transaction(fn: Callable[..., Any], arguments: Arguments) -> Callable[..., Any]:
    """Return a function of the transaction that calls `fn` with it and the arguments."""
    if inspect.iscoroutinefunction(fn):
        raise Misuse(
            f"{fn.__name__!r} is async; a transactional step is a plain "
            f"`def {fn.__name__}(tx, …)`, since nothing may be awaited while it holds locks"
        )
    return arguments.after(fn)


def name_of(fn: object, given: object = None) -> str:
    """Return the name of a function's steps: `given`, else its own, else ``""``."""
    if not callable(fn):
        raise _no_function_error(fn)
    name = getattr(fn, "__name__", None)
    if name is None and (isinstance(fn, Durable) or (given is None and hasattr(fn, "function"))):
        raise _no_function_error(fn)  # a durable function, or a tool
    return str(name or "") if given is None else check_name(given)


def idempotency_key(promise_id: str, closed: int = 0) -> str:
    """Return the idempotency key of a promise: the same for all its attempts.

    When `reconcile` has found that a call did not happen, its key is closed, and the next attempt
    has a new one. `closed` is how many keys of the promise are closed.
    """
    return str(uuid5(NAMESPACE_OID, f"{promise_id}#{closed}" if closed else promise_id))


def read_step(promise: Promise) -> Any:
    """Return a settled step's result, or its failure as `Raised`: nothing is raised here."""
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    return decode(JsonText("null") if promise.value is None else promise.value)


def read_typed(result: Annotation, promise: Promise) -> Any:
    """Return a settled step's result, converted to its type, or its failure as `Raised`.

    Raises `Paused` if the type has changed and does not accept the recorded result.
    """
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    try:
        return result.load(decode(JsonText("null") if promise.value is None else promise.value))
    except Misuse as error:
        raise Paused(failure_of(error)) from None


def takes_key(fn: Callable[..., Any]) -> bool:
    """Whether a function has a parameter for the idempotency key."""
    fn = fn.func if isinstance(fn, partial) else fn
    if (shape := shape_of(fn)) is not None:
        return _KEY in shape.names
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(
        fn, "__wrapped__"
    ):  # a hundred times quicker than `inspect.signature`
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


def _no_function_error(given: object) -> Misuse:
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
