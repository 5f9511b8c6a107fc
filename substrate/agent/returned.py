"""What a function is sure to give back, read in its code: what no trial of it may come upon.

A condition may say ``return True`` in its thirtieth turn only. Where a line gives a value that is
plainly of the wrong kind, that is told before a run begins.

Invariants: nothing is called; what cannot be read is nobody's fault.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_VALUES: dict[type[ast.expr], type] = {
    ast.Compare: bool,
    ast.JoinedStr: str,
    ast.List: list,
    ast.ListComp: list,
    ast.Tuple: tuple,
    ast.Dict: dict,
    ast.DictComp: dict,
    ast.Set: set,
    ast.SetComp: set,
}


def wrong_return(function: object, *, right: tuple[type, ...]) -> str | None:
    """Say with what a function returns what is of none of the `right` types; None is one of them.

    A constant text that says nothing is wrong as well.
    """
    code: Any = function if inspect.isroutine(function) else type(function).__call__
    if not inspect.isfunction(inspect.unwrap(code)):
        return None
    said = _annotated(code)
    if said is not None and not issubclass(said, right):
        return f"says that it returns {said.__name__}"
    for line, kind, shown in _returned(code):
        if not issubclass(kind, right) or shown in ("''", '""'):
            return f"returns {shown} in line {line}"
    return None


def returns_nothing(function: object) -> bool:
    """Whether no line of a function returns anything, as one can read in its source."""
    tree = _tree(function)
    if tree is None:
        return False
    for node in _own_nodes(tree):
        if isinstance(node, ast.Raise | ast.Yield | ast.YieldFrom):
            return False
        if isinstance(node, ast.Return) and node.value is not None:
            return False
    return True


def _annotated(function: Any) -> type | None:
    """Return a plain class among the types that a function says it returns, if there is one."""
    try:
        hint = get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = (bool, int, float, str, bytes, list, dict, tuple, set)
    found = (get_origin(each) or each for each in members)
    return next((each for each in found if each in plain), None)


def _returned(function: Any) -> Iterator[tuple[int, type, str]]:
    """Yield what the lines of a function are sure to return: line, type, and how it is written."""
    tree = _tree(function)
    first = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", 1)
    for node in _own_nodes(tree) if tree is not None else ():
        if isinstance(node, ast.Return) and node.value is not None:
            for value in _branches(node.value):
                kind = _kind(value)
                if kind is not None and kind is not NoneType:
                    yield first + node.lineno - 1, kind, ast.unparse(value)


def _branches(value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(value, ast.IfExp):
        yield from (*_branches(value.body), *_branches(value.orelse))
    else:
        yield value


def _kind(value: ast.expr) -> type | None:
    """Return the type that an expression is sure to have; None where one cannot tell."""
    if isinstance(value, ast.Constant):
        return type(value.value)
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not):
        return bool
    return _VALUES.get(type(value))


def _tree(function: object) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError):
        return None
    found = tree.body[0] if len(tree.body) == 1 else None
    return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _own_nodes(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function's own lines, not of those inside of others."""
    left: list[ast.AST] = list(tree.body)
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    while left:
        node = left.pop(0)
        if not isinstance(node, inner):
            yield node
            left.extend(ast.iter_child_nodes(node))
