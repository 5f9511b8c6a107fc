"""Every error the kit raises, in one tree.

::

    Exception
    └── OstinatoError
        ├── Misuse                  the call is wrong, whatever the state of the world
        │   ├── InvalidId           a run id or a name that the grammar does not allow
        │   ├── NotEncodable        a value that JSON cannot hold
        │   │   └── NotKept         a value that its record would not give back
        │   └── UnknownFunction     a durable function that this process was not given
        ├── StoreError              the database
        │   ├── BadDatabaseUrl      the URL cannot be understood
        │   ├── StoreUnreachable    nobody answers, or the answer is "no"
        │   ├── StoreUnusable       the file is corrupt, read-only, or no database
        │   ├── SchemaMismatch      newer than this code, or edited after it was applied
        │   └── CheckpointRefused   the database rejects one row
        ├── RunNotFound             no run has this id
        ├── RunEnded                the run has ended and takes nothing more
        ├── IdTaken                 the id is a run's already, with another input
        ├── RunFailed               the run ended with an error
        │   ├── RunDead             the run crashed its workers too often
        │   ├── RunCancelled        the run was asked to end
        │   └── RunTimedOut         the run had not ended when its time was over
        ├── RunPaused               the run waits for a person to decide
        ├── StepFailed              a step failed for good
        │   └── OutcomeUnknown      nobody knows whether the step's effect happened
        ├── SignalExpired           the awaited signal did not come in time
        ├── NoAnswer                nobody has answered a question in time
        ├── GateNotFound            no gate has this id
        ├── GateClosed              the gate was decided already, or asks nothing any more
        ├── GateChanged             the decision was made for something else than is asked
        ├── MemoryRefused           what stands in a namespace does not allow a write
        │   └── NoteChanged         somebody has written the note since
        ├── Forgotten               what stood here was forgotten for good
        ├── NotForgotten            what is to be forgotten is used by runs that go on
        └── ModelError              a model call failed; see the nine kinds below
            ├── RateLimited  ├── QuotaExhausted  ├── Overloaded  ├── ContextOverflow
            └── ModelMistake └── Refused         └── TransportFailed
            └── BadRequest
                ├── Unusable        this model cannot be asked at all: its key, its name
                └── Unaffordable    what the call may use does not pay for it; it was not made

    BaseException
    └── Interrupt                   user code must not swallow these
        ├── LeaseLost               another worker owns the run now
        ├── Suspend                 the run waits, and holds nothing while it does
        ├── Cancelled               the run is asked to end
        │   └── TimedOut            its time is over
        ├── Shutdown                the worker is stopping and gives the run back
        └── Paused                  the journal and the code disagree

A message states the fact, the offending value, and the remedy.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_OTHERS = (Path(__file__).parents[1], Path(os.__file__).parent)
"""Where the kit and the standard library are: a line of theirs says little of what went wrong."""

__all__ = [
    "BadDatabaseUrl",
    "BadRequest",
    "Cancelled",
    "CheckpointRefused",
    "ContextOverflow",
    "Failure",
    "Forgotten",
    "GateChanged",
    "GateClosed",
    "GateNotFound",
    "IdTaken",
    "Interrupt",
    "InvalidId",
    "LeaseLost",
    "MemoryRefused",
    "Misuse",
    "ModelError",
    "ModelMistake",
    "NoAnswer",
    "NotEncodable",
    "NotForgotten",
    "NotKept",
    "NoteChanged",
    "OstinatoError",
    "OutcomeUnknown",
    "Overloaded",
    "Paused",
    "QuotaExhausted",
    "RateLimited",
    "Refused",
    "RunCancelled",
    "RunDead",
    "RunEnded",
    "RunFailed",
    "RunNotFound",
    "RunPaused",
    "RunTimedOut",
    "SchemaMismatch",
    "Shutdown",
    "SignalExpired",
    "StepFailed",
    "StoreError",
    "StoreUnreachable",
    "StoreUnusable",
    "Suspend",
    "TimedOut",
    "TransportFailed",
    "Unaffordable",
    "UnknownFunction",
    "Unusable",
    "recorded_class",
    "recorded_error",
]


class OstinatoError(Exception):
    """Anything the kit raises that user code may catch."""


class Misuse(OstinatoError):
    """The call can never work as written. Nothing was recorded; change the code."""


class InvalidId(Misuse):
    """A run id, function name or step name breaks the grammar. Nothing was recorded."""


class NotEncodable(Misuse):
    """A value is not JSON. An argument: nothing ran. A result: the step is rejected with this."""


class NotKept(NotEncodable):
    """A value that would read back as another one: a field, its type or a secret is lost.

    An argument is refused, and nothing ran. For a result the run is paused, since what it stands
    for has happened: mend the annotation or the value, and resume the run. `lost` says what and
    where; `value` is its JSON, None where that would hold a masked secret.
    """

    def __init__(self, message: str, lost: str, value: str | None) -> None:
        self.lost = lost
        self.value = value
        super().__init__(message)


class UnknownFunction(Misuse):
    """A run names a durable function that this process was not given. The run is untouched."""


class StoreError(OstinatoError):
    """The database cannot be used as asked. Committed state is intact."""


class BadDatabaseUrl(StoreError):
    """The database URL cannot be understood. Nothing was opened."""


class StoreUnreachable(StoreError):
    """The server does not answer or refuses. Runs stay as they are; try again when it is back."""


class StoreUnusable(StoreError):
    """The file is corrupt, read-only or no database. Nothing was changed."""


class SchemaMismatch(StoreError):
    """The database's schema is newer than this code, or no schema that migrations lead on from.

    A migration was edited after its use, an earlier one is missing, or a table is not the kit's.
    """


class CheckpointRefused(StoreError):
    """The database rejects what one checkpoint holds. It was not written; others were."""


class RunNotFound(OstinatoError):
    """No run has this id."""


class RunEnded(OstinatoError):
    """The run has ended, or is about to and takes nothing more. What was sent was not recorded."""


class IdTaken(OstinatoError):
    """The id names a run that was started with another function or input. That run is untouched."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as data: what the journal keeps of an exception."""

    type: str
    message: str
    details: Any = None
    traceback: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record, without its empty fields."""
        record = {"type": self.type, "message": self.message}
        if self.details is not None:
            record["details"] = self.details
        if self.traceback:
            record["traceback"] = self.traceback
        return record

    @property
    def place(self) -> str:
        """Where it came up, to be put behind its message: the key, or the line that is not ours."""
        if isinstance(self.details, dict) and isinstance(key := self.details.get("key"), str):
            return f" (at {key})"
        found = self.frame
        if found is None or f"{found[0]}:{found[1]}" in self.message:
            return ""
        return f" (at {found[0]}:{found[1]}, in {found[2]})"

    @property
    def frame(self) -> tuple[str, int, str] | None:
        """The last line of somebody's own code on the way to it: file, line and function."""
        for file, line, function in reversed(_FRAME.findall(self.traceback or "")):
            path = Path(file)
            if "site-packages" in path.parts or any(map(path.is_relative_to, _OTHERS)):
                continue
            if not file.startswith("<"):
                return file, int(line), function
        return None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Failure":
        """Rebuild a failure from its record."""
        return cls(
            record["type"], record["message"], record.get("details"), record.get("traceback")
        )


