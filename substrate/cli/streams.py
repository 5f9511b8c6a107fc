"""Standard streams that nobody may read any more.

Who has stopped reading, as ``head`` does, misses the rest, and keeps nobody from going on.
"""

import os
import sys
from typing import IO, Any


def write(text: str) -> None:
    """Write to standard output, alone and at once."""
    Patient(sys.stdout).write(text)
    Patient(sys.stdout).flush()


class Patient:
    """A stream of text that is written to nowhere once nobody reads it any more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; return how many characters that are."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        """See that what was written is on its way."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._to_nowhere()

    def __getattr__(self, name: str) -> Any:
        """Be asked what else a stream is asked: whether it is a terminal, its encoding."""
        return getattr(self._stream, name)

    def _to_nowhere(self) -> None:
        # What is left in its buffer would be written again, at the latest when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
