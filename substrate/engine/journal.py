"""What one run has recorded before it was claimed, by key: loaded in one query.

A record is handed out once, when the code asks for its key, and is kept no longer: a key is asked
for once, and what the run records from now on it needs no second time.
"""

from collections.abc import Iterable
from typing import NamedTuple

from substrate.values.codec import decode, fingerprint
from substrate.values.errors import Failure, Paused
from substrate.values.ids import Key
from substrate.values.records import OWN_KEY, Json, Kind, Promise


class Asked(NamedTuple):
    """What the code asks for at one place: its key, and what must match the record there.

    Without a fingerprint of its own it is known by its kind, name and input.
    """

    key: Key
    kind: Kind
    name: str
    input: Json | None = None
    own_fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """What the journal keeps to tell whether a later replay asks for the same."""
        return self.own_fingerprint or fingerprint(self.kind.value, self.name, self.input)


class Journal:
    """The promises of one run that have not been asked for yet."""

    __slots__ = ("_rows", "_scopes")

    def __init__(self, promises: Iterable[Promise] = ()) -> None:
        self._rows = {promise.key: promise for promise in promises if promise.key != OWN_KEY}
        self._scopes = _scopes_of(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def has_scope(self, scope: str) -> bool:
        """Whether anything was recorded inside this scope when the journal was loaded."""
        return scope in self._scopes

    def take(self, asked: Asked) -> Promise | None:
        """Return the promise recorded under the asked key, or None.

        Raises `Paused` when what was recorded is not what the code asks for now.
        """
        found = self._rows.pop(asked.key, None)
        if found is None or _stands_for(found, asked):
            return found
        raise Paused(_mismatch(found, asked))

    def pop(self, key: Key) -> Promise | None:
        """Return what was recorded under a key that no code can ask for, or None."""
        return self._rows.pop(key, None)


def _stands_for(found: Promise, asked: Asked) -> bool:
    """Whether the record is what the code asks for, or a person accepted it as that."""
    if found.fingerprint is None and found.is_settled:
        return True
    if found.kind is not asked.kind or found.name != asked.name:
        return False
    if asked.own_fingerprint is None and found.input == asked.input:
        return True  # as its fingerprint would say, which a long replay need not compute
    return found.fingerprint in (None, asked.fingerprint)


def _scopes_of(keys: Iterable[str]) -> set[str]:
    """Return every scope that holds a key, the outermost of them being ``""``."""
    scopes: set[str] = set()
    for key in keys:
        scope = key.rpartition("/")[0]
        while scope not in scopes:
            scopes.add(scope)
            scope = scope.rpartition("/")[0]
    return scopes


def _mismatch(found: Promise, asked: Asked) -> Failure:
    return Failure(
        "FingerprintMismatch",
        f"{found.key!r} was recorded as {found.kind} {found.name!r} and the code now asks for "
        f"{asked.kind} {asked.name!r} {_difference(found, asked)}; go on under the old code, or "
        "accept what was recorded",
        {
            "key": found.key,
            "recorded": _side(found.kind, found.name, found.input),
            "asked": _side(asked.kind, asked.name, asked.input),
        },
    )


def _difference(found: Promise, asked: Asked) -> str:
    same = (found.kind, found.name) == (asked.kind, asked.name)
    return "with other arguments" if same else "there"


def _side(kind: Kind, name: str, input_: Json | None) -> dict[str, object]:
    return {"kind": kind.value, "name": name, "input": decode(input_) if input_ else None}
