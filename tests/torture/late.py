"""Late calls: a worker is stopped with a `once` call before it, past its timeout and its lease.

In each round another worker makes the charge meanwhile; then the first goes on. What was charged
is counted outside: twice is a fault, and so is never.
"""

from pathlib import Path

from tests.late import charged_behind
from tests.torture.tally import LOST, ONCE_TWICE, Tally

WHERE = ("on the loop", "in a thread", "in its middle")


async def late_calls(url: str, folder: Path, rounds: int, tally: Tally) -> None:
    """Do so many rounds of each kind, one after the other: a round has its two workers."""
    for number in range(rounds):
        for place, where in enumerate(WHERE):
            world = folder / f"late-{number}-{place}"
            world.mkdir(parents=True)
            times = await charged_behind(url, world, where, f"late/{number}/{place}")
            tally.counts["late calls"] += 1
            if times != 1:
                what = ONCE_TWICE if times else LOST
                tally.fault(what, f"{where}, round {number}: charged {times} times")
