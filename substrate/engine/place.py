"""Where a function stands, for the messages about it: whoever reads one goes there."""

import inspect
from typing import Any


def place_of(thing: object) -> str:
    """Return the file and line of what is made of Python code, as ``file.py:12``; ``""`` else."""
    thing = getattr(thing, "function", thing)  # of a durable function, or a tool
    thing = getattr(thing, "func", thing)  # of a partial
    code = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def how_to_be_found(thing: Any) -> str:
    """Return what to do so that a later process finds a durable function that this one has."""
    if "<locals>" in getattr(thing.function, "__qualname__", ""):
        found = "define it at the top of a module, and name it where it is used"
    else:
        found = "import it at the top of the file that uses it"
    return f"{found}, or write work([…, {thing.name}])"


def in_place(thing: object) -> str:
    """Return the same in brackets after a blank, to follow the name of the function."""
    place = place_of(thing)
    return f" ({place})" if place else ""
