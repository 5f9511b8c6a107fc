"""A name in a module of hooks that was meant for a hook, and is none: nothing would ever read it.

Invariant: a fork's own names are its own. One is taken for a hook that is misspelt only where it is
near a hook's name and no code of the fork uses it.
"""

import ast
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from substrate.agent.hook_checks import HOOK_CHECKS, OPTIONAL_CHECKS
from substrate.values.near import meant

_CHECKS = {**HOOK_CHECKS, **OPTIONAL_CHECKS}
_NEAR = 0.8  # nearer than `shop` is to `stop`; what is farther must pass for the hook that it is
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def misspelt(hooks: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each name that is a hook's misspelt, and what is wrong with it."""
    file = Path(hooks.__file__ or "")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # it is no file: somebody has made it otherwise
        return
    for name, line in _bound(tree).items():
        hook = None if name in _CHECKS or name.startswith("_") else _near(name, hooks)
        if hook and not _is_used(name, line, tree) and not _is_used_elsewhere(name, file):
            meant_for = f"did you mean `{hook}`? Write that, or take it out"
            yield name, f"`{name}` is no hook, and nothing uses it; {meant_for}"


def _near(name: str, hooks: ModuleType) -> str | None:
    """Return the hook that a name was meant for, if it is one's."""
    if found := get_close_matches(name.lower(), _CHECKS, n=1, cutoff=_NEAR):
        return found[0]
    hook = meant(name, _CHECKS)
    passes = hook is not None and _CHECKS[hook](getattr(hooks, name, None)) is None
    return hook if passes else None


def _bound(tree: ast.AST) -> dict[str, int]:
    """Return the names that a module's own code sets, imports aside, each with its last line."""
    found: dict[str, int] = {}
    for each in ast.iter_child_nodes(tree):
        if isinstance(each, _DEFINITIONS):
            found[each.name] = each.lineno
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            found[each.id] = each.lineno
        elif not isinstance(each, ast.Lambda | ast.comprehension):
            found |= _bound(each)
    return found


def _is_used(name: str, line: int, tree: ast.AST) -> bool:
    """Whether a name is read below the line that sets it.

    Above it stands what it hides: ``@tool`` is the kit's, and ``tool = […]`` below it is a slip.
    """
    reads = (each for each in ast.walk(tree) if isinstance(each, ast.Name) and each.id == name)
    return any(isinstance(each.ctx, ast.Load) and each.lineno > line for each in reads)


def _is_used_elsewhere(name: str, hooks: Path) -> bool:
    """Whether another file beside the hooks, or a test of them, speaks of that name of theirs."""
    package = hooks.parent
    for folder in (package, package.parent / "tests", package.parent / "skills"):
        for file in folder.rglob("*.py"):
            if file != hooks and _speaks_of(file, name, hooks.stem):
                return True
    return False


def _speaks_of(file: Path, name: str, module: str) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text))) if name in text or "*" in text else []
    except (OSError, SyntaxError, ValueError):
        return False
    imports = [each for each in nodes if isinstance(each, ast.ImportFrom)]
    from_hooks = [each.names for each in imports if (each.module or "").endswith(module)]
    imported = {alias.name for names in from_hooks for alias in names}
    read = {each.attr for each in nodes if isinstance(each, ast.Attribute)}
    return name in read or bool({name, "*"} & imported)
