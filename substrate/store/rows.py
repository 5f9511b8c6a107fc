"""How rows and values correspond, the same for every dialect.

The columns of `runs` and `promises` that are read have the names of the fields of `Run` and
`Promise`, and are read in the order of the fields: a field that is added there is read here, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from operator import attrgetter
from typing import Any

from substrate.store.blobs import identity_of
from substrate.store.broken import Stuck
from substrate.values.errors import Forgotten, IdTaken
from substrate.values.ids import Key, lane_of, part_of, promise_id, root_of
from substrate.values.records import (
    OWN_KEY,
    UNWIND_KEY,
    Adopted,
    Checkpoint,
    Claim,
    CommitResult,
    Effect,
    Fence,
    Fenced,
    JsonText,
    Kind,
    Locked,
    NewRun,
    OnDead,
    Owner,
    Promise,
    PromiseState,
    Run,
    RunStatus,
    Written,
    generation_key,
)
from substrate.values.tags import FORGOTTEN

Row = Sequence[Any]

Claimed = tuple[Run, JsonText | None]
"""A run that was claimed, and what it was begun with; None where somebody has deleted that."""

RUN_FIELDS = tuple(field.name for field in fields(Run))
RUN_COLUMNS = ", ".join(RUN_FIELDS)
"""What is read of a run."""

PROMISE_FIELDS = tuple(field.name for field in fields(Promise))
PROMISE_COLUMNS = ", ".join(PROMISE_FIELDS)
"""What is read of a promise, and written; `part` and `tenant` are written only."""

PAYLOADS = slice(PROMISE_FIELDS.index("input"), None)
"""Where a row of `PROMISE_COLUMNS` has its payloads: they are its last fields."""

values_of: Callable[[Promise], tuple[Any, ...]] = attrgetter(*PROMISE_FIELDS)
"""Returns a promise as a row of `PROMISE_COLUMNS`."""

_EMPTIED = f'{{"{FORGOTTEN}"'

KEPT_DONE = timedelta(days=30)
KEPT_FAILED = timedelta(days=90)
"""For how long a run is kept after it has ended: `done`, or otherwise."""

UNDO = f"{UNWIND_KEY}/"
"""What the keys of an undo begin with. What it spawns inherits neither a cancel nor a deadline."""

Convert = Callable[[Any], Any]


def _conversions(names: Sequence[str], **by_name: Convert) -> Sequence[tuple[int, Convert]]:
    """Return what is done to a row of these columns, by place: a lookup of names is for once."""
    return [(names.index(name), convert) for name, convert in by_name.items()]


# Dictionaries, not the enums: a journal is thousands of rows, and a call of an enum is slow.
_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in PromiseState}
_EFFECTS: Mapping[str | None, Effect | None] = {None: None, **{e.value: e for e in Effect}}
_OF_RUN = _conversions(
    RUN_FIELDS,
    status=RunStatus,
    cancel_requested=bool,  # SQLite has no booleans
    on_dead=OnDead,
)
_OF_PROMISE = _conversions(
    PROMISE_FIELDS,
    kind=_KINDS.__getitem__,
    state=_STATES.__getitem__,
    effect=_EFFECTS.__getitem__,
)
_MINUTE_MS = 60_000


def run(row: Row) -> Run:
    """Make a run of `RUN_COLUMNS`. Raises `ValueError` for a word that is none of ours."""
    values = list(row)
    for place, convert in _OF_RUN:
        values[place] = convert(values[place])
    return Run(*values)


def promise(row: Row) -> Promise:
    """Make a promise of `PROMISE_COLUMNS`. Raises `ValueError` for a word that is none of ours."""
    values = list(row)
    try:
        for place, convert in _OF_PROMISE:
            values[place] = convert(values[place])
    except KeyError as error:
        raise ValueError(f"{row[0]!r} has {error}, which is no kind, state or effect") from None
    return Promise(*values)


def parameters_of(promise: Promise) -> dict[str, Any]:
    """Return a promise as parameters by the names of its columns."""
    return dict(zip(PROMISE_FIELDS, values_of(promise), strict=True)) | {
        # Words: psycopg would send the name of an enum's member.
        "kind": promise.kind.value,
        "state": promise.state.value,
        "effect": None if promise.effect is None else promise.effect.value,
    }


def first_run(new: NewRun, now: int, owner: Owner | None) -> Run:
    """Return the run that a start creates: claimed, when there is an owner and nothing is due."""
    # Claimed before its moment, it would run at once.
    owner = None if new.due_at is not None else owner
    return Run(
        id=new.id,
        root_id=root_of(new.id),
        parent_id=None,
        function=new.function,
        version=new.version,
        queue=new.queue,
        status=_first_status(new, owner),
        epoch=1 if owner else 0,
        lease_owner=owner,
        wake_version=0,
        crashes=0,
        cancel_requested=False,
        deadline_at=new.deadline_at,
        last_seq=1,
        seed=new.seed,
        generation=0,
        generation_seq=0,
        exited_epoch=0,
        generation_at=now,
        created_at=now,
        ended_at=None,
        tenant=new.tenant,
    )


def _first_status(new: NewRun, owner: Owner | None) -> RunStatus:
    if new.due_at is not None:
        return RunStatus.SUSPENDED
    return RunStatus.RUNNING if owner else RunStatus.READY


def first_rows(new: NewRun, run: Run) -> dict[str, Any]:
    """Return the parameters of a new run and of the promise of its outcome."""
    return {
        "id": run.id,
        "part": part_of(run.id),
        "tenant": new.tenant,
        "root_id": run.root_id,
        "function": run.function,
        "version": run.version,
        "queue": run.queue,
        "lane": lane_of(run.queue, run.function, run.version),
        "rank": run.created_at + new.priority * _MINUTE_MS,
        "status": run.status.value,
        "epoch": run.epoch,
        "lease_owner": run.lease_owner,
        "due_at": new.due_at,
        "deadline_at": run.deadline_at,
        "seed": run.seed,
        "created_at": run.created_at,
        "key": OWN_KEY,
        "fingerprint": new.fingerprint,
        "input": new.input,
    }


def is_undo(key: Key) -> bool:
    """Whether a promise is an undo's."""
    return key.startswith(UNDO)


