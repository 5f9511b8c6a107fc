"""The arguments of a step: each attempt gets them as they were when the step was asked for.

The journal shows the arguments as JSON, written when the step is asked for. The caller may change a
list afterwards, and so may the function in its first attempt. For the calls to stay as they are
recorded, mutable arguments are copied when the step is asked for, and again for each attempt.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import date, datetime
from decimal import Decimal
from functools import partial, wraps
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from uuid import UUID

from substrate.engine.function.objects import encoded
from substrate.values.records import JsonText
from substrate.values.secret import Secret, hidden_arguments

_FIXED = frozenset(
    (str, int, float, bool, type(None), bytes, datetime, date, Decimal, UUID, Secret)
)
"""Immutable types, which need no copy."""


class Arguments(NamedTuple):
    """The arguments of a step's function, by position and by name."""

    args: Sequence[Any] = ()
    keywords: Mapping[str, Any] = MappingProxyType({})

    def kept(self) -> Self:
        """Return a copy that later changes of the caller's objects do not reach."""
        return self._copied() if self._may_change else self

    def of(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with these arguments bound; each call gets copies of its own."""
        if not self._may_change:
            return partial(fn, *self.args, **self.keywords)
        if iscoroutinefunction(fn):

            @wraps(fn)
            async def call_async(*first: Any, **more: Any) -> Any:
                own = self._copied()
                return await fn(*first, *own.args, **own.keywords, **more)

            return call_async

        @wraps(fn)
        def call(*first: Any, **more: Any) -> Any:
            own = self._copied()
            return fn(*first, *own.args, **own.keywords, **more)

        return call

    def after(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with these arguments bound; each call adds one before them."""
        if self._may_change:
            return self.of(fn)
        return lambda first, **more: fn(first, *self.args, **self.keywords, **more)

    @property
    def input(self) -> JsonText:
        """The arguments as the journal shows them: a list, or an object if some are given by name.

        Secrets that the run has revealed are hidden in it; the function gets them unchanged.
        """
        if not self.keywords:
            return encoded(hidden_arguments(list(self.args)))
        shown = {"args": list(self.args), "keywords": dict(self.keywords)}
        return encoded(hidden_arguments(shown))

    @property
    def _may_change(self) -> bool:
        for value in self.args:
            if type(value) not in _FIXED:
                return True
        return any(type(value) not in _FIXED for value in self.keywords.values())

    def _copied(self) -> Self:
        keywords = {name: copied(value) for name, value in self.keywords.items()}
        return type(self)([copied(value) for value in self.args], keywords)


def copied(value: Any) -> Any:
    """Return a value that is JSON, or nearly, with nothing mutable in common with this one."""
    kind = type(value)
    if kind in _FIXED:
        return value
    # Exact types only, and ten times as fast as `deepcopy`: nearly all values consist of these.
    if kind is list:
        return [each if type(each) in _FIXED else copied(each) for each in value]
    if kind is dict:
        return {key: each if type(each) in _FIXED else copied(each) for key, each in value.items()}
    if kind is tuple:
        return tuple([copied(each) for each in value])
    return deepcopy(value)
