"""A tool that blocks has threads of its own, and neither loses them nor keeps others out."""

import asyncio
import multiprocessing
import threading
from contextlib import contextmanager
from itertools import count

import pytest

from substrate.agent.own_threads import OwnThreads

LIMIT_S = 20


def named(name):
    """Return the threads whose name begins so."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{name}-")]


async def until(is_so):
    """Return when something is so, or fail after a while."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.005)


@contextmanager
def gate():
    """Provide a function that blocks in its thread until the block ends."""
    is_open = threading.Event()
    try:
        yield lambda _: is_open.wait(LIMIT_S)
    finally:
        is_open.set()


async def test_a_call_returns_or_raises():
    """What the function returns is returned, what it raises is raised, whatever it is."""
    threads = OwnThreads("returns", 1)

    def fail(error):
        raise error

    assert await threads.call(lambda _: 42) == 42
    for error, raised in [(ValueError("no"), ValueError), (StopIteration(1), RuntimeError)]:
        with pytest.raises(raised):
            await threads.call(lambda _, error=error: fail(error))
    assert await threads.call(lambda _: 43) == 43


async def test_so_many_calls_run_and_the_others_wait_in_order():
    """Two at a time run, in daemon threads of the name given; the others keep their order."""
    threads = OwnThreads("order", 2)
    began, numbers = [], count()

    def begin(block):
        began.append(next(numbers))
        return block(None)

    with gate() as block:
        calls = [asyncio.create_task(threads.call(lambda _: begin(block))) for _ in range(5)]
        await until(lambda: len(began) == 2)
        assert len(named("order")) == 2
        assert all(thread.daemon for thread in named("order"))
    await asyncio.gather(*calls)

    assert began == [0, 1, 2, 3, 4]
    assert len(named("order")) == 2


async def test_a_call_that_hangs_gives_its_place_up():
    """Calls that hang and are left do not keep the next from being made."""
    threads = OwnThreads("hangs", 2)

    begun = []
    with gate() as block:

        def hang(is_left):
            begun.append(1)
            return block(is_left)

        calls = [asyncio.create_task(threads.call(hang)) for _ in range(2)]
        await until(lambda: len(begun) == 2)  # what is left before it began hangs nowhere
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        assert await asyncio.wait_for(threads.call(lambda _: "next"), LIMIT_S) == "next"
    await until(lambda: len(named("hangs")) <= 1)


async def test_what_hangs_is_bounded():
    """However many calls hang and are left, there are never more than twice as many threads."""
    threads = OwnThreads("bounded", 2)

    with gate() as block:
        for _ in range(10):
            call = asyncio.create_task(threads.call(block))
            await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert len(named("bounded")) <= 4
    assert await asyncio.wait_for(threads.call(lambda _: "again"), LIMIT_S) == "again"
    await until(lambda: len(named("bounded")) <= 2)


async def test_a_call_in_line_that_nobody_waits_for_is_not_made():
    """A call that was left before its turn is never made."""
    threads = OwnThreads("line", 1)
    made = []

    with gate() as block:
        first = asyncio.create_task(threads.call(block))
        second = asyncio.create_task(threads.call(lambda _: made.append("second")))
        await until(lambda: named("line"))
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    await first
    await threads.call(lambda _: made.append("third"))

    assert made == ["third"]


async def test_a_call_is_told_that_nobody_waits():
    """A call that runs can ask whether it was left, and end."""
    threads = OwnThreads("told", 1)
    begun, ended = threading.Event(), threading.Event()

    def work(is_left):
        begun.set()
        while not is_left():
            threading.Event().wait(0.005)
        ended.set()

    call = asyncio.create_task(threads.call(work))
    await until(begun.is_set)  # what has not begun by then is never made
    assert not ended.is_set()
    call.cancel()

    await until(ended.is_set)


async def test_a_thread_that_idles_ends_and_gives_back():
    """A thread without work ends after a while, having given back what it held; more may come."""
    ended = []
    threads = OwnThreads(
        "idle", 2, idle_s=0.05, at_end=lambda: ended.append(threading.current_thread().name)
    )

    await asyncio.gather(*(threads.call(lambda _: None) for _ in range(4)))
    await until(lambda: not named("idle"))

    assert ended
    assert set(ended) <= {"idle-1", "idle-2"}
    assert await threads.call(lambda _: "more") == "more"


def test_threads_belong_to_no_loop():
    """They serve one event loop after the other, and one that was closed in the meantime."""
    threads = OwnThreads("loops", 1)

    async def leave(block):
        call = asyncio.create_task(threads.call(block))
        await until(lambda: named("loops"))
        call.cancel()

    with gate() as block:
        asyncio.run(leave(block))

    assert asyncio.run(threads.call(lambda _: "next")) == "next"


def fork_and_call(threads, answer):
    """Make a call in a forked child."""
    answer.send(asyncio.run(threads.call(lambda _: "from the child")))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    """A process that was forked makes its calls, though it has none of its parent's threads."""
    threads = OwnThreads("fork", 1)
    asyncio.run(threads.call(lambda _: None))
    fork = multiprocessing.get_context("fork")
    hear, tell = fork.Pipe(duplex=False)
    child = fork.Process(target=fork_and_call, args=(threads, tell), daemon=True)

    child.start()

    assert hear.poll(LIMIT_S)
    assert hear.recv() == "from the child"
    child.join(LIMIT_S)
