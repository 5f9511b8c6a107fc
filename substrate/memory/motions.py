"""Motions: many vote on a key, and one outcome is recorded, once.

- Who proposes what is proposed already gets the motion that stands, so all of them vote on one.
- A motion is closed in the commit of the vote that decides it, or of whoever comes first when its
  time is over. What stands then stands for ever: a later vote is told so, and counts for nothing.
- A voter has one vote. While the motion is open he may change it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from substrate.memory.canonical import folded, object_key
from substrate.memory.outcome import Changed, Outcome, Refusal, Request
from substrate.store.ledger import Ledger
from substrate.values.codec import decode, encode
from substrate.values.memory import (
    BallotRow,
    MotionRow,
    MotionState,
    Space,
    Trust,
    memory_id,
)
from substrate.values.records import JsonText


def propose(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Open a motion, or return the one that there is."""
    key = (folded(ask["topic"]),)
    if there := ledger.standing(MotionRow, space, key):
        motion = _in_time(ledger, there[0], by)
        return Changed({"motion": _told(ledger, motion), "is_new": False}, motion.table)
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    ends_in = ask["timeout_ms"]
    motion = MotionRow(
        stamp,
        ask["topic"],
        key[0],
        JsonText(encode(ask["voters"])),
        ask["need"],
        None if ends_in is None else stamp.recorded_at + ends_in,
        MotionState.OPEN.value,
        JsonText(encode(ask["object"])),
        object_key(ask["object"]),
    )
    ledger.add(motion)
    told = {"motion": _told(ledger, motion), "is_new": True}
    return Changed(told, motion.table, [stamp.n], [], [key])


def vote(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Vote for a value; tell what stands where that is decided already."""
    key = (folded(ask["topic"]),)
    there = ledger.standing(MotionRow, space, key)
    if not there:
        return Refusal("MemoryRefused", f"nobody has proposed {ask['topic']!r:.200}; propose it")
    motion = _in_time(ledger, there[0], by)
    voters = decode(motion.voters)
    if ask["voter"] not in voters:
        return Refusal(
            "MemoryRefused",
            f"{ask['voter']!r:.200} has no vote on {motion.topic!r:.200}; these have one: "
            f"{', '.join(voters)}",
        )
    if motion.state != MotionState.OPEN:
        return Changed({"motion": _told(ledger, motion), "is_counted": False}, BallotRow.table)
    added, closed = _cast(ledger, motion, ask, by)
    motion = _counted(ledger, motion, by)
    told = {"motion": _told(ledger, motion), "is_counted": True}
    return Changed(told, BallotRow.table, added, closed, [key])


def outcome(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Return a motion as it stands, closed if its time is over."""
    there = ledger.standing(MotionRow, space, (folded(ask["topic"]),))
    if not there:
        return Refusal("MemoryRefused", f"nobody has proposed {ask['topic']!r:.200}; propose it")
    motion = _in_time(ledger, there[0], by)
    return Changed({"motion": _told(ledger, motion)}, motion.table)


def take_back_motion(
    ledger: Ledger, written: Sequence[MotionRow], closed: Sequence[MotionRow], by: Request
) -> bool:
    """Undo a proposal: it is voted on no more, if nobody has closed it."""
    own = [row for row in written if row.stamp.gone_n is None]
    for row in own:
        ledger.close(row, by.now, by.source)
    return bool(own)


def take_back_ballot(
    ledger: Ledger, written: Sequence[BallotRow], closed: Sequence[BallotRow], by: Request
) -> bool:
    """Undo a vote: it counts no more, if the motion is open. An outcome stands."""
    own = [row for row in written if row.stamp.gone_n is None and _is_open(ledger, row)]
    for row in own:
        ledger.close(row, by.now, by.source)
    return bool(own)


def _is_open(ledger: Ledger, ballot: BallotRow) -> bool:
    motions = ledger.standing(MotionRow, ballot.stamp.space, ballot.key)
    return any(motion.state == MotionState.OPEN for motion in motions)


def _cast(
    ledger: Ledger, motion: MotionRow, ask: Mapping[str, Any], by: Request
) -> tuple[list[int], list[int]]:
    """Write a ballot; return the numbers of what came and of what went for it."""
    value_key = object_key(ask["object"])
    space = motion.stamp.space
    own = [row for row in _ballots(ledger, motion) if row.voter == ask["voter"]]
    if own and own[0].object_key == value_key:
        return [], []
    for row in own:
        ledger.close(row, by.now, by.source)
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    value = JsonText(encode(ask["object"]))
    ledger.add(BallotRow(stamp, motion.topic_key, ask["voter"], value, value_key))
    return [stamp.n], [row.stamp.n for row in own]


def _counted(ledger: Ledger, motion: MotionRow, by: Request) -> MotionRow:
    """Close a motion if a value has enough votes, or if none can have them any more."""
    ballots = _ballots(ledger, motion)
    many = Counter(row.object_key for row in ballots)
    left = len(decode(motion.voters)) - len(ballots)
    value_key, most = many.most_common(1)[0]
    if most >= motion.need:
        row = next(each for each in ballots if each.object_key == value_key)
        passed = replace(motion, object=row.object, object_key=value_key)
        return _close(ledger, motion, passed, MotionState.PASSED, by)
    # Who has voted may change his mind, but an outcome cannot wait for that.
    if most + left < motion.need:
        return _close(ledger, motion, motion, MotionState.FAILED, by)
    return motion


def _in_time(ledger: Ledger, motion: MotionRow, by: Request) -> MotionRow:
    """Return a motion as it stands, after closing one whose time is over."""
    now = ledger.now(motion.stamp.space, by.now)
    is_over = motion.expires_at is not None and motion.expires_at <= now
    if motion.state != MotionState.OPEN or not is_over:
        return motion
    return _close(ledger, motion, motion, MotionState.EXPIRED, by)


def _close(
    ledger: Ledger, motion: MotionRow, ended: MotionRow, state: MotionState, by: Request
) -> MotionRow:
    ledger.close(motion, by.now, by.source)
    stamp = ledger.stamp(motion.stamp.space, by.now, by.source, motion.stamp.trust)
    stamp = replace(stamp, doc=motion.stamp.doc, prior=motion.stamp.n)
    closed = replace(ended, stamp=stamp, state=state.value)
    ledger.add(closed)
    return closed


def _ballots(ledger: Ledger, motion: MotionRow) -> Sequence[BallotRow]:
    return ledger.standing(BallotRow, motion.stamp.space, motion.key)


def _told(ledger: Ledger, motion: MotionRow) -> dict[str, Any]:
    return motion_json(motion, _ballots(ledger, motion))


def motion_json(motion: MotionRow, ballots: Sequence[BallotRow]) -> dict[str, Any]:
    """Return a motion as a journal keeps it."""
    return {
        "id": memory_id(motion.stamp.space, motion.stamp.n),
        "topic": motion.topic,
        "state": motion.state,
        "value": decode(motion.object),
        "voters": decode(motion.voters),
        "need": motion.need,
        "expires_at": motion.expires_at,
        "votes": {row.voter: decode(row.object) for row in ballots},
    }
