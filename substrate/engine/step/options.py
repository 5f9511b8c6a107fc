"""The options of a step beside its function and arguments, and the answers of `reconcile`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, cast

from substrate.engine.function.function import Durable
from substrate.values.records import AnyEffect, Effect, Transactional
from substrate.values.retry import Retry


@dataclass(frozen=True, slots=True)
class Done:
    """What `reconcile` returns for a call that has happened: its result."""

    #: The call's result.
    value: Any = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """What `reconcile` returns for a call that has not happened.

    Where the call may still be under way, in a thread of a process that may be alive, that is not
    enough to make it again. With `is_closed`, `reconcile` says that it saw to that: the other side
    takes no call under this idempotency key any more. The next call is given another key.

    >>> async def look(order: str, idempotency_key: str) -> Done | NotDone:
    ...     if charge := await bank.charge_of(idempotency_key):
    ...         return Done(charge)
    ...     await bank.refuse_from_now_on(idempotency_key)
    ...     return NotDone(is_closed=True)
    """

    #: Whether the other side takes no call under this key any more.
    is_closed: bool = False


class _Options(TypedDict, total=False):
    name: str | None
    retry: Retry
    timeout: timedelta | float | None


class StepOptions(_Options, total=False):
    """How a step is to be called: what `Context.step` takes beside the function and its arguments.

    `name` stands in its key, in place of the function's. `retry` is one attempt unless given,
    `timeout` is for each, in seconds or as a timedelta: 60 s for a step that is ``once`` or has an
    `undo`, else none. `effect` says what a crash in its middle means: ``pure`` unless given,
    ``idempotent``, ``once`` or ``transactional``. There are `undo` and `reconcile`, too.
    """

    effect: AnyEffect


class TransactionOptions(_Options):
    """How a step is to be called that is given a transaction."""

    effect: Transactional


class Options(_Options, total=False):
    """All options of a step that were given, not yet checked."""

    effect: Effect | str
    undo: Durable[..., Any] | None
    reconcile: Callable[..., Any] | None


OPTIONS = Options.__optional_keys__

NO_OPTIONS = Options()


def sorted_out(given: Mapping[str, Any]) -> tuple[Options, Mapping[str, Any]]:
    """Split the keyword arguments into the step's options and its function's arguments."""
    options = {name: value for name, value in given.items() if name in OPTIONS}
    keywords = {name: value for name, value in given.items() if name not in OPTIONS}
    return cast(Options, options), keywords
