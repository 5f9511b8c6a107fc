"""What a step's function is called with: as it was when the step was asked for, at each attempt.

The journal shows the arguments as JSON, taken at the call. So a caller that changes a list later,
or a function that changes the one it was given, must not make the call another than the one that
is recorded: who is called gets copies of what is mutable.
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
"""Types of what JSON is made from, and of what it may come from, that nothing can change."""


class Arguments(NamedTuple):
    """What a step's function is called with."""

    args: Sequence[Any] = ()
    keywords: Mapping[str, Any] = MappingProxyType({})

    def kept(self) -> Self:
        """Return them as they are now, whatever becomes of the caller's own objects."""
        return self._copied() if self._may_change else self

    def of(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as called with these arguments, with its own copies at each call."""
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
        """Return the function as called with these arguments after one that comes with the call."""
        if self._may_change:
            return self.of(fn)
        return lambda first, **more: fn(first, *self.args, **self.keywords, **more)

    @property
    def input(self) -> JsonText:
        """What the journal shows of them: a list, or an object where some are given by name.

        Not what the run has revealed of its secrets, which the function is given all the same.
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
    # Ten times quicker than `deepcopy` for what nearly all values are made of.
    if kind is list:
        return [each if type(each) in _FIXED else copied(each) for each in value]
    if kind is dict:
        return {key: each if type(each) in _FIXED else copied(each) for key, each in value.items()}
    if kind is tuple:
        return tuple([copied(each) for each in value])
    return deepcopy(value)
