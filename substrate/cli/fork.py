"""The fork that the command line serves: the loop of a package, and its four hooks.

A fork is somebody's own code, so everything about it is checked before a run is touched, and what
is wrong is said as file, line and remedy; its traceback is the cause of the error that is raised.
"""

import ast
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from substrate.agent.conversation import Conversation, conversation_of
from substrate.agent.faults import HOOK_CHECKS, OPTIONAL_CHECKS, brought_fault, hooks_fault, judges
from substrate.agent.handoff_tool import handoff_fault
from substrate.agent.tool import Tool, as_tool
from substrate.engine.failure import failure_of
from substrate.engine.function.function import Durable
from substrate.engine.function.reachable import reached
from substrate.engine.function.registry import Registry
from substrate.engine.run.user_code import is_ctrl_c
from substrate.installed import how_to_add, how_to_install
from substrate.models.model import Model
from substrate.models.panel import Answering, models_of
from substrate.values.errors import Misuse, OstinatoError, UnknownFunction
from substrate.values.ids import lane_of
from substrate.values.records import Run


class NoAgent(Misuse):
    """There is no fork where the command was typed. Nothing was started."""


class ForkBroken(Misuse):
    """The fork's own code does not load, or a hook is none. No run was touched."""


class KeyMissing(Misuse):
    """No model can answer, since a provider's key is not set. No run was touched."""


class SdkMissing(Misuse):
    """A model's provider is asked through an SDK that is not installed. No run was touched."""


@dataclass(frozen=True, slots=True)
class Fork:
    """What a fork brings."""

    #: Its loop.
    agent: Durable[..., Any]
    #: Every durable function of its files, or in reach of these.
    functions: tuple[Durable[..., Any], ...]
    #: Its hook `model`.
    model: Answering
    #: The models of the agents that it hands tasks to, and of judges, each by whose it is.
    others: Mapping[str, Answering] = field(default_factory=dict)
    #: The function of conversations with its agent: one of `functions`.
    conversation: Conversation = field(kw_only=True)

    @property
    def named(self) -> Sequence[Durable[..., Any]]:
        """The functions that somebody has named: those but the kit's own, for conversations."""
        return [each for each in self.functions if each is not self.conversation]

    def check_key(self) -> None:
        """Raise where neither a model nor one in its place can be asked.

        `KeyMissing` for want of a key; `SdkMissing` where its SDK, or that of one in its fallback,
        is not installed, so that this is found out at the start and not in the night.
        """
        for whose, model in self.asked:
            _check_model(model, whose)

    @property
    def asked(self) -> list[tuple[str, Model]]:
        """Each model that is asked, the members of a panel one by one, and whose it is."""
        found = [("the model in hooks.py", each) for each in models_of(self.model)]
        for whose, answering in self.others.items():
            found += [(whose, each) for each in models_of(answering)]
        return found

    def check_knows(self, run: Run) -> None:
        """Raise `UnknownFunction` for a run that these functions could not go on with."""
        lanes = {lane_of(run.queue, each.name, each.version) for each in self.functions}
        if lane_of(run.queue, run.function, run.version) not in lanes:
            known = ", ".join(f"{each.name} v{each.version}" for each in self.named)
            raise UnknownFunction(
                f"run {run.id!r} is one of {run.function!r} v{run.version}, and the loop here has "
                f"{known}; go on with it under the code that started it"
            )


def _check_model(model: Model, whose: str) -> None:
    """Raise where it cannot be asked, nor what stands in for it: see `Fork.check_key`."""
    if key := model.available().missing_key:
        raise KeyMissing(
            f"{key} is not set, so {model.id} cannot be asked; export it, write it into "
            f".env, or give {whose} an offline= to answer without"
        )
    asked = model.available()
    for each in (asked, *(successor.model for successor in asked.successors)):
        if isinstance(each, Model) and not each.missing_key and (extra := each.missing_extra):
            raise SdkMissing(
                f"{each.id} is asked through an SDK that is not installed: {how_to_add(extra)}"
            )


