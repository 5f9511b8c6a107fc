"""`Panel`: several models that are asked the same, and one answer that is made of theirs.

>>> panel = Panel(["openai:gpt-6-luna", "google:gemini-3-pro"], merge=first)

It stands where a model stands. Here is what it is; how it is asked is the loop's (`agent.panel`).

=======================  ==========================================================================
merge                    the answer
=======================  ==========================================================================
``first``                the one that came first; the only merge under which tools may be called
``majority``             the one that most gave
``weighted(2, 1, 1)``    the one behind which most weight stands
``judge(model, rubric)`` the one that a judge finds best
a function               what it makes of the votes
=======================  ==========================================================================

Invariants: a panel is checked when it is made, so no run begins with one that cannot answer; its
members have names of their own, which are those of their rows.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from types import BuiltinFunctionType
from typing import Any

from substrate.models.messages import Json, Reply
from substrate.models.model import Model
from substrate.values.errors import InvalidId, Misuse
from substrate.values.ids import check_name
from substrate.values.number import is_amount, is_whole

JUDGE = "judge"
"""What the judge's rows are called."""


class Simple(Enum):
    """The merges that need nothing else."""

    FIRST = "first"
    MAJORITY = "majority"


first = Simple.FIRST
"""The vote that came first is the answer, and the others are not waited for."""

majority = Simple.MAJORITY
"""The answer that most gave; of as many votes, that of the member which stands first.

Answers of a type are compared as values, words without regard to case, spaces and the punctuation
around them.
"""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A merge by weight: see `weighted`."""

    #: The weights, in the order of the members.
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """A merge by a judge: see `judge`."""

    #: Who judges: a model, or a panel.
    model: "Model | Panel"
    #: What the best answer is, in words.
    rubric: str


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer of one member, as a merge of one's own is given it."""

    #: The member's name.
    member: str
    #: What it said.
    text: str
    #: The same as JSON of the agent's `answer` type; None where it has none.
    value: Json
    #: Its whole reply.
    reply: Reply = field(repr=False)
    #: What of the value two of the same answer have in common; None for all of it.
    decided: Json = field(default=None, repr=False)


MergeFunction = Callable[[Sequence[Vote]], Any | Awaitable[Any]]
"""A merge of one's own: it is given the votes, in the order of the members.

It returns one of them, or an answer: words, or a value of the agent's `answer` type.
"""

Merge = Simple | Weighted | Judge | MergeFunction


def weighted(*weights: float) -> Weighted:
    """Return the merge that takes the answer behind which most weight stands.

    Args:
        *weights: One for each member, in their order; each above 0.

    Raises:
        Misuse: what is no weight.

    Example:
        >>> merge = weighted(2, 1, 1)
    """
    if not weights:
        raise Misuse("weighted() has no weight; give one for each member")
    for each in weights:
        if not is_amount(each) or each <= 0:
            raise Misuse(f"weighted(…) has {each!r:.60}; give numbers above 0, one for each member")
    return Weighted(weights)


def judge(model: "str | Model | Panel", rubric: str) -> Judge:
    """Return the merge in which a model chooses the best of the answers.

    It is told the task, the rubric and the answers, not whose they are. Where all members say the
    same, it is not asked. Its calls are recorded, priced, and counted in the budget.

    Args:
        model: Who judges; a model that is no member is a better one. Of a panel each member
            chooses, and the choice is put to the vote, whatever the reasons are.
        rubric: What the best answer is.

    Raises:
        Misuse: words that say nothing, or no model.

    Example:
        >>> merge = judge("openai:gpt-6-luna", "It names its sources.")
    """
    given: object = rubric
    if not isinstance(given, str) or not given.strip():
        raise Misuse(f"judge(…, {rubric!r:.80}) says nothing; write what the best answer is")
    return Judge(model if isinstance(model, Panel) else _model(model, JUDGE), rubric)


