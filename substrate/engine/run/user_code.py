"""The border between user code and the engine: behind it, whatever user code raised is data.

`capture` drives a coroutine itself, stretch by stretch, each from one await to the next. So it
knows what nobody can tell afterwards:

- who cancelled the task: the code itself in one of its stretches, or somebody else meanwhile;
- whether a `GeneratorExit` was raised by the code, or is the end of the coroutine;
- whether the code may still go on after an await, which may have lasted longer than a lease;
- whether it goes on in another process, because it forked.
"""

import asyncio
import dis
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from traceback import walk_tb
from types import coroutine
from typing import Any, TypeVar

from substrate.engine.failure import Raised
from substrate.values.errors import Misuse

log = logging.getLogger("ostinato")

_RAISE = dis.opmap["RAISE_VARARGS"]
_CANCELLED_ITSELF = (
    "the code cancelled its own task, as a cancel scope does that is entered and never left; use "
    "scopes and timeouts in `with` blocks, and raise an error to give up"
)

T = TypeVar("T")


@coroutine
def capture(
    work: Coroutine[Any, Any, T | Raised[BaseException]],
    check: Callable[[], None] | None = None,
) -> Generator[Any, Any, T | Raised[BaseException]]:
    """Await user code; return its value, or whatever it raised, `SystemExit` included.

    `check` is called after each await, before the code goes on. What that raises is raised here,
    and the code is cancelled where it stands.

    Let through is what is meant for the task: a cancellation of it by others, Ctrl-C, its end. A
    CancelledError without anybody having cancelled the task meanwhile is a mere error.
    """
    task, pid = _current_task(), os.getpid()
    before, own = task.cancelling(), 0
    stopped: BaseException | None = None
    resume: Callable[[Any], Any] = work.send
    sent: Any = None
    while True:
        cancelled = task.cancelling()
        try:
            awaited = resume(sent)
        except StopIteration as stop:
            outcome: Any = stop.value
            break
        except BaseException as error:  # noqa: BLE001 - here a failure of user code becomes data
            outcome = Raised(error)
            break
        finally:
            end_if_forked(pid)
            own += max(0, task.cancelling() - cancelled)
        try:
            resume, sent = work.send, (yield awaited)
        except BaseException as thrown:
            if isinstance(thrown, GeneratorExit) and _is_fresh(thrown):
                work.close()
                raise
            resume, sent = work.throw, thrown
        if check is not None and stopped is None:
            try:
                check()
            except BaseException as interrupt:  # noqa: BLE001 - raised as soon as the code has ended
                stopped = interrupt
                resume, sent = work.throw, asyncio.CancelledError()
    if stopped is not None:
        raise stopped
    if own and task.cancelling() > before:
        outcome = yield from _without_own(task, before, own, outcome)
    elif isinstance(outcome, Raised) and _is_for_the_task(outcome.error, task, before):
        raise outcome.error
    return outcome  # type: ignore[no-any-return]


def _without_own(
    task: asyncio.Task[Any], before: int, own: int, outcome: Any
) -> Generator[Any, Any, Any]:
    """Return what code came to that has cancelled its own task; take that cancellation back."""
    yield from _take_back(task, min(own, task.cancelling() - before))
    if task.cancelling() > before:  # somebody else has cancelled it, too
        raise asyncio.CancelledError
    is_cancelled = isinstance(outcome, Raised) and isinstance(outcome.error, asyncio.CancelledError)
    return Raised(Misuse(_CANCELLED_ITSELF)) if is_cancelled else outcome


def cancellations() -> int:
    """Return how often this task was cancelled without that having been taken back."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def end_if_forked(pid: int) -> None:
    """End this process at once if it is not the one of this id: a child that a step has forked.

    It would go on as a second worker under the same name, with the same connections and the same
    event loop's descriptors. Nothing is flushed or closed: all of that is the parent's.
    """
    if os.getpid() != pid:
        log.warning("a child process that a step forked ends where it leaves the step's code")
        os._exit(1)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _is_fresh(error: BaseException) -> bool:
    """Whether it was made for us, as `close()` does, and not raised in what is awaited."""
    trace = error.__traceback__
    return trace is None or trace.tb_next is None


def _take_back(task: asyncio.Task[Any], times: int) -> Generator[None, Any, None]:
    """Take back what code did to its own task; it may not have been told yet."""
    for _ in range(times):
        task.uncancel()
    with suppress(asyncio.CancelledError):
        yield


def _is_for_the_task(error: BaseException, task: asyncio.Task[Any], before: int) -> bool:
    if isinstance(error, asyncio.CancelledError):
        return task.cancelling() > before
    return is_ctrl_c(error)


def is_ctrl_c(error: BaseException) -> bool:
    """Whether a signal caused it, which only the main thread hears, and no `raise` of the code."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    handler: Any = signal.getsignal(signal.SIGINT)
    handler = getattr(handler, "func", handler)  # asyncio's is a partial
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if any(frame.f_code is getattr(handler, "__code__", None) for frame in frames):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    # Python's own handler has no frame: there the last one was interrupted at any instruction.
    return trace is None or trace.tb_frame.f_code.co_code[trace.tb_lasti] != _RAISE
