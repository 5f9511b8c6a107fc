"""People are told of an open gate: at once, again, and when it is escalated."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from substrate import Client, Context, RunStatus, connect, durable
from substrate.agent import Answer, Notice, Policy, Task, approve, ask_human, begin, webhook
from substrate.agent.policy import ALWAYS, Escalation
from substrate.models.providers.scripted import call
from substrate.testing import ManualClock
from substrate.values.errors import Misuse
from substrate.values.secret import Secret
from tests.loops import ENDS, TASK
from tests.runs import QUICK
from tests.stores import eventually
from tests.test_approvals import PAY, Shop, open_gates, settle

HOUR = timedelta(hours=1)


def telling(shop: Shop, notify: Any, approve: Any = ALWAYS) -> Any:
    """Return an agent that asks, and tells."""
    hooks = SimpleNamespace(
        prompt="You are a test.",
        model=shop.model(PAY),
        tools=[shop.refund(approve=approve)],
        stop=ENDS,
        notify=notify,
    )

    @durable(name="agent")
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            await turn.call_tools(await turn.ask())
        return await turn.finish(end)

    return agent


async def asked(client: Client, agent: Any) -> None:
    """Start the agent, and drive it until it waits."""
    await client.start(agent, TASK, id="a/1")
    await settle(client, agent)


@pytest.mark.parametrize("is_async", [True, False])
async def test_told_once_at_once(store_url: str, *, is_async: bool) -> None:
    """A notice says what is asked, and what a decision needs; a restart tells nobody again."""
    told: list[Notice] = []

    async def tell(notice: Notice) -> None:
        told.append(notice)

    agent = telling(Shop(), tell if is_async else told.append)
    async with connect(store_url) as client:
        await asked(client, agent)
        await settle(client, agent)
        (gate,) = await open_gates(client)
        (notice,) = told
        assert (notice.gate, notice.code, notice.digest) == (gate.id, gate.code, gate.digest)
        assert notice.shown == {"arguments": {"cents": 4900, "order": "A-17"}}
        assert (notice.run, notice.kind, notice.tool, notice.reminder) == (
            "a/1",
            "approval",
            "refund",
            0,
        )


async def test_reminded_and_escalated(store_url: str) -> None:
    """Each reminder comes once, at its moment; the escalation goes to who it says; then no more."""
    told: list[tuple[int, str | None]] = []
    policy = Policy(
        to="ada", remind=[HOUR, 2 * HOUR], escalate=Escalation(after=5 * HOUR, to="bob")
    )
    clock = ManualClock()
    agent = telling(Shop(), lambda notice: told.append((notice.reminder, notice.to)), policy)
    async with connect(store_url, clock) as client:
        await asked(client, agent)
        for _ in range(8):
            clock.advance(3600)
            await settle(client, agent)
        assert told == [(0, "ada"), (1, "ada"), (2, "ada"), (3, "bob")]
        assert (await client.get("a/1")).status is RunStatus.SUSPENDED
        assert await client.store.next_due_at() is None


async def test_reminders_that_were_missed(store_url: str) -> None:
    """Where no worker was there for a day, people are told once, not of each reminder missed."""
    told: list[int] = []
    policy = Policy(remind=[HOUR, 2 * HOUR, 3 * HOUR, 48 * HOUR])
    clock = ManualClock()
    agent = telling(Shop(), lambda notice: told.append(notice.reminder), policy)
    async with connect(store_url, clock) as client:
        await asked(client, agent)
        clock.advance(24 * 3600)
        await settle(client, agent)
        assert told == [0, 3]
        clock.advance(24 * 3600)
        await settle(client, agent)
        assert told == [0, 3, 4]


@pytest.mark.parametrize(
    "error, times", [(OSError("away"), 3), (ValueError("no"), 3), (SystemExit(3), 1)]
)
async def test_one_that_fails(store_url: str, error: BaseException, times: int) -> None:
    """It is tried three times, and the run waits and goes on as if it had told somebody."""
    shop, tried, told = Shop(), [], []

    def fail(notice: Notice) -> None:
        tried.append(notice)
        raise error

    agent = telling(shop, [fail, told.append])
    clock = ManualClock()
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        for _ in range(4):  # between two attempts the run is let go
            await settle(client, agent)
            clock.advance(5)
        assert len(tried) == times
        assert len(told) == 1
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        await settle(client, agent)
        assert (await client.result("a/1", agent)).text == "paid 4900"


async def test_what_is_no_notifier(store_url: str) -> None:
    """A hook that is none pauses the run, and nothing was asked or paid."""
    shop = Shop()
    async with connect(store_url) as client:
        await asked(client, telling(shop, "mail"))
        assert (await client.get("a/1")).status is RunStatus.PAUSED
        assert await open_gates(client) == []
        assert shop.paid == []


@dataclass
class Receiver:
    """A server that webhooks are posted to."""

    url: str = ""
    codes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def receiving(*codes: int) -> Iterator[Receiver]:
    """Answer posts with these codes, then with 204."""
    receiver = Receiver(codes=list(codes))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
            receiver.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            code = receiver.codes.pop(0) if receiver.codes else 204
            self.send_response(code)
            if code in (301, 307):
                self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NOTICE = Notice(
    gate="a/1#x.0/gate.0",
    code="abcdef012345",
    run="a/1",
    kind="approval",
    tool="refund",
    summary="refund()",
    shown={},
    digest="d" * 64,
    to=None,
    expires_at=None,
)


@pytest.mark.parametrize("is_base64", [True, False])
def test_a_webhook_is_signed(monkeypatch: pytest.MonkeyPatch, *, is_base64: bool) -> None:
    """Its signature is that of Standard Webhooks: of id, time and body, by the secret's key."""
    key = b"a-key-of-32-bytes-or-so-it-seems"
    given = f"whsec_{base64.b64encode(key).decode()}" if is_base64 else key.decode()
    monkeypatch.setenv("HOOK_SECRET", given)
    with receiving() as receiver:
        webhook(receiver.url, secret=Secret("HOOK_SECRET"))(NOTICE)
    (headers,), (body,) = receiver.headers, receiver.bodies
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == "abcdef012345.0"
    assert json.loads(body)["type"] == "gate.approval"
    assert json.loads(body)["data"]["digest"] == "d" * 64


