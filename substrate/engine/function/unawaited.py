"""Finds calls of async functions without `await` in a function's source, before it is called.

Such a call only makes a coroutine. Python warns when that is collected, at some unrelated line, and
by then the run has gone on without the call.

Only certain cases are reported: the name is an async function, and the call is a statement of its
own, or lies in one, is assigned to a name that nothing reads, or is what an async function returns.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any, TypeGuard

from substrate.engine.function.place import place_of

_Made = ast.FunctionDef | ast.AsyncFunctionDef
_Outer = ast.Global | ast.Nonlocal


def unawaited(function: Callable[..., Any], *, is_helper: bool = False) -> str | None:
    """Return which call in a function is not awaited, with its line; None if none is found.

    With `is_helper`, a call that the function returns does not count: its caller may await it.
    """
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # has no source file, or is not written in Python
        return None
    made = tree.body[0] if len(tree.body) == 1 else None
    code = getattr(function, "__code__", None)
    # If the names differ, the file has changed since it was imported: this is other code.
    if not isinstance(made, _Made) or getattr(code, "co_name", None) != made.name:
        return None
    file, _, first = place_of(function).rpartition(":")
    inside = _defined_in(made)
    for call in _left_alone(made, is_helper=is_helper):
        if _is_async(call.func, function, inside):
            name = ast.unparse(call.func)
            return (
                f"{file}:{int(first) + call.lineno - 1}: {name}(…) is async, and nobody awaits it, "
                f"so it does nothing; write `await {name}(…)`"
            )
    return None


@lru_cache(maxsize=512)
def unawaited_below(function: Callable[..., Any]) -> str | None:
    """Do as `unawaited`, also for the async functions of its module that it names, and theirs."""
    left: list[Callable[..., Any]] = [inspect.unwrap(function)]
    seen: set[Callable[..., Any]] = set()
    while left:
        each = left.pop()
        if problem := unawaited(each, is_helper=bool(seen)):
            return problem
        seen.add(each)
        code, names = getattr(each, "__code__", None), getattr(each, "__globals__", {})
        for name in getattr(code, "co_names", ()):
            found = names.get(name)
            is_of_module = isinstance(found, FunctionType) and found.__globals__ is names
            if is_of_module and inspect.iscoroutinefunction(found) and found not in seen:
                left.append(found)
    return None


def _left_alone(made: _Made, *, is_helper: bool) -> Iterator[ast.Call]:
    """Yield calls that are statements, whose result is not read, or that an async one returns."""
    is_last = isinstance(made, ast.AsyncFunctionDef) and not is_helper
    read = {node.id for node in ast.walk(made) if _is_read(node)}
    read |= {name for node in ast.walk(made) if isinstance(node, _Outer) for name in node.names}
    for node in _own(made):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.Expr(value=ast.NamedExpr(target=ast.Name(id=name), value=value))
            ) if name not in read:
                yield from _calls_in(value)
            case ast.Expr(value=value):
                yield from _calls_in(value)
            case ast.Return(value=ast.Call() as call) if is_last:
                yield call


def _is_read(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _calls_in(value: ast.expr) -> Iterator[ast.Call]:
    """Yield the calls whose results are the value, or lie in it."""
    match value:
        case ast.Call():
            yield value
        case ast.List(elts=inside) | ast.Tuple(elts=inside) | ast.Set(elts=inside):
            for each in inside:
                yield from _calls_in(each)
        case ast.Dict(values=inside) | ast.BoolOp(values=inside):
            for each in inside:
                yield from _calls_in(each)
        case ast.ListComp(elt=one) | ast.SetComp(elt=one) | ast.GeneratorExp(elt=one):
            yield from _calls_in(one)
        case ast.DictComp(value=one) | ast.Starred(value=one):
            yield from _calls_in(one)
        case ast.IfExp(body=one, orelse=other):
            yield from _calls_in(one)
            yield from _calls_in(other)


def _own(made: _Made) -> Iterator[ast.AST]:
    """Yield the nodes of a function in order, without those of functions and classes inside it."""
    left: list[ast.AST] = list(made.body)
    while left:
        node = left.pop(0)
        yield node
        if not isinstance(node, _Made | ast.Lambda | ast.ClassDef):
            left[:0] = ast.iter_child_nodes(node)


def _defined_in(made: _Made) -> frozenset[str]:
    """Return names that a function binds to an async function in it, and to nothing else."""
    arguments = made.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bound = [each.arg for each in (*given, arguments.vararg, arguments.kwarg) if each]
    for node in ast.walk(made):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                bound.append(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.append(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                bound.append(name)
            case ast.alias(name=name, asname=other):
                bound.append(other or name.partition(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.append(name)
            case ast.MatchMapping(rest=str(name)):
                bound.append(name)
    plain = (each for each in _own(made) if isinstance(each, ast.AsyncFunctionDef))
    return frozenset(
        each.name
        for each in plain
        if bound.count(each.name) == 1 and not each.decorator_list and not _yields(each)
    )


def _yields(made: _Made) -> bool:
    return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in _own(made))


def _is_async(name: ast.expr, function: Callable[..., Any], inside: frozenset[str]) -> bool:
    """Whether a name in a function certainly means an async function."""
    if isinstance(name, ast.Name) and name.id in inside:
        return True
    found = _meant(name, function)
    # A tool or a durable function has the async function in its attribute `function`.
    return inspect.iscoroutinefunction(getattr(found, "function", found))


def _meant(name: ast.expr, function: Callable[..., Any]) -> object:
    """Return the object that a name in a function means; None if only a run would show it."""
    if isinstance(name, ast.Name):
        code = function.__code__
        if name.id in (*code.co_varnames, *code.co_cellvars):
            return None
        if name.id in code.co_freevars:
            return _closed_over(name.id, function)
        return function.__globals__.get(name.id)
    if isinstance(name, ast.Attribute):
        within = _meant(name.value, function)
        if isinstance(within, ModuleType):
            return vars(within).get(name.attr)
        if name.attr == "function" and inspect.iscoroutinefunction(
            getattr(within, "function", None)
        ):
            return getattr(within, "function", None)
    return None


def _closed_over(name: str, function: Callable[..., Any]) -> object:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    try:
        return cells[name].cell_contents
    except (KeyError, ValueError):  # the variable is not assigned yet
        return None
