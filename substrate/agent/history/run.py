"""A run with all that it came to: its answer, or why it has none, and what it used.

Invariant: a run that has not ended is read the same way; what it has not come to yet is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from substrate.agent.history.journal import read_own, read_rows, read_usages
from substrate.agent.history.rows import input_of
from substrate.agent.history.totals import Totals
from substrate.agent.history.usage import summed
from substrate.agent.task import is_complete
from substrate.engine.client import Client
from substrate.engine.failure import decode_failure
from substrate.models.messages import Json, Usage
from substrate.values.codec import decode
from substrate.values.errors import Failure
from substrate.values.ids import PromiseId
from substrate.values.records import JsonText, Promise, PromiseState, Run, RunStatus


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run, as far as it has come."""

    #: The run itself.
    run: Run
    #: What it has recorded, in order.
    journal: Sequence[Promise]
    #: The promise of its outcome. A child has that elsewhere: in the journal of its parent.
    own: Promise | None
    #: What each promise of it, and of all below it, has used.
    used: Sequence[tuple[PromiseId, JsonText]] = ()
    #: When it was read, by the clock of its database.
    read_at: int = 0
    #: What cannot be read of all that: row and column.
    unreadable: Sequence[Failure] = ()
    #: What its journal adds up to, where only what is open was read of it.
    counted: Totals | None = None

    @property
    def totals(self) -> Totals:
        """What its journal adds up to."""
        return Totals.of(self.journal) if self.counted is None else self.counted

    @property
    def value(self) -> Any:
        """What the run returned; None before it has."""
        return decode(self.own.value or JsonText("null")) if self.own else None

    @property
    def answer(self) -> dict[str, Json] | None:
        """The returned `Answer` as JSON, or None where it is none."""
        value = self.value
        if not isinstance(value, dict) or not {"text", "reason"} <= value.keys():
            return None
        words = (value["text"], value["reason"], value.get("detail", ""))
        return value if all(isinstance(each, str) for each in words) else None

    @property
    def reason(self) -> str:
        """Why the run ended, in a word."""
        return self.answer["reason"] if self.answer else self.run.status.value

    @property
    def is_complete(self) -> bool:
        """Whether the run is done, and its answer is whole."""
        if self.run.status is not RunStatus.DONE:
            return False
        by = (self.answer or {}).get("ended_by")
        return self.reason == "done" or is_complete(self.reason, by)

    @property
    def failure(self) -> Failure | None:
        """Why the run failed or is paused."""
        own = self.own
        is_over = own is not None and own.is_settled and own.state is not PromiseState.RESOLVED
        return decode_failure(own) if own is not None and (is_over or own.error) else None

    @property
    def tree_usage(self) -> Usage:
        """What the run and all below it have used."""
        return summed(self.used)

    @property
    def duration_ms(self) -> int:
        """How long it took from its start to its end, or has taken so far, its waits included."""
        return (self.run.ended_at or self.read_at) - self.run.created_at

    @property
    def has_used_below(self) -> bool:
        """Whether runs below this one have used anything."""
        return any("#" in id_.removeprefix(f"{self.run.id}#") for id_, _ in self.used)

    def usage_below(self, promise: Promise) -> Usage:
        """Return what the run of a child, and all below that, have used."""
        return summed(each for each in self.used if each[0].startswith(f"{promise.id}#"))


async def read_history(client: Client, run_id: str) -> RunHistory:
    """Return a run as it stands. Raises `RunNotFound`."""
    return await history_of(client, await client.get(run_id))


async def history_of(client: Client, run: Run) -> RunHistory:
    """Return what has become of a run, as far as it has come."""
    rows, own = await read_rows(client, run), await read_own(client, run)
    outcome = own.read[0] if own.read else None
    # A root's own row lies in its journal as well.
    unreadable = {(each.details["row"], each.details["column"]): each for each in own.unreadable}
    unreadable |= {(each.details["row"], each.details["column"]): each for each in rows.unreadable}
    usages, now = await read_usages(client, run), client.store.clock.now_ms()
    return RunHistory(run, rows.read, outcome, usages, now, tuple(unreadable.values()))


def question_of(own: Promise | None) -> str | None:
    """Return what a run was asked, where it was given a `Task`."""
    task = _task_in(own)
    return str(task["text"]) if "text" in task else None


def timezone_of(own: Promise | None) -> str | None:
    """Return the time zone in which a run was asked; None where its task names none."""
    return _task_in(own).get("timezone")


def _task_in(own: Promise | None) -> dict[str, Any]:
    task = input_of(own).get("task") if own else None
    return task if isinstance(task, dict) else {}
