"""A secret that is named, and not given, is in no row, log, error or transcript of its run."""

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from substrate import (
    Context,
    Misuse,
    RunFailed,
    RunPaused,
    RunStatus,
    Secret,
    SecretMissing,
    StepFailed,
    connect,
    durable,
    recorded_error,
    secret_source,
)
from substrate.agent.tool import tool
from substrate.models.providers.scripted import call, say
from substrate.values.codec import decode, encode
from substrate.values.mask import MASK
from substrate.values.records import RunId
from tests.loops import TASK, make_agent, scripted
from tests.runs import QUICK, reached
from tests.written import dump

VALUE = 'FAKE-S3CRET/with "quotes" & 100%'
KEY = Secret[str]("TEST_STRIPE_KEY")
seen: list[str] = []


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    seen.clear()
    monkeypatch.setenv("TEST_STRIPE_KEY", VALUE)


@secret_source("vault")
def read_vault(name: str) -> str:
    """Read a secret of a test's own vault."""
    return VALUE if name == "shop/stripe" else ""


@recorded_error
class Rejected(Exception):
    """An error that comes back as itself."""


async def pay(cents: int, key: Secret[str]) -> str:
    """Tell everything that a careless client tells."""
    seen.append(key.reveal())
    return f"paid {cents} with {key.reveal()}"


def pay_plainly(cents: int, key: Secret[str]) -> dict[str, Any]:
    """Tell it as data, from a thread."""
    seen.append(f"{key.reveal()} in {threading.current_thread() is threading.main_thread()}")
    return {"paid": [cents, {key.reveal(): f"Bearer {key.reveal()}"}]}


async def refuse(key: Secret[str], error: str) -> None:
    """Fail, and tell it."""
    raise {"ValueError": ValueError, "Rejected": Rejected}[error](
        f"401 for https://pay.example/?key={key.reveal()}"
    )


@dataclass(frozen=True)
class Order:
    """An argument that has a secret among its fields."""

    cents: int
    key: Secret[str]


@durable
async def child(ctx: Context, order: Order) -> str:
    return await ctx.step(pay, order.cents, order.key)


@durable
async def careless(ctx: Context, key: Secret[str], order: Order, plain: Any) -> Any:
    """Reveal it wherever that is possible."""
    told: list[Any] = [await ctx.step(pay, 1, key), await ctx.step(pay_plainly, 2, plain["key"])]
    told.append(await ctx.step(lambda text: text, key.reveal(), name="echo"))
    for error in ("ValueError", "Rejected"):
        try:
            await ctx.step(refuse, key, error)
        except (StepFailed, Rejected) as failed:
            told.append(str(failed))
    told += [await ctx.call(child, order), await ctx.spawn(child, order)]
    ctx.emit({"told": key.reveal()})
    logging.getLogger("ostinato").info("%s", told)
    return {"told": told, "key": key, "value": key.reveal()}


@durable
async def failing(ctx: Context, key: Secret[str]) -> None:
    raise LookupError(f"no such key {key.reveal()}")


@durable
async def handing_it_on(ctx: Context, key: Secret[str]) -> None:
    await ctx.spawn(needs_text, key.reveal())


@durable
async def needs_text(ctx: Context, key: str) -> None: ...


async def told_of(client: Any, url: str, caplog: Any) -> str:
    """Return everything that was written: the database, and the log."""
    return f"{await asyncio.to_thread(dump, url)}\n{caplog.text}"


