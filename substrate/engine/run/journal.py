"""The journal of one run: what it recorded before this claim, by key, loaded in one query.

Code asks for each key once. So a record is handed out once and then dropped; what the run records
during this claim is not added. Where a record is not what the code asks for: see `mismatch`.
"""

from collections.abc import Iterable

from substrate.engine.run.attempts import next_attempt_at
from substrate.engine.run.mismatch import (
    LEFT,
    RequestedCall,
    accepted_key,
    can_stand,
    matches,
    mismatch,
)
from substrate.values.ids import Key
from substrate.values.records import ACCEPTED_SCOPE, GATE, Effect, JsonText, Kind, Promise


class Journal:
    """The recorded promises of one run that its code has not asked for yet."""

    __slots__ = ("_accepted", "_asked", "_left", "_left_out", "_rows", "_scopes")

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
        asked = _asked_before_calls(self._rows.values())
        self._asked = _scopes_of(asked)
        self._scopes = _scopes_of(key for key in self._rows if key not in asked)

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
        return scope in self._scopes or scope in self._asked

    def has_begun(self, scope: str) -> bool:
        """Whether more than a gate was recorded inside this scope: its operation was begun."""
        return scope in self._scopes

    def take(self, asked: RequestedCall) -> Promise | None:
        """Return the promise recorded under the asked key, or None.

        Raises `Paused` when the record does not match the call, and no person accepted it.
        """
        found = self._rows.pop(asked.key, None)
        if found is None or matches(found, asked) or self._is_accepted(found, asked):
            return found
        raise mismatch(found, asked)

    def look(self, key: Key) -> Promise | None:
        """Return the record under a key without taking it, or None."""
        return self._rows.get(key)

    def names_in(self, scope: str) -> list[str]:
        """Return the names of what the code has not asked for yet of a scope's own operations.

        One has a record of its own, or records inside of it, or both.
        """
        if scope not in self._scopes:
            return []
        inside = f"{scope}/"
        rests = (key[len(inside) :] for key in self._rows if key.startswith(inside))
        own = (rest.partition("/")[0] for rest in rests)
        return list(dict.fromkeys(part.rpartition(".")[0] for part in own))

    def put_back(self, promise: Promise) -> None:
        """Keep a record that was taken, so that its key can be asked for again."""
        self._rows[promise.key] = promise

    def _is_accepted(self, found: Promise, asked: RequestedCall) -> bool:
        """Whether a person accepted the record for exactly this call."""
        return accepted_key(asked.key, asked.fingerprint) in self._accepted and can_stand(
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
            if is_unasked and accepted_key(found.key, LEFT) not in self._accepted:
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


def _asked_before_calls(promises: Iterable[Promise]) -> set[Key]:
    """Return the keys of the gates before calls, and of what was done to tell people of them."""
    gates = [each.key for each in promises if each.kind is Kind.GATE and each.name == GATE]
    if not gates:
        return set()
    inside = tuple(f"{key}/" for key in gates)
    return {each.key for each in promises if each.key.startswith(inside)}.union(gates)


def _scopes_of(keys: Iterable[str]) -> set[str]:
    """Return every scope that holds a key, the outermost of them being ``""``."""
    scopes: set[str] = set()
    for key in keys:
        scope = key.rpartition("/")[0]
        while scope not in scopes:
            scopes.add(scope)
            scope = scope.rpartition("/")[0]
    return scopes
