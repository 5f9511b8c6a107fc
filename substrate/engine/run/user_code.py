"""The border between user code and the engine: whatever user code raises becomes a value here.

`capture` drives a coroutine itself, from each await to the next. So it knows what cannot be found
out afterwards:

- who cancelled the task: the code while it ran, or somebody else while it waited;
- whether the code raised a `GeneratorExit`, or its coroutine was closed;
- whether the code may continue after an await, which may have lasted longer than a lease;
- whether the code continues in another process, because it forked.
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

from substrate.engine.failure import Raised, tamed, tamed_value
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
    """Await user code; return its value, or `Raised` with whatever it raised, even `SystemExit`.

    `check` is called after each await, before the code continues. If it raises, the code is
    cancelled at that await, and the exception of `check` is raised here once the code has ended.

    Exceptions that are meant for the task are raised: a cancellation by others, Ctrl-C, and the
    close of the coroutine. A CancelledError is an ordinary error if nobody cancelled the task.
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
            outcome: Any = tamed_value(stop.value)
            break
        except BaseException as error:  # noqa: BLE001 - here a failure of user code becomes data
            outcome = Raised(tamed(error))
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
    """Take back the cancellation of code that cancelled its own task; return the code's outcome."""
    yield from _take_back(task, min(own, task.cancelling() - before))
    if task.cancelling() > before:  # somebody else cancelled it as well
        raise asyncio.CancelledError
    is_cancelled = isinstance(outcome, Raised) and isinstance(outcome.error, asyncio.CancelledError)
    return Raised(Misuse(_CANCELLED_ITSELF)) if is_cancelled else outcome


def cancellations() -> int:
    """Return how many cancellations of the current task have not been taken back."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def end_if_forked(pid: int) -> None:
    """End this process at once if its id is not `pid`: then it is a child that a step forked.

    The child would continue as a second worker under the same name, with the same connections and
    event loop. Nothing is flushed or closed, since files and connections belong to the parent.
    """
    if os.getpid() != pid:
        log.warning("a child process that a step forked ends where it leaves the step's code")
        os._exit(1)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _is_fresh(error: BaseException) -> bool:
    """Whether `close()` made this error for our generator, and no awaited code raised it."""
    trace = error.__traceback__
    return trace is None or trace.tb_next is None


def _take_back(task: asyncio.Task[Any], times: int) -> Generator[None, Any, None]:
    """Take back cancellations that code made of its own task."""
    for _ in range(times):
        task.uncancel()
    # asyncio may not have thrown the CancelledError into the task yet: it arrives at this yield.
    with suppress(asyncio.CancelledError):
        yield


def _is_for_the_task(error: BaseException, task: asyncio.Task[Any], before: int) -> bool:
    if isinstance(error, asyncio.CancelledError):
        return task.cancelling() > before
    return is_ctrl_c(error)


def is_ctrl_c(error: BaseException) -> bool:
    """Whether a signal caused the error, rather than a `raise` in the code.

    Python runs signal handlers in the main thread only.
    """
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
    # Python's default handler has no frame of its own: it interrupts the last frame at any
    # instruction. An exception that code raised stands at a RAISE instruction.
    return trace is None or trace.tb_frame.f_code.co_code[trace.tb_lasti] != _RAISE
