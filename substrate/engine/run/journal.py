"""What one run has recorded before it was claimed, by key: loaded in one query.

A record is handed out once, when the code asks for its key, and is kept no longer: a key is asked
for once, and what the run records from now on it needs no second time.

A record stands for what the code asks for if that is what was recorded, or if a person has accepted
it for exactly that call. An acceptance is a row of its own; the record stays as it was.
"""

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

from substrate.engine.run.attempts import next_attempt_at
from substrate.engine.run.discreet import without_secrets
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import Failure, Misuse, Paused
from substrate.values.ids import Key, RunId, promise_id
from substrate.values.records import ACCEPTED_SCOPE, Effect, JsonText, Kind, Promise, PromiseState

MISMATCH = "FingerprintMismatch"
"""The type of the failure with which a run is paused whose code asks for something else."""

NEVER_ASKED = "NeverAsked"
"""The type of the failure with which a run is paused whose code has forgotten a call in doubt."""

_LEFT = "left"
"""What stands for a fingerprint where a person lets a call be forgotten."""

_SHOWN = 200
"""How many characters of each side's arguments the message of a pause shows."""


class Expected(NamedTuple):
    """What the code asks for at one place: its key, and what must match the record there.

    Without a fingerprint of its own it is known by its kind, name and input.
    """

    key: Key
    kind: Kind
    name: str
    input: JsonText | None = None
    own_fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """What the journal keeps to tell whether a later replay asks for the same."""
        return self.own_fingerprint or fingerprint(self.kind.value, self.name, self.input)


class Journal:
    """The promises of one run that have not been asked for yet."""

    __slots__ = ("_accepted", "_left", "_left_out", "_rows", "_scopes")

    def __init__(self, promises: Iterable[Promise] = ()) -> None:
        self._rows: dict[Key, Promise] = {}
        self._accepted: set[str] = set()
        self._left: dict[str, list[Key]] = {}
        self._left_out: set[str] = set()
        for promise in promises:
            if promise.kind is not Kind.RUN:
                self._rows[promise.key] = promise
            elif promise.key.startswith(ACCEPTED_SCOPE):
                self._accepted.add(promise.key)
        # Made once: rows are handed out, and a scope stays one that something was recorded in.
        self._scopes = _scopes_of(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Key) -> bool:
        """Whether something is recorded under a key that has not been asked for yet."""
        return key in self._rows

    def input_of(self, key: Key) -> JsonText | None:
        """Return what is recorded as the arguments under a key that has not been asked for yet."""
        found = self._rows.get(key)
        return found.input if found else None

    def has_scope(self, scope: str) -> bool:
        """Whether anything was recorded inside this scope when the journal was loaded."""
        return scope in self._scopes

    def take(self, asked: Expected) -> Promise | None:
        """Return the promise recorded under the asked key, or None.

        Raises `Paused` when what was recorded is not what the code asks for now.
        """
        found = self._rows.pop(asked.key, None)
        if found is None or _matches(found, asked) or self._is_accepted(found, asked):
            return found
        raise Paused(_mismatch(found, asked))

    def look(self, key: Key) -> Promise | None:
        """Return what was recorded under a key that has not been asked for yet, and keep it."""
        return self._rows.get(key)

    def put_back(self, promise: Promise) -> None:
        """Keep a record for who asks for its key once more."""
        self._rows[promise.key] = promise

    def _is_accepted(self, found: Promise, asked: Expected) -> bool:
        """Whether a person let the record stand for this call, whatever others they accepted."""
        return accepted_key(asked.key, asked.fingerprint) in self._accepted and _can_stand(
            found, asked.kind, asked.name
        )

    def forgotten(self, open_: Iterable[Promise]) -> Promise | None:
        """Return a ``once`` call in doubt that the code has not asked for, and nobody let go.

        `open_` is what has no outcome yet.

        Nobody knows whether it happened, and code that doesn't ask would never be told.
        """
        for found in open_:
            is_in_doubt = found.effect is Effect.ONCE and next_attempt_at(found) is None
            is_unasked = is_in_doubt and found.key in self._rows
            if is_unasked and accepted_key(found.key, _LEFT) not in self._accepted:
                return found
        return None

    def pop(self, key: Key) -> Promise | None:
        """Return what was recorded under a key that no code can ask for, or None."""
        return self._rows.pop(key, None)

    def leave_out(self, scopes: Iterable[Key]) -> None:
        """Be told of scopes that the code has left for good: what lost a race."""
        if self._rows:
            self._left_out.update(scopes)

    def newest_in(self, scope: str) -> int:
        """Return the highest seq in a scope of what the code may still ask for; 0: there is none.

        The rows of a scope are gone through once, from the newest on, however often this is asked.
        """
        left = self._left.get(scope)
        if left is None:
            within = f"{scope}/" if scope else ""
            left = self._left[scope] = [key for key in self._rows if key.startswith(within)]
        # Rows were loaded in the order of their seq, so the last key is that of the newest.
        while left and (left[-1] not in self._rows or self._is_left_out(left[-1])):
            left.pop()
        return self._rows[left[-1]].seq if left else 0

    def _is_left_out(self, key: str) -> bool:
        while key := key.rpartition("/")[0]:
            if key in self._left_out:
                return True
        return False


