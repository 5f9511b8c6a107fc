"""`Agent`: a set of hooks with a name of its own, which other agents hand tasks to.

>>> researcher = Agent(
...     name="researcher",
...     prompt="Look it up. Answer in one sentence.",
...     model=Model("scripted:researcher", script=["Two owls."]),
... )

Its loop is the canonical one. It is driven as a child: with a lease, a journal and a failure of its
own. A module with the same names, such as another ``hooks.py``, is one too, where it says its
`name`. Nobody registers it: a worker finds it where a hook can reach it.

Invariants: its name is what its runs are known by, so two different agents never share one; its
hooks are in no fingerprint, and may be changed under its runs.
"""

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import currentframe
from types import ModuleType
from typing import Any

from substrate.agent.checks import Check, Checks
from substrate.agent.compact import Compact, Strategy
from substrate.agent.end import Stop
from substrate.agent.history.keys import LOOP_NAMES
from substrate.agent.hook_checks import hooks_fault
from substrate.agent.hooks import AnswerType, Tools
from substrate.agent.loop import Hooks, begin
from substrate.agent.outcome import Outcome, outcomes_of
from substrate.agent.prompt import Prompt, Text
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.task import Answer, Task
from substrate.engine.context.context import Context
from substrate.engine.function.function import Durable, MadeFor
from substrate.engine.function.place import described
from substrate.models.model import Model
from substrate.models.panel import Panel
from substrate.values.errors import InvalidId, Misuse
from substrate.values.ids import check_name
from substrate.values.records import GATE

_TURNS = 20
_TAKEN = LOOP_NAMES | {GATE}
"""Names of the loop's own rows: a child of one would stand where such a row does."""


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """A set of hooks with a name of its own.

    `delegate` makes a tool of it, and `Context.map` gives it many tasks. Raises `Misuse` for a hook
    that is none, or a name that no run can have.

    Example:
        >>> owls = Agent("owls", "Count.", Model("scripted:owls", script=["Two owls."]))
        >>> @durable
        ... async def count(ctx: Context, places: list[str]) -> list[str]:
        ...     return [each.text for each in await ctx.map(owls, places, limit=2)]
        >>> await drive(count, ["barn"])
        ['Two owls.']
    """

    #: What its runs are known by: no other agent or durable function of a fork has it.
    name: str
    #: What the model is told first: text, a function of the task, or a prompt in versions.
    prompt: Prompt | Text
    #: Who answers: a model, or a panel of several.
    model: Model | Panel
    #: What the model may call; another agent among them, as `delegate` makes a tool of it.
    tools: Tools = ()
    #: When it ends: answered, or after 20 turns, if not told otherwise.
    stop: Stop = field(default_factory=lambda: any_of(answered(), max_turns(_TURNS)))
    #: The type of its answers; None for plain words.
    answer: AnswerType = None
    #: What its answers are put to before they count.
    checks: Sequence[Check] | Checks = ()
    #: What is left out of a transcript that fills its model's context; nothing, if not told.
    compact: Sequence[Strategy] | Compact | None = None
    #: Its loop.
    durable: Durable[[Task], Answer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a hook that is none now, and not in the middle of a parent's run."""
        made_for = _made_for(self)
        checked_name(self.name, made_for)
        if problem := hooks_fault(self):
            raise Misuse(f"the agent {self.name!r}{_at(made_for)}: {problem}")
        object.__setattr__(self, "durable", loop_of(self, self.name, made_for))

    def each(
        self, ctx: Context, items: Iterable[str | Task], limit: int | None
    ) -> Coroutine[Any, Any, list[Outcome]]:
        """Give it each item as the task of a child: see `Context.map`."""
        return outcomes_of(ctx, self.durable, items, limit)


def loop_of(hooks: Hooks, name: str, made_for: MadeFor) -> Durable[[Task], Answer]:
    """Return the canonical loop over hooks, under a name of its own."""

    async def loop(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            reply = await turn.ask()
            await turn.call_tools(reply)
        return await turn.finish(end)

    return Durable(loop, name, made_for=made_for)


def durable_of(agent: Agent | ModuleType | Hooks) -> Durable[[Task], Answer]:
    """Return the loop of an agent, or of a module that is one.

    Raises `Misuse` for what has no name to be known by. What else a module lacks is told when a
    fork is loaded: it may be in the middle of being imported.
    """
    if isinstance(agent, Agent):
        return agent.durable
    module = agent if isinstance(agent, ModuleType) else None
    what = f"the module {module.__name__}" if module else described(agent)
    name = getattr(agent, "name", None)
    if name is None or (module is None and hooks_fault(agent)):
        raise Misuse(
            f"{what} is no agent with a name of its own; give Agent(name=…, prompt=…, model=…), or "
            'a module of hooks that says name = "…" above what imports it in its turn'
        )
    place = str(getattr(agent, "__file__", "") or "")
    made_for = MadeFor(agent, "agent", module.__name__ if module else "", place)
    return loop_of(agent, checked_name(name, made_for), made_for)


def checked_name(name: object, made_for: MadeFor) -> str:
    """Return a name that runs can have. Raises `Misuse` for any other."""
    try:
        called = check_name(name)
    except (InvalidId, TypeError) as error:
        raise Misuse(f"the agent{_at(made_for)} is called {name!r:.200}: {error}") from None
    if called in _TAKEN:
        raise Misuse(
            f"the agent{_at(made_for)} is called {called!r}, as rows of the loop are; give it "
            "another name"
        )
    return called


def _made_for(agent: Agent) -> MadeFor:
    """Return where an agent is made: the nearest line that is none of the kit's."""
    frame = currentframe()
    assert frame is not None
    while frame.f_back and _is_between(str(frame.f_globals.get("__name__", ""))):
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", ""))
    return MadeFor(agent, "agent", module, f"{frame.f_code.co_filename}:{frame.f_lineno}")


def _is_between(module: str) -> bool:
    """Whether a module only helps to make an agent, as `dataclasses.replace` does."""
    return module == "dataclasses" or module.startswith("substrate.")


def _at(made_for: MadeFor) -> str:
    return f" ({made_for.place})" if made_for.place else ""
