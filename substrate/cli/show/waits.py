"""What a run waits for: what it has begun in its present generation and nobody has settled yet.

A signal, a timer, a child, or a step that rests between two attempts. A child is named by its run's
id, since that is where one looks next, and where a signal for it goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from substrate.cli import format as wording
from substrate.engine.client import Client
from substrate.engine.context.expected import Wanted
from substrate.engine.run.attempts import failed_in, next_attempt_at, series_of
from substrate.engine.worker.unknown import missing_worker
from substrate.values.codec import decode
from substrate.values.ids import RunId, place_of
from substrate.values.records import JsonText, Kind, Promise, Run, RunStatus

_MANY = 100  # children whose own runs are looked at; there may be thousands


@dataclass(frozen=True, slots=True)
class Wait:
    """One promise that is open. `until` is in ms, None without an end; `status` is a child's.

    `missing` is a child's function, with its version, where no worker knows it.
    """

    promise: Promise
    until: int | None = None
    status: RunStatus | None = None
    missing: str | None = None

    @property
    def words(self) -> str:
        """What is waited for, and until when."""
        end = "" if self.until is None else f", until {wording.moment(self.until)}"
        match self.promise.kind:
            case Kind.CHILD:
                state = f" ({self.status})" if self.status else ""
                if self.missing:
                    state = f" ({self.status}: waits for a worker that knows {self.missing})"
                return f"child {self.promise.id}{state}"
            case Kind.SIGNAL:
                wanted = "" if self.wanted.is_anything else f", {self.wanted.words}"
                return f"signal {self.promise.name!r}{wanted}{end}"
            case Kind.TIMER:
                return f"timer{end}"
        return self._attempts()

    @property
    def wanted(self) -> Wanted:
        """What a signal is to be."""
        return Wanted.by(self.promise)

    def _attempts(self) -> str:
        """Return since when a step fails, how often it was tried, why, and when it is again."""
        failed = failed_in(self.promise)
        series, last = series_of(failed), failed[-1]
        tried = wording.count(series.count, "attempt")
        since = "" if series.since is None else f" since {wording.moment(series.since)}"
        at = "" if self.until is None else f" at {wording.moment(self.until)}"
        why = wording.gist(f"{last.get('type')}: {last.get('message')}", 200)
        return f"next try{at}, after {tried}{since}; last: {why}"

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts; `run` is a child's run; a step that rests has its attempts."""
        promise = self.promise
        return {
            "key": promise.key,
            "kind": promise.kind.value,
            "name": promise.name,
            "until_ms": self.until,
            "run": promise.id if promise.kind is Kind.CHILD else None,
            "status": self.status.value if self.status else None,
            "wants": dict(self.wanted.schema) or None,
            **({} if promise.kind is not Kind.STEP else self._series()),
        }

    def _series(self) -> dict[str, Any]:
        failed = failed_in(self.promise)
        series, last = series_of(failed), failed[-1]
        why = {"type": last.get("type"), "message": last.get("message")}
        return {"attempts": series.count, "since_ms": series.since, "last": why}


def waits_of(run: Run, journal: Iterable[Promise]) -> Sequence[Wait]:
    """Return what is open in the journal of a run; nothing once it has ended."""
    if run.status.has_ended:
        return []
    own = (each for each in journal if each.seq > run.generation_seq and not each.is_settled)
    return [wait for wait in map(wait_of, own) if wait is not None]


def wait_of(promise: Promise) -> Wait | None:
    """Return the wait that an open promise stands for; None for a call that is under way."""
    match promise.kind:
        case Kind.CHILD:
            return Wait(promise)
        case Kind.SIGNAL | Kind.TIMER:
            return Wait(promise, decode(promise.input or JsonText("{}")).get("due_at"))
        case Kind.STEP if (until := next_attempt_at(promise)) is not None:
            return Wait(promise, until)
    return None


async def read_waits(client: Client, run: Run, journal: Iterable[Promise]) -> Sequence[Wait]:
    """Return what a run waits for, its children with how they stand."""
    waits = list(waits_of(run, journal))
    children = [i for i, wait in enumerate(waits) if wait.promise.kind is Kind.CHILD]
    for i in children[:_MANY]:
        child = await client.store.get(RunId(waits[i].promise.id))
        if child is not None:
            missing = await missing_worker(client.store, child)
            waits[i] = replace(waits[i], status=child.status, missing=missing)
    return waits


def until_of(run: Run, waits: Iterable[Wait]) -> int | None:
    """Return the moment at which the run goes on if nothing else comes; None: never by itself."""
    moments = [run.deadline_at, *(wait.until for wait in waits)]
    return min((each for each in moments if each is not None), default=None)


def awaits_signal(waits: Iterable[Wait], name: str) -> Wait | None:
    """Return the open wait that is the first to be given a signal of this name."""
    signals = (wait for wait in waits if wait.promise.kind is Kind.SIGNAL)
    named = (wait for wait in signals if wait.promise.name == name)
    return min(named, key=lambda wait: place_of(wait.promise.key), default=None)
