"""How an error of a tool reads that may be a bug in it: the line of code, and where its trace is.

Whoever wrote the tool is told here: the model was told, and the run went on.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.text import Text

from substrate.agent.history.suspects import suspects_in
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.values.errors import Failure
from substrate.values.records import Promise

_SHOWN = 3


def line_of(failure: Failure) -> str | None:
    """Return the line of somebody's own code where a failure came up, as ``agent/hooks.py:12``."""
    if failure.frame is None:
        return None
    file, line, _ = failure.frame
    path = Path(file)
    known = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{known}:{line}"


def suspect_lines(
    run_id: str, journal: Iterable[Promise], invocation: Invocation
) -> Iterator[Text]:
    """Yield a line for each such call, with the command that shows its traceback."""
    found = list(suspects_in(journal))
    for each in found[:_SHOWN]:
        at = line_of(each.failure)
        message = f"{each.key} raised {each.type} at {at}, and the model was told. A bug? "
        trace = invocation.command("show", run_id, "--key", each.key)
        yield Text.assemble((wording.visible(message), "yellow"), (trace, "dim"))
    if len(found) > _SHOWN:
        yield Text(f"and {wording.count(len(found) - _SHOWN, 'more such call')}", "yellow")
