"""Steps that a replay knows by their name alone.

What such a step is given, and what a hook says that it asks, may change under a running run. That
is ordinary: the row shows it, and a replay compares the name only.
"""

from collections.abc import Callable
from typing import Any

from substrate.engine.step.step import Step
from substrate.models.messages import Json
from substrate.values.codec import encode, fingerprint
from substrate.values.records import JsonText, Kind


def named_step(name: str, call: Callable[..., Any], given: Json = None) -> Step:
    """Prepare a step of this name; `given` is what its row shows that it was given."""
    shown = None if given is None else JsonText(encode(given))
    return Step(name=name, call=call, input=shown, fingerprint=fingerprint(Kind.STEP.value, name))


def read_only(name: str) -> Step:
    """Prepare a step that is not called: its row is there, to be read or to be closed."""
    return named_step(name, _never)


async def _never() -> None:
    raise AssertionError("what is recorded is not called again")
