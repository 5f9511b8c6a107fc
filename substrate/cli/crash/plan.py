"""What a process of a case is to do, and under which names it leaves what it did. Pure."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from substrate.testing.crash import Side
from substrate.values.ids import RunId

RUN = RunId("crash")
"""The id of the run, in each database the same: so are its idempotency keys."""

CALLS, STRUCK, SAID, REPORT = "calls", "struck", "said", "report.json"
"""The files of a case: what was called, where it was killed, what was printed, what it came to."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What a process is to do."""

    #: The package of the fork, loaded from the copy of its folder.
    package: str
    #: The folder of the case, with the copy as its ``world``.
    folder: Path
    #: The environment.
    environment: dict[str, str]
    #: What the agent is asked.
    question: str
    #: Names of signals, and the JSON that answers a question under that name.
    signals: tuple[tuple[str, Any], ...] = ()
    #: Whether each call that a person is asked about is approved.
    approves: bool = False
    #: The JSON that answers each question to a person; empty where none is answered.
    answers: tuple[Any, ...] = ()
    #: At which commit it is killed; 0 is at none.
    boundary: int = 0
    #: On which side of it.
    side: Side = Side.BEFORE
    #: Whether a model may be asked that costs money.
    is_live: bool = False

    def again(self) -> "Drive":
        """Return the drive that goes on after the kill."""
        return replace(self, boundary=0)

    @property
    def world(self) -> Path:
        """The copy of the fork's folder, in which the agent is at work."""
        return self.folder / "world"
