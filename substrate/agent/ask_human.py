"""`ask_human`: a question to a person, as a tool of the model's, or from a durable function.

It is a gate like an approval: a record with what is asked, until when, what was answered, by whom.
It waits for days if need be, and holds nothing. The answer has the type that was asked for; one
that does not fit is refused where it is given, or else asked for again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar, overload

from typing_extensions import TypeForm

from substrate.agent.gate_request import gate_request
from substrate.agent.history.keys import QUESTION
from substrate.agent.notify import current_notify, tell
from substrate.agent.policy import Policy
from substrate.agent.shown import digest_of, shortened
from substrate.agent.tool import Tool, tool
from substrate.agent.tool_schema import InvalidArguments, is_of_secrets
from substrate.engine.context.context import Context
from substrate.engine.context.gate import GateRequest
from substrate.engine.context.operation_types import Operation
from substrate.engine.context.receive import annotation_of
from substrate.engine.function.annotation import Annotation
from substrate.engine.function.function import Durable
from substrate.values.errors import Misuse, NoAnswer
from substrate.values.gates import GateKind, GateState
from substrate.values.whole_text import storable

T = TypeVar("T")

_FEWEST = 2  # choices among which somebody can choose


@overload
def ask_person(
    ctx: Context,
    question: str,
    *,
    type: TypeForm[T],
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
) -> Operation[T]: ...
@overload
def ask_person(
    ctx: Context,
    question: str,
    *,
    choices: Sequence[str] = (),
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
) -> Operation[str]: ...
def ask_person(
    ctx: Context,
    question: str,
    *,
    choices: Sequence[str] = (),
    type: Any = str,
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
) -> Any:
    """Ask a person a question; awaited, it gives the answer. It waits, for days if need be.

    Like any operation of a context it may be given to `gather` and `race`.

    Args:
        ctx: The context of a durable function: of a tool, or of a loop.
        question: What is asked.
        choices: What may be answered; free text, without.
        type: What the answer is to be, in the place of choices.
        to: Who is asked: it is shown, and told.
        timeout: After how long nobody is waited for any more; for ever, without one.
        remind: After how long people are told again, once for each.

    Raises:
        NoAnswer: nobody has answered in time.
        Misuse: the question is empty, or the choices are none.

    Example:
        >>> @durable
        ... async def order(ctx: Context) -> str:
        ...     try:
        ...         return await ask_person(
        ...             ctx,
        ...             "Which one?",
        ...             choices=["red", "blue"],
        ...             timeout=timedelta(milliseconds=20),
        ...         )
        ...     except NoAnswer:
        ...         return "nobody has answered"
        >>> await drive(order)
        'nobody has answered'
    """
    if not str(question).strip():
        raise Misuse(f"ask_person({question!r}): write a question")
    kind, schema = _answer_type(choices, type)
    policy = _policy(to, timeout, remind)

    async def ask(ctx: Context, question: str, choices: list[str]) -> Any:
        return (await _answered(ctx, question, kind, schema, policy))[0]

    # The answer is recorded as the type that was asked for, and comes back as that.
    ask.__annotations__["return"] = Literal[tuple(choices)] if choices else type
    return ctx.call(Durable(ask, "ask_person"), question, list(choices))


async def answered_by(
    ctx: Context,
    question: str,
    choices: Sequence[str],
    *,
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
) -> tuple[str, str]:
    """Ask a person as `ask_person` does, in the scope of a call; return the answer, and whose."""
    kind, schema = _answer_type(choices, str)
    return await _answered(ctx, question, kind, schema, _policy(to, timeout, remind))


async def _answered(
    ctx: Context, question: str, kind: Annotation, schema: dict[str, Any], policy: Policy
) -> tuple[Any, str]:
    wrong = ""
    while True:
        request = partial(_request, question, wrong, schema, policy)
        outcome = await ctx.gate(request, tell(current_notify()), QUESTION)
        if outcome.state is not GateState.ANSWERED:
            raise NoAnswer(f"nobody has answered in time: {shortened(question)}")
        try:
            return kind.load(outcome.answer), outcome.by or "somebody"
        except Misuse as error:  # a check that only this code knows
            wrong = str(error)


def ask_human(
    question: str | None = None,
    *,
    choices: Sequence[str] = (),
    type: Any = str,
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
    name: str = "ask_human",
    description: str | None = None,
) -> Tool:
    """Return a tool with which the model asks a person, and waits for the answer.

    Args:
        question: What is asked each time; the model words it, without one.
        choices: What may be answered; where there are none, the model may give some.
        type: What the answer is to be, in the place of choices.
        to: Who is asked: it is shown, and told.
        timeout: After how long the model is told that nobody has answered; never, without one.
        remind: After how long people are told again, once for each.
        name: What the model calls it.
        description: What the model is told of it.

    Raises:
        Misuse: the choices are none, or the type is none.

    Example:
        >>> tools = [ask_human(to="support")]
        >>> tools[0].spec.parameters["required"]
        ['question']
    """
    if question is not None and not str(question).strip():
        raise Misuse(f"ask_human({question!r}): write a question, or leave it to the model")
    _answer_type(choices, type)
    _policy(to, timeout, remind)
    function, words = _asking(question, choices, type, to=to, timeout=timeout, remind=remind)
    made = tool(name=name, description=description or words)(function)
    return replace(made, pause_on=())


def _asking(
    question: str | None, choices: Sequence[str], type: Any, **asks: Any
) -> tuple[Callable[..., Any], str]:
    """Return the function of the tool, and what the model is told of it."""
    if question is not None:

        async def ask_fixed(ctx: Context) -> Any:
            """Ask a person."""
            return await ask_person(ctx, question, choices=choices, type=type, **asks)  # type: ignore[call-overload]

        return ask_fixed, f"Ask a person: {question} Returns the answer."
    if choices or type is not str:

        async def ask_typed(ctx: Context, question: str) -> Any:
            """Ask a person."""
            _check_words(question)
            return await ask_person(ctx, question, choices=choices, type=type, **asks)  # type: ignore[call-overload]

        one_of = f" The answer is one of: {', '.join(choices)}." if choices else ""
        return ask_typed, _ASKS + one_of

    async def ask_freely(ctx: Context, question: str, choices: list[str] | None = None) -> str:
        """Ask a person."""
        _check_words(question)
        choices = None if choices is None else [storable(each) for each in choices]
        try:
            _answer_type(choices or (), str)
        except Misuse as error:  # the model has made it, and may mend it
            raise InvalidArguments(str(error)) from None
        return await ask_person(ctx, question, choices=choices or (), **asks)

    return ask_freely, f"{_ASKS} With choices, the answer is one of them."


def _check_words(question: str) -> None:
    """Refuse a model's question of no words, which it may mend."""
    if not question.strip():
        raise InvalidArguments(f"question={question!r:.80}: write what is asked")


