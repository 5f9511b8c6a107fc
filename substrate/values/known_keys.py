"""`KnownKeys`: the secrets that somebody has learnt so far, to be hidden from then on.

Unlike a `Mask` it grows, from whatever thread, and it hides each secret as a whole: what it is
asked about are values, which have to stay as they are otherwise.

Pure. Invariants: a secret is looked for in whatever spelling `Mask` knows; of a key of several
lines each line is known by itself; with many secrets a text takes no longer than with some.
"""

import re
from collections.abc import Iterator
from threading import Lock

from substrate.values.mask import (
    LIKE_A_KEY,
    SHORTEST,
    Span,
    everywhere,
    forms_of,
    lower,
    spans_of,
    without_spans,
)

_MOST_KNOWN = 1000
"""How many secrets a process knows, those that it has read last: each takes some kilobytes."""

_FEW = 300
"""So many forms are looked for one after another; of more a text is looked up in a table."""

_CODED = re.compile(rf"[A-Za-z0-9+/=_-]{{{SHORTEST},}}")
"""What stands on a line of a key: no words, and no armour."""


class KnownKeys:
    """Whole secrets that are surely keys, to which more are added, from whatever thread.

    Where many are known, a text is gone through once, however many those are.
    """

    __slots__ = ("_forms", "_known", "_lock", "_starts")

    def __init__(self) -> None:
        self._lock = Lock()
        #: In the order in which they were heard of last.
        self._known: dict[str, None] = {}
        #: Replaced as a whole, since others read it meanwhile.
        self._forms: tuple[str, ...] = ()
        self._starts: dict[str, tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, secret: str) -> None:
        """Add a secret. What is too short for one is left out."""
        if len(secret.strip()) < SHORTEST:
            return
        with self._lock:
            is_known = secret in self._known
            self._known.pop(secret, None)
            self._known[secret] = None
            if len(self._known) > _MOST_KNOWN:
                self._forget_half()
            elif not is_known:
                self._learn(secret)

    def hide(self, text: str) -> str:
        """Return a text without them, each hidden as a whole."""
        if len(text) < SHORTEST or not self._forms:
            return text
        found = everywhere(text, self._found_in)
        return without_spans(text, sorted(found)) if found else text

    def _learn(self, secret: str) -> None:
        forms = {form for each in _parts(secret) for form in forms_of(each)}
        new = tuple(sorted(forms.difference(self._forms)))
        for form in new:
            start = form[:SHORTEST]
            self._starts[start] = (*self._starts.get(start, ()), form)
        self._forms = (*self._forms, *new)

    def _forget_half(self) -> None:
        kept = KnownKeys()
        for each in list(self._known)[len(self._known) // 2 :]:
            kept.add(each)
        # At once: others look meanwhile, and what stays known is known all the time.
        self._known, self._starts, self._forms = kept._known, kept._starts, kept._forms

    def _found_in(self, text: str) -> list[Span]:
        """Return where they stand in a text, as it is written."""
        low, forms = lower(text), self._forms
        if len(forms) <= _FEW:
            return [span for form in forms if form in low for span in spans_of(form, low)]
        starts = self._starts
        return [
            (at, at + len(form))
            for at in range(len(low) - SHORTEST + 1)
            for form in starts.get(low[at : at + SHORTEST], ())
            if low.startswith(form, at)
        ]


def _parts(secret: str) -> Iterator[str]:
    """Yield what of a secret is one by itself: all of it, its number, and each line of a key.

    Lines, since who shows a key of several lines indents them, joins them, or ends them otherwise.
    """
    whole = secret.strip()
    yield whole
    if whole.isdecimal() and len(number := whole.lstrip("0")) >= SHORTEST:
        yield number
    for text in {whole, whole.replace("\\n", "\n")}:  # on one line, as a variable has it
        is_pem = "-----BEGIN " in text
        for line in map(str.strip, text.split("\n")):
            if line != whole and _CODED.fullmatch(line) and (is_pem or LIKE_A_KEY.fullmatch(line)):
                yield line
