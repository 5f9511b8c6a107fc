"""What a run waits for: what it has begun in its present generation and nobody has settled yet.

A signal, a timer, a child, a gate, or a step that pauses between two attempts. A child is named by
its run's id, since that is where one looks next, and where a signal for it goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from substrate.agent.history.rows import input_of, is_deferred
from substrate.engine.client import Client
from substrate.engine.context.wanted_type import WantedType
from substrate.engine.run.attempts import Attempt, Series, failed_in, next_attempt_at, series_of
from substrate.engine.worker.unknown import missing_worker
from substrate.values.ids import RunId, place_of
from substrate.values.records import Kind, Promise, Run, RunStatus

_MANY = 100  # children whose own runs are looked at; there may be thousands


@dataclass(frozen=True, slots=True)
class Wait:
    """One promise that is open."""

    #: What is waited for.
    promise: Promise
    #: The moment at which the wait ends by itself, in ms; None without one.
    until: int | None = None
    #: How a child's run stands; None for all else.
    status: RunStatus | None = None
    #: A child's function, with its version, where no worker knows it.
    missing: str | None = None

    @property
    def wanted(self) -> WantedType:
        """What a signal, or the answer to a question, is to be."""
        return WantedType.by(self.promise)

    @property
    def summary(self) -> str:
        """What a gate asks, on one line."""
        return str(input_of(self.promise).get("summary", ""))

    @property
    def asks_for_approval(self) -> bool:
        """Whether it is a gate before a call, and no question."""
        is_gate = self.promise.kind is Kind.GATE
        return is_gate and input_of(self.promise).get("kind", "approval") == "approval"

    @property
    def is_deferred(self) -> bool:
        """Whether the run goes on meanwhile: a gate before a call that it does not wait for."""
        return is_deferred(self.promise)

    @property
    def series(self) -> Series:
        """How often, and since when, a step has failed that is to be tried again."""
        return series_of(failed_in(self.promise))

    @property
    def last_attempt(self) -> Attempt:
        """How such a step failed last."""
        return failed_in(self.promise)[-1]


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
            return Wait(promise, input_of(promise).get("due_at"))
        case Kind.GATE:
            plan = input_of(promise).get("plan")
            return Wait(promise, plan.get("expires_at") if isinstance(plan, dict) else None)
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
