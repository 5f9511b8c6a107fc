"""An error as a person reads it: the fact and its remedy on standard error, and an exit code."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from substrate.cli.exit import Exit
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_error, print_document
from substrate.cli.secrecy import hidden, trace_of
from substrate.cli.wrong_file import WrongFile
from substrate.values.errors import (
    BadDatabaseUrl,
    GateChanged,
    GateClosed,
    GateNotFound,
    InvalidId,
    Misuse,
    RunPaused,
    StoreError,
)

_DATABASE = "DATABASE_URL says which database it is; unset, it is sqlite:///runs.db"


class UsageError(Misuse):
    """The command line cannot be understood. Nothing was done."""


@contextmanager
def blaming_what_was_typed() -> Iterator[None]:
    """Turn a misuse inside of the block into a `UsageError`: what is wrong there was typed."""
    try:
        yield
    except UsageError:
        raise
    except Misuse as error:
        raise UsageError(str(error)) from error


def report_error(error: Exception, invocation: Invocation, command: Sequence[str] = ()) -> int:
    """Say what went wrong, and return the exit code for it. `command` is which was called."""
    if invocation.is_debug:
        sys.stderr.write(trace_of(error))
    if invocation.is_json:
        print_document(of_error(type(error).__name__, str(error)))
        return _code(error)
    sys.stderr.write(f"{_red('error')}: {hidden(str(error))}\n")
    if isinstance(error, StoreError):
        sys.stderr.write(f"{_DATABASE}\n")
    if isinstance(error, UsageError):
        sys.stderr.write(f"see {invocation.command(*command, '--help')}\n")
    return _code(error)


def report_fault(error: BaseException, invocation: Invocation) -> int:
    """Say that something failed that should not, in the kit or in the fork."""
    if invocation.is_debug:
        sys.stderr.write(trace_of(error))
        return Exit.FAILED
    text = hidden(f"{type(error).__name__}: {error}")
    message = f"{text}; what was recorded is safe; --debug shows where"
    if invocation.is_json:
        print_document(of_error(type(error).__name__, message))
    else:
        sys.stderr.write(f"{_red('fault')}: {message}\n")
    return Exit.FAILED


def _code(error: Exception) -> int:
    match error:
        case UsageError() | InvalidId() | WrongFile() | BadDatabaseUrl():
            return Exit.USAGE
        case GateNotFound() | GateClosed() | GateChanged():
            return Exit.USAGE
        case RunPaused():
            return Exit.PAUSED
    return Exit.FAILED


def _red(word: str) -> str:
    return f"\x1b[31m{word}\x1b[0m" if sys.stderr.isatty() else word
