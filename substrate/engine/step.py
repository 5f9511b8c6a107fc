"""A step: one call to be checkpointed. What is called, and what the journal shows of it."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from substrate.engine.failure import Raised, error_of
from substrate.engine.function import Durable
from substrate.engine.journal import Asked
from substrate.values.clock import seconds_of
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse
from substrate.values.records import Blob, Effect, Json, Promise, PromiseState
from substrate.values.retry import NO_RETRY, Retry

_KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class Measured:
    """A step's result together with what it consumed, which has a column of its own."""

    value: Any
    usage: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be called, and how. `input` is what the journal shows of its arguments.

    With `wants_key`, the call is given its `idempotency_key`. Without a fingerprint of its own, a
    step is known by its name and its input.

    An error of `pause_on` that is not retried, or no more, is for a person to mend: nothing is
    recorded for the step, the run is paused and shows it, and when it is requeued the step is
    called again.
    """

    name: str
    call: Callable[..., Any]
    wants_key: bool = False
    input: Json | None = None
    fingerprint: str | None = None
    effect: Effect = Effect.PURE
    retry: Retry = NO_RETRY
    timeout: float | None = None
    pause_on: tuple[type[Exception], ...] = ()
    blobs: tuple[Blob, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what this version does not do."""
        if self.effect is Effect.TRANSACTIONAL:
            raise Misuse(f"step {self.name!r}: effect='transactional' is not there yet")


def step_of(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    asked: Asked,
    retry: Retry = NO_RETRY,
    timeout: timedelta | float | None = None,
    effect: Effect | str = Effect.PURE,
) -> Step:
    """Prepare a call of a function."""
    return Step(
        name=asked.name,
        call=partial(fn, *args),
        wants_key=_takes_key(fn),
        input=asked.input,
        effect=effect if isinstance(effect, Effect) else _effect_of(effect),
        retry=retry,
        timeout=None if timeout is None else seconds_of(timeout),
    )


def name_of(fn: object, given: str | None = None) -> str:
    """Return the name of a function's steps: the given one, else its own; ``""`` without either."""
    if not callable(fn):
        raise _no_function(fn)
    return given or str(getattr(fn, "__name__", ""))


def input_of(args: Sequence[Any]) -> Json:
    """Return what the journal shows of a function's arguments."""
    return Json(encode(list(args)))


def idempotency_key(promise_id: str) -> str:
    """Return the key to hand to the other side: the same for every attempt at a promise."""
    return str(uuid5(NAMESPACE_OID, promise_id))


def read_step(promise: Promise) -> Any:
    """Return a settled step's result, or its failure."""
    if promise.state is not PromiseState.RESOLVED:
        return Raised(error_of(promise))
    return decode(promise.value or Json("null"))


def _takes_key(fn: Callable[..., Any]) -> bool:
    """Whether a function wants the idempotency key, by a parameter of that name."""
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__"):  # a hundred times quicker
        return _KEY in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return _KEY in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _effect_of(text: str) -> Effect:
    try:
        return Effect(text)
    except ValueError:
        raise Misuse(f"effect={text!r} is none; use 'pure', 'idempotent' or 'once'") from None


def _no_function(given: object) -> Misuse:
    if isinstance(given, Durable):
        return Misuse(f"{given.name!r} is a durable function; use ctx.call, which gives it a ctx")
    if isinstance(given, Coroutine):
        given.close()
        return Misuse(
            "a step takes a function and its arguments, so that it can tell whether to call it; "
            "write ctx.step(fetch, url), not ctx.step(fetch(url))"
        )
    return Misuse(f"a step takes a function and its arguments, not {given!r}")
