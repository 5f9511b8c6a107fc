"""What a crash says about each of the runs that a dead worker had: which of them may have done it.

A worker that dies takes all its runs with it, and at most one of them is guilty. Nobody saw which.
So a crash proves little, and a run is declared dead only on evidence that grows:

- Its crashes are counted one after the other; whatever it settles sets the count back.
- From `MAX_CRASHES - 1` on it is a *suspect*. A worker drives one suspect at a time, alone if it
  can, and the crash of a worker that had nothing else is a proof against that run.
- When other workers die too, without this run, something else kills workers, too: a storm, a bad
  deploy, want of memory. Each such loss allows the run one more crash, and so does a first crash
  among runs of other trees: a run is dead when it crashes more often than the rest. Runs of its own
  tree, such as a parent that waits for it, are no rest: the tree is to blame in any case, and its
  member that is driven alone at the third crash is known.
- Crashes among others prove less: where no other suspect was there, twice as many are needed. After
  `MAX_ANYWAY` a run that has got nowhere is dead whatever else happens.

From the third crash on, a run that is not dead waits before it is claimed again, each time twice as
long: what kills workers from outside has time to end, and a guilty run kills few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from substrate.store import refusals
from substrate.store.broken import Stuck
from substrate.values.errors import CheckpointRefused
from substrate.values.ids import RunId, root_of
from substrate.values.records import JsonText, OnDead, RunStatus

MAX_CRASHES = 3
"""After so many crashes in a row, each alone in its worker, a run is dead."""

MAX_IN_COMPANY = 6
"""The same, for a run that was the only suspect among others when its worker died."""

MAX_ANYWAY = 12
"""After so many a run is dead, whatever else dies beside it."""

_MOST = 1_000_000  # crashes that a row counts

FIRST_DELAY_MS = 1000
"""How long a run waits after its third crash; twice as long after each further one."""


class Company(StrEnum):
    """Beside whom a run was when its worker died."""

    #: Nothing else was driven: what killed the worker was this run, or came from outside.
    ALONE = "alone"
    #: Others were there, and none of them was a suspect.
    SOLE_SUSPECT = "sole suspect"
    #: Others were there that may as well have done it.
    CROWD = "crowd"


@dataclass(frozen=True, slots=True)
class LostRun:
    """A run whose worker has died. `losses_seen`: see `Loss`."""

    #: The run.
    id: RunId
    #: Its part of the tables.
    part: int
    #: Who waits for its outcome.
    parent_id: RunId | None
    #: Its crashes in a row before this one.
    crashes: int
    #: How many lost workers it has seen.
    losses_seen: int
    #: Whether it is paused where it would be dead.
    on_dead: OnDead
    #: When its time is over: it waits no longer than until then.
    deadline_at: int | None

    @classmethod
    def of(cls, *columns: Any) -> Self:
        """Make one of a row whose columns are in the order of the fields."""
        id_, part, parent_id, crashes, losses_seen, on_dead, deadline_at = columns
        return cls(id_, part, parent_id, crashes, losses_seen, OnDead(on_dead), deadline_at)

    @classmethod
    def all_of(cls, found: Sequence[Sequence[Any]], stuck: Stuck | None) -> list[Self]:
        """Make one of each row. One that cannot be read is noted; `CheckpointRefused` without."""
        made = []
        for row in found:
            try:
                made.append(cls.of(*row))
            except ValueError as error:
                if stuck is None:
                    raise CheckpointRefused(f"run {row[0]!r} cannot be read: {error}") from error
                stuck.note(row[0], error)
        return made

    @property
    def is_suspect(self) -> bool:
        """Whether it may be the one that kills its workers."""
        return is_suspect(self.crashes)


@dataclass(frozen=True, slots=True)
class Loss:
    """A dead worker: its runs, their trees, how many were suspects, and whether these were all.

    They were not where somebody has struck the worker off before; then it is counted already.

    `losses` counts the workers that were lost so far, this one included. What a run has seen of
    them (`losses_seen`) is what that count was at its first crash, and one more for each later one
    of its own: the rest befell others.
    """

    runs: int
    suspects: int
    is_whole: bool
    losses: int = 0
    trees: int = 0

    @classmethod
    def of(cls, lost: Sequence[LostRun], *, is_whole: bool) -> Self:
        """Return the loss of a worker that had these runs."""
        trees = len({root_of(run.id) for run in lost})
        return cls(len(lost), sum(run.is_suspect for run in lost), is_whole, trees=trees)

    @property
    def is_of_one_tree(self) -> bool:
        """Whether all that the worker had was of one tree."""
        return self.is_whole and self.trees == 1

    def company_of(self, run: LostRun) -> Company:
        """Return beside whom a run was."""
        if self.is_whole and self.runs == 1:
            return Company.ALONE
        is_sole = self.is_whole and run.is_suspect and self.suspects == 1
        return Company.SOLE_SUSPECT if is_sole else Company.CROWD


@dataclass(frozen=True, slots=True)
class AfterCrash:
    """What becomes of a run after a crash: its new count and status; `due_at` where it waits."""

    crashes: int
    losses_seen: int
    status: RunStatus
    due_at: int | None = None
    error: JsonText | None = None

    @property
    def is_final(self) -> bool:
        """Whether the run's promise is rejected by it."""
        return self.status is RunStatus.DEAD


def is_suspect(crashes: int) -> bool:
    """Whether a run with so many crashes in a row may be the one that kills its workers."""
    return crashes >= MAX_CRASHES - 1


def after_crash(run: LostRun, loss: Loss, now: int) -> AfterCrash:
    """Return what becomes of a run that a dead worker had."""
    crashes = min(run.crashes + 1, _MOST)  # beyond it the row could not be written
    company = loss.company_of(run)
    if run.crashes:
        seen = min(run.losses_seen, loss.losses) + loss.is_whole
    else:  # a first crash among strangers says as little of it as one elsewhere: it counts as one
        seen = loss.losses - (company is Company.CROWD and not loss.is_of_one_tree)
    if crashes >= _allowed(company, max(loss.losses - seen, 0)):
        status = RunStatus.PAUSED if run.on_dead is OnDead.WAIT else RunStatus.DEAD
        is_told = run.parent_id is not None and status is RunStatus.DEAD
        error = refusals.dead_error(crashes, is_told=is_told)
        return AfterCrash(crashes, seen, status, error=error)
    if crashes < MAX_CRASHES:
        return AfterCrash(crashes, seen, RunStatus.READY)
    due_at = now + FIRST_DELAY_MS * 2 ** (crashes - MAX_CRASHES)
    if run.deadline_at is not None:
        due_at = min(due_at, run.deadline_at)
    return AfterCrash(crashes, seen, RunStatus.SUSPENDED, due_at)


def _allowed(company: Company, losses_elsewhere: int) -> int:
    """Return with how many crashes a run is dead."""
    match company:
        case Company.ALONE:
            enough = MAX_CRASHES + losses_elsewhere
        case Company.SOLE_SUSPECT:
            enough = MAX_IN_COMPANY + losses_elsewhere
        case Company.CROWD:
            enough = MAX_ANYWAY
    return min(enough, MAX_ANYWAY)
