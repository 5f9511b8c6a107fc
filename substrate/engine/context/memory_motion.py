"""`ctx.memory(…).outcome`: waits until a motion is closed, or its time is over.

Whoever waits closes a motion whose time is over, in the commit that settles the wait: of many who
do so at once one is first, and the others read what it has recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from substrate.engine.context.memory_follow import follow, resolved, wait_beside
from substrate.engine.context.memory_step import in_flight, keep
from substrate.engine.run.execution import Execution
from substrate.memory.canonical import folded
from substrate.memory.motions import motion_json
from substrate.store.memory_rows import Look
from substrate.values.clock import from_ms
from substrate.values.memory import BallotRow, MotionRow, MotionState, Row, Space
from substrate.values.records import Promise


@dataclass(frozen=True, slots=True)
class Motion:
    """What is voted on, as it stood."""

    #: The id of its row.
    id: str
    #: Under which key.
    topic: str
    #: `open`, `passed`, `failed` or `expired`.
    state: MotionState
    #: What was proposed; once it has passed, the value that has passed.
    value: Any
    #: Who may vote.
    voters: tuple[str, ...]
    #: How many of them must vote for one value.
    need: int
    #: When its time is over; None is never.
    expires_at: datetime | None
    #: Who has voted for what.
    votes: dict[str, Any]


async def await_outcome(
    execution: Execution, recorded: Promise | None, new_promise: Promise, space: Space, topic: str
) -> Promise:
    """Return the promise, resolved with the motion as it is closed."""
    memory = execution.services.store.memory
    retry = execution.access.retry_until_reachable
    key, due = folded(topic), list[int | None]([None])

    async def rows(table: str, n: int) -> Sequence[Row]:
        look = Look(space, table, {"topic_key": key}, as_of=n, limit=10_000)
        return await retry(partial(memory.rows, look))

    async def look() -> dict[str, Any] | None:
        while True:
            n = (await retry(partial(memory.counter, space))).last_n
            motion = next(iter(await rows(MotionRow.table, n)), None)
            if isinstance(motion, MotionRow):
                if motion.state != MotionState.OPEN:
                    ballots = await rows(BallotRow.table, n)
                    cast = [each for each in ballots if isinstance(each, BallotRow)]
                    return {"motion": motion_json(motion, cast)}
                if motion.expires_at is not None and motion.expires_at <= execution.now_ms:
                    return {}
                due[0] = motion.expires_at
            if await follow(execution, space, n) == n:
                return None

    found, waiting = await wait_beside(execution, recorded or new_promise, look, lambda: due[0])
    if found:
        return await execution.recorder.write(resolved(execution, waiting, found))
    return await in_flight(execution, lambda: keep(execution, waiting, space, undo=False))


def motion_of(value: Any) -> Motion:
    """Return a motion as it was recorded."""
    record = value["motion"]
    ends = record["expires_at"]
    return Motion(
        **record
        | {
            "state": MotionState(record["state"]),
            "voters": tuple(record["voters"]),
            "expires_at": None if ends is None else from_ms(ends),
        }
    )