_ASKS = (
    "Ask a person a question, and wait for the answer. Use it where only a person can know or "
    "decide; say in the question all that is needed to answer it."
)


def _policy(to: str, timeout: timedelta | None, remind: Sequence[timedelta]) -> Policy:
    """Return who is asked and until when; silence is no answer."""
    return Policy(to=to, timeout=timeout, on_timeout="deny" if timeout else None, remind=remind)


def _answer_type(choices: Sequence[str], type_: Any) -> tuple[Annotation, dict[str, Any]]:
    """Return what reads an answer, and its schema."""
    if isinstance(choices, str) or not all(isinstance(each, str) for each in choices):
        raise Misuse(f"choices={choices!r:.200}: write a list of texts")
    if not choices:
        kind = annotation_of(type_, QUESTION)
        _check_members(kind, type_)
        if is_of_secrets(kind.schema):
            raise Misuse(
                f"type={type_!r} has a secret in it, and what a person answers is recorded; have "
                'it where the tool is called, and take it by name: Secret("NAME")'
            )
        return kind, dict(kind.schema or {})
    if type_ is not str:
        raise Misuse("an answer is one of choices= or of a type=, not both")
    if len(set(choices)) < max(_FEWEST, len(choices)):
        raise Misuse(f"choices={list(choices)!r:.200}: give two or more, each once")
    kind = annotation_of(Literal[tuple(choices)], QUESTION)
    return kind, {"enum": list(choices)}


def _check_members(kind: Annotation, type_: Any) -> None:
    """Refuse an enum of which a value, as people send it, reads back as none of its members."""
    for value in kind.schema.get("enum", ()):
        try:
            kind.load(value)
        except Misuse:
            name = getattr(type_, "__name__", type_)
            raise Misuse(
                f"type={name}: nobody could answer {value!r:.200}, which JSON does not give back "
                "as it is; ask for choices= of texts"
            ) from None


def _request(question: str, wrong: str, schema: dict[str, Any], policy: Policy) -> GateRequest:
    asked = f"{question} (asked again: {wrong})" if wrong else question
    digest = digest_of(QUESTION, {"question": asked, "wants": schema})
    return gate_request(
        GateKind.QUESTION,
        QUESTION,
        summary=shortened(asked),
        digest=digest,
        policy=policy,
        shown={"question": asked, "wants": schema},
    )
