"""What is made of a value that never changes: made once, and kept while the value lives."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ref

ValueT = TypeVar("ValueT")
MadeT = TypeVar("MadeT")


class Once(Generic[ValueT, MadeT]):
    """A function that is asked once for each value, by the value's identity.

    A transcript of a thousand messages is looked at with every call, and they never change. What is
    made of a value may be the value itself, but may not refer to it in another way: it would live
    for ever. It is never None.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[ValueT], MadeT]) -> None:
        self._make = make
        self._made: dict[int, tuple[ref[ValueT], MadeT | None]] = {}

    def __call__(self, value: ValueT) -> MadeT:
        """Return what is made of a value."""
        key = id(value)
        known = self._made.get(key)
        if known is None:
            made = self._make(value)
            # Another value may get the same identity, but only after this one has gone.
            watch = ref(value, lambda _: self._made.pop(key, None))
            known = self._made[key] = (watch, None if made is value else made)
        return value if known[1] is None else known[1]  # type: ignore[return-value]

    def __len__(self) -> int:
        """Return for how many values that are alive it was asked."""
        return len(self._made)
