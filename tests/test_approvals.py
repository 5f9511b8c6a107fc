"""A tool that asks is called once a person has said so, and never otherwise."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field

from substrate import Client, Context, RunStatus, WorkerOptions, connect, durable
from substrate.agent import (
    Agent,
    Answer,
    Model,
    Policy,
    Tool,
    approve,
    deny,
    find_gate,
    handoff,
    tool,
)
from substrate.agent.policy import Escalation
from substrate.agent.rules import read_rule
from substrate.agent.stop import answered as answered_
from substrate.agent.stop import any_of, max_turns
from substrate.models.messages import ToolMessage
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.store.connect import open_store
from substrate.testing import ManualClock, Side, kill_at_commit
from substrate.values.codec import decode
from substrate.values.errors import GateClosed, GateNotFound, Misuse, RunFailed
from substrate.values.gates import Gate, GateState
from substrate.values.records import JsonText
from substrate.values.retry import Retry
from tests.loops import TASK, make_agent
from tests.runs import QUICK, reached

ASK = WorkerOptions(idle_timeout=timedelta(0), poll=timedelta(milliseconds=20))


@dataclass
class Shop:
    """A till, what it was asked for, and what the model was told."""

    paid: list[tuple[str, int]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def refund(self, **options: Any) -> Tool:
        """Return the tool that pays."""

        @tool(name="refund", **options)
        def refund(order: str, cents: int) -> str:
            """Pay back."""
            self.paid.append((order, cents))
            return f"paid {cents}"

        return refund

    def model(self, *calls: Any) -> Model:
        """Return a model that makes these calls, then answers with all it was told."""

        def script(request: Request) -> Any:
            self.requests.append(request)
            told = [m for m in request.messages if isinstance(m, ToolMessage)]
            if not told:
                return say(*calls)
            return say(" | ".join(result.content for m in told for result in m.results))

        return Model("scripted:shop", script=script)


PAY = call("refund", order="A-17", cents=4900)


async def settle(client: Client, *agents: Any) -> None:
    """Drive what can be driven, until all of it waits or has ended."""
    async with client.work(list(agents), options=ASK) as worker:
        await worker.run_until_idle()


async def open_gates(client: Client) -> list[Gate]:
    """Return the open gates."""
    return list(await client.store.gates.pending())


@asynccontextmanager
async def asking(
    url: str, *tools: Tool, calls: tuple[Any, ...] = (PAY,), shop: Shop | None = None, **given: Any
) -> AsyncIterator[tuple[Client, Any]]:
    """Start an agent that calls these tools, and drive it until it asks; with no worker then."""
    agent = make_agent((shop or Shop()).model(*calls), tools, **given)
    async with connect(url) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        yield client, agent


async def answered(client: Client, agent: Any) -> str:
    """Return the answer: all that the model was told."""
    await settle(client, agent)
    return (await client.result("a/1", agent)).text


async def test_approved_with_no_worker_alive(store_url: str) -> None:
    """The call waits, holds nothing, is approved while nobody works, and is then made once."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, agent):
        assert (await client.get("a/1")).status is RunStatus.SUSPENDED
        assert shop.paid == []
        (gate,) = await open_gates(client)
        assert (gate.tool, gate.summary) == ("refund", "refund(order='A-17', cents=4900)")

        await approve(client, gate, by="ada")

        assert await answered(client, agent) == "paid 4900"
        assert shop.paid == [("A-17", 4900)]
        keys = [row.key for row in await client.journal("a/1") if row.key.startswith("tools")]
        assert keys == ["tools.0/refund.0/gate.0", "tools.0/refund.0"]


async def test_denied(store_url: str) -> None:
    """A denial's reason is the call's result, which the model sees; nothing is paid."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="ask the customer first")
        assert (
            await answered(client, agent)
            == "refund was not called: ada denied it: ask the customer first"
        )
        assert shop.paid == []
        told = shop.requests[-1].messages[-1]
        assert isinstance(told, ToolMessage)
        assert told.results[0].is_error


async def test_a_denial_needs_a_reason(store_url: str) -> None:
    """Without words for the model nothing is decided."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, _):
        (gate,) = await open_gates(client)
        with pytest.raises(Misuse, match="reason"):
            await deny(client, gate, by="ada", why=" ")
        assert len(await open_gates(client)) == 1