class RunFailed(OstinatoError):
    """The run ended with an error. Its journal stays; mend the cause, then resume it."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        #: Which run.
        self.run_id = run_id
        #: The error, as it is recorded: type, message, details.
        self.failure = failure
        super().__init__(f"run {run_id!r} failed: {failure.type}: {failure.message}")


class RunDead(RunFailed):
    """The run crashed its workers too often, or could not be undone. It waits to be resumed."""


class RunCancelled(RunFailed):
    """The run was asked to end before it was done, and has ended."""


class RunTimedOut(RunFailed):
    """The run had not ended when its time was over, and was ended."""


class RunPaused(OstinatoError):
    """The run waits for a person: its journal and its code disagree. Nothing was lost."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        #: Which run.
        self.run_id = run_id
        #: The cause, as it is recorded: type, message, details.
        self.failure = failure
        cause = f"{failure.type}: {failure.message}{failure.place}"
        super().__init__(f"run {run_id!r} is paused: {cause}")


class StepFailed(OstinatoError):
    """A step failed for good; built from its record, live as on every replay.

    The rejection is in the journal: asking again for the same key gives this error again.
    """

    def __init__(self, name: str, failure: Failure, attempts: int = 1) -> None:
        #: The step's.
        self.name = name
        #: The error's class, by its name.
        self.type: str = failure.type
        #: What it said.
        self.message: str = failure.message
        #: More of it, as JSON.
        self.details: Any = failure.details
        #: How many there were.
        self.attempts = attempts
        super().__init__(f"step {name!r} failed: {failure.type}: {failure.message}")


