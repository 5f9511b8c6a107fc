"""A function with its arguments, to be called by who takes it.

Python's types can say of a function that is called with arguments by position and with options, or
with arguments by position and by name, but not with all three. So the arguments that are given by
name, where options are given too, can be put beside the function first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from substrate.values.errors import Misuse

P = ParamSpec("P")
First = ParamSpec("First")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bound(Generic[First, R_co]):
    """A function and all its arguments, but for those that come `First`. See `bound`."""

    #: What is called.
    function: Callable[..., R_co]
    #: Its arguments by position.
    args: Sequence[Any]
    #: Its arguments by name.
    keywords: Mapping[str, Any]

    def __str__(self) -> str:
        # Without the arguments, which may be secret.
        function = self.function
        return str(getattr(function, "__name__", None) or getattr(function, "name", None) or "it")

    def __repr__(self) -> str:
        return f"<Bound {self}>"

    def __call__(self, *first: First.args, **more: First.kwargs) -> R_co:
        """Call it with its arguments."""
        return self.function(*first, *self.args, **self.keywords, **more)


def bound(function: Callable[P, R_co], /, *args: P.args, **keywords: P.kwargs) -> Bound[[], R_co]:
    """Return a function with its arguments, to be given to `Context.step` with options.

    The step is the same as that of ``ctx.step(function, *args, **keywords)``: its name, what the
    journal shows of its arguments, its key. That works as well, and type checkers refuse it where
    arguments and options are both given by name, since no type can say what it takes.

    Args:
        function: The step's function.
        *args: All its arguments, by position or by name.
        **keywords: The same.

    Example:
        >>> def charge(cents: int, currency: str = "EUR") -> str:
        ...     return f"{cents} {currency}"
        >>> bound(charge, 5, currency="USD")()
        '5 USD'
    """
    return Bound(function, args, keywords)


def unbound(given: Any, args: Any, keywords: Any) -> tuple[Any, Any, Any]:
    """Return the function and the arguments that something bound stands for; else what was given.

    Raises `Misuse` where it is given arguments once more.
    """
    if not isinstance(given, Bound):
        return given, args, keywords
    if args or keywords:
        count = len(args) + len(keywords)
        raise Misuse(f"{given} has its arguments, and is given {count} more; give all in one place")
    return given.function, given.args, given.keywords