def check_there(package: str) -> Path:
    """Return the folder of the package, without loading it. Raises `NoAgent`."""
    spec = _here(package) or find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NoAgent(
            f"no {package} here; cd into your fork, or make one: copier copy KIT my-agent, "
            "where KIT is your clone of the kit or its URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def load_fork(package: str) -> Fork:
    """Load a package's hooks and loop. Raises `NoAgent` and `ForkBroken`."""
    folder = check_there(package)
    _bind(package)
    hooks = _load(f"{package}.hooks", folder)
    for name, problem in _problems(hooks, folder):
        raise ForkBroken(f"{_place(hooks, name)}: {problem}")
    loop = _load(f"{package}.loop", folder)
    agent = getattr(loop, "agent", None)
    if not isinstance(agent, Durable):
        raise ForkBroken(
            f"{_place(loop, 'agent')}: `agent` must be a durable function; "
            "write @durable, then async def agent(ctx: Context, task: Task)"
        )
    others = [_load(name, folder) for name in _with_functions(folder, package)]
    there = [thing for module in (loop, hooks, *others) for thing in vars(module).values()]
    made = [each for each in there if isinstance(each, Durable)]
    found = reached([agent, *made, *hooks.tools], partial(_load_own, folder))
    try:
        functions = tuple(Registry(found).values())
    except Misuse as error:
        raise ForkBroken(str(error).replace("work() is given", "there are")) from None
    if fault := handoff_fault(hooks):
        raise ForkBroken(f"{_place(hooks, 'tools')}: {fault}")
    agents = _agents_in(functions)
    for called, own in agents.items():
        if fault := _fault_of(own, called, folder):
            raise ForkBroken(f"the agent {called!r}: {fault}")
    models = {f"the model of the agent {called!r}": own.model for called, own in agents.items()}
    for own in (hooks, *agents.values()):
        models |= {f"the judge of the check {name!r}": judge for name, judge in judges(own).items()}
    conversation = conversation_of(agent)
    return Fork(agent, (*functions, conversation), hooks.model, models, conversation=conversation)


def _fault_of(hooks: object, name: str, folder: Path) -> str | None:
    """Say what is wrong with the hooks of an agent that others hand tasks to."""
    try:
        return hooks_fault(hooks) or handoff_fault(hooks)
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        cause = f"the agent {name!r} raises {_cause(error)}, when its hooks are looked at"
        raise ForkBroken(f"{_origin(error, folder)}: {cause}; mend it") from error


def agents_of(fork: Fork) -> dict[str, Any]:
    """Return the hooks of the agents that a fork hands tasks to, by their names."""
    return _agents_in(fork.functions)


def _agents_in(functions: Iterable[Durable[..., Any]]) -> dict[str, Any]:
    made = ((each.name, each.made_for) for each in functions)
    return {name: by.thing for name, by in made if by is not None and by.kind == "agent"}


def load_tools(package: str) -> Sequence[Tool]:
    """Load a fork, and return the tools of its agent and of those that it hands tasks to."""
    return tools_of(load_fork(package), package)


def tools_of(fork: Fork, package: str) -> Sequence[Tool]:
    """Return the tools of a loaded fork's agent, and of those that it hands tasks to."""
    own = [hooks_of(package), *agents_of(fork).values()]
    return [as_tool(each) for hooks in own for each in hooks.tools]


def hooks_of(package: str) -> ModuleType:
    """Return the hooks of a package that `load_fork` has loaded."""
    return sys.modules[f"{package}.hooks"]


def _load_own(folder: Path, name: str) -> None:
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


def _with_functions(folder: Path, package: str) -> Iterator[str]:
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


def _here(package: str) -> ModuleSpec | None:
    """Return the package of the current folder; None where there is none.

    That folder comes last where modules are looked for, and the package is meant all the same
    where another of its name is installed.
    """
    spec = PathFinder.find_spec(package, [str(Path.cwd())])
    return spec if spec is not None and spec.submodule_search_locations else None


def _bind(package: str) -> None:
    """Let the package of the current folder be what is imported by its name."""
    spec = _here(package)
    if package not in sys.modules and spec is not None and spec.loader is not None:
        sys.modules[package] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])


def _load(name: str, folder: Path) -> ModuleType:
    try:
        with redirect_stdout(sys.stderr):  # the answer stands alone on standard output
            return import_module(name)
    except SystemExit as error:
        raise ForkBroken(
            f"{_origin(error, folder)}: it ends the process while it is imported, with "
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
        if error.name and error.name.startswith(f"{folder.name}."):
            file = error.name.replace(".", "/")
            cause = f"{error}; make {file}.py, or mend the import"
            raise ForkBroken(f"{_origin(error, folder)}: {cause}") from error
        remedy = f"install what it needs ({how_to_install('PACKAGE')}), or mend the import"
        raise ForkBroken(f"{_origin(error, folder)}: {error}; {remedy}") from error
    except ImportError as error:
        raise ForkBroken(f"{_origin(error, folder)}: {error}; mend the import") from error
    except OstinatoError as error:  # its message has the remedy
        raise ForkBroken(f"{_origin(error, folder)}: {error}") from error
    except BaseException as error:  # whatever somebody's module raises while it loads
        if is_ctrl_c(error):
            raise
        raise ForkBroken(
            f"{_origin(error, folder)}: {_cause(error)}; mend it, or see --debug for the traceback"
        ) from error


def _cause(error: BaseException) -> str:
    """Return the class of an error and its message, if it has one."""
    failure = failure_of(error)
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def _problems(hooks: ModuleType, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each hook that is none, with what is wrong and what to write.

    Raises `ForkBroken` where a hook raises when it is looked at, as a condition may that is tried.
    """
    for name, check in {**HOOK_CHECKS, **OPTIONAL_CHECKS}.items():
        try:
            problem = _problem(hooks, name, check)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            cause = f"`{name}` raises {_cause(error)}, when it is looked at before a run begins"
            raise ForkBroken(f"{_origin(error, folder)}: {cause}; mend it") from error
        if problem:
            yield name, problem
    if problem := brought_fault(hooks):
        yield "stop", problem


def _problem(hooks: ModuleType, name: str, check: Callable[[object], str | None]) -> str | None:
    if name in HOOK_CHECKS and not hasattr(hooks, name):
        return f"there is no `{name}`; hooks.py sets {', '.join(HOOK_CHECKS)}"
    return check(getattr(hooks, name, None))


def _place(module: ModuleType, name: str) -> str:
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


def _origin(error: BaseException, folder: Path) -> str:
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
