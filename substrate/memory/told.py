"""What the rows say by which many agents agree: policies, decisions, motions and ballots."""

from collections.abc import Iterable, Iterator
from typing import Any

from substrate.memory.canonical import folded
from substrate.values.codec import decode
from substrate.values.memory import (
    BallotRow,
    DecisionRow,
    FactRow,
    MotionRow,
    PolicyRow,
    Row,
)

Agreed = PolicyRow | DecisionRow | MotionRow | BallotRow


def told(row: Agreed) -> str:
    """Return what a row says, in a line."""
    match row:
        case PolicyRow():
            voters = decode(row.voters)
            of = f" of {', '.join(voters)}, {row.need} of them" if voters else ""
            return f"{row.predicate} is decided by {row.policy}{of}"
        case DecisionRow():
            by = f"{row.policy}: {row.decided_by}" if row.decided_by else row.policy
            why = f"; {row.reason}" if row.reason else ""
            return f"{row.subject} {row.predicate} is {row.object}, by {by} as of {row.over_n}{why}"
        case MotionRow():
            return f"{row.topic}: {row.object} is {row.state}, {row.need} votes needed"
        case BallotRow():
            return f"{row.voter} votes for {row.object} on {row.topic_key}"


def words_of(row: Agreed) -> tuple[str, Any]:
    """Return all that somebody has written in a row: text, and a value with its texts."""
    match row:
        case PolicyRow():
            return row.predicate, decode(row.voters)
        case DecisionRow():
            return f"{row.subject} {row.decided_by} {row.reason}", decode(row.object)
        case MotionRow():
            return row.topic, [decode(row.voters), decode(row.object)]
        case BallotRow():
            return row.voter, decode(row.object)


def is_about(row: Agreed, key: str, value: str) -> bool:
    """Whether a row speaks of a name, in its canonical form, or has it as its value."""
    match row:
        case DecisionRow():
            return key in (row.subject_key, folded(row.decided_by)) or row.object_key == value
        case MotionRow():
            return row.topic_key == key or row.object_key == value
        case BallotRow():
            return key in (row.topic_key, folded(row.voter)) or row.object_key == value
        case PolicyRow():
            return False


def along_with(rows: Iterable[Row], numbers: set[int]) -> Iterator[int]:
    """Yield the numbers of what was decided for facts that go, and of the votes on motions that do.

    They have the same value, or are about the same.
    """
    rows = list(rows)
    gone = [row for row in rows if row.stamp.n in numbers]
    facts = {(row.key, row.object_key) for row in gone if isinstance(row, FactRow)}
    topics = {row.topic_key for row in gone if isinstance(row, MotionRow)}
    for row in rows:
        is_decided = isinstance(row, DecisionRow) and (row.key, row.object_key) in facts
        is_voted = isinstance(row, BallotRow) and row.topic_key in topics
        if is_decided or is_voted:
            yield row.stamp.n
