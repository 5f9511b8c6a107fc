"""The code of a fork: its modules are found, imported, and pointed at where something is wrong.

Invariants: the package of the current folder is meant, also where another of its name is installed;
what raises while it is imported is told as `ForkBroken`, with file, line and remedy.
"""

import ast
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

from substrate.cli.wrong_file import WrongFile
from substrate.engine.failure import failure_of
from substrate.engine.run.user_code import is_ctrl_c
from substrate.installed import how_to_install
from substrate.values.errors import OstinatoError
from substrate.values.near import did_you_mean


class ForkBroken(WrongFile):
    """The fork's own code does not load, or a hook is none. No run was touched."""


def load_own_module(folder: Path, name: str) -> None:
    """Import a module that a function of the fork imports when it is called, if it is the fork's.

    Others may be left out on purpose, or be slow.
    """
    try:
        spec = find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
    root = folder.parent
    if any(Path(each).is_relative_to(root) and _is_own(Path(each), root) for each in places):
        try:
            import_module(name)
        except BaseException as error:  # its caller is told when it imports it
            if is_ctrl_c(error):
                raise


def _is_own(file: Path, root: Path) -> bool:
    """Whether a file lies in the fork, and not in what is installed there."""
    inside = file.relative_to(root).parts
    return "site-packages" not in inside and not any(part.startswith(".") for part in inside)


def modules_with_functions(folder: Path, package: str) -> Iterator[str]:
    """Yield the modules of the package that define durable functions, but for its entry point.

    They may be imported only where a tool needs them, and their runs go on before that. What
    defines none is not loaded: it may be a script.
    """
    for file in sorted(folder.rglob("*.py")):
        name = ".".join((package, *file.relative_to(folder).with_suffix("").parts))
        name = name.removesuffix(".__init__")
        if file.stem != "__main__" and _defines_functions(file):
            yield name


def _defines_functions(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text))) if "durable" in text else []
    except (OSError, SyntaxError, ValueError):
        return False  # what needs it says so when it is imported
    functions = (each for each in nodes if isinstance(each, ast.AsyncFunctionDef))
    return any("durable" in ast.unparse(mark) for each in functions for mark in each.decorator_list)


def package_here(package: str) -> ModuleSpec | None:
    """Return the package of the current folder; None where there is none.

    That folder comes last where modules are looked for, and the package is meant all the same
    where another of its name is installed.
    """
    spec = PathFinder.find_spec(package, [str(Path.cwd())])
    return spec if spec is not None and spec.submodule_search_locations else None


def bind_package(package: str) -> None:
    """Let the package of the current folder be what is imported by its name."""
    spec = package_here(package)
    if package not in sys.modules and spec is not None and spec.loader is not None:
        sys.modules[package] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])


def load_module(name: str, folder: Path) -> ModuleType:
    """Import a module of the fork. Raises `ForkBroken` for whatever it raises meanwhile."""
    try:
        with redirect_stdout(sys.stderr):  # the answer stands alone on standard output
            return import_module(name)
    except SystemExit as error:
        raise ForkBroken(
            f"{origin_of(error, folder)}: it ends the process while it is imported, with "
            f"{error.code!r}; leave that out, or put it under if __name__ == '__main__'"
        ) from error
    except SyntaxError as error:
        place = f"{_short(error.filename or name)}:{error.lineno or 1}"
        line = f"\n    {error.text.strip()}" if error.text else ""
        raise ForkBroken(f"{place}: {error.msg}; mend the line, and try again{line}") from error
    except ModuleNotFoundError as error:
        if error.name == name:
            file = _short(str(folder / f"{name.rpartition('.')[2]}.py"))
            raise ForkBroken(
                f"{file} is missing; take it back from your history, or from the template"
            ) from error
        remedy = _own_remedy(error.name or "", folder.parent) or (
            f"install what it needs ({how_to_install('PACKAGE')}), or mend the import"
        )
        raise ForkBroken(f"{origin_of(error, folder)}: {error}; {remedy}") from error
    except ImportError as error:
        raise ForkBroken(f"{origin_of(error, folder)}: {error}; mend the import") from error
    except OstinatoError as error:  # its message has the remedy
        raise ForkBroken(f"{origin_of(error, folder)}: {error}") from error
    except BaseException as error:  # whatever somebody's module raises while it loads
        if is_ctrl_c(error):
            raise
        raise ForkBroken(
            f"{origin_of(error, folder)}: {cause_of(error)}; mend it, or see --debug for the "
            "traceback"
        ) from error


def _own_remedy(name: str, root: Path) -> str | None:
    """Return the cure for an import that leads into the fork's own folders; None for any other."""
    at, parts = root, name.split(".")
    for i, part in enumerate(parts):
        there = {each.stem if each.suffix == ".py" else each.name: each for each in _code_in(at)}
        if part in there:
            at = there[part]
            continue
        alike = [each for each in there if _importable(each) == part.lower()]
        if alike:
            found = there[alike[0]].relative_to(root)
            new = found.with_name(part + found.suffix)
            return f"'{found}' has a name that no import has; rename it: {new}"
        if at == root:
            return None
        file = "/".join(parts[: i + 1])
        return f"make {file}.py, or mend the import{did_you_mean(part, there)}"
    return None


def _code_in(folder: Path) -> Iterator[Path]:
    """Yield what may be imported from a folder, or was meant to be."""
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_code = each.is_dir() or each.suffix == ".py"
        if is_code and not each.name.startswith((".", "__")):
            yield each


def _importable(name: str) -> str:
    return re.sub(r"\W", "_", name).lower()


def check_skills(root: Path) -> None:
    """Refuse a skill of the fork's own that has the name of one of the kit's.

    Both stand in the package `skills`, and of two the kit's is imported, without a word.
    """
    spec, own = find_spec("skills"), root / "skills"
    places = [Path(each) for each in (spec and spec.submodule_search_locations) or ()]
    kits = [each for each in places if each.resolve() != own.resolve()]
    for skill in _code_in(own):
        if any((kit / skill.stem / "__init__.py").is_file() for kit in kits):
            raise ForkBroken(
                f"skills/{skill.name}: the kit has a skill {skill.stem!r}, and imports of "
                f"skills.{skill.stem} mean that one; give yours another name"
            )


def cause_of(error: BaseException) -> str:
    """Return the class of an error and its message, if it has one."""
    failure = failure_of(error)
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def place_of_name(module: ModuleType, name: str) -> str:
    """Return the file, and the line on which a name is set, if it is."""
    file = Path(module.__file__ or module.__name__)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lines = [line for bound, line in _bound(tree) if bound == name]
    # Where it is set twice, what the module does last is in force.
    return f"{_short(str(file))}:{max(lines)}" if lines else _short(str(file))


def _bound(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each name that a module's code binds, with its line; not those inside of functions."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield each.name, each.lineno
        elif isinstance(each, ast.alias):
            yield each.asname or each.name.partition(".")[0], each.lineno
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id, each.lineno
        elif not isinstance(each, ast.Lambda):
            yield from _bound(each)


def origin_of(error: BaseException, folder: Path) -> str:
    """Return the file and line of the fork at which an error came up."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder.parent)
        and "site-packages" not in Path(frame.filename).parts
    ]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else _short(str(folder))


def _short(file: str) -> str:
    """Return a path as seen from the current folder."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
