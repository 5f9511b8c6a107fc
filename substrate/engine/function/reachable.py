"""Finds the durable functions that others can call, so that a worker of those knows them too.

- The search follows the names in a function's code: globals, closures, attributes of modules and
  classes, the functions it calls, and items of lists, dicts and objects. So children and undos need
  no registration, in whatever file of a project they are defined.
- Of a module whose attributes are named (`jobs.research`), only those are searched. One that is
  used as a value, such as the module of an agent's hooks, is searched as a whole: any attribute of
  it may be read elsewhere.
- A function that only exists at run time is not found: one that another function defines, or one
  looked up by a text. Its use is refused at once, with what to do.
- The search calls no function. A module that is imported inside a function is searched if it is
  imported already, or if the caller's `load` imports it.
- Only packages that use the kit are searched: not the standard library, and no other package.
"""

import dis
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from importlib.util import resolve_name
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, cast

from substrate.engine.function.function import Durable

_OURS = "substrate"
_BUILTIN = frozenset((*sys.stdlib_module_names, _OURS, "")) - {"__main__"}
_ATOMS = frozenset((str, bytes, int, float, bool, complex, type(None), CodeType))
_IMPORT = dis.opmap["IMPORT_NAME"]
_OF_ATTRIBUTES = frozenset(("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"))
_NO_NAMES = frozenset(("LOAD_CONST", "LOAD_CLOSURE"))  # what is closed over, its own code loads
_NOT_FROZEN = SimpleNamespace(frozen=False)

_LONGEST = 10_000
"""Items of a collection that is searched, at most; a longer one is data."""
_CODES = 1024
"""Functions of which it is kept what their code names: each worker that starts asks again."""


def reached(
    roots: Iterable[object], load: Callable[[str], None] = lambda module: None
) -> list[Durable[..., Any]]:
    """Return the durable functions that can be reached from these, nearest first, these included.

    `load` is called with the name of each module that is imported only inside a function and is not
    imported yet. It may import that module, or do nothing.
    """
    return list(_Walk(roots, load))


class _Walk:
    """One walk over everything that can be reached; each thing is looked at once."""

    def __init__(self, roots: Iterable[object], load: Callable[[str], None]) -> None:
        self._left = list(roots)
        self._load = load
        # Keeps the objects alive: the id of a collected object may be used for another one.
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
                with suppress(Exception):  # reading an attribute of a user's object may raise
                    following.extend(self._next(thing))
            self._left = following

    def _next(self, thing: Any) -> Iterable[object]:
        """Return what a thing refers to. Uses `type()`: a proxy may return another `__class__`."""
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
        if issubclass(kind, (Mapping, list, tuple, set, frozenset, deque)):
            if len(thing) > _LONGEST:
                return ()
            return list(thing.values() if issubclass(kind, Mapping) else thing)
        if issubclass(kind, ModuleType):
            return self._of_whole_module(thing)
        if kind is SimpleNamespace:
            return list(vars(thing).values())
        if issubclass(kind, type):
            is_user = self._is_user(thing.__module__)
            return [*thing.__mro__[1:], *vars(thing).values()] if is_user else ()
        return self._of_object(thing)

    def _of_function(self, function: FunctionType) -> Iterable[object]:
        yield from function.__dict__.values()  # has `__wrapped__`, if it wraps another
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not assigned yet
                yield cell.cell_contents
        module, names = function.__module__, _names_in(function.__code__)
        is_loose = module not in sys.modules and _uses_kit(function.__globals__)  # made by exec
        if is_loose or self._is_user(module):
            values = _Values(function.__code__)
            yield from self._named_by(function.__globals__, names, values)
            for name, alias in _imported_in(function.__code__, function.__globals__):
                if name not in sys.modules:
                    self._load(name)
                if name in sys.modules:
                    imported = sys.modules[name]
                    yield from self._of_module(imported, names, values)
                    if alias in values:
                        yield imported

    def _named_by(
        self, scope: Mapping[str, Any], names: Collection[str], values: "_Values"
    ) -> Iterator[object]:
        for name in scope.keys() & names:
            thing = scope[name]
            if issubclass(type(thing), ModuleType) and name not in values:
                yield from self._of_module(thing, names, values)
            else:
                yield thing

    def _of_module(
        self, module: ModuleType, names: Collection[str], values: "_Values"
    ) -> Iterator[object]:
        """Yield those attributes of a module that code names, each once in a walk."""
        if self._is_user(module.__name__):
            fresh = {name for name in names if (id(module), name) not in self._named}
            self._named.update((id(module), name) for name in fresh)
            yield from self._named_by(vars(module), fresh, values)

    def _of_whole_module(self, module: ModuleType) -> Iterable[object]:
        """Return all attributes of a module but other modules, which are others' to name."""
        if not self._is_user(module.__name__):
            return ()
        return [each for each in vars(module).values() if not issubclass(type(each), ModuleType)]

    def _of_object(self, thing: Any) -> Iterable[object]:
        """Return the attributes of an object of a user's class, or of a frozen one of the kit."""
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
            self._users[top] = top not in _BUILTIN and _is_used_in(top, module)
        return self._users[top]


