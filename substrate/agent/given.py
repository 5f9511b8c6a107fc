"""What somebody gave in the place of a hook: how a message names it, and how it can be called."""

import inspect

from substrate.agent.tool import Tool
from substrate.engine.function.place import described


def takes_one(thing: object) -> bool:
    """Whether it can be called with one argument: `answered` cannot, `answered()` can."""
    return takes(thing, 1)


def takes(thing: object, count: int) -> bool:
    """Whether it can be called with so many arguments, as far as it shows."""
    if not callable(thing):
        return False
    try:
        inspect.signature(thing).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:  # some built-in callables show no signature
        return True
    return True


def named(thing: object) -> str:
    """Return what a thing is, for a message: a function by its name, a value with its type."""
    if isinstance(thing, Tool):
        return f"the tool {thing.name!r}"
    if callable(thing) and hasattr(thing, "__name__"):
        return f"the {'class' if isinstance(thing, type) else 'function'} {thing.__name__}"
    kind, shown = type(thing).__name__, described(thing)
    shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
    return shown if shown.startswith(kind) or thing is None else f"{kind} {shown}"