def child_row(new: NewRun, now: int) -> dict[str, Any]:
    """Return what a child's row holds that it does not inherit from its parent."""
    return {
        "function": new.function,
        "version": new.version,
        "queue": new.queue,
        "lane": lane_of(new.queue, new.function, new.version),
        "rank": now + new.priority * _MINUTE_MS,
        "deadline_at": new.deadline_at,
        "seed": new.seed,
        "on_dead": new.on_dead.value,
    }


def began_generation(
    fence: Fence, generation: int, function: str, input_: JsonText, now: int
) -> Promise:
    """Return the row of a generation's beginning: with what, and when. It is read at each claim."""
    key = generation_key(generation)
    return Promise(
        id=promise_id(fence.run_id, key),
        run_id=fence.run_id,
        key=key,
        kind=Kind.RUN,
        name=function,
        state=PromiseState.RESOLVED,
        created_at=now,
        settled_at=now,
        input=input_,
    )


def claim_of(run: Run, input_: JsonText) -> Claim:
    """Return the claim on a run that has just become ours."""
    if run.lease_owner is None:
        raise ValueError(f"run {run.id!r} has no owner")
    return Claim(run, Fence(run.id, part_of(run.id), run.epoch, run.lease_owner), input_)


def claims_of(
    found: Sequence[Claimed], lane: str, stuck: Stuck
) -> tuple[Sequence[Claim], Sequence[Fence]]:
    """Return the claims on runs that can be driven, and the fences of those that are to go back.

    Without what it was begun with nobody can drive a run, however often it is claimed; nor one that
    lies in a lane of other code than it names; nor one whose `parent_id` is another run than its id
    begins with, since it would end in a journal that is not its parent's.
    """
    claims, broken = [], []
    for run, input_ in found:
        own = lane_of(run.queue, run.function, run.version)
        parent = run.id.rpartition("#")[0] or None
        if input_ is not None and own == lane and run.parent_id == parent:
            claims.append(claim_of(run, input_))
            continue
        why = "what it was started with is gone from `promises`"
        if run.parent_id != parent:
            why = f"its parent_id is {run.parent_id!r:.200}, and by its id it is {parent!r:.200}"
        elif own != lane:
            why = f"its lane is {lane!r}, and by its queue, function and version it is {own!r}"
        stuck.note(run.id, why)
        broken.append(claim_of(run, JsonText("")).fence)
    return claims, broken


def check_remembered(outcome: Promise | None) -> None:
    """Raise `Forgotten` where the contents of a run's row were forgotten."""
    if outcome is not None and outcome.input is not None and outcome.input.startswith(_EMPTIED):
        raise Forgotten(
            f"what the run {outcome.id!r} was given, did and said was forgotten for good; it stays "
            "as it is, and is not gone on with: start one under another id"
        )


def check_same(new: NewRun, existing: Run, outcome: Promise | None) -> None:
    """Raise `IdTaken` unless the existing run was started with the same function and input.

    Raises `Forgotten` where nobody can tell any more.
    """
    check_remembered(outcome)
    is_same = existing.function == new.function and existing.tenant == new.tenant
    if is_same and outcome and outcome.fingerprint == new.fingerprint:
        return
    raise IdTaken(
        f"the id {new.id!r} belongs to a run of {existing.function!r} that was started with "
        "another function or input, or for another tenant; choose another id, or start it with the "
        "same"
    )


def as_it_stands(checkpoint: Checkpoint, result: CommitResult) -> Promise | Fenced:
    """Return the promise as it stands after its checkpoint, whoever has settled it."""
    match result:
        case Written(seq):
            return checkpoint.promise.written(seq, checkpoint.fence.epoch)
        case Adopted(first):
            return first
        case Fenced() | Locked():
            return Fenced()


def compare(checkpoint: Checkpoint, row: Promise | None) -> CommitResult | None:
    """Say what became of a checkpoint, from the row that stands there now; None: not written."""
    if row is None:
        return None
    ours = replace(checkpoint.promise, epoch=checkpoint.fence.epoch)
    if row.is_settled:
        return Written(row.seq) if _outcome(ours) == _outcome(row) else Adopted(row)
    # A pending row of ours may be an older one under the same key, whose attempts differ.
    is_our_intent = not ours.is_settled and _outcome(ours) == _outcome(row)
    return Written(row.seq) if is_our_intent else None


def _outcome(promise: Promise) -> tuple[object, ...]:
    return (
        promise.state,
        promise.epoch,
        promise.settled_at,
        *map(identity_of, (promise.value, promise.error, promise.attempts, promise.undo)),
    )


def unsettled(promise: Promise) -> Promise:
    """Return the promise as it was before anybody settled it."""
    return replace(
        promise,
        state=PromiseState.PENDING,
        settled_at=None,
        value=None,
        error=None,
        usage=None,
        attempts=None,
    )


def expiry(status: RunStatus | None, now: int) -> int | None:
    """Return when a run that ends now may be swept."""
    if status is None or not status.has_ended:
        return None
    kept = KEPT_DONE if status is RunStatus.DONE else KEPT_FAILED
    return now + int(kept.total_seconds() * 1000)
