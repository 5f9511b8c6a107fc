"""`confident`: an answer is one when the model is sure enough of it, and says what is missing else.

The model is asked for JSON in which its answer, of whatever type or in plain words, stands beside a
number from 0 to 1 and what is missing. What it says of itself is recorded with the reply
(`Confidence`), and the answer is taken out of it again. An answer of less goes back, with what is
missing, `times` times; then the loop ends as `confidence`, with the answer that there is.

Invariants: pure; a reply tells by its record whether an answer stands in it like this, whatever the
hooks say by now.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, create_model

from substrate.agent.answer_type import CORRECTIONS, TypedAnswer, problem_with
from substrate.agent.condition import Condition, Needs
from substrate.agent.end import Advice, End, EndReason, Measure, Stop, Verdict
from substrate.agent.ended import answer_in, nothing_more
from substrate.agent.transcript import Transcript
from substrate.models.messages import Confidence, Json, Reply
from substrate.models.providers.answer_schema import read_answer, taken_out
from substrate.values.errors import Misuse
from substrate.values.number import is_number, is_whole

SOURCE = "confidence"
"""Whose advice it is to revise an answer that is not sure enough."""

TIMES = 3
"""How often an answer that is not sure enough goes back."""

_SURE = "How sure you are that the answer is right and whole: 0 is not at all, 1 is certain."
_MISSING = "What would make you sure, in a sentence or two; empty where nothing is missing."


def confident(least: float, *, times: int = TIMES) -> Stop:
    """Stop with an answer of which the model is at least so sure, as it says itself.

    The model is asked to say with each answer how sure it is and what is missing; with the agent's
    `answer` type and without. An answer of less is none, also for `answered`: it goes back with
    what is missing, and the loop goes on. The answer itself is as if nobody had asked.

    Args:
        least: Above 0, to 1.
        times: How often an answer goes back, 0 or more. One that is still not sure enough ends the
            loop as ``confidence``, which is no complete answer.

    Raises:
        Misuse: a number that is none of these.

    Example:
        >>> stop = any_of(confident(0.8), max_turns(20))
    """
    if not is_number(least) or not 0 < least <= 1:
        raise Misuse(f"confident({least!r:.60}): give a number above 0 and at most 1, such as 0.8")
    if not is_whole(times) or times < 0:
        raise Misuse(f"times={times!r:.60}: give 0 or more, as a whole number")

    def stop(transcript: Transcript) -> Verdict:
        if (end := nothing_more(transcript)) is not None:
            return end
        reply = answer_in(transcript)
        if reply is None:
            return None
        sure = reply.confidence
        if sure is not None and sure.value >= least:
            return End(EndReason.ANSWERED, f"{sure.value:g} sure of it")
        if transcript.revisions.count(SOURCE) >= times:
            return End(EndReason.CONFIDENCE, _unsure(sure, least))
        return Advice(Measure.REVISE, _plea(sure, least), SOURCE)

    return Condition(stop, Needs(confidence=float(least)))


@dataclass(frozen=True)
class ConfidentAnswer:
    """An answer beside which the model says how sure it is: what is asked for, how it is read."""

    #: What is wanted.
    least: float
    #: The type of the answer; None for words.
    typed: TypedAnswer | None = None

    @property
    def corrections(self) -> int:
        """How often a model may mend an answer that does not fit."""
        return CORRECTIONS if self.typed is None else self.typed.corrections

    @property
    def schema(self) -> dict[str, Json]:
        """The JSON Schema of both."""
        return _schema(self._adapter)

    def problem(self, reply: Reply) -> str | None:
        """Say what is wrong with an answer, field by field, for the model to mend; else None."""
        return problem_with(self._read, reply)

    def marked(self, reply: Reply) -> Reply:
        """Return a reply with how sure it is of its answer; as it is, where it does not say."""
        try:
            said = self._read(reply.text)
        except (ValueError, RecursionError):
            return reply
        return replace(reply, confidence=Confidence(said.confidence, self.least, said.missing))

    def value(self, text: str) -> Json:
        """Return an answer that was taken out as JSON of its type; None where that is words."""
        return None if self.typed is None else self.typed.value(text)

    def _read(self, text: str) -> Any:
        return self._adapter.validate_json(json.dumps(read_answer(text)))

    @property
    def _adapter(self) -> TypeAdapter[Any]:
        type_ = None if self.typed is None else self.typed.type
        try:
            return _adapter(type_)
        except TypeError:  # it has no hash
            return _adapter.__wrapped__(type_)


Asked = TypedAnswer | ConfidentAnswer
"""What an answer is asked for as, where it is to be JSON."""


def answer_words(reply: Reply) -> str:
    """Return the words of a reply's answer: those in it, where it says how sure it is."""
    return reply.text if reply.confidence is None else taken_out(reply.text)


def _says_something(words: str) -> str:
    if not words.strip():
        raise ValueError("it is empty; give the answer in words")
    return words


_Words = Annotated[str, AfterValidator(_says_something)]


@lru_cache(maxsize=64)
def _adapter(type_: Any) -> TypeAdapter[Any]:
    fields: dict[str, Any] = {
        "answer": (_Words if type_ is None else type_, ...),
        "confidence": (float, Field(ge=0, le=1, strict=True, description=_SURE)),
        "missing": (str, Field(description=_MISSING)),
    }
    made: type[BaseModel] = create_model("Answer", **fields)
    return TypeAdapter(made)


@lru_cache(maxsize=64)
def _schema(adapter: TypeAdapter[Any]) -> dict[str, Json]:
    return adapter.json_schema()


def _unsure(sure: Confidence | None, least: float) -> str:
    if sure is None:
        return f"the answer does not say how sure it is, and {least:g} is wanted"
    missing = f"; missing: {sure.missing.strip()}" if sure.missing.strip() else ""
    return f"{sure.value:g} sure of the answer, and {least:g} is wanted{missing}"


def _plea(sure: Confidence | None, least: float) -> str:
    if sure is None:
        return (
            f"Say how sure you are of this answer: give it again, with that. {least:g} is wanted."
        )
    missing = sure.missing.strip() or "you did not say what"
    return (
        f"You are {sure.value:g} sure of this answer, and {least:g} is wanted. What is missing, as "
        f"you say: {missing}. Find that out, then give the whole answer again, and say anew how "
        "sure you are."
    )
