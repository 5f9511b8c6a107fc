"""What tools raised that may be a mistake in their code, though the model was told of it.

A model may have caused it by what it gave, and may have mended it; so the run went on, and whoever
wrote the tool is told here, with the line of their own code.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from substrate.agent.history.totals import is_tool_call
from substrate.agent.tool_call import SUSPECTS
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.engine.failure import UNKNOWN, decode_failure
from substrate.values.errors import Failure, RunFailed, StepFailed
from substrate.values.records import Promise, PromiseState

_SURE = {"NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError"}
"""What pauses a run where a tool's own function raises it, and may come from a step or child."""

_NAMES = {each.__name__ for each in SUSPECTS} | _SURE
_RAISED = re.compile(r"(?:(?:'[^']*' raised|(?:step|run) '[^']*' failed:) (\w+): )+")
"""What an error that tells of another one begins with; the last is where it came from."""

_TELLING = (UNKNOWN, StepFailed.__name__, RunFailed.__name__)
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Suspect:
    """A tool call that failed: its key, and what was raised at which line."""

    key: str
    type: str
    place: str


def line_of(failure: Failure) -> str | None:
    """Return the line of somebody's own code where a failure came up, as ``agent/hooks.py:12``."""
    if failure.frame is None:
        return None
    file, line, _ = failure.frame
    path = Path(file)
    known = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{known}:{line}"


def suspects_in(journal: Iterable[Promise]) -> Iterator[Suspect]:
    """Yield the tool calls of which the model was told an error that is often a bug."""
    for promise in journal:
        if not is_tool_call(promise) or promise.state is not PromiseState.REJECTED:
            continue
        failure = decode_failure(promise)
        raised = _RAISED.match(failure.message) if failure.type in _TELLING else None
        kind, line = raised[1] if raised else failure.type, line_of(failure)
        if kind in _NAMES and line is not None:
            yield Suspect(promise.key, kind, line)


def told_suspects(
    run_id: str, journal: Iterable[Promise], invocation: Invocation
) -> Iterator[Text]:
    """Yield a line for each such call, with the command that shows its traceback."""
    found = list(suspects_in(journal))
    for each in found[:_TOLD]:
        told = f"{each.key} raised {each.type} at {each.place}, and the model was told. A bug? "
        trace = invocation.command("show", run_id, "--key", each.key)
        yield Text.assemble((wording.visible(told), "yellow"), (trace, "dim"))
    if len(found) > _TOLD:
        yield Text(f"and {wording.count(len(found) - _TOLD, 'more such call')}", "yellow")