def _is_used_in(top: str, module: str | None) -> bool:
    """Whether some module of a package uses the kit: first this one, then any."""
    if module in sys.modules and _uses_kit(vars(sys.modules[module])):
        return True  # as most do from where the search comes; there are thousands of others
    within = f"{top}."
    return any(
        _uses_kit(vars(each))
        for name, each in sys.modules.copy().items()
        # In order of what it costs.
        if name.startswith(top) and (name == top or name.startswith(within))
    )


@lru_cache(maxsize=_CODES)
def _names_in(code: CodeType) -> frozenset[str]:
    """Return every name in a function's code, and in the functions inside it."""
    inside = (_names_in(each) for each in code.co_consts if isinstance(each, CodeType))
    return frozenset(code.co_names).union(*inside)


class _Values:
    """The names whose values a function's code uses, rather than only attributes of them.

    Read from the code when it is first asked: most functions name no module.
    """

    def __init__(self, code: CodeType) -> None:
        self._code = code

    def __contains__(self, name: object) -> bool:
        return name in _values_in(self._code)


@lru_cache(maxsize=_CODES)
def _values_in(code: CodeType) -> frozenset[str]:
    return frozenset(_used_in(code))


def _used_in(code: CodeType) -> Iterator[str]:
    """Yield each name that is loaded by an instruction, and not for an attribute by the next."""
    loaded: str | None = None
    for each in dis.get_instructions(code):
        if each.opname == "EXTENDED_ARG":
            continue
        if loaded is not None and each.opname not in _OF_ATTRIBUTES:
            yield loaded
        loaded = None
        if "LOAD" in each.opname and each.opname not in _NO_NAMES:
            # Newer Pythons have instructions for two variables: the second is loaded last.
            *others, last = each.argval if isinstance(each.argval, tuple) else (each.argval,)
            yield from others
            loaded = last if isinstance(last, str) else None
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _used_in(inner)


def _imported_in(code: CodeType, scope: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield names of modules that a function imports, and how its code may call each.

    `from a import b` may mean two modules: `a`, which it has no name for, and `a.b`.
    """
    if _IMPORT in code.co_code[::2]:
        # Two instructions before IMPORT_NAME put its level and its names on the stack; the names
        # that it binds are stored after it, in the same order.
        taken: list[Any] = []
        bound: list[str] = []
        for each in dis.get_instructions(code):
            if each.opname == "IMPORT_NAME":
                level, names = taken[-2:]
                package = str(scope.get("__package__") or "")
                with suppress(ImportError, ValueError):
                    name = resolve_name(f"{'.' * level}{each.argval}", package)
                    yield name, None if names else name.rpartition(".")[2]
                    bound = [f"{name}.{one}" for one in names or ()] or [name]
            elif bound and each.opname.startswith("STORE_"):
                alias = each.argval[0] if isinstance(each.argval, tuple) else each.argval
                yield bound.pop(0), alias
            taken.append(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _imported_in(inner, scope)


def _uses_kit(names: Mapping[str, Any]) -> bool:
    """Whether a module has a class, function or object of the kit among its names."""
    for thing in list(names.values()):
        kind = type(thing)
        module = thing.__name__ if kind is ModuleType else kind.__module__
        if kind is FunctionType or kind is type:
            module = thing.__module__
        if isinstance(module, str) and module.partition(".")[0] == _OURS:
            return True
    return False
