"""Making a step's call: on the event loop or in a thread, and turning what it returns into JSON."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from substrate.engine.execution import Execution
from substrate.engine.step import Measured
from substrate.values.codec import encode
from substrate.values.records import Json


@dataclass(frozen=True, slots=True)
class Result:
    """What a call returned, as JSON."""

    value: Json
    usage: Json | None = None


def result_of(returned: Any) -> Result:
    """Return what a call returned as JSON, or raise `NotEncodable`."""
    if isinstance(returned, Measured):
        return Result(Json(encode(returned.value)), Json(encode(returned.usage)))
    return Result(Json(encode(returned)))


async def invoke(execution: Execution, call: Callable[[], Any]) -> Any:
    """Call a coroutine function on the loop, a plain function in a thread."""
    if inspect.iscoroutinefunction(call):
        return await call()
    result = await execution.means.threads.call(call)
    return await result if inspect.isawaitable(result) else result


def watched(call: Callable[[], Any], returned: asyncio.Event) -> Callable[[], Any]:
    """Return the call as one that tells when it is over, which may be after its timeout."""
    loop = asyncio.get_running_loop()

    async def on_the_loop() -> Any:
        try:
            return await call()
        finally:
            returned.set()

    def in_a_thread() -> Any:
        try:
            return call()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(returned.set)

    return on_the_loop if inspect.iscoroutinefunction(call) else in_a_thread