def acceptance(own: Promise, found: Promise | None, key: Key, by: str | None, now: int) -> Promise:
    """Return the row that lets a record stand for the call about which its run is paused.

    `own` is the promise of the run's outcome, which says what the pause is about, and `found` the
    record under the key. Raises `Misuse` where the pause is about something else.
    """
    failure = Failure.from_json(decode(own.error)) if own.error else None
    about = failure.details if failure and failure.type in (MISMATCH, NEVER_ASKED) else None
    if not isinstance(about, dict) or about.get("key") != key or found is None:
        why = f"{failure.type}: {failure.message}" if failure else "nothing that is recorded"
        raise Misuse(f"run {own.id!r} is not paused about {key!r}, but by {why}")
    asked = about["asked"]
    if not _can_stand(found, Kind(asked["kind"]), asked["name"]):
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
    """Return the key of the acceptance of a record for the call with this fingerprint."""
    return Key(f"{ACCEPTED_SCOPE}{key}/{asked}")


def _can_stand(found: Promise, kind: Kind, name: str) -> bool:
    """Whether a record can stand for another call: an outcome for any, an intent for its like."""
    return found.is_settled or (found.kind is kind and found.name == name)


def _matches(found: Promise, asked: Expected) -> bool:
    """Whether the record is what the code asks for."""
    if found.kind is not asked.kind or found.name != asked.name:
        return False
    if asked.own_fingerprint is None and found.input == asked.input:
        return True  # as its fingerprint would say, which a long replay need not compute
    if found.fingerprint == asked.fingerprint:
        return True
    # What one side tells of a secret the other may have known as one: that is no difference.
    is_own = asked.own_fingerprint is not None
    return not is_own and without_secrets(found.input) == without_secrets(asked.input)


def _scopes_of(keys: Iterable[str]) -> set[str]:
    """Return every scope that holds a key, the outermost of them being ``""``."""
    scopes: set[str] = set()
    for key in keys:
        scope = key.rpartition("/")[0]
        while scope not in scopes:
            scopes.add(scope)
            scope = scope.rpartition("/")[0]
    return scopes


def _mismatch(found: Promise, asked: Expected) -> Failure:
    recorded, now = _shown(found.input, asked.input), _shown(asked.input, found.input)
    same = (found.kind, found.name) == (asked.kind, asked.name)
    if same and found.input != asked.input:
        sides = f"with {recorded}, and the code now asks for it with {now}"
    elif same:
        sides = "and the code now asks for it in another way"
    else:
        sides = f"with {recorded}, and the code now asks for {asked.kind} {asked.name!r} with {now}"
    return Failure(
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


def never_asked(found: Promise) -> Failure:
    """Return the failure of a run whose code has ended without asking for a call in doubt."""
    side = _side(found.kind, found.name, found.input)
    return Failure(
        NEVER_ASKED,
        f"{found.key!r} was called as {found.kind} {found.name!r}, nobody knows whether it "
        "happened, and the code does not ask for it any more; look whether it happened, then go on "
        f"under the code that asks for it, or accept {found.key!r} to let it go",
        {"key": found.key, "recorded": side, "asked": {**side, "fingerprint": _LEFT}},
    )


def _shown(input_: JsonText | None, other: JsonText | None) -> str:
    """Return one side's arguments as a message shows them: where they are long, what differs."""
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