async def test_edited(store_url: str) -> None:
    """Edited arguments run in place of the model's, which is told what ran; the row keeps both."""
    shop = Shop()
    refund = shop.refund(approve=True)
    async with asking(store_url, refund, shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada", edit={"cents": 100}, tools=[refund])
        said = await answered(client, agent)
        assert shop.paid == [("A-17", 100)]
        assert said.endswith("paid 100")
        assert '"cents":100' in said
        row = next(r for r in await client.journal("a/1") if r.key == "tools.0/refund.0")
        given = decode(row.input or JsonText(""))
        assert given["arguments"]["cents"] == 4900
        assert given["ran"] == {"cents": 100, "order": "A-17"}


@pytest.mark.parametrize("edit", [{"cents": "many"}, {"cent": 1}, {"order": None}])
@pytest.mark.parametrize("has_tools", [True, False])
async def test_an_edit_that_does_not_fit(
    store_url: str, edit: dict[str, Any], *, has_tools: bool
) -> None:
    """It is refused before anything is decided, whether the tool's code is there or not."""
    shop = Shop()
    refund = shop.refund(approve=True)
    async with asking(store_url, refund, shop=shop) as (client, _):
        (gate,) = await open_gates(client)
        tools = [refund] if has_tools else []
        with pytest.raises(Misuse):
            await approve(client, gate, by="ada", edit=edit, tools=tools)
        assert len(await open_gates(client)) == 1


async def test_only_where_it_is_wanted(store_url: str) -> None:
    """A function of the arguments says of which calls a person is asked; the others are made."""
    shop = Shop()
    refund = shop.refund(approve=lambda cents: cents > 2000)
    calls = (call("refund", order="A", cents=100), call("refund", order="B", cents=4900))
    async with asking(store_url, refund, calls=calls, shop=shop) as (client, agent):
        assert shop.paid == [("A", 100)]
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        assert await answered(client, agent) == "paid 100 | paid 4900"


async def test_several_in_any_order(store_url: str) -> None:
    """Gates that are open at once are decided in any order, each for its own call."""
    shop = Shop()
    calls = [call("refund", order=str(i), cents=i) for i in range(3)]
    refund = shop.refund(approve=True)
    async with asking(store_url, refund, calls=tuple(calls), shop=shop) as (client, agent):
        gates = await open_gates(client)
        assert len(gates) == 3
        for i in (2, 0):
            gate = next(each for each in gates if f"order='{i}'" in each.summary)
            await approve(client, gate, by="ada")
            await settle(client, agent)
        await deny(client, (await open_gates(client))[0], by="bob", why="no")
        assert await answered(client, agent) == (
            "paid 0 | refund was not called: bob denied it: no | paid 2"
        )
        assert shop.paid == [("2", 2), ("0", 0)]


async def test_a_tool_that_is_a_durable_function(store_url: str) -> None:
    """A tool with a ctx is asked about before its first step, and edited like any other."""
    shop = Shop()

    @tool(name="refund", approve=True)
    async def refund(ctx: Context, order: str, cents: int) -> str:
        """Pay back, in two steps."""

        def pay(half: int) -> int:
            shop.paid.append((order, half))
            return half

        halves = [await ctx.step(pay, cents // 2, name="pay") for _ in range(2)]
        return f"paid {sum(halves)}"

    async with asking(store_url, refund, shop=shop) as (client, agent):
        assert shop.paid == []
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada", edit={"cents": 100}, tools=[refund])
        assert (await answered(client, agent)).endswith("paid 100")
        assert shop.paid == [("A-17", 50), ("A-17", 50)]


async def test_one_gate_covers_all_attempts(store_url: str) -> None:
    """A call that is tried again is not asked about again."""
    shop, tries = Shop(), []

    @tool(name="refund", effect="idempotent", approve=True, retry=Retry(max_attempts=3, initial=0))
    def refund(order: str, cents: int) -> str:
        """Pay back."""
        tries.append(cents)
        if len(tries) < 3:
            raise OSError("away")
        return "paid"

    async with asking(store_url, refund, shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        assert await answered(client, agent) == "paid"
        assert len(tries) == 3
        assert len(await client.store.gates.of_tree("a/1")) == 1


async def test_a_recorded_gate_holds(store_url: str) -> None:
    """Where the tool asks no more when its run goes on, what a person said holds all the same."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, _):
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="no")
        later = make_agent(shop.model(PAY), [shop.refund()])
        assert "ada denied it: no" in await answered(client, later)
        assert shop.paid == []


async def test_a_call_that_was_made_is_not_asked_about(store_url: str) -> None:
    """A tool that asks from now on does not ask about calls that were made before."""
    shop = Shop()
    old = make_agent(shop.model(PAY), [shop.refund()])
    async with connect(store_url) as client:
        await client.start(old, TASK, id="a/1")
        assert await answered(client, old) == "paid 4900"
        new = make_agent(shop.model(PAY), [shop.refund(approve=True)])
        assert await answered(client, new) == "paid 4900"
        assert await open_gates(client) == []


@pytest.mark.parametrize(
    "text, happens",
    [
        ("allow refund", "paid"),
        ("allow refund where cents < 5000", "paid"),
        ("allow refund where cents < 2000", "asked"),
        ("allow re*", "paid"),
        ("allow search", "asked"),
        ('allow refund where cents < "5000"', "asked"),
        ("deny refund where cents > 2000", "denied"),
        ('deny refund where cents > "2000"', "denied"),
    ],
)
async def test_a_standing_rule(store_url: str, text: str, happens: str) -> None:
    """A rule decides in a person's place; one that cannot be judged lets nothing through."""
    shop = Shop()
    agent = make_agent(shop.model(PAY), [shop.refund(approve=True)])
    async with connect(store_url) as client:
        rule = read_rule(text, by="ada", now=1)
        await client.store.gates.add_rule(rule)
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        gates = await client.store.gates.of_tree("a/1")
        assert [each.state for each in gates] == [
            {
                "paid": GateState.AUTO_APPROVED,
                "asked": GateState.PENDING,
                "denied": GateState.DENIED,
            }[happens]
        ]
        assert bool(shop.paid) == (happens == "paid")
        if happens != "asked":
            assert gates[0].rule == rule.id
            said = await answered(client, agent)
            assert ("standing rule denies it" in said) == (happens == "denied")


@pytest.mark.parametrize("texts", [("deny *", "allow refund"), ("allow refund", "deny *")])
async def test_deny_beats_allow(store_url: str, texts: tuple[str, str]) -> None:
    """In whatever order the rules were made; also for a tool that asks nobody by itself."""
    shop = Shop()
    agent = make_agent(shop.model(PAY), [shop.refund()])
    async with connect(store_url) as client:
        for i, text in enumerate(texts):
            await client.store.gates.add_rule(read_rule(text, by="ada", now=i))
        await client.start(agent, TASK, id="a/1")
        assert "denies it" in await answered(client, agent)
        assert shop.paid == []


async def test_a_deny_rule_after_the_approval(store_url: str) -> None:
    """What was approved and is denied by a rule before it is made is not made."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        await client.store.gates.add_rule(read_rule("deny refund", by="bob", now=1))
        assert "standing rule denies it" in await answered(client, agent)
        assert shop.paid == []


async def test_an_edit_into_what_a_rule_denies(store_url: str) -> None:
    """Rules judge what would run: such an approval is refused, and the gate stays open."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, _):
        await client.store.gates.add_rule(
            read_rule("deny refund where cents > 5000", by="bob", now=1)
        )
        (gate,) = await open_gates(client)
        with pytest.raises(Misuse, match="denies"):
            await approve(client, gate, by="ada", edit={"cents": 9900})
        assert len(await open_gates(client)) == 1


async def test_a_rule_of_one_use(store_url: str) -> None:
    """Of calls side by side one is let through by a rule's last use; the others are asked, once."""
    shop = Shop()
    calls = tuple(call("refund", order=str(i), cents=i) for i in range(4))
    agent = make_agent(shop.model(*calls), [shop.refund(approve=True)])
    async with connect(store_url) as client:
        rule = read_rule("allow refund", by="ada", now=1)
        await client.store.gates.add_rule(replace(rule, uses_left=1))
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        assert len(shop.paid) == 1
        asked = await open_gates(client)
        assert len(asked) == 3
        await deny(client, asked[0], by="ada", why="no")
        await deny(client, asked[1], by="ada", why="no")
        await settle(client, agent)
        assert await open_gates(client) == asked[2:]
        await approve(client, asked[2], by="ada")
        await settle(client, agent)
        await client.result("a/1", agent)
        assert len(shop.paid) == 2
        gates = await client.store.gates.of_tree("a/1")
        assert [each.id.partition("/")[2].rpartition("/")[2] for each in gates] == ["gate.0"] * 4


class Money(BaseModel):
    """An amount."""

    amount: Decimal
    currency: str


async def test_rules_of_typed_arguments(store_url: str) -> None:
    """A field inside of a typed argument, and a Decimal, are compared as what they are."""
    paid: list[Money] = []

    @tool(name="refund", approve=Policy(rules=["allow refund where money.amount < 20"]))
    def refund(money: Money) -> str:
        """Pay back."""
        paid.append(money)
        return "paid"

    small = call("refund", money={"amount": "19.99", "currency": "EUR"})
    large = call("refund", money={"amount": "20.00", "currency": "EUR"})
    async with asking(store_url, refund, calls=(small, large)) as (client, _):
        assert paid == [Money(amount=Decimal("19.99"), currency="EUR")]
        assert len(await open_gates(client)) == 1


@pytest.mark.parametrize("means", ["deny", "approve"])
async def test_silence(store_url: str, means: str) -> None:
    """After its time a gate means what its policy says, and the record says that nobody decided."""
    shop, clock = Shop(), ManualClock()
    policy = Policy(timeout=timedelta(days=2), on_timeout=means)  # type: ignore[arg-type]
    agent = make_agent(shop.model(PAY), [shop.refund(approve=policy)])
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        clock.advance(2 * 86_400 - 1)
        await settle(client, agent)
        assert len(await open_gates(client)) == 1
        clock.advance(1)
        said = await answered(client, agent)
        (gate,) = await client.store.gates.of_tree("a/1")
        assert gate.via == "timeout"
        assert gate.decided_by is None
        if means == "deny":
            assert gate.state is GateState.EXPIRED
            assert said == "refund was not called: nobody has decided in time"
            assert shop.paid == []
        else:
            assert gate.state is GateState.AUTO_APPROVED
            assert shop.paid == [("A-17", 4900)]
        with pytest.raises(GateClosed):
            await approve(client, gate, by="ada")


async def test_without_a_timeout_it_waits_for_ever(store_url: str) -> None:
    """Ten years later the gate is open, and is approved."""
    shop, clock = Shop(), ManualClock()
    agent = make_agent(shop.model(PAY), [shop.refund(approve=True)])
    async with connect(store_url, clock) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent)
        clock.advance(10 * 365 * 86_400)
        await settle(client, agent)
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        assert await answered(client, agent) == "paid 4900"


async def test_a_denial_that_fails_the_run(store_url: str) -> None:
    """With on_denied="fail" a denial ends the run, and what it did is undone."""
    shop, undone = Shop(), []

    @durable(name="release")
    async def release(ctx: Context, item: str) -> None:
        undone.append(item)

    @tool
    async def reserve(ctx: Context, item: str) -> str:
        """Reserve."""
        return await ctx.step(lambda item: f"reserved {item}", item, name="reserve", undo=release)

    refund = shop.refund(approve=Policy(on_denied="fail"))

    def script(request: Request) -> Any:
        told = [m for m in request.messages if isinstance(m, ToolMessage)]
        return say(call("reserve", item="lamp")) if not told else say(PAY)

    agent = make_agent(Model("scripted:two", script=script), [reserve, refund])
    async with connect(store_url) as client:
        await client.start(agent, TASK, id="a/1")
        await settle(client, agent, release)
        (gate,) = await open_gates(client)
        await deny(client, gate, by="ada", why="fraud")
        await settle(client, agent, release)
        with pytest.raises(RunFailed, match="ada denied it: fraud"):
            await client.result("a/1", agent)
        assert undone == ["lamp"]
        assert shop.paid == []


async def test_a_gate_of_a_child_shows_at_the_root(store_url: str) -> None:
    """It is found by the root's id, with its path, and decided like any other."""
    shop = Shop()
    child = make_agent(shop.model(PAY), [shop.refund(approve=True)], name="payer")

    @durable(name="boss")
    async def boss(ctx: Context) -> Answer:
        return await ctx.spawn(child, TASK)

    async with connect(store_url) as client:
        await client.start(boss, id="a/1")
        await settle(client, boss, child)
        gate = await find_gate(client, "a/1")
        assert gate.run_id == "a/1#payer.0"
        assert gate.root_id == "a/1"
        await approve(client, gate, by="ada")
        await settle(client, boss, child)
        assert (await client.result("a/1", boss)).text == "paid 4900"


async def test_cancelled_while_it_asks(store_url: str) -> None:
    """A cancel withdraws the gate at once, and a later decision is refused; nothing is paid."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await client.cancel("a/1")
        assert await open_gates(client) == []
        with pytest.raises(GateClosed, match="withdrawn"):
            await approve(client, gate, by="ada")
        await settle(client, agent)
        assert (await client.get("a/1")).status is RunStatus.CANCELLED
        states = {r.key: r.state for r in await client.journal("a/1")}
        assert states["tools.0/refund.0/gate.0"] == "cancelled"
        assert shop.paid == []


async def test_decided_while_a_worker_waits(store_url: str) -> None:
    """A run that is still in memory goes on when its gate is decided, here or elsewhere."""
    shop = Shop()
    agent = make_agent(shop.model(PAY), [shop.refund(approve=True)])
    async with (
        connect(store_url) as client,
        connect(store_url) as outside,
        client.work([agent], options=QUICK),
    ):
        await client.start(agent, TASK, id="a/1")
        await reached(client, "a/1", "tools.0/refund.0/gate.0")
        (gate,) = await open_gates(outside)
        await approve(outside, gate, by="ada")
        assert (await client.result("a/1", agent)).text == "paid 4900"


async def test_a_predicate_that_raises_pauses_the_run(store_url: str) -> None:
    """It is a mistake in a hook: the run is paused with its place, and nothing is called."""
    shop = Shop()
    refund = shop.refund(approve=lambda cents: cents / 0 > 1)
    async with asking(store_url, refund, shop=shop) as (client, _):
        assert (await client.get("a/1")).status is RunStatus.PAUSED
        assert shop.paid == []


@pytest.mark.parametrize(
    "given",
    [
        "yes",
        1,
        lambda cent: True,
        {"to": "ada"},
        Policy,
    ],
)
def test_what_is_no_approval(given: object) -> None:
    """It is refused where the tool is made."""
    with pytest.raises(Misuse, match="refund"):
        Shop().refund(approve=given)


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": timedelta(days=1)},
        {"on_timeout": "deny"},
        {"timeout": timedelta(days=1), "on_timeout": "yes"},
        {"timeout": timedelta(0), "on_timeout": "deny"},
        {"timeout": 60, "on_timeout": "deny"},
        {"remind": timedelta(hours=1)},
        {"remind": [timedelta(days=2)], "timeout": timedelta(days=1), "on_timeout": "deny"},
        {"escalate": "ada"},
        {"rules": "allow refund"},
        {"rules": ["permit refund"]},
        {"to": None},
        {"when": 3},
        {"on_denied": "stop"},
    ],
)
def test_a_policy_that_could_not_be_kept(given: dict[str, Any]) -> None:
    """It is refused where it is made."""
    with pytest.raises(Misuse):
        Policy(**given)


def test_an_escalation_to_nobody() -> None:
    """It is refused where it is made."""
    with pytest.raises(Misuse, match="nobody"):
        Policy(escalate=Escalation(timedelta(hours=1), to=" "))


def test_a_rule_of_another_argument() -> None:
    """A policy's rule that asks about what the tool does not take is refused with the tool."""
    with pytest.raises(Misuse, match="cent"):
        Shop().refund(approve=Policy(rules=["allow refund where cent < 2000"]))


_NOT_OURS = ("wake_due", "write_lanes", "recover")
"""Commits of a worker that come when something is there to be done."""


async def commits(url: str, refund: Tool, *, is_let_go: bool) -> list[str]:
    """Return the commits of a run that pays once, by name, in order; a person approves if asked."""
    agent = make_agent(Shop().model(PAY), [refund])
    counted = kill_at_commit(await open_store(url), 0, Side.BEFORE)
    client = Client(counted)
    options = ASK if is_let_go else QUICK
    async with connect(url) as outside, client.work([agent], options=options) as worker:
        await client.start(agent, TASK, id="a/1")
        if refund.approve is not None:
            await reached(client, "a/1", "tools.0/refund.0/gate.0")
            if is_let_go:
                await worker.run_until_idle()
            (gate,) = await open_gates(outside)
            await approve(client, gate, by="ada")
        await client.result("a/1", agent)
    await counted.close()
    written: list[str] = counted.reached  # type: ignore[attr-defined]
    return [name for name in written if name not in _NOT_OURS]


@pytest.mark.parametrize("is_let_go", [True, False])
async def test_what_a_gate_costs(store_url: str, tmp_path: Path, *, is_let_go: bool) -> None:
    """Two commits beyond the tool's own: asked, and decided; where it is let go, it is claimed.

    The commit that asks lets it go.
    """
    plain = await commits(f"sqlite:///{tmp_path}/plain.db", Shop().refund(), is_let_go=False)
    asked = await commits(store_url, Shop().refund(approve=True), is_let_go=is_let_go)
    # A busy worker may look once more for what it could claim, and find nothing.
    more = Counter(asked) - Counter(plain)
    more.pop("claim", None)
    assert more == {"gates.open_and_suspend" if is_let_go else "gates.open": 1, "gates.decide": 1}
    assert asked.count("claim") >= is_let_go


class Order(BaseModel):
    """What is paid, with a mark of its own that is made anew each time."""

    cents: int = 5
    mark: str = Field(default_factory=lambda: uuid4().hex)


@pytest.mark.parametrize("edit", [None, {"other": "ours"}])
@pytest.mark.parametrize("takes_ctx", [False, True])
async def test_what_was_shown_is_what_runs(
    store_url: str, edit: dict[str, Any] | None, *, takes_ctx: bool
) -> None:
    """Defaults that are made anew, or are others by now, do not replace what was approved."""
    paid: list[tuple[Order, str, str]] = []

    def pay_tool(currency: str) -> Tool:
        if takes_ctx:

            @tool(name="pay", approve=True)
            async def pay_durably(
                ctx: Context, order: Order, other: str = "", currency: str = currency
            ) -> str:
                """Pay."""
                paid.append((order, currency, other))
                return "paid"

            return pay_durably

        @tool(name="pay", approve=True, effect="idempotent", retry=Retry(max_attempts=3, initial=0))
        def pay(order: Order, other: str = "", currency: str = currency) -> str:
            """Pay."""
            paid.append((order, currency, other))
            if len(paid) < 3:
                raise OSError("away")
            return "paid"

        return pay

    calls = (call("pay", order={}),)
    async with asking(store_url, pay_tool("EUR"), calls=calls) as (client, _):
        (gate,) = await open_gates(client)
        row = next(r for r in await client.journal("a/1") if r.key.endswith("gate.0"))
        shown = decode(row.input or JsonText(""))["arguments"]
        await approve(client, gate, by="ada", edit=edit)
        later = make_agent(Shop().model(*calls), [pay_tool("USD")])
        assert (await answered(client, later)).endswith("paid")
    assert {each[0].mark for each in paid} == {shown["order"]["mark"]}
    assert {each[1:] for each in paid} == {("EUR", edit["other"] if edit else "")}


async def test_a_tool_that_makes_something_else_of_it(store_url: str) -> None:
    """What was approved and would be called as something else is not called; the model is told."""
    shop, factor = Shop(), [1]

    def scaled(cents: int) -> int:
        return cents * factor[0]

    @tool(name="refund", approve=True)
    def refund(order: str, cents: Annotated[int, AfterValidator(scaled)]) -> str:
        """Pay back."""
        shop.paid.append((order, cents))
        return "paid"

    async with asking(store_url, refund, shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        factor[0] = 100
        assert "would be called with" in await answered(client, agent)
        assert shop.paid == []


@pytest.mark.parametrize("verdict", ["allow", "deny"])
@pytest.mark.parametrize("whose", ["kid", "boss"])
async def test_a_rule_of_an_agent_after_a_handoff(store_url: str, verdict: str, whose: str) -> None:
    """It speaks of who makes the call, and that is the agent that has the conversation now."""
    shop = Shop()
    pays = Model("scripted:kid", script=lambda request: say(PAY) if request.tools else say("Done."))
    kid = Agent("kid", "Pay.", pays, [shop.refund(approve=True)], any_of(answered_(), max_turns(2)))

    def hand_over(request: Request) -> Any:
        return say(call("hand_over_to_kid"))

    script = Model("scripted:boss", script=hand_over)
    boss = Agent("boss", "Hand over.", script, [handoff(kid, description="Pays.")])
    async with connect(store_url) as client:
        rule = read_rule(f"{verdict} refund", by="ada", now=1)
        await client.store.gates.add_rule(replace(rule, agent=whose))
        await client.start(boss.durable, TASK, id="a/1")
        await settle(client, boss.durable)
        gate, *_ = await client.store.gates.of_tree("a/1")
    decided = {"allow": GateState.AUTO_APPROVED, "deny": GateState.DENIED}[verdict]
    assert gate.state is (decided if whose == "kid" else GateState.PENDING)


async def test_a_run_that_is_called_like_a_gate(store_url: str) -> None:
    """A name that may mean either is asked back, and nothing is decided."""
    shop = Shop()
    async with asking(store_url, shop.refund(approve=True), shop=shop) as (client, agent):
        (gate,) = await open_gates(client)
        await client.start(agent, TASK, id=gate.code)
        await settle(client, agent)
        with pytest.raises(GateNotFound, match="several"):
            await find_gate(client, gate.code)
        assert await find_gate(client, gate.id) == gate


async def test_a_number_that_is_none(store_url: str) -> None:
    """A NaN, which equals nothing, is approved and called as it was shown."""
    paid: list[float] = []

    @tool(name="refund", approve=True)
    def refund(order: str, cents: int, rate: float = float("nan")) -> str:
        """Pay back."""
        paid.append(rate)
        return "paid"

    async with asking(store_url, refund) as (client, agent):
        (gate,) = await open_gates(client)
        await approve(client, gate, by="ada")
        assert await answered(client, agent) == "paid"
    assert [str(each) for each in paid] == ["nan"]


class Parcel(BaseModel):
    """What is sent."""

    count: int


@pytest.mark.parametrize("has_tools", [True, False])
@pytest.mark.parametrize(
    "edit, said",
    [
        ({"n": True}, "n: True is no number; it takes a whole number"),
        ({"part": False}, "part: False is no number"),
        ({"maybe": True}, "maybe: True is none of these"),
        ({"sure": "on"}, "sure: 'on' is not true, false, yes or no"),
        ({"sure": 1}, "sure: 1 is not true, false, yes or no"),
    ],
)
async def test_an_edit_is_checked_as_an_answer(
    store_url: str, edit: dict[str, Any], said: str, *, has_tools: bool
) -> None:
    """True is no number, and a yes is a word that means yes; nothing is decided else."""
    ran: list[Any] = []

    @tool(approve=True)
    def ship(  # noqa: PLR0917 - as many kinds
        n: int,
        sure: bool,  # noqa: FBT001 - the model's own
        parcel: Parcel,
        part: float = 1.5,
        maybe: int | None = None,
        free: Any = None,
    ) -> str:
        """Ship."""
        ran.append((n, sure, free))
        return "shipped"

    tools = [ship] if has_tools else []
    calls = (call("ship", n=2, sure=False, parcel={"count": 1}),)
    async with asking(store_url, ship, calls=calls) as (client, agent):
        (gate,) = await open_gates(client)
        with pytest.raises(Misuse, match=re.escape(said)):
            await approve(client, gate, by="ada", edit=edit, tools=tools)
        right = {"n": 3, "sure": "yes", "free": True, "maybe": 4}
        assert (await approve(client, gate, by="ada", edit=right, tools=tools))[1]
        assert (await answered(client, agent)).endswith("shipped")
    assert ran == [(3, True, True)]