class OutcomeUnknown(StepFailed):
    """The step's effect may or may not have happened, and it is not made a second time.

    Raised for an `effect="once"` step whose call began and whose outcome nobody recorded.
    Look at the other side, then decide.
    """


class SignalExpired(OstinatoError):
    """The awaited signal did not come before its timeout. The wait is settled as `expired`."""


class NoAnswer(OstinatoError):
    """Nobody has answered a question in time. The gate is settled as `expired`."""


class GateNotFound(OstinatoError):
    """No gate has this id, or more than one begins with it. Nothing was decided."""


class GateClosed(OstinatoError):
    """The gate was decided already, or asks nothing any more. `state` is what stands."""

    def __init__(self, message: str, state: str) -> None:
        #: How the gate stands: a word of `GateState`.
        self.state = state
        super().__init__(message)


class GateChanged(OstinatoError):
    """The decision was made for something else than what is asked. Nothing was decided."""


class MemoryRefused(OstinatoError):
    """What stands in a namespace of memory does not allow a write. Nothing was changed."""


class NoteChanged(MemoryRefused):
    """Somebody has written the note since. Nothing was changed: merge, and write over `version`."""

    def __init__(self, message: str, version: int, text: str | None) -> None:
        #: The version that stands; 0 where the note is not there.
        self.version: int = version
        #: Its text; None where the note is not there.
        self.text: str | None = text
        super().__init__(message)


class Forgotten(OstinatoError, ValueError):
    """What stood here was forgotten for good: see `Client.forget`.

    The run has ended, and stays as it is: its keys, states and times are there, its contents are
    not. It is not resumed, and its id is not given to another run.
    """


class NotForgotten(OstinatoError):
    """Runs that go on have to do with what is to be forgotten; the message names them.

    Where it says that nothing was changed, nothing was. Else the rows of memory are gone, and the
    journals of those runs still are as they were. End them, and forget again.
    """


class ModelError(OstinatoError):
    """A model call failed. `body` is what the provider said, as text, when it said anything.

    `retryable` says whether the same request may succeed later; `retry_after` is the wait in
    seconds that the provider asked for, None where it asked for none. `usage` is what the attempt
    had used all the same (`substrate.models.messages.Usage`), None where that was nothing.
    """

    #: Whether such an error passes by itself.
    passes: ClassVar[bool] = False

    #: Whether the provider had begun to stream, and then fell silent or broke off: what it read is
    #: paid for, though no word of an answer had come.
    was_taken: bool = False

    def __init__(
        self,
        message: str,
        *,
        body: str | None = None,
        retry_after: float | None = None,
        usage: Any = None,
    ) -> None:
        #: What the provider said, as text.
        self.body = body
        #: The wait in seconds that the provider asked for.
        self.retry_after = retry_after
        #: What the attempt had used all the same.
        self.usage = usage
        super().__init__(message)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.passes

    @property
    def details(self) -> dict[str, Any] | None:
        """What the journal keeps beside type and message."""
        kept = {"body": self.body, "retry_after": self.retry_after}
        return {k: v for k, v in kept.items() if v is not None} or None


