"""What the code asks for, and whether a recorded call answers it; if not, the run is paused.

Code changes under its runs. A record answers a call if the call is what was recorded, or if a
person has accepted the record for exactly that call. An acceptance is a row of its own; the
accepted record is not changed.
"""

from itertools import takewhile
from typing import NamedTuple

from substrate.engine.run.mask_rows import without_secrets
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import Failure, Misuse, Paused
from substrate.values.ids import Key, RunId, promise_id
from substrate.values.records import ACCEPTED_SCOPE, JsonText, Kind, Promise, PromiseState

MISMATCH = "FingerprintMismatch"
"""The failure type of a paused run whose code asks for something else than was recorded."""

NEVER_ASKED = "NeverAsked"
"""The failure type of a paused run whose code ended without asking for a call in doubt."""

LEFT = "left"
"""Replaces the fingerprint in the acceptance by which a person lets code drop a call."""

_SHOWN = 200
"""How many characters of the arguments, recorded and asked, the message of a pause shows."""


class RequestedCall(NamedTuple):
    """What the code asks for: a key, and what the record under that key must match.

    Without a fingerprint of its own, a call is compared by its kind, name and input.
    """

    key: Key
    kind: Kind
    name: str
    input: JsonText | None = None
    own_fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """The hash that the journal keeps: a later replay checks that it asks for the same call."""
        return self.own_fingerprint or fingerprint(self.kind.value, self.name, self.input)


def acceptance(own: Promise, found: Promise | None, key: Key, by: str | None, now: int) -> Promise:
    """Return the row by which a person accepts a record for the call that paused its run.

    `own` is the promise of the run's outcome, whose failure says what the pause is about; `found`
    is the record under `key`. Raises `Misuse` when the pause is about something else.
    """
    failure = Failure.from_json(decode(own.error)) if own.error else None
    about = failure.details if failure and failure.type in (MISMATCH, NEVER_ASKED) else None
    if not isinstance(about, dict) or about.get("key") != key or found is None:
        why = f"{failure.type}: {failure.message}" if failure else "nothing that is recorded"
        raise Misuse(f"run {own.id!r} is not paused about {key!r}, but by {why}")
    asked = about["asked"]
    if not can_stand(found, Kind(asked["kind"]), asked["name"]):
        raise Misuse(
            f"{found.id!r} has no outcome that could stand for {asked['kind']} "
            f"{asked['name']!r}; go on under the code that recorded it"
        )
    accepted = accepted_key(key, asked["fingerprint"])
    return Promise(
        id=promise_id(RunId(own.id), accepted),
        run_id=RunId(own.id),
        key=accepted,
        kind=Kind.RUN,
        name=key,
        state=PromiseState.RESOLVED,
        created_at=now,
        settled_at=now,
        fingerprint=asked["fingerprint"],
        value=JsonText(encode({"by": by, "asked": asked})),
    )


def accepted_key(key: Key, asked: str) -> Key:
    """Return the key of the row that accepts a record for the call with this fingerprint."""
    return Key(f"{ACCEPTED_SCOPE}{key}/{asked}")


def can_stand(found: Promise, kind: Kind, name: str) -> bool:
    """Whether a record can answer another call.

    An outcome can answer any call; an intent only one of the same kind and name.
    """
    return found.is_settled or (found.kind is kind and found.name == name)


def matches(found: Promise, asked: RequestedCall) -> bool:
    """Whether the record is what the code asks for."""
    if found.kind is not asked.kind or found.name != asked.name:
        return False
    if asked.own_fingerprint is None and found.input == asked.input:
        return True  # equal inputs have equal fingerprints, which a long replay need not compute
    if found.fingerprint == asked.fingerprint:
        return True
    # One side may show a secret that the other already knew and hid: that is no difference.
    is_own = asked.own_fingerprint is not None
    return not is_own and without_secrets(found.input) == without_secrets(asked.input)


def mismatch(found: Promise, asked: RequestedCall) -> Paused:
    """Return what pauses a run whose code asks for something else than was recorded."""
    recorded, now = _shown(found.input, asked.input), _shown(asked.input, found.input)
    same = (found.kind, found.name) == (asked.kind, asked.name)
    if same and found.input != asked.input:
        sides = f"with {recorded}, and the code now asks for it with {now}"
    elif same:
        sides = "and the code now asks for it in another way"
    else:
        sides = f"with {recorded}, and the code now asks for {asked.kind} {asked.name!r} with {now}"
    failure = Failure(
        MISMATCH,
        f"{found.key!r} was recorded as {found.kind} {found.name!r} {sides}; go on under the old "
        "code, or accept what was recorded",
        {
            "key": found.key,
            "recorded": _side(found.kind, found.name, found.input),
            "asked": {
                **_side(asked.kind, asked.name, asked.input),
                "fingerprint": asked.fingerprint,
            },
        },
    )
    return Paused(failure)


def never_asked(found: Promise) -> Failure:
    """Return the failure of a run whose code ended without asking for a call in doubt."""
    side = _side(found.kind, found.name, found.input)
    return Failure(
        NEVER_ASKED,
        f"{found.key!r} was called as {found.kind} {found.name!r}, nobody knows whether it "
        "happened, and the code does not ask for it any more; look whether it happened, then go on "
        f"under the code that asks for it, or accept {found.key!r} to let it go",
        {"key": found.key, "recorded": side, "asked": {**side, "fingerprint": LEFT}},
    )


def _shown(input_: JsonText | None, other: JsonText | None) -> str:
    """Return one side's arguments for a message; if long, a cut around the first difference."""
    if input_ is None:
        return "no arguments"
    if len(input_) <= _SHOWN:
        return input_
    same = takewhile(lambda pair: pair[0] == pair[1], zip(input_, other or "", strict=False))
    start = max(sum(1 for _ in same) - _SHOWN // 4, 0)
    cut = input_[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut}… ({len(input_)} characters)"


def _side(kind: Kind, name: str, input_: JsonText | None) -> dict[str, object]:
    return {"kind": kind.value, "name": name, "input": decode(input_) if input_ else None}
