"""The durable functions that a worker knows: those given to it, and those that they can reach.

A function may be defined again under the same module and name: a notebook's cell is run again, or a
module is reloaded. When a run of it is started, the new function replaces the old one, and drives
runs that are claimed from then on. A function defined elsewhere never replaces one of its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from substrate.engine.function.function import Durable
from substrate.engine.function.place import in_place
from substrate.engine.function.reachable import reached
from substrate.values.errors import Misuse


class Registry(Mapping[tuple[str, int], Durable[..., Any]]):
    """A worker's durable functions, by name and version.

    Raises `Misuse` if one given is no durable function, and for two of one name and version.
    """

    def __init__(self, functions: Iterable[Durable[..., Any]] = ()) -> None:
        self._known: dict[tuple[str, int], Durable[..., Any]] = {}
        if isinstance(functions, Durable) or not isinstance(functions, Iterable):
            raise Misuse(f"work() is given {functions!r}; give it a list: work([order, refund])")
        for each in functions:
            if not isinstance(each, Durable):
                raise Misuse(
                    f"work() is given {each!r}, which is no durable function; put @durable on it"
                )
            known = self._known.setdefault((each.name, each.version), each)
            if known != each and not _is_made_alike(known, each):
                if known.made_for or each.made_for:
                    raise Misuse(_two_of_a_name(known, each))
                raise Misuse(
                    f"work() is given two functions {each.name!r}, version {each.version}: "
                    f"{_place(known)} and {_place(each)}; give one a name or a version of its own"
                )
        # Of two with one name, the one given to the worker counts, or else the nearer one. A run
        # that is started with the other one is refused: see `recognise`.
        # What has a declared name, an agent, is known by that alone: two of them are refused.
        for each in reached(list(self._known.values())):
            known = self._known.setdefault((each.name, each.version), each)
            if (known.made_for or each.made_for) and not _is_made_alike(known, each):
                raise Misuse(_two_of_a_name(known, each))

    def __getitem__(self, key: tuple[str, int]) -> Durable[..., Any]:
        return self._known[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def recognise(self, function: Durable[..., Any]) -> bool:
        """Replace the known function if this one is its new definition; return whether it did.

        Does nothing if the name is not known here. Raises `Misuse` if the name belongs to another
        function: the worker would drive the run with that one.
        """
        key = function.name, function.version
        known = self._known.get(key)
        if known is None or known == function or _is_made_alike(known, function):
            return False
        if not _is_defined_anew(known, function):
            raise Misuse(
                f"{function.name!r}, version {function.version}, is {_place(function)} here, and "
                f"{_place(known)} for the worker of this process, which would drive it: give the "
                "right one to work([…]), or one of them a name or a version of its own"
            )
        self._known[key] = function
        return True


def _is_made_alike(one: Durable[..., Any], other: Durable[..., Any]) -> bool:
    """Whether both have the same code object: one factory function made both, for one thing."""
    if one.made_for is not None or other.made_for is not None:
        things = [each.made_for.thing for each in (one, other) if each.made_for is not None]
        return len(things) == 2 and things[0] is things[1]
    code = getattr(one.function, "__code__", None)
    return code is not None and code is getattr(other.function, "__code__", None)


def _is_defined_anew(one: Durable[..., Any], other: Durable[..., Any]) -> bool:
    """Whether both have the same module and qualified name, outside of any function."""
    if one.made_for is not None or other.made_for is not None:
        modules = [each.made_for.module for each in (one, other) if each.made_for is not None]
        return len(modules) == 2 and modules[0] == modules[1]
    place = _place(one)
    return place == _place(other) and "<locals>" not in place


def _two_of_a_name(one: Durable[..., Any], other: Durable[..., Any]) -> str:
    """Say which two things have one name, of which one at least has it declared."""
    both = [
        f"the {each.made_for.kind if each.made_for else 'durable function'}{in_place(each)}"
        for each in (one, other)
    ]
    return (
        f"two are called {one.name!r}: {both[0]} and {both[1]}; a run is driven by who has its "
        "name, so give one of them another name"
    )


def _place(function: Durable[..., Any]) -> str:
    if function.made_for is not None:
        return f"the {function.made_for.kind}{in_place(function)}"
    target = function.function
    name = getattr(target, "__qualname__", type(target).__name__)
    return f"{getattr(target, '__module__', '?')}.{name}"
