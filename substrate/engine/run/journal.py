"""The journal of one run: what it recorded before this claim, by key, loaded in one query.

Code asks for each key once. So a record is handed out once and then dropped; what the run records
during this claim is not added.

A record answers a call if the call is what was recorded, or if a person accepted the record for
exactly that call. An acceptance is a row of its own; the accepted record is not changed.
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
"""The failure type of a paused run whose code asks for something else than was recorded."""

NEVER_ASKED = "NeverAsked"
"""The failure type of a paused run whose code ended without asking for a call in doubt."""

_LEFT = "left"
"""Replaces the fingerprint in the acceptance by which a person lets code drop a call."""

_SHOWN = 200
"""How many characters of the arguments, recorded and asked, the message of a pause shows."""


class Expected(NamedTuple):
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


class Journal:
    """The recorded promises of one run that its code has not asked for yet."""

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
        # Computed now: rows are dropped later, and `has_scope` must not change with them.
        self._scopes = _scopes_of(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Key) -> bool:
        """Whether there is a record under this key that the code has not asked for yet."""
        return key in self._rows

    def input_of(self, key: Key) -> JsonText | None:
        """Return the recorded arguments under a key that the code has not asked for yet."""
        found = self._rows.get(key)
        return found.input if found else None

    def has_scope(self, scope: str) -> bool:
        """Whether anything was recorded inside this scope when the journal was loaded."""
        return scope in self._scopes

    def take(self, asked: Expected) -> Promise | None:
        """Return the promise recorded under the asked key, or None.

        Raises `Paused` when the record does not match the call, and no person accepted it.
        """
        found = self._rows.pop(asked.key, None)
        if found is None or _matches(found, asked) or self._is_accepted(found, asked):
            return found
        raise Paused(_mismatch(found, asked))

    def look(self, key: Key) -> Promise | None:
        """Return the record under a key without taking it, or None."""
        return self._rows.get(key)

    def put_back(self, promise: Promise) -> None:
        """Keep a record that was taken, so that its key can be asked for again."""
        self._rows[promise.key] = promise

    def _is_accepted(self, found: Promise, asked: Expected) -> bool:
        """Whether a person accepted the record for exactly this call."""
        return accepted_key(asked.key, asked.fingerprint) in self._accepted and _can_stand(
            found, asked.kind, asked.name
        )

    def forgotten(self, open_: Iterable[Promise]) -> Promise | None:
        """Return a ``once`` call in doubt that the code has not asked for, or None.

        Nobody knows whether such a call happened, and code that never asks for it never finds out.
        A call that a person has let go does not count. `open_` are the promises without an outcome.
        """
        for found in open_:
            is_in_doubt = found.effect is Effect.ONCE and next_attempt_at(found) is None
            is_unasked = is_in_doubt and found.key in self._rows
            if is_unasked and accepted_key(found.key, _LEFT) not in self._accepted:
                return found
        return None

    def pop(self, key: Key) -> Promise | None:
        """Take and return the record under a key that only the kit uses, or None."""
        return self._rows.pop(key, None)

    def leave_out(self, scopes: Iterable[Key]) -> None:
        """Ignore these scopes in `newest_in`: their branches lost a race, and are never resumed."""
        if self._rows:
            self._left_out.update(scopes)

    def newest_in(self, scope: str) -> int:
        """Return the highest seq of a record in a scope that the code may still ask for, or 0.

        All calls for one scope together look at each of its rows once, from the newest on.
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
    """Return the key of the row that accepts a record for the call with this fingerprint."""
    return Key(f"{ACCEPTED_SCOPE}{key}/{asked}")


def _can_stand(found: Promise, kind: Kind, name: str) -> bool:
    """Whether a record can answer another call.

    An outcome can answer any call; an intent only one of the same kind and name.
    """
    return found.is_settled or (found.kind is kind and found.name == name)


def _matches(found: Promise, asked: Expected) -> bool:
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
    """Return the failure of a run whose code ended without asking for a call in doubt."""
    side = _side(found.kind, found.name, found.input)
    return Failure(
        NEVER_ASKED,
        f"{found.key!r} was called as {found.kind} {found.name!r}, nobody knows whether it "
        "happened, and the code does not ask for it any more; look whether it happened, then go on "
        f"under the code that asks for it, or accept {found.key!r} to let it go",
        {"key": found.key, "recorded": side, "asked": {**side, "fingerprint": _LEFT}},
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