class RateLimited(ModelError):
    """Too many requests or tokens just now. Wait `retry_after`, then ask again."""

    passes = True


class QuotaExhausted(ModelError):
    """The account's quota or credit is used up.

    One that is renewed at a time which the provider names (`retry_after`) is waited for; an empty
    account is not: somebody has to pay, or another model be asked.
    """

    @property
    def retryable(self) -> bool:
        """Whether the provider said when it is renewed."""
        return self.retry_after is not None


class Overloaded(ModelError):
    """The provider is short of capacity. Back off, then ask again."""

    passes = True


class ContextOverflow(ModelError):
    """The request is larger than the model's context. The same request can never succeed."""


class ModelMistake(ModelError):
    """The model produced something its own provider rejects, such as a malformed tool call."""

    passes = True


class Refused(ModelError):
    """The model or its provider declines to answer. The same request is refused again."""


class TransportFailed(ModelError):
    """The connection failed, stalled, or the stream ended without its terminal marker.

    The provider may have done, and billed, the work.
    """

    passes = True


class BadRequest(ModelError):
    """The provider rejects the request: a missing key, an unknown model, a caller's bug."""


class Unusable(BadRequest):
    """This model cannot be asked at all: its key is refused or may not, or there is no such model.

    The request itself is not at fault, so another model may answer it.
    """


class Unaffordable(BadRequest):
    """What is left of a budget does not pay for a call more. It was not made.

    A run of an agent has none of it: the agent ends with what it has, as `budget` says.
    """


class Interrupt(BaseException):
    """Ends an execution from outside. The run's Context is shut when one has been raised."""


class LeaseLost(Interrupt):
    """Another worker owns the run. This execution commits nothing more."""


class Shutdown(Interrupt):
    """The worker is stopping. The run is given back and goes on elsewhere or later."""


class Suspend(Interrupt):
    """The run waits for something that is elsewhere. It goes on when that has come."""


class Cancelled(Interrupt):
    """The run is asked to end. What it did and can undo is undone."""


class TimedOut(Cancelled):
    """The run's time is over, and it ends as if it were cancelled."""


class Paused(Interrupt):
    """The code asks under a recorded key for something else than was recorded.

    The run becomes `paused`; no attempt is burnt and nothing recorded is lost.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


_E = TypeVar("_E", bound=type[Exception])
_recorded: dict[str, type[Exception]] = {}


def recorded_error(cls: _E) -> _E:
    """Let an exception class come back as itself, live and on every replay.

    A step or durable function that raises it is rejected with a record of the class name and the
    args; whoever awaits that promise gets `cls(*args)`. So its `args` must be JSON, and make the
    same exception again: where `cls(*args)` raises, or has another message or other attributes, a
    `StepFailed` that tells its type and message comes in its place.

    Args:
        cls: The class. Two of one name raise `Misuse`, since the journal knows them by name.

    Example:
        >>> @recorded_error
        ... class SoldOut(Exception): ...
        >>> async def take(item: str) -> str:
        ...     raise SoldOut(item)
        >>> @durable
        ... async def order(ctx: Context, item: str) -> str:
        ...     try:
        ...         return await ctx.step(take, item)
        ...     except SoldOut as error:
        ...         return f"no {error}"
        >>> await drive(order, "lamp")
        'no lamp'
    """
    if _recorded.setdefault(cls.__name__, cls) is not cls:
        raise Misuse(
            f"two recorded errors are called {cls.__name__!r}; rename one, "
            "since the journal knows them by name"
        )
    return cls


def recorded_class(name: str) -> Callable[..., Exception] | None:
    """Return the class registered under a recorded type name, or None."""
    return _recorded.get(name)


recorded_error(NoAnswer)  # a question is a call, and what a call raises comes back as itself
