"""Standing rules: what people have decided of calls to come, and how a call is judged by them.

Rules are rows, and a policy in code may have some of its own. Of those that speak of a call, deny
beats ask, and ask beats allow, in whatever order they were made. They are judged on the arguments
as the tool's types have them, and on those that will run, never on text.

Invariant: a rule that cannot be judged lets nothing through. An allow whose comparison has no
answer does not count; a deny or an ask does.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from substrate.agent.rule_condition import RuleCondition, read_time
from substrate.values.errors import Misuse
from substrate.values.gates import Rule, RuleVerdict
from substrate.values.ids import RunId
from substrate.values.whole_text import storable

CODE = "(code)"
"""Who has made a rule that stands in a policy; no person is called so, for brackets are no name."""

_FORM = "write VERDICT TOOL [where CONDITION], as in: allow refund where cents < 2000"
_ORDER = (RuleVerdict.DENY, RuleVerdict.ASK, RuleVerdict.ALLOW)


@dataclass(frozen=True, slots=True)
class Judged:
    """A call that is to be judged."""

    #: The tool's name.
    tool: str
    #: The arguments that will run, as JSON.
    arguments: Mapping[str, Any]
    #: The root of the tree in which it is made.
    root_id: RunId
    #: The agent that makes it.
    agent: str
    #: When, in ms.
    now: int


def judged_arguments(checked: Any) -> Any:
    """Return a tool's own types as what rules are judged on: JSON, but for numbers and times.

    A Decimal is a number; a date, a moment, a time of day and a duration stay what they are.
    """
    if isinstance(checked, Decimal | date | time | timedelta):
        return checked
    if isinstance(checked, BaseModel):
        found = dict(checked.model_extra or {})
        for name, field in type(checked).model_fields.items():
            # By each of its names: whoever writes a rule knows one of them.
            for each in (name, field.alias, field.serialization_alias):
                if each is not None:
                    found[each] = getattr(checked, name)
        return {name: judged_arguments(value) for name, value in found.items()}
    if is_dataclass(checked) and not isinstance(checked, type):
        return {
            each.name: judged_arguments(getattr(checked, each.name)) for each in fields(checked)
        }
    if isinstance(checked, Mapping):
        return {str(name): judged_arguments(value) for name, value in checked.items()}
    if isinstance(checked, list | tuple | set | frozenset):
        return [judged_arguments(each) for each in checked]
    return to_jsonable_python(checked)


def judged_by_schema(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Do as `judged_arguments` where the tool is not there: by the schema of its arguments."""
    fields_ = schema.get("properties") or {}
    return {name: _timed(value, fields_.get(name)) for name, value in arguments.items()}


_TIMES = {"date": date, "date-time": datetime, "time": time, "duration": timedelta}


def _timed(value: Any, schema: Any) -> Any:
    """Return text that is a date or a time by its schema as that; all else as it is."""
    if not isinstance(value, str) or not isinstance(schema, Mapping):
        return value
    for each in (schema, *(schema.get("anyOf") or ())):
        kind = _TIMES.get(each.get("format", "")) if isinstance(each, Mapping) else None
        if kind is not None and (found := read_time(kind, value)) is not None:
            return found
    return value


def judge(rules: Iterable[Rule], call: Judged) -> Rule | None:
    """Return the rule that decides a call, if one speaks of it: deny, then ask, then allow."""
    found = [rule for rule in rules if _speaks_of(rule, call)]
    for verdict in _ORDER:
        for rule in found:
            if rule.verdict is verdict:
                return rule
    return None


def _speaks_of(rule: Rule, call: Judged) -> bool:
    if rule.expires_at is not None and rule.expires_at <= call.now:
        return False
    if rule.uses_left is not None and rule.uses_left <= 0:
        return False
    if rule.root_id not in (None, call.root_id) or rule.agent not in (None, call.agent):
        return False
    if not fnmatchcase(call.tool, rule.tool):
        return False
    try:
        holds = RuleCondition.parse(rule.condition).holds(call.arguments)
    except Misuse:  # a row that was written by hand
        holds = None
    return rule.verdict is not RuleVerdict.ALLOW if holds is None else holds


def read_rule(text: str, *, by: str, now: int) -> Rule:
    """Read a rule as people write it: ``allow refund where cents < 2000``. Raises `Misuse`."""
    if storable(text) != text:
        raise Misuse(f"the rule {text!a:.300} has half a character or a NUL; take it out")
    head, where, condition = text.strip().partition(" where ")
    words = head.split()
    if len(words) != 2:
        raise Misuse(f"the rule {text!r:.300} cannot be read; {_FORM}")
    verdict, tool = words
    if verdict not in list(RuleVerdict):
        raise Misuse(f"the rule {text!r:.300} begins with {verdict!r}: allow, ask or deny; {_FORM}")
    if where and not condition.strip():
        raise Misuse(f"the rule {text!r:.300} has no condition after `where`; {_FORM}")
    RuleCondition.parse(condition)
    return Rule(
        id=secrets.token_hex(4),
        verdict=RuleVerdict(verdict),
        tool=tool,
        condition=condition.strip(),
        root_id=None,
        agent=None,
        uses_left=None,
        expires_at=None,
        reason=None,
        created_by=by,
        created_at=now,
    )


def rule_words(rule: Rule) -> str:
    """Return a rule as it is written."""
    where = f" where {rule.condition}" if rule.condition else ""
    return f"{rule.verdict.value} {rule.tool}{where}"


def limited(rule: Rule, *, uses: int | None, lasts: timedelta | None) -> Rule:
    """Return a rule that ends after so many uses, or after that time. Raises `Misuse`."""
    if uses is not None and (isinstance(uses, bool) or uses < 1):
        raise Misuse(f"uses={uses!r}: give 1 or more, as a whole number")
    if uses is not None and rule.verdict is not RuleVerdict.ALLOW:
        raise Misuse(f"uses={uses!r} is for a rule that allows; {rule.verdict.value} holds always")
    over = None if lasts is None else rule.created_at + round(lasts.total_seconds() * 1000)
    return replace(rule, uses_left=uses, expires_at=over)