async def test_everywhere(store_url, caplog, record_property):
    """Wherever a run uses a secret, the function gets it, and nothing that is written tells it."""
    caplog.set_level(logging.DEBUG)
    heard: list[Any] = []
    order = Order(3, KEY)
    async with (
        connect(store_url) as client,
        client.work(
            [careless, child], options=QUICK, on_event=lambda run_id, event: heard.append(event)
        ),
    ):
        await client.start(careless, KEY, order, {"key": KEY}, id="r")
        result = await client.result("r")

    assert seen == [VALUE, f"{VALUE} in False", VALUE, VALUE]
    assert result["told"][0] == f"paid 1 with {MASK}"
    assert result["told"][1] == {"paid": [2, {MASK: f"Bearer {MASK}"}]}
    assert result["told"][2] == MASK
    assert result["key"] == KEY.name or result["key"] == KEY
    assert "FAKE-S3CRET" not in repr(result) + repr(heard) + repr(KEY) + str(KEY) + f"{KEY}"
    told = await told_of(None, store_url, caplog)
    assert "TEST_STRIPE_KEY" in told
    assert "FAKE-S3CRET" not in told


async def test_failures(store_url, caplog):
    """A run that fails with it tells it neither in its error nor in a traceback."""
    caplog.set_level(logging.DEBUG)
    async with connect(store_url) as client, client.work([failing, handing_it_on], options=QUICK):
        await client.start(failing, KEY, id="f")
        with pytest.raises(RunFailed, match=f"no such key {MASK}") as caught:
            await client.result("f")
        await client.start(handing_it_on, KEY, id="h")
        with pytest.raises(RunFailed, match="give it the Secret itself"):
            await client.result("h")

    assert "FAKE-S3CRET" not in f"{caught.value!r} {caught.value.failure}"
    assert "FAKE-S3CRET" not in await told_of(None, store_url, caplog)


async def test_replay(store_url, monkeypatch):
    """A run goes on with the secret as it is then, and its record asks for nothing else."""

    @durable
    async def waits(ctx: Context, key: Secret[str]) -> str:
        first = await ctx.step(pay, 1, key)
        await ctx.step(lambda text: "x", key.reveal(), name="with_it")
        await ctx.receive("go")
        return first + " and " + await ctx.step(pay, 2, key)

    async with connect(store_url) as client:
        async with client.work([waits], options=QUICK):
            await client.start(waits, KEY, id="r")
            await reached(client, "r", "go.0")
        monkeypatch.setenv("TEST_STRIPE_KEY", "FAKE-the-next-one")
        await client.signal("r", "go", None)
        async with client.work([waits], options=QUICK):
            result = await client.result("r")

    assert result == f"paid 1 with {MASK} and paid 2 with {MASK}"
    assert seen == [VALUE, "FAKE-the-next-one"]


# ------------------------------------------------------------------------------------------------
# Tools


@tool(effect="idempotent")
async def refund(order: int, key: Secret[str] = Secret("TEST_STRIPE_KEY")) -> str:
    """Refund an order."""
    seen.append(key.reveal())
    if order == 0:
        raise LookupError(f"no order 0 for {key.reveal()}")
    return f"refunded {order} with {key.reveal()}"


@tool
async def collect(
    ctx: Context, order: int, key: Secret[str] | None = Secret("vault:shop/stripe")
) -> str:
    """Collect for an order."""
    assert key is not None
    return await ctx.step(pay, order, key)


async def test_tools(store_url, caplog):
    """A tool gets its secret by name; the model neither sees nor sets it, and reads none of it."""
    caplog.set_level(logging.DEBUG)
    calls = [call("refund", order=0), call("refund", order=1), call("collect", order=2)]
    model = scripted(say(*calls, call("refund", order=3, key="TEST_OTHER")), say("done"))
    agent = make_agent(model, [refund, collect])
    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a")
        await client.result("a")
        journal = {each.key: each for each in await client.journal("a")}

    assert seen == [VALUE] * 3
    assert refund.spec.parameters["properties"].keys() == {"order"}
    assert "Extra inputs are not permitted" in (journal["tools.0/refund.2"].error or "")
    assert decode(journal["tools.0/refund.1"].value) == f"refunded 1 with {MASK}"
    assert f"no order 0 for {MASK}" in (journal["tools.0/refund.0"].error or "")
    assert decode(journal["tools.0/collect.0"].value) == f"paid 2 with {MASK}"
    assert "FAKE-S3CRET" not in await told_of(None, store_url, caplog)


