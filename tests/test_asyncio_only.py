"""Under anything but asyncio, what needs it says so at once, and how to start it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from substrate import Client, Misuse, connect
from substrate.models.messages import UserMessage
from substrate.models.model import Model, disconnect
from substrate.models.providers.scripted import say
from substrate.models.request import Request

MODEL = Model("scripted:x", script=lambda request: say("Yes."))
REMEDY = r"asyncio only.*asyncio\.run\(main\(\)\).*backend='asyncio'"


async def connecting(url: str) -> None:
    async with connect(url):
        raise AssertionError("nothing is opened")


async def asking(url: str) -> None:
    await MODEL.answer(Request("Be brief.", (UserMessage.of("Is it?"),)))


async def disconnecting(url: str) -> None:
    await disconnect()


NEED_IT = [connecting, asking, disconnecting]


@pytest.mark.parametrize("use", NEED_IT)
def test_under_trio(use: Callable[[str], Awaitable[Any]], sqlite_url: str) -> None:
    """Under trio, connecting, asking a model and disconnecting name the remedy."""
    with pytest.raises(Misuse, match=REMEDY):
        trio.run(use, sqlite_url)


@pytest.mark.parametrize("use", NEED_IT)
async def test_under_a_guest(use: Callable[[str], Awaitable[Any]], sqlite_url: str) -> None:
    """So they do in trio's guest mode, in which a loop of asyncio's is running."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    trio.lowlevel.start_guest_run(
        use,
        sqlite_url,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=over.set_result,
    )

    with pytest.raises(Misuse, match=REMEDY):
        (await over).unwrap()


async def test_a_client_that_is_taken_there(sqlite_url: str) -> None:
    """A client that was made under asyncio drives nothing under trio."""

    async def working(client: Client) -> None:
        async with client.work([]):
            raise AssertionError("no worker is opened")

    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=REMEDY):
            await asyncio.to_thread(trio.run, working, client)
