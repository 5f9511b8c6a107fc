"""What tools raised that may be a mistake in their code, though the model was told of it. Pure.

A model may have caused the error by what it gave, and may have mended that; so the run went on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from substrate.agent.history.rows import is_tool_call
from substrate.engine.failure import UNKNOWN, decode_failure
from substrate.values.errors import Failure, RunFailed, StepFailed
from substrate.values.records import Promise, PromiseState

SUSPECTS = (TypeError, AttributeError, NotImplementedError, AssertionError)
"""Errors that are told to a model, whose arguments may be the cause, and that are often bugs."""

_SURE = {"NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError"}
"""What pauses a run where a tool's own function raises it, and may come from a step or child."""

_NAMES = {each.__name__ for each in SUSPECTS} | _SURE
_RAISED = re.compile(r"(?:(?:'[^']*' raised|(?:step|run) '[^']*' failed:) (\w+): )+")
"""What an error that tells of another one begins with; the last is where it came from."""

_TELLING = (UNKNOWN, StepFailed.__name__, RunFailed.__name__)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A tool call that failed with what is often a bug."""

    #: The call's key.
    key: str
    #: The type of what was raised.
    type: str
    #: The failure, which knows the line of somebody's own code where it came up.
    failure: Failure


def suspects_in(journal: Iterable[Promise]) -> Iterator[Suspect]:
    """Yield the tool calls of which the model was told an error that is often a bug."""
    for promise in journal:
        if not is_tool_call(promise) or promise.state is not PromiseState.REJECTED:
            continue
        failure = decode_failure(promise)
        raised = _RAISED.match(failure.message) if failure.type in _TELLING else None
        kind = raised[1] if raised else failure.type
        if kind in _NAMES and failure.frame is not None:
            yield Suspect(promise.key, kind, failure)
