"""The logs of providers' SDKs and their HTTP clients: no key is in those, at whatever level.

At DEBUG they tell the headers of each answer, its status line and the error that came of it, and at
INFO the URL; a server may have the key in any of them. Whoever has set up logging reads it there,
also without the kit's own log. So their loggers are given a filter, by which a record has passed
before any handler sees it.

Invariants: a record that tells no key stays as it is; one that does has its text without it, and no
arguments, in which it would stand again. What is not logged costs nothing.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from traceback import format_exception

from substrate.values.mask import Mask

_PACKAGES = (
    *("anthropic", "google", "google_genai", "groq", "openai"),
    *("httpcore", "httpcore2", "httpx", "httpx2"),
)
_MADE_LATER = ("connection", "http11", "http2", "proxy", "socks")
"""What the transports call their loggers, whose modules the first request imports."""

_LONGEST = 200_000
"""Of a longer text, whole keys are hidden and no pieces: each letter of it would take its time."""


def hide_in_logs(secrets: frozenset[str]) -> None:
    """Let nothing that the SDKs log from now on tell these secrets, for as long as this process is.

    Called after the SDK was imported, which makes its loggers. What is given twice counts once.
    """
    later = {f"{each}.{part}" for each in ("httpcore", "httpcore2") for part in _MADE_LATER}
    for name in {*_PACKAGES, *later, *list(logging.root.manager.loggerDict)}:
        if name.partition(".")[0] in _PACKAGES:
            # A logger asks its own filters only: not those of the one above it.
            logging.getLogger(name).addFilter(_Hiding(secrets))


@dataclass(frozen=True, slots=True)
class _Hiding:
    """A filter that keeps every record, without some secrets.

    It is never taken away, since a connection that was closed may still be logged: those of one
    address are equal, and a logger takes one of them.
    """

    secrets: frozenset[str]

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide the secrets in a record, where it tells any."""
        message = _said(record)
        if (hidden := _hidden(self.secrets, message)) != message:
            record.msg, record.args = hidden, None
        error = record.exc_info[1] if record.exc_info else None
        # Where the filter of another address came first, it may have left the text alone.
        trace = "".join(format_exception(error)).rstrip("\n") if error else record.exc_text or ""
        if (hidden := _hidden(self.secrets, trace)) != trace:
            # Handlers of others format the error themselves: it goes, and its text stays.
            record.exc_info, record.exc_text = None, hidden
        return True


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - what logging would print of it, arguments and all
        return f"{record.msg} {record.args!r}"


def _hidden(secrets: frozenset[str], text: str) -> str:
    mask = _mask(secrets)
    return mask.hide(text) if len(text) <= _LONGEST else mask.hide_keys(text)


@lru_cache(maxsize=16)
def _mask(secrets: frozenset[str]) -> Mask:
    return Mask(secrets, are_sure=True)
