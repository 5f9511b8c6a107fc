"""What the operations take and give, as type checkers see it. Nothing here is called.

A function with options is matched as the callable that it is, with the positional arguments that it
is given (`TypeVarTuple`); without options also with those by name (`ParamSpec`). One that wants an
idempotency key is matched by the name of that parameter, for up to three arguments. What starts a
durable function asks for one that takes a `Later`, which a plain function doesn't.
"""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Required, TypeAlias, TypedDict, TypeVar, TypeVarTuple

from substrate.engine.function.function import Later
from substrate.engine.step.options import Done, NotDone
from substrate.values.records import OnDead

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
Ts = TypeVarTuple("Ts")

Operation: TypeAlias = Coroutine[Any, Any, T]
"""What is to be awaited once; a `Pending`. Type checkers warn where nobody does."""

Startable: TypeAlias = Callable[[Later, *Ts], Operation[T]]
"""A durable function, or one with its arguments."""

Undo: TypeAlias = (
    Callable[[Later, *Ts], Operation[Any]]
    | Callable[[Later, *Ts, Any], Operation[Any]]
    | Callable[[Later, *Ts, Any, Any], Operation[Any]]
    | None
)
"""What makes up for a step: it takes the same arguments, and may take `result` and the key."""

Found: TypeAlias = Done | NotDone | None
Reconcile: TypeAlias = (
    Callable[[*Ts], Found | Awaitable[Found]]
    | Callable[[*Ts, str], Found | Awaitable[Found]]
    | None
)
"""What knows whether a call has happened: it takes the same arguments, and may take the key."""


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