@dataclass(frozen=True, slots=True)
class Panel:
    """Several models that are asked the same: stands where a `Model` stands in an agent's hooks.

    Each member is asked at once, and retries alone. One that fails for good is a vote that is
    missing. Unless `need` says otherwise all are waited for, and more than half have to vote; with
    too few votes the run is paused as it is for a model that fails, and on `resume` those that
    failed are asked again. What all of them use counts in the budget.

    Raises `Misuse` for no member, one that is no model, two of a name, and a merge or a number of
    votes that does not fit.

    Example:
        >>> owls = Model("scripted:owls", script=["Two owls."])
        >>> same = Model("scripted:others", script=["two owls"])
        >>> panel = Panel([owls, same], merge=majority)
        >>> by_name = Panel({"a": owls, "b": owls, "c": owls}, merge=majority, need=2)
    """

    #: The models: a list, each known by its own name, or by names given to them.
    members: Sequence[str | Model] | Mapping[str, str | Model]
    _: KW_ONLY
    #: How one answer is made of theirs.
    merge: Merge
    #: How many votes are enough: the others are not waited for, and their calls are cancelled. Each
    #: of these counts as a call that read the request and wrote as much as the longest vote.
    need: int | None = None
    #: The members by their names.
    named: dict[str, Model] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse now what could not be asked in the night."""
        given: object = self.members
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | Mapping):
            raise Misuse(f"Panel({given!r:.80}): give a list of models, or models by name")
        if not given:
            raise Misuse("Panel([]) has no member; name the models that are asked")
        for name, member in _named(given):
            if name in self.named:
                raise Misuse(
                    f"two members of a panel are called {name!r}; give them names: "
                    'Panel({"a": …, "b": …}, …)'
                )
            self.named[name] = _model(member, "member")
        self._check_need()
        self._check_merge()

    @property
    def id(self) -> str:
        """What is told of it where a model is named."""
        return f"panel:{self.merge_name}"

    @property
    def merge_name(self) -> str:
        """What its merge is called in the journal."""
        match self.merge:
            case Simple():
                return str(self.merge.value)
            case Weighted():
                return "weighted"
            case Judge():
                return JUDGE
        return str(getattr(self.merge, "__name__", "function"))

    @property
    def may_call_tools(self) -> bool:
        """Whether what a member calls is called: two members would call it twice."""
        return self.merge is first

    @property
    def enough(self) -> int | None:
        """How many votes end the wait for the others; None where all are waited for."""
        return 1 if self.merge is first else self.need

    @property
    def least(self) -> int:
        """With how many votes it answers once all have ended."""
        return self.enough or len(self.named) // 2 + 1

    def describe(self) -> list[dict[str, Json]]:
        """Return who is asked, for the record."""
        return [
            {
                "model": each.id,
                "max_output_tokens": each.max_output_tokens,
                "settings": dict(each.settings),
            }
            for each in self.named.values()
        ]

    def _check_need(self) -> None:
        count, need = len(self.named), self.need
        if need is None:
            return
        if not is_whole(need) or not 1 <= need <= count:
            raise Misuse(
                f"need={need!r:.60} is no number of votes of this panel; it has {count}: "
                f"write a whole number from 1 to {count}"
            )
        if self.merge is first and need != 1:
            raise Misuse(f"need={need!r}: with merge=first one vote is enough; leave it out")

    def _check_merge(self) -> None:
        merge: object = self.merge
        if isinstance(merge, Weighted) and len(merge.weights) != len(self.named):
            raise Misuse(
                f"weighted{merge.weights!r:.80} has {len(merge.weights)} weights for "
                f"{len(self.named)} members; give one for each, in their order"
            )
        if isinstance(merge, Judge):
            if JUDGE in self.named:
                raise Misuse(f"a member is called {JUDGE!r}, as the judge's rows are; rename it")
            return
        is_uncalled = merge is weighted or merge is judge or isinstance(merge, type)
        if isinstance(merge, Simple | Weighted):
            return
        if callable(merge) and not is_uncalled and _takes_votes(merge):
            return
        raise Misuse(
            f"merge={merge!r:.80} is none; write first, majority, weighted(2, 1), "
            "judge(Model(…), rubric), or a function of the votes, with one parameter"
        )


Answering = Model | Panel
"""Who answers: what the hook `model` may be."""


def models_of(answering: Answering) -> list[Model]:
    """Return the models that are asked: itself, or a panel's members and its judge's."""
    if isinstance(answering, Model):
        return [answering]
    judges = models_of(answering.merge.model) if isinstance(answering.merge, Judge) else []
    return [*answering.named.values(), *judges]


def tools_problem(panel: Panel) -> str:
    """Say that a panel's members cannot call tools, and what to do."""
    return (
        f"it is a panel that merges by {panel.merge_name}, and there are tools: each member would "
        "call them for itself. Leave them out, take merge=first, or make the panel the model of "
        "an agent of its own, and give it what was found: delegate(Agent(…, model=Panel(…)))"
    )


def speaker_of(answering: Answering) -> Model:
    """Return the model that does alone what is not put to a vote: itself, or the first member."""
    return models_of(answering)[0]


def _takes_votes(merge: Callable[..., Any]) -> bool:
    """Whether a function can be called with the votes alone. What Python brings makes no answer."""
    if isinstance(merge, BuiltinFunctionType) and merge.__module__ == "builtins":
        return False
    try:
        inspect.signature(merge).bind(())
    except TypeError:
        return False
    except ValueError:  # it shows no signature
        return True
    return True


def _named(given: Sequence[Any] | Mapping[Any, Any]) -> list[tuple[str, object]]:
    """Return the members by name: one that is given, or one made of what its provider calls it."""
    if isinstance(given, Mapping):
        return [(_checked(name), member) for name, member in given.items()]
    return [(_own_name(_model(member, "member")), member) for member in given]


def _own_name(model: Model) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", model.name).strip("-")[:60]
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _checked(name: object) -> str:
    try:
        return check_name(name)
    except (InvalidId, TypeError) as error:
        raise Misuse(f"a member of a panel is called {name!r:.80}: {error}") from None


def _model(given: object, role: str) -> Model:
    if isinstance(given, str):
        return Model(given)
    if isinstance(given, Panel):
        raise Misuse(f"a panel cannot be the {role} of a panel; name its members one by one")
    if not isinstance(given, Model):
        raise Misuse(
            f'{given!r:.80} is no model, and so no {role} of a panel; write Model("provider:name")'
        )
    return given
