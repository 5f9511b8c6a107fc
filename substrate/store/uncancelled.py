"""Work that a cancellation of its caller cuts neither in half nor loses.

Whoever awaits is cancelled as often as anybody likes: by a timeout, by a cancel scope that cancels
at every turn of the loop, by the end of ``asyncio.run``. What is to be closed is closed all the
same, and what is made for a caller who has gone is unmade.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Awaitable[T], left: Callable[[], object] | None = None) -> T:
    """Wait until the work has ended, whoever is cancelled meanwhile; then raise that cancellation.

    A coroutine runs in a task of its own. `left` is called when nobody waits any more for what the
    work comes to.
    """
    running = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancellation = error
            if left is not None:
                left()
    if cancellation is not None:
        if not running.cancelled():
            running.exception()  # nobody is left to hear of it
        raise cancellation
    return running.result()


async def made_in_thread(make: Callable[[], T], unmake: Callable[[T], None]) -> T:
    """Make something in a thread of its own; where nobody waits for it any more, unmake it.

    The thread is no executor's, so it comes at once, and keeps no process from ending.
    """
    loop = asyncio.get_running_loop()
    made: asyncio.Future[T] = loop.create_future()

    def take(thing: T | None, error: BaseException | None) -> None:
        if made.cancelled():
            if error is None:
                unmake(thing)  # type: ignore[arg-type]
        elif error is not None:
            made.set_exception(error)
        else:
            made.set_result(thing)  # type: ignore[arg-type]

    def work() -> None:
        thing: T | None = None
        error: BaseException | None = None
        try:
            thing = make()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the thing is awaited
            error = raised
        try:
            loop.call_soon_threadsafe(take, thing, error)
        except RuntimeError:  # the loop is closed
            if error is None:
                unmake(thing)  # type: ignore[arg-type]

    threading.Thread(target=work, name="ostinato-open", daemon=True).start()
    try:
        return await made
    except asyncio.CancelledError:
        # The thing may have come in the very turn in which its waiter was cancelled.
        if not made.cancelled():
            with suppress(BaseException):
                unmake(made.result())
        raise
