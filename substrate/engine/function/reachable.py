"""The durable functions that others can come to: what a worker of those must know as well.

A function reaches what its code names: globals and what it closes over, attributes of modules and
classes, functions that it calls, and what stands in their lists, dictionaries and objects. So a
child or an undo is found wherever it stands, in whatever file of a project, and nobody registers
it. What is only put together while it runs (a function that is made in another, an attribute that
is looked up by a text) is not found: whoever uses it is told so, at once.

Nothing is called for it. What a function imports only when it is called is followed where it was
imported before, or is now by who asks, who says of what. Only code that may know of durable
functions is looked into: packages that use the kit, not the standard library nor others.
"""

import dis
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import resolve_name
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, cast

from substrate.engine.function.function import Durable

_OURS = "substrate"
_BUILTIN = frozenset((*sys.stdlib_module_names, _OURS, "")) - {"__main__"}
_ATOMS = frozenset((str, bytes, int, float, bool, complex, type(None), CodeType))
_IMPORT = dis.opmap["IMPORT_NAME"]
_NOT_FROZEN = SimpleNamespace(frozen=False)

_LONGEST = 10_000
"""How many items of a collection are looked at; a longer one is data."""


def reached(
    roots: Iterable[object], load: Callable[[str], None] = lambda module: None
) -> list[Durable[..., Any]]:
    """Return the durable functions that these can come to, themselves included, nearest first.

    `load` is given the name of each module that a function imports when it is called and that
    nobody has imported yet; it imports it, or leaves it.
    """
    return list(_Walk(roots, load))


class _Walk:
    """One walk over everything that can be reached; each thing is looked at once."""

    def __init__(self, roots: Iterable[object], load: Callable[[str], None]) -> None:
        self._left = list(roots)
        self._load = load
        #: The things themselves, since the id of one that is gone may become another's.
        self._seen: dict[int, object] = {}
        self._named: set[tuple[int, str]] = set()
        self._users: dict[str, bool] = {}

    def __iter__(self) -> Iterator[Durable[..., Any]]:
        while self._left:
            following: list[object] = []
            for thing in self._left:
                if type(thing) in _ATOMS or id(thing) in self._seen:
                    continue
                self._seen[id(thing)] = thing
                if issubclass(type(thing), Durable):
                    yield cast(Durable[..., Any], thing)
                with suppress(Exception):  # an object of somebody's own, which does as it likes
                    following.extend(self._next(thing))
            self._left = following

    def _next(self, thing: Any) -> Iterable[object]:
        """Return what is one step away. By its true class: a proxy may say it is of another."""
        kind = type(thing)
        if kind is FunctionType:
            return self._of_function(thing)
        if kind is MethodType:
            return (thing.__func__, thing.__self__)
        if issubclass(kind, partial):
            return (thing.func, *thing.args, *thing.keywords.values())
        if kind in (staticmethod, classmethod):
            return (thing.__func__,)
        if kind is property:
            return (thing.fget,)
        if issubclass(kind, (Mapping, list, tuple, set, frozenset)):
            if len(thing) > _LONGEST:
                return ()
            return list(thing.values() if issubclass(kind, Mapping) else thing)
        if issubclass(kind, type):
            is_user = self._is_user(thing.__module__)
            return [*thing.__mro__[1:], *vars(thing).values()] if is_user else ()
        return self._of_object(thing)

    def _of_function(self, function: FunctionType) -> Iterable[object]:
        yield from function.__dict__.values()  # what it wraps, too
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not assigned yet
                yield cell.cell_contents
        module, names = function.__module__, _names_in(function.__code__)
        is_loose = module not in sys.modules and _uses_kit(function.__globals__)  # made by exec
        if is_loose or self._is_user(module):
            yield from self._named_by(function.__globals__, names)
            for name in _imported_in(function.__code__, function.__globals__):
                if name not in sys.modules:
                    self._load(name)
                if name in sys.modules:
                    yield from self._of_module(sys.modules[name], names)

    def _named_by(self, scope: Mapping[str, Any], names: Collection[str]) -> Iterator[object]:
        for name in scope.keys() & names:
            thing = scope[name]
            if type(thing) is ModuleType:
                yield from self._of_module(thing, names)
            else:
                yield thing

    def _of_module(self, module: ModuleType, names: Collection[str]) -> Iterator[object]:
        """Give what is named of a module, once."""
        if self._is_user(module.__name__):
            fresh = {name for name in names if (id(module), name) not in self._named}
            self._named.update((id(module), name) for name in fresh)
            yield from self._named_by(vars(module), fresh)

    def _of_object(self, thing: Any) -> Iterable[object]:
        """Return what an object holds: of a user's class, or a frozen one of the kit's own."""
        kind = type(thing)
        wrapped = getattr_static(thing, "__wrapped__", None)
        is_ours = kind.__module__.partition(".")[0] == _OURS
        is_value = is_ours and getattr(kind, "__dataclass_params__", _NOT_FROZEN).frozen
        if not (is_value or self._is_user(kind.__module__)):
            return (wrapped,)
        slots = [each.__dict__.get("__slots__", ()) for each in kind.__mro__]
        names = [name for each in slots for name in ((each,) if isinstance(each, str) else each)]
        held = [getattr(thing, name, None) for name in names]
        return [wrapped, kind, *held, *getattr(thing, "__dict__", {}).values()]

    def _is_user(self, module: str | None) -> bool:
        """Whether a module's package uses the kit, so that it may know of durable functions."""
        top = (module or "").partition(".")[0]
        if top not in self._users:
            self._users[top] = top not in _BUILTIN and any(
                _uses_kit(vars(each))
                for name, each in sys.modules.copy().items()
                if _is_in(name, top)
            )
        return self._users[top]


def _names_in(code: CodeType) -> set[str]:
    """Return every name in a function's code, and in the functions inside it."""
    names = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            names |= _names_in(each)
    return names


def _imported_in(code: CodeType, scope: Mapping[str, Any]) -> Iterator[str]:
    """Give the names of the modules that a function imports when it is called, or may mean."""
    if _IMPORT in code.co_code[::2]:
        taken: list[Any] = []  # what was put on the stack before: the level, and what is taken
        for each in dis.get_instructions(code):
            if each.opname == "IMPORT_NAME":
                level, names = taken[-2:]
                package = str(scope.get("__package__") or "")
                with suppress(ImportError, ValueError):
                    name = resolve_name(f"{'.' * level}{each.argval}", package)
                    yield name
                    yield from (f"{name}.{one}" for one in names or ())
            taken.append(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _imported_in(inner, scope)


def _is_in(module: str, top: str) -> bool:
    return module == top or module.startswith(f"{top}.")


def _uses_kit(names: Mapping[str, Any]) -> bool:
    """Whether a module has something of the kit among its names."""
    for thing in list(names.values()):
        kind = type(thing)
        module = thing.__name__ if kind is ModuleType else kind.__module__
        if kind is FunctionType or kind is type:
            module = thing.__module__
        if isinstance(module, str) and module.partition(".")[0] == _OURS:
            return True
    return False