async def test_tool_without_its_secret(store_url, monkeypatch):
    """A secret that is not set pauses the run before the call; set, the call is made, once."""
    monkeypatch.delenv("TEST_STRIPE_KEY")
    model = scripted(say(call("refund", order=1)), say("done"))
    agent = make_agent(model, [refund])
    async with connect(store_url) as client, client.work([agent], options=QUICK):
        await client.start(agent, TASK, id="a")
        with pytest.raises(RunPaused, match="the secret 'TEST_STRIPE_KEY' is not set; export it"):
            await client.result("a")
        assert seen == []
        monkeypatch.setenv("TEST_STRIPE_KEY", VALUE)
        await client.resume("a")
        await client.result("a")

        assert (await client.get("a")).status is RunStatus.DONE
    assert seen == [VALUE]


class Login(BaseModel):
    """Arguments with a secret of pydantic's own."""

    password: SecretStr


class Named(BaseModel):
    """Arguments with a secret by name, which a model would choose."""

    key: Secret[str] = Secret("TEST_STRIPE_KEY")


async def _no_default(key: Secret[str]) -> None:
    """Do it."""


async def _of_pydantic(password: SecretStr) -> None:
    """Do it."""


async def _inside(login: Login) -> None:
    """Do it."""


async def _inside_named(logins: list[Named]) -> None:
    """Do it."""


@pytest.mark.parametrize("function", [_no_default, _of_pydantic, _inside, _inside_named])
def test_no_secret_is_asked_of_a_model(function):
    """A tool whose secret a model would have to give is refused when it is made."""
    with pytest.raises(Misuse, match=r"secret.*name it in a parameter's default"):
        tool(function)


# ------------------------------------------------------------------------------------------------
# The value itself


@pytest.mark.parametrize(
    "name", [VALUE, "sk-live-FAKE123", "", "a b", "1A", "vault:", ":x", None, 7]
)
def test_no_name(name):
    """What cannot be a name is refused, and not quoted: it may be the secret."""
    with pytest.raises(Misuse, match="never the secret itself") as caught:
        Secret(name)

    assert not name or str(name) not in str(caught.value)


def test_value():
    """It is equal by its name, comes back as itself, and has nothing else to tell."""
    assert decode(encode([KEY, {"a": KEY}])) == [KEY, {"a": KEY}]
    assert encode(KEY) == '{"$secret":"TEST_STRIPE_KEY"}'
    assert {KEY: 1}[Secret("TEST_STRIPE_KEY")] == 1
    assert repr(KEY) == str(KEY) == f"{KEY}" == "Secret('TEST_STRIPE_KEY')"
    with pytest.raises(ValueError, match="holds what this version does not write"):
        decode('{"$secret":"not a name"}')


def test_sources(monkeypatch):
    """A name with a source is read by it, each time; what is not there is said, without a guess."""
    assert Secret("vault:shop/stripe").reveal() == VALUE
    with pytest.raises(SecretMissing, match="'vault:shop/other' is not set; put it there"):
        Secret("vault:shop/other").reveal()
    with pytest.raises(Misuse, match="no source 'safe' of secrets is registered"):
        Secret("safe:x").reveal()
    with pytest.raises(Misuse, match="two sources of secrets are called 'vault'"):
        secret_source("vault")(lambda name: name)
    monkeypatch.setenv("TEST_STRIPE_KEY", "")
    with pytest.raises(SecretMissing, match=r"export it, or write it into \.env"):
        KEY.reveal()


async def test_what_is_short_is_not_hidden(store_url, monkeypatch):
    """A secret of less than 8 characters is not looked for: it would be found in everything."""
    monkeypatch.setenv("TEST_STRIPE_KEY", "1")

    @durable
    async def short(ctx: Context, key: Secret[str]) -> str:
        return await ctx.step(pay, 1, key)

    async with connect(store_url) as client, client.work([short], options=QUICK):
        await client.start(short, KEY, id=RunId("r"))
        assert await client.result("r") == "paid 1 with 1"
