"""What each row of an agent says: one reading for each thing that it keeps. Pure.

How the rows are named, and which there are, is in `keys`.

Invariant: a reading never raises for a row of another kind: it says that there is nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from substrate.agent.history.keys import (
    CHECK,
    COMPACT,
    HANDOFF,
    MODEL,
    MODEL_CALLS,
    PROMPT,
    SCORE,
    TOOLS,
    in_generation,
)
from substrate.models.messages import Confidence, Json, PassedOver
from substrate.models.providers.answer_schema import read_answer, taken_out
from substrate.values.codec import decode
from substrate.values.records import JsonText, Kind, Promise, PromiseState

_PROMPT_FIELDS = {"system", "prompt", "version", "task", "granted", "woken"}


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """Which version of which prompt a run was given."""

    #: The prompt's name.
    prompt: str
    #: The name of the version.
    version: str


@dataclass(frozen=True, slots=True)
class ModelCallRow:
    """What the row of a model call says of its request, without the messages themselves."""

    #: How many messages were sent that the call before had not.
    added: int
    #: The key of the call that this one goes on from; None where it begins anew.
    previous: str | None
    #: The version of the prompt, where it has some.
    version: str | None


@dataclass(frozen=True, slots=True)
class PanelRow:
    """What a turn's row tells of the panel that answered."""

    #: How one answer was made of the votes, in a word.
    merge: str
    #: The members whose vote counted, in their order, and whether each agrees with the answer.
    votes: Mapping[str, bool]
    #: Why members have no vote, by name.
    missing: Mapping[str, str]
    #: The members that were not waited for.
    left: Sequence[str]
    #: Why it is this answer, in words.
    why: str
    #: What all of them used together: ``model.n`` has only what was estimated, each row its own.
    usage: Json


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What a check said of an answer."""

    #: The check's name.
    name: str
    #: What is wrong with the answer; None where it passes.
    problem: str | None
    #: False for the reply of a judge that is none, after which it is asked again.
    is_judgement: bool = True


@dataclass(frozen=True, slots=True)
class CutRow:
    """What a row tells of what was left out of a transcript, to make room."""

    #: Why room was made: ``fill``, ``full`` or ``budget``.
    cause: str
    #: The strategies of that day.
    policy: str
    #: The first and the last row that is not sent any more, where one stands in a row.
    first: str | None
    last: str | None
    #: How many messages are gone.
    messages: int
    #: How many results are shortened.
    results: int
    #: About how many tokens there were to read, and how many are left.
    before: int
    after: int
    #: How many the model may read, where that was known.
    window: int | None
    #: The keys of the rows that are not sent any more, or not whole.
    keys: Sequence[str]
    #: How many facts went to memory.
    facts: int
    #: What went wrong, by what was asked for.
    failed: Mapping[str, str]


def value_of(row: Promise) -> Json:
    """Return a row's value, decoded; None where it has none."""
    return decode(row.value or JsonText("null"))


def input_of(row: Promise) -> dict[str, Json]:
    """Return what a row was given, decoded; empty where that is no object."""
    given = decode(row.input or JsonText("{}"))
    return given if isinstance(given, dict) else {}


def is_turn(row: Promise) -> bool:
    """Whether this is a reply of the model to the loop."""
    is_reply = row.name == MODEL and row.state is PromiseState.RESOLVED
    # Below another key, a tool's own loop has asked.
    return is_reply and "/" not in in_generation(row.key)


def is_vote(row: Promise) -> bool:
    """Whether this is what a member of a panel, or who judges its answers, said.

    ``model.3/opus.0``; and ``model.3/judge.0/opus.0``, ``check.3/rubric.0/opus.0`` of judges.
    """
    scope, *below = in_generation(row.key).split("/")
    if scope.startswith(f"{CHECK}."):
        return len(below) > 1
    return scope.startswith(f"{MODEL}.") and len(below) > 0


def panel_of(row: Promise) -> PanelRow | None:
    """Return what the row of a turn, or of a judge, tells of a panel; None where it is of none."""
    is_judge = is_vote(row) or in_generation(row.key).startswith(f"{CHECK}.")
    found = _field(row, "panel") if row.name == MODEL or is_judge else None
    if not isinstance(found, dict):
        return None
    return PanelRow(
        str(found["merge"]),
        {each["member"]: bool(each["agrees"]) for each in found["votes"]},
        {each["member"]: str(each["why"]) for each in found["missing"]},
        [str(each) for each in found["left"]],
        str(found["why"]),
        found["usage"],
    )


def is_tool_call(row: Promise) -> bool:
    """Whether this is a tool that the loop called: ``tools.3/search.0``."""
    scope, _, rest = in_generation(row.key).partition("/")
    return scope.startswith(f"{TOOLS}.") and rest != "" and "/" not in rest


def is_deferred(gate: Promise) -> bool:
    """Whether this is a gate before a call that the loop goes on without."""
    return gate.kind is Kind.GATE and "mark" in input_of(gate)


def model_of(row: Promise) -> str:
    """Return which model answered in this step, as ``provider:name``; empty where none did."""
    record = decode(row.usage) if row.usage else None
    return str(record.get("model", "")) if isinstance(record, dict) else ""


def calls_of(row: Promise) -> Sequence[dict[str, Any]]:
    """Return the tool calls that a reply of the model asks for."""
    return [part for part in _parts(row) if part.get("type") == "tool_call"]


