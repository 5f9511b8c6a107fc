"""What a store says where it writes an outcome by itself, or does not do what it was asked to.

Both dialects say the same: a message is the fact, the value and what to do.
"""

from substrate.store import sql
from substrate.values.codec import encode
from substrate.values.errors import CheckpointRefused, RunEnded
from substrate.values.ids import RunId
from substrate.values.records import JsonText, Run, RunStatus, Signal

WHO_REOPENS = (
    "only a paused run is reopened, a failed or dead one that was started by no other run, or a "
    "dead one to go on with its undos"
)

WHAT_IS_DISCARDED = "only a dead, failed or paused run is discarded; cancel one that goes on"


def dead_error(crashes: int, *, is_told: bool) -> JsonText:
    """Return the error of a run that has crashed too often; `is_told`: its parent goes on."""
    remedy = "find out why, then resume it (the command: resume)"
    if is_told:
        remedy = (
            "find out why. It does not go on, since its parent is told so; but if it was being "
            "undone, resume it, and it goes on with that (the command: resume)"
        )
    message = f"its workers ended {crashes} times in a row without giving it back; {remedy}"
    details = {"crashes": crashes}
    return JsonText(encode({"type": "RunDead", "message": message, "details": details}))


def why_not_reopened(run: Run) -> str:
    """Return why a run is not reopened, and what else there is to do."""
    fact = f"run {run.id!r} is {run.status}"
    if run.parent_id is None or not run.status.awaits_person:
        return f"{fact}; {WHO_REOPENS}"
    told = (
        f"{fact}, and its parent {run.parent_id!r} was told so and has gone on, so that outcome "
        "stands. Let the parent start another"
    )
    if run.status is RunStatus.FAILED:
        return told
    return (
        f"{told}. Only an undo that a child had begun goes on, and this one had begun none; one "
        "that is spawned with on_dead='wait' is paused instead of dead, and can be resumed"
    )


def takes_no_signal(run: Run, signal: Signal, now: int) -> RunEnded:
    """Return why a run takes a signal no more."""
    if run.status.has_ended:
        state = f"is {run.status}"
    elif run.cancel_requested:
        state = "was asked to end"
    elif run.deadline_at is not None and run.deadline_at <= now:
        state = "has run out of time"
    else:
        state = "has failed and is being undone"
    return RunEnded(f"run {run.id!r} {state}; it takes no signal {signal.name!r}")


def spent(run_id: RunId, last_seq: int, epoch: int, generation: int) -> str:
    """Return why a run is paused that has no next number."""
    column, value, right = "last_seq", last_seq, "the highest seq of its rows in promises"
    if max(epoch, generation) >= sql.LAST_COUNT:
        column, value = ("epoch", epoch) if epoch >= generation else ("generation", generation)
        right = "the highest that its rows in promises have"
    return (
        f"the row {run_id!r} of runs has the {column} {value}, after which there is none; put it "
        f"right in the database ({right}), then resume the run"
    )


def spent_error(why: str) -> JsonText:
    """Return the error of a run that is paused since it has no next number."""
    return JsonText(encode({"type": CheckpointRefused.__name__, "message": why}))


def discarded() -> JsonText:
    """Return the error of the promise of a run that was given up while it was open."""
    return JsonText(encode({"type": "RunCancelled", "message": "it was discarded"}))


def unknown_at_discard() -> JsonText:
    """Return the error of an effect that was under way in a run that was given up."""
    message = "the run was discarded while it was called; it may have happened. Look first."
    return JsonText(encode({"type": "OutcomeUnknown", "message": message}))