@pytest.mark.parametrize("code", [301, 307, 400, 500])
def test_an_answer_other_than_2xx_fails(code: int) -> None:
    """Then it is tried again; nothing follows a redirect to where it was not meant to go."""
    with receiving(code) as receiver:
        with pytest.raises(OSError, match=str(code)):
            webhook(receiver.url)(NOTICE)
        assert len(receiver.bodies) == 1


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://x", "ftp://127.0.0.1/x", "example.org", "", 3, None]
)
def test_what_is_no_address(url: Any) -> None:
    """A webhook goes by https, or to this very machine."""
    with pytest.raises(Misuse, match="https"):
        webhook(url)


@pytest.mark.parametrize("is_async", [True, False])
async def test_one_that_is_slow(store_url: str, *, is_async: bool) -> None:
    """A decision is followed while somebody is still being told."""
    shop, begun, over = Shop(), threading.Event(), threading.Event()

    async def wait(notice: Notice) -> None:
        begun.set()
        await asyncio.Event().wait()

    def block(notice: Notice) -> None:
        begun.set()
        over.wait(30)

    agent = telling(shop, wait if is_async else block)
    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a/1")
        await eventually(begun.is_set)
        (gate,) = await open_gates(client)
        began = time.monotonic()
        await approve(client, gate, by="ada")
        assert (await client.result("a/1", agent)).text == "paid 4900"
        assert time.monotonic() - began < 4
        over.set()


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@example.org/",
        "https://example.org:99999/",
        "https://example.org/a b",
        "https://example.org/grün",
        "https://example.org/\r\nx-other: 1",
        "https://[::1/",
    ],
)
def test_an_address_that_nobody_reaches(url: str) -> None:
    """It is refused where it is written, not at each gate; a password in it is not shown."""
    with pytest.raises(Misuse, match="address") as caught:
        webhook(url)
    assert "password" not in str(caught.value)


def test_a_key_of_nothing() -> None:
    """A secret that is empty signs nothing, so it is refused."""
    with pytest.raises(Misuse, match="secret"):
        webhook("https://example.org/", secret="")


def test_arguments_that_json_cannot_say() -> None:
    """Whatever a model puts into arguments, people are told of the gate, in JSON."""
    odd = {"nan": float("nan"), "many": 10**40, "half": "\ud800", "at": Decimal("1.10")}
    with receiving() as receiver:
        webhook(receiver.url)(replace(NOTICE, shown={"arguments": odd}))
    told = json.loads(receiver.bodies[0])["data"]["shown"]["arguments"]
    assert told == {"nan": "nan", "many": 10**40, "half": "\ud800", "at": "1.10"}


async def test_a_partial_of_an_async_function(store_url: str) -> None:
    """It is awaited; and a plain one that gives a coroutine back is told as one that fails."""
    told: list[str] = []

    async def tell(room: str, notice: Notice) -> None:
        told.append(f"{room}: {notice.summary}")

    def broken(notice: Notice) -> Any:
        return tell("nowhere", notice)

    shop = Shop()
    agent = telling(shop, [broken, partial(tell, "office")])
    async with connect(store_url) as client:
        await asked(client, agent)
        rows = {each.key: each for each in await client.journal("a/1")}
    assert told == ["office: refund(order='A-17', cents=4900)"]
    assert "returned a coroutine" in str(rows["tools.0/refund.0/gate.0/tell_0.0"].attempts)


async def test_one_that_is_away_holds_up_nobody(store_url: str) -> None:
    """Several are told side by side."""
    told = asyncio.Event()

    async def away(notice: Notice) -> None:
        await told.wait()

    async def tell(notice: Notice) -> None:
        told.set()

    shop = Shop()
    async with connect(store_url) as client:
        await asked(client, telling(shop, [away, tell]))
        states = [each.state for each in await client.journal("a/1") if "tell_" in each.key]
    assert states == ["resolved", "resolved"]


async def test_the_choices_of_a_question(store_url: str) -> None:
    """Who is told of a question is told what may be answered."""
    notices: list[Notice] = []
    asks = call("ask_human", question="Which?", choices=["red", "blue"])
    hooks = SimpleNamespace(
        prompt="You are a test.",
        model=Shop().model(asks),
        tools=[ask_human()],
        stop=ENDS,
        notify=notices.append,
    )

    @durable(name="agent")
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, hooks, task)
        while not (end := turn.stop()):
            await turn.call_tools(await turn.ask())
        return await turn.finish(end)

    async with connect(store_url) as client:
        await asked(client, agent)
    assert [each.shown for each in notices] == [{"question": "Which?", "choices": ["red", "blue"]}]