def words_of(row: Promise) -> str:
    """Return what the model said in a reply; of an answer that says how sure it is, that alone."""
    words = "".join(part["text"] for part in _parts(row) if part.get("type") == "text")
    return words if confidence_of(row) is None else taken_out(words)


def confidence_of(row: Promise) -> Confidence | None:
    """Return how sure a reply is of its answer, if it was asked."""
    found = _field(row, "confidence") if row.name == MODEL else None
    return None if found is None else Confidence.from_json(found)


def check_of(row: Promise) -> CheckRow | None:
    """Return what a check said of an answer; None for any other row, and where it said nothing."""
    scope, _, rest = in_generation(row.key).partition("/")
    is_check = scope.startswith(f"{CHECK}.") and rest != "" and "/" not in rest
    if not is_check or row.state is not PromiseState.RESOLVED:
        return None
    value, given = value_of(row), input_of(row)
    if given.get("check") == row.name and isinstance(value, str | None):
        return CheckRow(row.name, value)
    if "frame" not in given or not _parts(row):
        return None
    words = "".join(part["text"] for part in _parts(row) if part.get("type") == "text")
    if invalid_of(row) is not None:
        return CheckRow(row.name, None, is_judgement=False)
    said = read_answer(words)
    return CheckRow(row.name, None if said["passed"] else str(said["reason"]))


def passed_over_of(row: Promise) -> Sequence[PassedOver]:
    """Return the models that were to answer before the one that did."""
    found = _field(row, "passed_over")
    return [PassedOver.from_json(each) for each in found] if isinstance(found, list) else []


def invalid_of(row: Promise) -> str | None:
    """Return why a reply is not what was asked for, if it is not."""
    found = _field(row, "invalid")
    return str(found["problems"]) if isinstance(found, dict) and "problems" in found else None


def tool_of(row: Promise) -> tuple[str, dict[str, Any]]:
    """Return which tool the model asked for, by its own name for it, and with what."""
    given = input_of(row)
    arguments = given.get("arguments")
    return given.get("tool", row.name), arguments if isinstance(arguments, dict) else {}


def model_call_of(row: Promise) -> ModelCallRow | None:
    """Return what a model call's row says of its request; None for any other row."""
    given = input_of(row)
    if not (row.name in MODEL_CALLS or is_vote(row)) or "add" not in given:
        return None
    prompt = given.get("prompt")
    version = prompt["version"] if isinstance(prompt, dict) else None
    return ModelCallRow(len(given["add"]), given["prev"], version)


def prompt_version_of(row: Promise) -> PromptVersion | None:
    """Return the version of the prompt that a run was given; None for any other row."""
    value = value_of(row) if row.name == PROMPT else None
    if not isinstance(value, dict) or not {"prompt", "version"} <= value.keys():
        return None
    return PromptVersion(str(value["prompt"]), str(value["version"]))


def system_prompt_of(row: Promise) -> str | None:
    """Return the system prompt that a run was given; None for any other row."""
    value = value_of(row)
    if not isinstance(value, dict) or "system" not in value or not value.keys() <= _PROMPT_FIELDS:
        return None
    return str(value["system"])


def task_of(row: Promise) -> str | None:
    """Return the words of the task that a child was given; None where it was given none."""
    task = input_of(row).get("task")
    return str(task["text"]) if isinstance(task, dict) and "text" in task else None


def answer_of(row: Promise) -> tuple[str, str] | None:
    """Return the words of an agent's answer, and why it ended; None where a row has none."""
    value = value_of(row)
    if not isinstance(value, dict) or not {"text", "reason", "turns"} <= value.keys():
        return None
    return str(value["text"]), str(value["reason"])


def handoff_of(row: Promise) -> tuple[str, str] | None:
    """Return to whom the conversation was given, and the prompt there; None for any other row."""
    value = value_of(row) if row.name == HANDOFF else None
    if not isinstance(value, dict) or not {"to", "system"} <= value.keys():
        return None
    return str(value["to"]), str(value["system"])


def cut_of(row: Promise) -> CutRow | None:
    """Return what was left out of a transcript; None for any other row."""
    value, given = value_of(row) if row.name == COMPACT else None, input_of(row)
    if not isinstance(value, dict) or not {"cut", "tokens", "keys"} <= value.keys():
        return None
    cut = value["cut"]
    before, after = value["tokens"]
    return CutRow(
        str(given.get("cause", "")),
        str(given.get("policy", "")),
        given.get("from"),
        given.get("to"),
        sum(end - begin for begin, end in cut["gone"]),
        len(cut["results"]),
        int(before),
        int(after),
        given.get("window"),
        [str(each) for each in value["keys"]],
        int(value.get("facts", 0)),
        {str(name): str(why) for name, why in value.get("failed", {}).items()},
    )


def score_of(journal: Sequence[Promise]) -> float | None:
    """Return the last number that a step called ``score`` came to; None where there is none."""
    rows = (row for row in journal if row.name == SCORE and row.state is PromiseState.RESOLVED)
    numbers = [each for each in map(value_of, rows) if isinstance(each, int | float | Decimal)]
    return float(numbers[-1]) if numbers else None


def _field(row: Promise, name: str) -> Json:
    value = value_of(row)
    return value.get(name) if isinstance(value, dict) else None


def _parts(row: Promise) -> Sequence[dict[str, Any]]:
    parts = _field(row, "parts")
    return parts if isinstance(parts, list) else []
