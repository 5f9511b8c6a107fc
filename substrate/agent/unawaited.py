"""A call of an async function that nobody awaits, found in a tool before a model is asked.

Python makes a coroutine of it, and does nothing. It warns when that goes away, at whatever line
that is, and the run has gone on. Only what is surely so is found: a call that stands alone as a
statement, or is what an async function returns, of a name that is an async function.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from substrate.engine.function.place import place_of


def unawaited(function: Callable[..., Any]) -> str | None:
    """Say which call in a function nobody awaits, with its line; None where none is found."""
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # it was typed in, or is not Python's
        return None
    made = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    file, _, first = place_of(function).rpartition(":")
    for call in _left_alone(made):
        if inspect.iscoroutinefunction(_meant(call.func, function)):
            said = ast.unparse(call.func)
            return (
                f"{file}:{int(first) + call.lineno - 1}: {said}(…) is async, and nobody awaits it, "
                f"so it does nothing; write `await {said}(…)`"
            )
    return None


def _left_alone(made: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.Call]:
    """Yield the calls of a function's own that are statements, or that an async one returns."""
    left: list[ast.AST] = list(made.body)
    while left:
        node = left.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        match node:
            case ast.Expr(value=ast.Call() as call):
                yield call
            case ast.Return(value=ast.Call() as call) if isinstance(made, ast.AsyncFunctionDef):
                yield call
        left[:0] = ast.iter_child_nodes(node)


def _meant(name: ast.expr, function: Callable[..., Any]) -> object:
    """Return what a name in a function stands for, as far as that is known without running it."""
    if isinstance(name, ast.Name):
        code = function.__code__
        if name.id in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
            return None
        found = function.__globals__.get(name.id)
    elif isinstance(name, ast.Attribute):
        within = _meant(name.value, function)
        found = vars(within).get(name.attr) if isinstance(within, ModuleType) else None
    else:
        return None
    return getattr(found, "function", found)  # of a tool
