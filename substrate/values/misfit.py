"""What a call of the kit takes, told behind Python's own error for one that does not fit it.

Python says which argument it did not expect, or which is missing, and not what there is. Nothing is
wrapped for it: the error is read where it is recorded or printed. Of other people's functions only
those are told that the calling code names itself, since two of them may have one name.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from substrate.values.near import did_you_mean

_OURS = "substrate"
_MISFIT = re.compile(
    r"(?P<name>[\w.]+)\(\) (?:got (?:an unexpected keyword|multiple values|some positional-only)"
    r"|missing \d+ required|takes .*positional argument)"
)
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
_NAMED = re.compile(r"'(\w+)'")


def what_it_takes(error: BaseException) -> str:
    """Return what a call takes that this error is about, to follow its message; else nothing."""
    if type(error) is AttributeError:
        return _near_attribute(error)
    if type(error) is not TypeError or not error.args or type(error.args[0]) is not str:
        return ""
    message = error.args[0]
    found = _MISFIT.match(message)
    if found is None:
        return ""
    for called in _called(found["name"].removesuffix(".__init__"), error):
        parameters = _parameters(called)
        if parameters is None or not _is_about(message, parameters):
            continue
        unknown = _UNKNOWN.search(message)
        takes = ", ".join(map(_shown, parameters.values())) or "no arguments"
        if message.endswith("?"):  # newer Pythons name the near word themselves
            return f" It takes {takes}"
        near = did_you_mean(unknown[1], parameters) if unknown else ""
        if unknown and not near and "settings" in parameters:
            takes += f"; what its provider is told stands in settings={{'{unknown[1]}': …}}"
        return f"{near} It takes {takes}" if near else f"; it takes {takes}"
    return ""


def _near_attribute(error: AttributeError) -> str:
    """Return the near name of an operation, where an object of the kit was asked for another."""
    if not isinstance(error.name, str):
        return ""
    owner = error.obj if isinstance(error.obj, ModuleType) else type(error.obj)
    where = getattr(owner, "__name__" if isinstance(owner, ModuleType) else "__module__", "")
    if not _is_ours(where) or "Did you" in str(error):
        return ""
    return did_you_mean(error.name, [each for each in dir(owner) if not each.startswith("_")])


def _called(name: str, error: BaseException) -> Iterator[Callable[..., Any]]:
    """Yield what may have been called by this name: first what the calling line names so."""
    first, *rest = name.split(".")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    scopes: list[Mapping[str, Any]] = []
    if trace is not None:
        scopes = [trace.tb_frame.f_locals, trace.tb_frame.f_globals]
    ours = [vars(each) for key, each in sys.modules.copy().items() if _is_ours(key)]
    for scope in (*scopes, *ours):
        thing = scope.get(first)
        for part in rest:
            thing = inspect.getattr_static(thing, part, None)
        thing = getattr(thing, "__func__", thing)  # of a class method
        if callable(thing) and (scope in scopes or _is_ours(getattr(thing, "__module__", ""))):
            yield thing


def _parameters(called: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a call, without the object that a method is given first."""
    try:
        found = dict(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # some built-in callables show no signature
        return None
    if not isinstance(called, type) and "." in getattr(called, "__qualname__", ""):
        found = {name: each for name, each in found.items() if name not in ("self", "cls")}
    return found


def _is_about(message: str, parameters: Mapping[str, object]) -> bool:
    """Whether an error may be about a call with these parameters, and not about one of its name."""
    names = _NAMED.findall(message)
    return all((name in parameters) != ("unexpected" in message) for name in names[:1])


def _shown(parameter: inspect.Parameter) -> str:
    """Return a parameter as it is written in a call: with ``=`` where it may be left out."""
    match parameter.kind:
        case parameter.VAR_POSITIONAL:
            return f"*{parameter.name}"
        case parameter.VAR_KEYWORD:
            return f"**{parameter.name}"
        case parameter.KEYWORD_ONLY:
            return f"{parameter.name}="
        case parameter.POSITIONAL_ONLY:
            return parameter.name
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}="


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == _OURS
