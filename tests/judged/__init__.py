"""The judged set: questions, and the text that answers each; see its README."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILES = ("perl.jsonl", "python.jsonl")


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with its answer."""

    #: Under this name its answer is kept.
    name: str
    question: str
    answer: str

    @property
    def is_held_out(self) -> bool:
        """Whether nothing may be chosen by it."""
        return hashlib.sha256(self.question.encode()).digest()[0] % 2 == 1


def judged() -> Sequence[Judged]:
    """Return the whole set, in order."""
    found = []
    for name in _FILES:
        lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
        for i, line in enumerate(lines):
            row = json.loads(line)
            found.append(Judged(f"{Path(name).stem}-{i}", row["question"], row["answer"]))
    return found
