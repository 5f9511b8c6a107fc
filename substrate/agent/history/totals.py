"""What a journal adds up to: steps, turns, tokens and cost, and where the run goes on. Pure.

A step counts when it is settled; a turn is a settled call of the model by the loop itself. A cost
is None as soon as the price of one call is not known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from substrate.agent.model_call import MODEL, SUMMARY
from substrate.agent.transcript import NOTHING
from substrate.agent.usage import usage_from
from substrate.models.messages import PassedOver, Usage
from substrate.values.codec import decode
from substrate.values.records import JsonText, Kind, Promise, PromiseState

TOOLS = "tools"
MODEL_CALLS = (MODEL, SUMMARY)
_LOOP = {"prompt", MODEL, TOOLS, SUMMARY, "warning", "heard", "spent"}


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of a journal."""

    steps: int = 0
    turns: int = 0
    usage: Usage = NOTHING

    @classmethod
    def of(cls, journal: Iterable[Promise]) -> "Totals":
        """Return the sums of these promises."""
        tally = cls()
        for promise in journal:
            tally = tally.plus(promise)
        return tally

    def plus(self, promise: Promise) -> "Totals":
        """Return the sums with a promise more, which counts once it is settled."""
        if promise.kind is Kind.RUN or not promise.is_settled:
            return self
        return replace(
            self,
            steps=self.steps + 1,
            turns=self.turns + is_turn(promise),
            usage=self.usage + usage_of(promise),
        )


def is_turn(promise: Promise) -> bool:
    """Whether this is a reply of the model to the loop."""
    is_reply = promise.name == MODEL and promise.state is PromiseState.RESOLVED
    return is_reply and "/" not in promise.key


def is_tool_call(promise: Promise) -> bool:
    """Whether this is a tool that the loop called: ``tools.3/search.0``."""
    scope, _, rest = promise.key.partition("/")
    return scope.startswith(f"{TOOLS}.") and rest != "" and "/" not in rest


def usage_of(promise: Promise) -> Usage:
    """Return what a step consumed: nothing, where it did not say."""
    return usage_from(decode(promise.usage)) if promise.usage else NOTHING


def model_of(promise: Promise) -> str:
    """Return which model answered in this step, as ``provider:name``."""
    record = decode(promise.usage) if promise.usage else None
    return str(record.get("model", "")) if isinstance(record, dict) else ""


def calls_of(promise: Promise) -> Sequence[dict[str, Any]]:
    """Return the tool calls that a reply of the model asks for."""
    return [part for part in _parts(promise) if part.get("type") == "tool_call"]


def words_of(promise: Promise) -> str:
    """Return what the model said in a reply."""
    return "".join(part["text"] for part in _parts(promise) if part.get("type") == "text")


def passed_over_of(promise: Promise) -> Sequence[PassedOver]:
    """Return the models that were to answer before the one that did."""
    value = decode(promise.value or JsonText("null"))
    found = value.get("passed_over") if isinstance(value, dict) else None
    return [PassedOver.from_json(each) for each in found] if isinstance(found, list) else []


def invalid_of(promise: Promise) -> str | None:
    """Return why a reply is not what was asked for, if it is not."""
    value = decode(promise.value or JsonText("null"))
    found = value.get("invalid") if isinstance(value, dict) else None
    return str(found["told"]) if isinstance(found, dict) and "told" in found else None


def tool_of(promise: Promise) -> tuple[str, dict[str, Any]]:
    """Return which tool the model asked for, by its own name for it, and with what."""
    given = decode(promise.input or JsonText("null"))
    if not isinstance(given, dict):
        return promise.name, {}
    arguments = given.get("arguments")
    return given.get("tool", promise.name), arguments if isinstance(arguments, dict) else {}


def next_key(journal: Sequence[Promise]) -> str | None:
    """Return the key at which the loop goes on, or None where the journal is no plain loop's.

    That is what was begun and has no outcome, else the first tool that was asked for and not
    called, else the next call of the model.
    """
    keys: dict[str, Promise] = {each.key: each for each in journal if each.kind is not Kind.RUN}
    if not {key.partition(".")[0] for key in keys} <= _LOOP:
        return None
    pending = [key for key, each in keys.items() if not each.is_settled]
    if pending:
        return pending[0]
    turns = sum(map(is_turn, journal))
    last = keys.get(f"{MODEL}.{turns - 1}") if turns else None
    if last is None:
        return f"{MODEL}.0" if keys else "prompt.0"
    return _missing_call(last, f"{TOOLS}.{turns - 1}", keys) or f"{MODEL}.{turns}"


def _missing_call(reply: Promise, scope: str, keys: Iterable[str]) -> str | None:
    """Return the key of the first call that a reply asks for and that has no row yet."""
    calls = calls_of(reply)
    made = {key for key in keys if key.startswith(f"{scope}/") and key.count("/") == 1}
    if len(made) >= len(calls):
        return None
    ordinals: dict[str, int] = {}
    for name in (each["name"] for each in calls):
        ordinals[name] = ordinals.get(name, -1) + 1
        if (key := f"{scope}/{name}.{ordinals[name]}") not in made:
            return key
    return None


def _parts(promise: Promise) -> Sequence[dict[str, Any]]:
    value = decode(promise.value or JsonText("null"))
    parts = value.get("parts") if isinstance(value, dict) else None
    return parts if isinstance(parts, list) else []
