"""Decisions: which of several values a reader gets, by the policy that was declared of a predicate.

- A policy lies in the namespace, so all who write and read there have the same one. Who declares
  another one is refused, unless he names the one that it is to replace.
- All that was said stands, with its sources. A decision is a row beside it: by what rule, over
  which rows (those that stood at its `over_n`), by whom. It is written in the commit of the write
  that made it needed, so no reader sees one without the other.
- What a rule has decided it decides anew whenever the outcome changes. What a person or a judge has
  decided stands until a value is said that they have not seen, or the one they chose is gone: then
  it is open again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory.canonical import folded, object_key
from substrate.memory.outcome import Changed, Outcome, Refusal, Request
from substrate.store.ledger import Key, Ledger
from substrate.values.clock import from_ms
from substrate.values.codec import decode, encode
from substrate.values.ids import root_of
from substrate.values.memory import (
    DecisionRow,
    FactRow,
    Policy,
    PolicyRow,
    Space,
    Trust,
    memory_id,
)
from substrate.values.records import JsonText

_FOREVER = 1 << 62
_TWO = 2


def policy_of(ledger: Ledger, space: Space, predicate: str) -> PolicyRow | None:
    """Return what was declared of a predicate."""
    return next(iter(ledger.standing(PolicyRow, space, (predicate,))), None)


def declare(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Declare what becomes of facts of a predicate that disagree."""
    there = policy_of(ledger, space, ask["predicate"])
    given = (ask["policy"], JsonText(encode(ask["voters"])), ask["need"])
    if there is not None and (there.policy, there.voters, there.need) == given:
        return Changed(_declared(there, is_new=False), there.table)
    if (refused := _not_instead(there, ask)) is not None:
        return refused
    if there is not None:
        ledger.close(there, by.now, by.source)
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    new = PolicyRow(
        replace(stamp, prior=there.stamp.n if there else None), ask["predicate"], *given
    )
    ledger.add(new)
    ledger.declare(space)
    renew_all(ledger, space, [new.predicate], by)
    closed = [there.stamp.n] if there else []
    return Changed(_declared(new, is_new=True), new.table, [stamp.n], closed, [new.key])


def _declared(row: PolicyRow, *, is_new: bool) -> dict[str, Any]:
    return {"id": memory_id(row.stamp.space, row.stamp.n), "is_new": is_new}


def _not_instead(there: PolicyRow | None, ask: Mapping[str, Any]) -> Refusal | None:
    """Refuse a policy beside one that stands, and one in the place of another that does not."""
    stands, instead_of = there.policy if there else None, ask["instead_of"]
    if stands == instead_of:
        return None
    if there is None:
        told = (
            f"nothing is declared of {ask['predicate']!r}, and instead_of={instead_of!r} names it"
        )
        return Refusal("MemoryRefused", f"{told}; declare it without instead_of")
    return Refusal(
        "MemoryRefused",
        f"{ask['predicate']!r} is declared as {_shown(there)} by {there.stamp.source} since "
        f"{from_ms(there.stamp.recorded_at):%Y-%m-%d %H:%M} UTC, and not as {ask['policy']!r}; "
        f"declare the same, or replace it with instead_of={there.policy!r}",
    )


def _shown(row: PolicyRow) -> str:
    voters = decode(row.voters)
    of = f" ({row.need} of {', '.join(voters)})" if voters else ""
    return f"{row.policy!r}{of}"


def take_back_policy(
    ledger: Ledger, written: Sequence[PolicyRow], closed: Sequence[PolicyRow], by: Request
) -> bool:
    """Undo a declaration: its own counts no more, the one before does, if nobody declared since."""
    own = [
        each
        for row in written
        for each in ledger.standing(PolicyRow, row.stamp.space, row.key)
        if each.stamp.source == row.stamp.source
    ]
    for row in own:
        ledger.close(row, by.now, by.source)
        for old in closed:
            stamp = ledger.stamp(old.stamp.space, by.now, by.source, old.stamp.trust)
            again = replace(stamp, doc=old.stamp.doc, source=old.stamp.source, prior=old.stamp.n)
            ledger.add(replace(old, stamp=again))
    return bool(own)


