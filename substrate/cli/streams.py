"""Standard streams whose reader may have gone.

A reader that stops early, as ``head`` does, and a terminal that was closed miss the rest, and stop
no command.
"""

import errno
import os
import sys
from typing import IO, Any


def write(text: str) -> None:
    """Write to standard output, alone and at once."""
    PipeSafeStream(sys.stdout).write(text)
    PipeSafeStream(sys.stdout).flush()


_NOBODY_READS = (errno.EPIPE, errno.EIO)
"""What a pipe without a reader fails with, and a terminal that was closed."""


class PipeSafeStream:
    """A stream of text whose reader may have gone: what is written then is lost, and no error."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; return how many characters that are."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._to_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """See that what was written is on its way."""
        try:
            self._stream.flush()
        except OSError as error:
            self._to_nowhere(error)

    def __getattr__(self, name: str) -> Any:
        """Be asked what else a stream is asked: whether it is a terminal, its encoding."""
        return getattr(self._stream, name)

    def _to_nowhere(self, error: OSError) -> None:
        """See that nothing more fails where nobody reads; raise what is wrong with a file."""
        if error.errno not in _NOBODY_READS:
            raise error
        # What is left in its buffer would be written again, at the latest when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
