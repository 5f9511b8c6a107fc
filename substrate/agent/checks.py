"""Checks of an answer: functions, a schema, a rubric by a judge model.

A check says nothing of an answer that passes, and else what is wrong with it, in words for the
model. What costs nothing is asked first; a judge only where that passed.

==========================  =======================================================================
``check.n/<name>.0``        what a check said of the answer of turn n: null, or what is wrong
``check.n/<name>.k``        of a judge: its reply, k times asked again since it was no judgement
``check.n/<name>.k/…``      of a panel of judges: see `panel`
``revision.n``              what the model was told, where the answer went back
==========================  =======================================================================

Invariants: what a check has said is recorded and holds, whatever has become of the check since; an
answer passes only if every check says so, a judge that gives no judgement says nothing.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from inspect import isroutine
from typing import Annotated, Any

from pydantic import Field, PydanticUserError, TypeAdapter, ValidationError

from substrate.agent.answer_type import CORRECTIONS, TypedAnswer
from substrate.agent.json_schema import check_schema, problems
from substrate.agent.task import Answer, Task
from substrate.agent.tool_schema import field_errors
from substrate.engine.function.annotation import gist_of
from substrate.models.messages import Json
from substrate.models.panel import Answering
from substrate.models.providers.answer_schema import read_answer
from substrate.values.errors import InvalidId, Misuse
from substrate.values.ids import check_name
from substrate.values.number import is_whole

CheckFunction = Callable[[Answer, Task], str | Awaitable[str | None] | None]
"""A check of one's own: None for an answer that passes, else what is wrong with it."""

UNNAMED = "check"
"""What a function is called whose own name cannot stand in a key, such as a lambda's."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A check that a model makes: see `rubric`."""

    #: What an answer has to meet, in words.
    text: str
    #: Who judges: a model, or a panel.
    judge: Answering
    #: Its name in the journal.
    name: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A check of an answer's value: see `schema`."""

    #: Says what is wrong with a value; None where nothing is.
    problem: Callable[[Json], str | None]
    #: Its name in the journal.
    name: str


Check = CheckFunction | Rubric | Schema


@dataclass(frozen=True, slots=True)
class Checks:
    """The hook `checks` where a number is to be said: how often an answer goes back.

    Raises `Misuse` for what is no check.

    Example:
        >>> def is_short(answer: Answer, task: Task) -> str | None:
        ...     return None if len(answer.text) < 500 else "Say it in less than 500 characters."
        >>> checks = Checks([is_short], corrections=3)
    """

    #: The checks, in order.
    checks: Sequence[Check]
    #: How often an answer that does not pass goes back.
    corrections: int = CORRECTIONS
    #: The same by name: what stands in keys.
    named: dict[str, Check] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse now what could not be asked of an answer."""
        if not is_whole(self.corrections) or self.corrections < 0:
            raise Misuse(f"corrections={self.corrections!r:.60} must be 0 or more, a whole number")
        given: object = self.checks
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            raise Misuse(
                f"{given!r:.200} is no list of checks; write checks = [a_function, "
                'rubric("…", judge=Model(…))]'
            )
        for each in self.checks:
            name, number = _name(each), 1
            while (called := name if number == 1 else f"{name[:60]}_{number}") in self.named:
                number += 1
            self.named[called] = each


def checks_of(given: object) -> Checks:
    """Return what the hook `checks` says: a list of checks, `Checks`, or None for none."""
    if isinstance(given, Checks):
        return given
    return Checks(() if given is None else given)  # type: ignore[arg-type]  # it is looked at there


def rubric(text: str, *, judge: Answering, name: str = "rubric") -> Rubric:
    """Have a model judge whether an answer meets a rubric.

    Its calls are recorded, priced, and counted in the budget. It is told the task and the answer,
    and is asked for a judgement with a reason, which the agent's model is told. Where it gives
    none, it is asked again, twice, then the next of its fallback that takes ``invalid``; when
    nobody gives one, the run ends as ``unchecked``.

    Args:
        text: What an answer has to meet.
        judge: Who judges; a model that did not give the answer is a better one. Of a panel each
            member judges, and whether the answer passes is put to the vote, whatever the reasons
            are; the reason that is told is that of a member who agrees.
        name: What it is called in the journal, and to the model.

    Raises:
        Misuse: words that say nothing, or no model.

    Example:
        >>> checks = [rubric("It names its sources.", judge=Model("openai:gpt-6-luna"))]
    """
    given: object = text
    if not isinstance(given, str) or not given.strip():
        raise Misuse(f"rubric({given!r:.80}) says nothing; write what an answer has to meet")
    if not isinstance(judge, Answering):
        raise Misuse(f'judge={judge!r:.80} is no model; write judge=Model("provider:name")')
    return Rubric(text, judge, _checked_name(name))


def schema(shape: Any, *, name: str = "schema") -> Schema:
    """Check that the value of an answer fits a JSON Schema, or a type.

    The value is that of the agent's `answer` type; without one, the answer's words as JSON.

    Args:
        shape: A JSON Schema as a dict, of the keywords that say something of JSON itself; or a
            type that pydantic knows, such as a model.
        name: What it is called in the journal, and to the model.

    Raises:
        Misuse: a keyword that is not known here, or what is no type.

    Example:
        >>> checks = [schema({"type": "object", "required": ["sources"]})]
    """
    if isinstance(shape, dict):
        check_schema(shape)
        return Schema(partial(_problem_by_schema, shape), _checked_name(name))
    if isroutine(shape) or isinstance(shape, str):
        raise Misuse(f"schema({shape!r:.80}): give a JSON Schema as a dict, or a type")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(shape)
        adapter.json_schema()
    except PydanticUserError as error:
        raise Misuse(f"schema({shape!r:.80}) is no type: {gist_of(error)}") from None
    return Schema(partial(_problem_by_type, adapter), _checked_name(name))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of an answer."""

    #: Why.
    reason: Annotated[str, Field(description="Why, in a sentence or two, for whoever mends it.")]
    #: Whether the answer meets the rubric.
    passed: Annotated[bool, Field(description="Whether the answer meets the rubric.")]


@cache
def judgement() -> TypedAnswer:
    """Return what a judge is asked for."""
    return TypedAnswer(Judgement, decides="passed")


def value_in(answer: Answer) -> Json:
    """Return the value of an answer. Raises `ValueError` where its words are no JSON."""
    return read_answer(answer.text) if answer.value is None else answer.value


def _problem_by_schema(shape: dict[str, Json], value: Json) -> str | None:
    return "\n".join(problems(shape, value)) or None


def _problem_by_type(adapter: TypeAdapter[Any], value: Json) -> str | None:
    try:
        adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        return field_errors(error)
    return None


def _name(check: object) -> str:
    """Return what a check is called. Raises `Misuse` for what is none."""
    if isinstance(check, Rubric | Schema):
        return check.name
    if isinstance(check, type) or not callable(check):
        raise Misuse(
            f"{check!r:.80} is no check; write def name(answer: Answer, task: Task) -> str | None, "
            "or rubric(…), or schema(…)"
        )
    try:
        return check_name(getattr(check, "__name__", UNNAMED))
    except InvalidId:
        return UNNAMED


def _checked_name(name: str) -> str:
    try:
        return check_name(name)
    except InvalidId as error:
        raise Misuse(str(error)) from None
