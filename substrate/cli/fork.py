"""The fork that the command line serves: the loop of a package, and its four hooks.

A fork is somebody's own code, so everything about it is checked before a run is touched, and what
is wrong is said as file, line and remedy; its traceback is the cause of the error that is raised.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from substrate.agent.conversation import Conversation, conversation_of
from substrate.agent.handoff_tool import handoff_fault
from substrate.agent.hook_checks import (
    HOOK_CHECKS,
    OPTIONAL_CHECKS,
    brought_fault,
    hooks_fault,
    judges,
)
from substrate.agent.tool import Tool, as_tool
from substrate.cli.fork_code import (
    ForkBroken,
    bind_package,
    cause_of,
    check_skills,
    load_module,
    load_own_module,
    modules_with_functions,
    origin_of,
    package_here,
    place_of_name,
)
from substrate.cli.hook_names import misspelt
from substrate.engine.function.function import Durable
from substrate.engine.function.reachable import reached
from substrate.engine.function.registry import Registry
from substrate.engine.run.user_code import is_ctrl_c
from substrate.installed import how_to_add
from substrate.models.model import Model
from substrate.models.panel import Answering, models_of
from substrate.values.errors import Misuse, UnknownFunction
from substrate.values.ids import lane_of
from substrate.values.records import Run


class NoAgent(Misuse):
    """There is no fork where the command was typed. Nothing was started."""


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

    @property
    def driven(self) -> str:
        """What a worker of it drives, in words: each function, and conversations with its agent."""
        own = ", ".join(f"{each.name} v{each.version}" for each in self.named)
        talk = self.conversation
        return f"{own}, and conversations ({talk.name} v{talk.version})"

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
    spec = package_here(package) or find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NoAgent(
            f"no {package} here; cd into your fork, or make one: copier copy KIT my-agent, "
            "where KIT is your clone of the kit or its URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def load_fork(package: str) -> Fork:
    """Load a package's hooks and loop. Raises `NoAgent` and `ForkBroken`."""
    folder = check_there(package)
    bind_package(package)
    check_skills(folder.parent)
    hooks = load_module(f"{package}.hooks", folder)
    for name, problem in chain(misspelt(hooks), _problems(hooks, folder)):
        raise ForkBroken(f"{place_of_name(hooks, name)}: {problem}")
    loop = load_module(f"{package}.loop", folder)
    agent = getattr(loop, "agent", None)
    if not isinstance(agent, Durable):
        raise ForkBroken(
            f"{place_of_name(loop, 'agent')}: `agent` must be a durable function; "
            "write @durable, then async def agent(ctx: Context, task: Task)"
        )
    others = [load_module(name, folder) for name in modules_with_functions(folder, package)]
    there = [thing for module in (loop, hooks, *others) for thing in vars(module).values()]
    made = [each for each in there if isinstance(each, Durable)]
    found = reached([agent, *made, *hooks.tools], partial(load_own_module, folder))
    try:
        functions = tuple(Registry(found).values())
    except Misuse as error:
        raise ForkBroken(str(error).replace("work() is given", "there are")) from None
    if fault := handoff_fault(hooks):
        raise ForkBroken(f"{place_of_name(hooks, 'tools')}: {fault}")
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
    slips = misspelt(hooks) if isinstance(hooks, ModuleType) else ()
    for _, problem in slips:
        return problem
    try:
        return hooks_fault(hooks) or handoff_fault(hooks)
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        cause = f"the agent {name!r} raises {cause_of(error)}, when its hooks are looked at"
        raise ForkBroken(f"{origin_of(error, folder)}: {cause}; mend it") from error


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
            cause = f"`{name}` raises {cause_of(error)}, when it is looked at before a run begins"
            raise ForkBroken(f"{origin_of(error, folder)}: {cause}; mend it") from error
        if problem:
            yield name, problem
    if problem := brought_fault(hooks):
        yield "stop", problem


def _problem(hooks: ModuleType, name: str, check: Callable[[object], str | None]) -> str | None:
    if name in HOOK_CHECKS and not hasattr(hooks, name):
        return f"there is no `{name}`; hooks.py sets {', '.join(HOOK_CHECKS)}"
    return check(getattr(hooks, name, None))
