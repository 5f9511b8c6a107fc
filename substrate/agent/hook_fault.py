"""A fault in a hook stops the run where it is: it is paused, and goes on once the hook is mended.

Hooks are edited under running runs. What raises there, or gives back something that is none of what
a hook gives, is a mistake in a file, no outcome of the run: nothing is undone for it. That holds
for all that a library may raise, also where it asks to end the process (`SystemExit`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from substrate.engine.context.context import Context
from substrate.engine.failure import failure_of
from substrate.engine.run.user_code import is_ctrl_c
from substrate.values.errors import Failure, Interrupt, OstinatoError


@contextmanager
def hook(ctx: Context, name: str) -> Iterator[None]:
    """Pause the run where the block raises; the message names the hook and the remedy.

    The block awaits nothing and calls no operation of `ctx`: what a step raises is the run's own,
    and a cancellation that is raised here is the hook's.
    """
    try:
        yield
    except BaseException as error:
        if _is_of_the_kit(error):
            raise
        ctx.pause(fault_of(name, error))


class HookRaised(Exception):
    """A hook raised within a step of the kit's: which one, and what."""

    def __init__(self, hook: str, error: BaseException) -> None:
        #: Its name.
        self.hook = hook
        #: What it raised.
        self.error = error
        super().__init__(f"the hook `{hook}` raised {type(error).__name__}")


@contextmanager
def hook_in_step(name: str) -> Iterator[None]:
    """Do as `hook` inside a step: raise `HookRaised`, which `fault_in_model_call` reads."""
    try:
        yield
    except BaseException as error:
        if _is_of_the_kit(error):
            raise
        raise HookRaised(name, error) from error


def fault_of(name: str, error: BaseException) -> Failure:
    """Return what pauses a run for what a hook raised: the hook, the line, the error, the cure."""
    failure = failure_of(error)
    at = f" ({failure.frame[0]}:{failure.frame[1]})" if failure.frame else ""
    cause = f"{failure.type}: {failure.message}" if failure.message else failure.type
    message = f"the hook `{name}`{at} is at fault: {cause}"
    message += "; mend it, and resume the run: it goes on from here"
    return replace(failure, message=message)


def fault_in_model_call(error: BaseException) -> Failure | None:
    """Return what pauses a run for what a hook raised in a model call; None for other errors."""
    if isinstance(error, HookRaised):
        return fault_of(error.hook, error.error)
    is_own = not isinstance(error, OstinatoError) and failure_of(error).frame is not None
    return fault_of("model", error) if is_own else None


def _is_of_the_kit(error: BaseException) -> bool:
    """Whether an error is none of a hook's: an interrupt of the kit's, or Ctrl-C."""
    return isinstance(error, Interrupt) or is_ctrl_c(error)
