"""Standard streams whose reader may have gone.

A reader that stops early, as ``head`` does, misses the rest, and stops no command.
"""

import os
import sys
from typing import IO, Any


def write(text: str) -> None:
    """Write to standard output, alone and at once."""
    PipeSafeStream(sys.stdout).write(text)
    PipeSafeStream(sys.stdout).flush()


class PipeSafeStream:
    """A stream of text whose reader may have gone: what is written then is lost, and no error."""

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
