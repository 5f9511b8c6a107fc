"""The file and line of a function, and other words for it, for error messages."""

import inspect
import re
import sys
from pathlib import Path
from types import CodeType
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def place_of(thing: object) -> str:
    """Return where a function or code object is defined, as ``file.py:12``; ``""`` if unknown."""
    if (made_for := getattr(thing, "made_for", None)) is not None:
        return str(made_for.place)
    thing = getattr(thing, "function", thing)  # of a durable function, or a tool
    thing = getattr(thing, "func", thing)  # of a partial
    code = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", thing)
    code = code if isinstance(code, CodeType) else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def described(thing: object) -> str:
    """Return how a message names a thing: a function with its place, never a memory address."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if callable(thing) and isinstance(name, str):
        kind = "the class" if isinstance(thing, type) else "the function"
        return f"{kind} {name.rpartition('<locals>.')[2]}{in_place(thing)}"
    text = _ADDRESS.sub("", " ".join(f"{thing!r:.300}".split()))
    return text if len(text) <= 80 else f"{text[:79]}…"


def comes_from_code(error: BaseException) -> bool:
    """Whether an error was raised by a line of an imported module.

    Code that a tool compiled for a model does not count, nor does a failed import whose module name
    is data.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
    module = sys.modules.get(names.get("__name__", ""))
    if module is None or vars(module) is not names:
        return False
    file = getattr(module, "__file__", None) or ""
    return file != "" and Path(file).resolve() == Path(code.co_filename).resolve()


def how_to_be_found(thing: Any) -> str:
    """Return what to do so that another process finds a durable function that this one has."""
    is_local = "<locals>" in getattr(thing.function, "__qualname__", "")
    if is_local or thing.made_for is not None:
        found = "define it at the top of a module, and name it where it is used"
    else:
        found = "import it at the top of the file that uses it"
    return f"{found}, or write work([…, {thing.name}])"


def in_place(thing: object) -> str:
    """Return `place_of` in brackets after a blank, to follow a name; ``""`` if unknown."""
    place = place_of(thing)
    return f" ({place})" if place else ""