def decide(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Decide for a value, as a person or a judge who has seen what stood at a number."""
    key = (folded(ask["subject"]), ask["predicate"])
    declared = policy_of(ledger, space, key[1])
    if declared is None or not Policy(declared.policy).is_told:
        stands = "nothing" if declared is None else repr(declared.policy)
        return Refusal(
            "MemoryRefused",
            f"{key[1]!r} is declared as {stands}, so nobody is asked; declare it as 'ask' or "
            "'judge', and then decide",
        )
    now = ledger.now(space, by.now)
    rows = contested(ledger.standing(FactRow, space, key), now)
    value_key = object_key(ask["object"])
    chosen = next((row for row in rows if row.object_key == value_key), None)
    current = next(iter(ledger.standing(DecisionRow, space, key)), None)
    if _unseen(rows, ask["over"]) or (current is not None and current.stamp.n > ask["over"]):
        # Somebody has said something else since, or has decided: who decides has to look again.
        told = None if current is None else decision_json(current)
        return Changed({"decision": told, "is_new": False}, DecisionRow.table)
    if chosen is None:
        return Refusal(
            "MemoryRefused",
            f"nobody says that {ask['subject']!r:.200} {key[1]} is {ask['object']!r:.200}, or "
            "nobody disagrees; decide for one of the values of the dispute",
        )
    new = _decided(ledger, current, chosen, declared.policy, by, ask)
    closed = [current.stamp.n] if current else []
    told = {"decision": decision_json(new), "is_new": True}
    return Changed(told, new.table, [new.stamp.n], closed, [key])


def take_back_decision(
    ledger: Ledger, written: Sequence[DecisionRow], closed: Sequence[DecisionRow], by: Request
) -> bool:
    """Undo a decision: it is open again, or decided by what is declared now."""
    own = [
        each
        for row in written
        for each in ledger.standing(DecisionRow, row.stamp.space, row.key)
        if each.stamp.source == row.stamp.source
    ]
    for row in own:
        ledger.close(row, by.now, by.source)
        renew(ledger, row.stamp.space, row.key, by)
    return bool(own)


def bring_back(ledger: Ledger, space: Space, numbers: Sequence[int], by: Request) -> None:
    """Let what a person or a judge had decided stand again, when what had reopened it is undone."""
    for n in numbers:
        old = ledger.row(DecisionRow, space, n)
        if old is None or old.stamp.gone_n is None or ledger.standing(DecisionRow, space, old.key):
            continue
        declared = policy_of(ledger, space, old.predicate)
        rows = contested(ledger.standing(FactRow, space, old.key), ledger.now(space, by.now))
        if declared is None or not _stands(old, Policy(declared.policy), rows):
            continue
        stamp = ledger.stamp(space, by.now, by.source, old.stamp.trust)
        stamp = replace(stamp, doc=old.stamp.doc, source=old.stamp.source, prior=n)
        ledger.add(replace(old, stamp=stamp))


def renew(ledger: Ledger, space: Space, key: Key, by: Request) -> int | None:
    """Decide anew of a subject and predicate, after something was said or unsaid of it.

    Returns the number of what a person or a judge had decided, where it is open again.
    """
    declared = policy_of(ledger, space, key[1])
    current = next(iter(ledger.standing(DecisionRow, space, key)), None)
    policy = Policy.MANY if declared is None else Policy(declared.policy)
    if not policy.decides and current is None:
        return None
    rows: Sequence[FactRow] = ()
    if policy.decides:
        rows = contested(ledger.standing(FactRow, space, key), ledger.now(space, by.now))
    chosen = None
    if declared is not None and rows:
        is_kept = current is not None and _stands(current, policy, rows)
        if policy.is_told and is_kept:
            return None
        chosen = None if policy.is_told else choose(declared, rows)
        if is_kept and chosen and current and chosen.object_key == current.object_key:
            return None
    if chosen is not None and declared is not None:
        # As it was said first: that is how a reader gets it.
        first = next(row for row in rows if row.object_key == chosen.object_key)
        _decided(ledger, current, first, declared.policy, by, {})
    elif current is not None:
        ledger.close(current, by.now, by.source)
        return current.stamp.n if policy.is_told else None
    return None


def renew_all(ledger: Ledger, space: Space, predicates: Sequence[str], by: Request) -> None:
    """Decide anew of each subject about which something is said of these predicates."""
    spoken_of = {*ledger.keys(FactRow, space), *ledger.keys(DecisionRow, space)}
    for key in sorted(key for key in spoken_of if key[1] in predicates):
        renew(ledger, space, key, by)


def contested(rows: Sequence[FactRow], now: int | None = None) -> Sequence[FactRow]:
    """Return the rows that disagree with another one, about a time that is not over."""
    left = [row for row in rows if now is None or _end(row) > now]
    if len({row.object_key for row in left}) == 1:
        return []
    left.sort(key=lambda row: row.valid_from)
    found: set[int] = set()
    # Once there and once back, for a subject of which very much is said: of what begins earlier
    # only the last end counts, and of what begins later the first beginning.
    ends = _Extreme(max)
    for row in left:
        if (end := ends.of_another(row.object_key)) is not None and end > row.valid_from:
            found.add(row.stamp.n)
        ends.enter(row.object_key, _end(row))
    begins = _Extreme(min)
    for row in reversed(left):
        if (begin := begins.of_another(row.object_key)) is not None and begin < _end(row):
            found.add(row.stamp.n)
        begins.enter(row.object_key, row.valid_from)
    return [row for row in rows if row.stamp.n in found]


def _end(row: FactRow) -> int:
    return _FOREVER if row.valid_to is None else row.valid_to


class _Extreme:
    """The most extreme moment of all values but a given one: two values are kept for that."""

    def __init__(self, better: Callable[..., int]) -> None:
        self._better = better
        self._best: dict[str, int] = {}

    def enter(self, value: str, moment: int) -> None:
        """Take a moment of a value into account."""
        self._best[value] = self._better(moment, self._best.get(value, moment))
        if len(self._best) > _TWO:
            ranked = sorted(self._best, key=self._best.__getitem__)
            del self._best[ranked[0] if self._better(0, 1) else ranked[-1]]

    def of_another(self, value: str) -> int | None:
        """Return the most extreme moment of the others."""
        others = [moment for each, moment in self._best.items() if each != value]
        return self._better(others) if others else None


def choose(declared: PolicyRow, rows: Sequence[FactRow]) -> FactRow | None:
    """Return a row of the value that the rule is for; None where it is for none."""
    match declared.policy:
        case Policy.LATEST:
            return max(rows, key=lambda row: row.stamp.n)
        case Policy.SUREST:
            return max(rows, key=lambda row: (row.confidence, row.stamp.n))
        case Policy.SOURCES:
            said = {(row.object_key, root_of(row.stamp.source)) for row in rows}
            many = Counter(value for value, _ in said)
            return max(rows, key=lambda row: (many[row.object_key], row.stamp.n))
        case Policy.VOTE:
            return _voted(decode(declared.voters), declared.need, rows)
    return None


def _voted(voters: Iterable[str], need: int, rows: Sequence[FactRow]) -> FactRow | None:
    """Return a row of the value that enough voters say, each with what he has said last."""
    votes: list[FactRow] = []
    for voter in voters:
        own = [row for row in rows if _is_of(voter, row.stamp.source)]
        votes += [max(own, key=lambda row: row.stamp.n)] if own else []
    many = Counter(row.object_key for row in votes).most_common(2)
    if not many or many[0][1] < need or (len(many) > 1 and many[0][1] == many[1][1]):
        return None
    return next(row for row in votes if row.object_key == many[0][0])


def _is_of(voter: str, source: str) -> bool:
    root = root_of(source)
    return root == voter or root.startswith(f"{voter}/")


def _stands(current: DecisionRow, policy: Policy, rows: Sequence[FactRow]) -> bool:
    """Whether a decision is by this rule, for a value that is said, with all of them seen."""
    is_said = any(row.object_key == current.object_key for row in rows)
    return current.policy == policy and is_said and not _unseen(rows, current.over_n)


def _unseen(rows: Sequence[FactRow], over_n: int) -> bool:
    """Whether one of these rows says what none has said that stood at a number."""
    seen = {row.object_key for row in rows if row.stamp.n <= over_n}
    return any(row.object_key not in seen for row in rows)


def _decided(  # noqa: PLR0917 - what a decision is made of
    ledger: Ledger,
    current: DecisionRow | None,
    chosen: FactRow,
    policy: str,
    by: Request,
    told: Mapping[str, Any],
) -> DecisionRow:
    if current is not None:
        ledger.close(current, by.now, by.source)
    trust = Trust(told.get("trust", Trust.AGENT))
    stamp = ledger.stamp(chosen.stamp.space, by.now, by.source, trust)
    new = DecisionRow(
        replace(stamp, prior=current.stamp.n if current else None),
        chosen.subject,
        chosen.subject_key,
        chosen.predicate,
        policy,
        chosen.object,
        chosen.object_key,
        min(told.get("over", stamp.n), stamp.n),
        told.get("by", ""),
        told.get("reason", ""),
    )
    ledger.add(new)
    return new


def decision_json(row: DecisionRow) -> dict[str, Any]:
    """Return a decision as a journal keeps it."""
    return {
        "id": memory_id(row.stamp.space, row.stamp.n),
        "value": decode(row.object),
        "policy": row.policy,
        "by": row.decided_by,
        "reason": row.reason,
        "over": row.over_n,
        "source": row.stamp.source,
        "decided_at": row.stamp.recorded_at,
    }
