"""What was typed is done: the command is found, and whatever goes wrong becomes a sentence.

Invariant: nothing that is raised below leaves here; each command ends in an exit code.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

from substrate.cli.app import app
from substrate.cli.errors import UsageError, report_error, report_fault
from substrate.cli.exit import Exit
from substrate.cli.invocation import FLAGS, Invocation
from substrate.cli.secrecy import RedactingFormatter
from substrate.values.errors import OstinatoError
from substrate.values.near import did_you_mean

_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""What every complaint about the command line derives from."""


def perform(invocation: Invocation) -> int:
    """Do what was typed, and return the exit code. An error is printed."""
    try:
        return _dispatch(invocation)
    except OstinatoError as error:
        return report_error(error, invocation, _command_of(invocation.arguments))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the edge: told in a sentence, whole with --debug
        return report_fault(error, invocation)


def _dispatch(invocation: Invocation) -> int:
    _configure_log(is_debug=invocation.is_debug)
    command = list(invocation.arguments)
    try:
        done = app(command, prog_name=invocation.program, standalone_mode=False, obj=invocation)
    except _CLICK_ERROR as error:
        message = _worded(str(error.format_message()).rstrip("."))  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":  # its help is printed, and it has no words
            message = f"say what to do: {' '.join([*command, 'COMMAND'])}, one of those above"
        message = _with_bounds(message, getattr(error, "param", None))
        if command[0] == "run" and "extra argument" in message:
            message += '; a question of several words stands in quotes: run "How many owls?"'
        raise UsageError(message) from error
    return int(done or 0)


def _command_of(arguments: Sequence[str]) -> Sequence[str]:
    """Return the words that name a command, such as ``rules add``: its own help is worth most."""
    found: list[str] = []
    at: Any = get_command(app)
    for word in arguments:
        at = getattr(at, "commands", {}).get(word)
        if at is None:
            break
        found.append(word)
    return found


def _worded(message: str) -> str:
    """Return the message of an error in the command line, without the jargon of its parser."""
    message = message.replace("Value error, ", "").replace("Input should be", "it is to be")
    message = message.removesuffix(", unable to parse string as an integer")
    message = message.removesuffix(", unable to parse string as a number")
    if found := re.fullmatch(r"(No such option: (\S+)).*", message):
        near = did_you_mean(found[2], FLAGS)
        return found[1] + near if near else message
    if found := re.search(r"'([^']*)' is not one of (.*)", message):
        message += did_you_mean(found[1], re.findall(r"'([^']*)'", found[2]))
    return message


def _with_bounds(message: str, option: object) -> str:
    """Return the message about a number with both bounds, whichever of them was passed."""
    least, most = getattr(option, "min", None), getattr(option, "max", None)
    said, found, _ = message.partition("it is to be ")
    if least is None or most is None or not found:
        return message
    kind = "a whole number" if isinstance(least, int) else "a number"
    return f"{said}{found}{kind} from {least:,} to {most:,.10g}"


def _configure_log(*, is_debug: bool) -> None:
    """Show the log on standard error: warnings as sentences, or all of it with its origin."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(RedactingFormatter("%(message)s"))
    if is_debug:
        handler = logging.StreamHandler()
        handler.setFormatter(RedactingFormatter("%(levelname)s:%(name)s:%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
        logging.getLogger("ostinato").setLevel(logging.DEBUG)
