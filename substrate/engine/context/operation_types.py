"""Types of the operations' parameters and results, mostly for type checkers alone.

- An operation with options types the function's positional arguments (`TypeVarTuple`); one without
  options types its keyword arguments too (`ParamSpec`).
- A function that takes an idempotency key is matched by the name of that parameter, for up to three
  other arguments.
- An operation that starts a durable function asks for a callable that takes a `Later`: a plain
  function does not, so type checkers refuse it.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    runtime_checkable,
)

from substrate.engine.function.function import Later
from substrate.engine.step.options import Done, NotDone
from substrate.values.records import OnDead

if TYPE_CHECKING:
    from substrate.engine.context.context import Context

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
Ts = TypeVarTuple("Ts")

Operation: TypeAlias = Coroutine[Any, Any, T]
"""A `Pending`, to be awaited once. Type checkers warn where it is not awaited."""

Startable: TypeAlias = Callable[[Later, *Ts], Operation[T]]
"""A durable function, or one with its arguments."""

Undo: TypeAlias = (
    Callable[[Later, *Ts], Operation[Any]]
    | Callable[[Later, *Ts, Any], Operation[Any]]
    | Callable[[Later, *Ts, Any, Any], Operation[Any]]
    | None
)
"""Undoes a step: takes the step's arguments, and optionally its `result` and the key."""

Found: TypeAlias = Done | NotDone | None
Reconcile: TypeAlias = (
    Callable[[*Ts], Found | Awaitable[Found]]
    | Callable[[*Ts, str], Found | Awaitable[Found]]
    | None
)
"""Finds out whether a call has happened: takes its arguments, and optionally the key."""


class Keyed0(Protocol[R_co]):
    """A function of an idempotency key alone."""

    def __call__(self, *, idempotency_key: str) -> R_co:
        """Call it."""
        ...


class Keyed1(Protocol[A_contra, R_co]):
    """A function of one argument and an idempotency key."""

    def __call__(self, a: A_contra, /, *, idempotency_key: str) -> R_co:
        """Call it."""
        ...


class Keyed2(Protocol[A_contra, B_contra, R_co]):
    """A function of two arguments and an idempotency key."""

    def __call__(self, a: A_contra, b: B_contra, /, *, idempotency_key: str) -> R_co:
        """Call it."""
        ...


class Keyed3(Protocol[A_contra, B_contra, C_contra, R_co]):
    """A function of three arguments and an idempotency key."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /, *, idempotency_key: str) -> R_co:
        """Call it."""
        ...


@runtime_checkable
class Mapper(Protocol[A_contra, T]):
    """What `Context.map` has do its work by itself: an agent, each of whose items is a child."""

    @property
    def name(self) -> str:
        """What stands in the keys of the items."""

    def each(
        self, ctx: "Context", items: Iterable[A_contra], limit: int | None
    ) -> Coroutine[Any, Any, list[T]]:
        """Begin the items, at most `limit` at once; return what each came to, in order."""


class SpawnOptions(TypedDict, total=False):
    """What `Context.spawn` takes beside the function and its arguments."""

    name: str | None
    queue: str | None
    timeout: timedelta | float | None
    on_dead: OnDead | Literal["raise", "wait"] | None


class StartOptions(TypedDict, total=False):
    """What `Client.start` takes beside the function and its arguments."""

    id: Required[str]
    queue: str
    priority: int
    at: datetime | None
    timeout: timedelta | float | None
