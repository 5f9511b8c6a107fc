"""A gate is decided once, for what was shown, while its run still asks; the store keeps it so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from substrate.engine.context.gate import GateOutcome
from substrate.store.store import Store
from substrate.values.codec import encode
from substrate.values.errors import GateChanged, GateClosed, GateNotFound
from substrate.values.gates import (
    Decision,
    Gate,
    GateState,
    LetGo,
    Rule,
    RuleVerdict,
    code_of,
)
from substrate.values.ids import Key, PromiseId, RunId, promise_id
from substrate.values.records import (
    Checkpoint,
    Claim,
    Fenced,
    JsonText,
    Kind,
    Promise,
    PromiseState,
    RunStatus,
    Signal,
)
from tests.stores import NOW, OTHER, claimed, database, end, gate_promise, new_gate, opened

RUN = RunId("run")
KEY = Key("tools.0/refund.0/gate.0")
GATE = promise_id(RUN, KEY)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """Provide an open store."""
    async with opened(store_url) as store:
        yield store


def decision(state: GateState = GateState.APPROVED, **given: object) -> Decision:
    """Return a decision of Ada's."""
    by = str(given.pop("by", "ada"))
    value = GateOutcome(state, by=by).value
    return replace(Decision(GATE, "d" * 64, state, value, by, "test"), **given)


async def suspended(store: Store, url: str) -> Claim:
    """Return a claim on a run that asks, and waits."""
    claim = await claimed(store)
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    with database(url) as db:
        db.suspend(claim.run.id, need=1)
    return claim


async def outcome(store: Store) -> Promise:
    """Return the gate's promise."""
    return (await store.promises([GATE]))[GATE]


async def test_a_decision_settles_the_gate_and_wakes_its_run(store: Store, store_url: str) -> None:
    """One commit has the gate, its promise with the next change number, and a run that is ready."""
    claim = await suspended(store, store_url)
    (open_,) = await store.gates.pending()
    assert (open_.id, open_.run_id, open_.code) == (GATE, RUN, code_of(GATE))
    assert open_.run_status is RunStatus.SUSPENDED

    gate, counts = await store.gates.decide(decision(reason="fine"))

    assert counts
    assert (gate.state, gate.decided_by, gate.reason) == (GateState.APPROVED, "ada", "fine")
    row, run = await outcome(store), await store.get(RUN)
    assert row.state is PromiseState.RESOLVED
    assert run is not None
    assert (run.status, run.wake_version) == (RunStatus.READY, 1)
    assert row.seq == run.last_seq == 3
    assert await store.gates.pending() == []
    (again,) = await store.claim("default/work/1", 1, OTHER)
    assert (again.run.id, again.run.epoch) == (claim.run.id, 2)


@pytest.mark.parametrize("second", [GateState.DENIED, GateState.APPROVED])
async def test_the_second_is_told_what_stands(
    store: Store, store_url: str, second: GateState
) -> None:
    """Another decision, or the same of somebody else, changes nothing and names who was first."""
    await suspended(store, store_url)
    first, _ = await store.gates.decide(decision())

    with pytest.raises(GateClosed, match="approved already by ada over test"):
        await store.gates.decide(decision(second, by="bob"))

    assert await store.gates.get(GATE) == first
    assert "ada" in str((await outcome(store)).value)


async def test_the_same_again_is_no_error(store: Store, store_url: str) -> None:
    """Who sends a decision twice, since no answer came, is told that it stands."""
    await suspended(store, store_url)
    assert (await store.gates.decide(decision()))[1]
    gate, counts = await store.gates.decide(decision())
    assert (gate.state, counts) == (GateState.APPROVED, False)


async def test_a_decision_for_something_else(store: Store, store_url: str) -> None:
    """The digest of other arguments is refused, with both shown, and the gate stays open."""
    await suspended(store, store_url)
    with pytest.raises(GateChanged) as refused:
        await store.gates.decide(decision(digest="e" * 64))
    assert "dddddddddddd" in str(refused.value)
    assert "eeeeeeeeeeee" in str(refused.value)
    assert len(await store.gates.pending()) == 1


async def test_many_at_once(store: Store, store_url: str) -> None:
    """Of decisions that race over several connections one counts, and all others are told so."""
    await suspended(store, store_url)
    async with opened(store_url) as other:
        stores = [store, other] * 10
        decisions = [
            decision(GateState.APPROVED if i % 2 else GateState.DENIED, by=f"p{i}")
            for i in range(len(stores))
        ]
        racing = (one.gates.decide(each) for one, each in zip(stores, decisions, strict=True))
        said = await asyncio.gather(*racing, return_exceptions=True)
    won = [each for each in said if isinstance(each, tuple)]
    assert len(won) == 1
    assert all(isinstance(each, GateClosed) for each in said if not isinstance(each, tuple))
    (gate, counts) = won[0]
    assert counts
    assert await store.gates.get(GATE) == gate
    run = await store.get(RUN)
    assert run is not None
    assert run.wake_version == 1


@pytest.mark.parametrize("how", ["cancel", "discard", "end", "deadline", "unwind"])
async def test_a_run_that_asks_nothing_any_more(store: Store, store_url: str, how: str) -> None:
    """A decision on a run that was cancelled, given up, has ended or unwinds changes nothing."""
    claim = await claimed(store)
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    with database(store_url) as db:
        match how:
            case "cancel":
                await store.cancel(RUN)
            case "discard":
                db.rows("UPDATE runs SET status = 'paused', lease_owner = NULL")
                await store.discard(RUN)
            case "end":
                await store.commit([end(claim)])
            case "deadline":
                db.rows("UPDATE runs SET deadline_at = 1")
            case "unwind":
                row = replace(gate_promise(claim, "unwind"), kind=Kind.STEP)
                await store.commit([Checkpoint(claim.fence, row)])
    before = await store.gates.get(GATE)

    with pytest.raises(GateClosed):
        await store.gates.decide(decision())

    assert await store.gates.get(GATE) == before
    assert before is not None
    if how in ("cancel", "discard"):
        assert before.state is GateState.WITHDRAWN
        assert await store.gates.pending() == []


@pytest.mark.parametrize("status", ["paused", "dead"])
async def test_a_run_that_waits_for_a_person_keeps_its_gates(
    store: Store, store_url: str, status: str
) -> None:
    """A gate of a paused or dead run is decided; the run stays as it is until it is resumed."""
    claim = await claimed(store)
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    with database(store_url) as db:
        db.rows("UPDATE runs SET status = :status, lease_owner = NULL", status=status)
    (open_,) = await store.gates.pending()
    assert open_.run_status == status

    gate, counts = await store.gates.decide(decision())

    assert counts
    assert (gate.state, gate.run_status) == (GateState.APPROVED, status)


async def test_its_run_or_a_person(store: Store, store_url: str) -> None:
    """An expiry that comes after a decision writes nothing, and one that is first closes it."""
    claim = await claimed(store)
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    await store.gates.decide(decision())
    expired = replace(gate_promise(claim), state=PromiseState.EXPIRED, settled_at=NOW + 5)
    stands = await store.gates.settle(claim.fence, expired, GateState.EXPIRED)
    assert isinstance(stands, Promise)
    assert stands.state is PromiseState.RESOLVED

    second = gate_promise(claim, "gate.1")
    await store.gates.open(claim.fence, second, new_gate())
    over = replace(second, state=PromiseState.EXPIRED, settled_at=NOW + 5)
    written = await store.gates.settle(claim.fence, over, GateState.EXPIRED, via="timeout")
    assert isinstance(written, Promise)
    gate = await store.gates.get(second.id)
    assert gate is not None
    assert (gate.state, gate.via, gate.decided_at) == (GateState.EXPIRED, "timeout", NOW + 5)
    with pytest.raises(GateClosed, match="expired already"):
        await store.gates.decide(replace(decision(), gate_id=second.id))


async def test_the_fence_holds(store: Store) -> None:
    """Who has lost the run opens and settles no gate; asked again, an open one stays as it is."""
    claim = await claimed(store)
    stale = replace(claim.fence, epoch=claim.fence.epoch + 1)
    assert await store.gates.open(stale, gate_promise(claim), new_gate()) == Fenced()
    assert await store.gates.get(GATE) is None
    opened_ = await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    assert isinstance(opened_, Promise)
    again = await store.gates.open(claim.fence, gate_promise(claim), new_gate(summary="another"))
    assert isinstance(again, Promise)
    gate = await store.gates.get(GATE)
    assert gate is not None
    assert gate.summary == "refund(cents=4900)"
    over = replace(gate_promise(claim), state=PromiseState.EXPIRED, settled_at=NOW)
    assert await store.gates.settle(stale, over, GateState.EXPIRED) == Fenced()
    assert (await store.gates.get(GATE)) == gate


def rule(id_: str, verdict: RuleVerdict = RuleVerdict.ALLOW, **given: object) -> Rule:
    """Return a rule."""
    made = Rule(id_, verdict, "refund", "cents < 2000", None, None, None, None, None, "ada", NOW)
    return replace(made, **given)


async def test_a_rule_is_used_with_the_gate_it_opens(store: Store) -> None:
    """The last use of a rule lets one call through, and in the same commit it is gone."""
    claim = await claimed(store)
    await store.gates.add_rule(rule("aaaa0000", uses_left=1))
    allowed = new_gate(state=GateState.AUTO_APPROVED, rule="aaaa0000", uses_rule=True)
    resolved = replace(gate_promise(claim), state=PromiseState.RESOLVED, settled_at=NOW, value="{}")

    assert isinstance(await store.gates.open(claim.fence, resolved, allowed), Promise)
    second = replace(resolved, id=promise_id(RUN, Key("gate.1")), key=Key("gate.1"))
    assert await store.gates.open(claim.fence, second, allowed) is None

    assert [each.uses_left for each in await store.gates.rules()] == [0]
    assert await store.gates.get(second.id) is None
    assert second.id not in await store.promises([second.id])
    gate = await store.gates.get(GATE)
    assert gate is not None
    assert (gate.state, gate.via, gate.rule) == (GateState.AUTO_APPROVED, "rule", "aaaa0000")


async def test_rules_are_kept_until_they_are_removed(store: Store) -> None:
    """Rules come back as they were made, oldest first; one is removed once."""
    made = [
        rule("bbbb0000", RuleVerdict.DENY, reason="never", created_at=NOW + 2),
        rule("aaaa0000", root_id=RUN, agent="agent", uses_left=3, expires_at=NOW + 9),
    ]
    for each in made:
        await store.gates.add_rule(each)
    assert await store.gates.rules() == list(reversed(made))
    assert await store.gates.remove_rule("aaaa0000")
    assert not await store.gates.remove_rule("aaaa0000")
    assert await store.gates.rules() == made[:1]


async def test_looking(store: Store, store_url: str) -> None:
    """A tree's gates are found by its root, any gate by the beginning of its short name."""
    claim = await claimed(store)
    with database(store_url) as db:
        child = db.spawn(claim, "child.0")
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())
    await store.gates.open(child.fence, gate_promise(child), new_gate(summary="below"))
    tree = await store.gates.of_tree(RUN)
    assert {each.summary for each in tree} == {"refund(cents=4900)", "below"}
    for each in tree:
        assert await store.gates.by_code(each.code[:6]) == [each]
    assert await store.gates.by_code("zzzz") == []
    with pytest.raises(GateNotFound):
        await store.gates.decide(replace(decision(), gate_id=PromiseId(f"{RUN}#none.0")))


async def test_a_cancel_withdraws_the_whole_tree(store: Store, store_url: str) -> None:
    """Gates below are withdrawn in the cancel's own commit, but those of an undo are not."""
    claim = await claimed(store)
    with database(store_url) as db:
        child, undo = db.spawn(claim, "child.0"), db.spawn(claim, "unwind/undo.0")
    gates: list[Gate | None] = []
    for each in (claim, child, undo):
        await store.gates.open(each.fence, gate_promise(each), new_gate())
    await store.cancel(RUN)
    gates = [await store.gates.get(promise_id(each.run.id, KEY)) for each in (claim, child, undo)]
    states = [each.state for each in gates if each is not None]
    assert states == [GateState.WITHDRAWN, GateState.WITHDRAWN, GateState.PENDING]


async def test_a_long_decision_is_kept_whole(store: Store, store_url: str) -> None:
    """Edited arguments above the limit of a row lie in a blob, and are read back as they were."""
    await suspended(store, store_url)
    arguments = {"text": "é" * 50_000}
    value = GateOutcome(GateState.EDITED, by="ada", arguments=arguments).value
    await store.gates.decide(replace(decision(GateState.EDITED), value=value))
    assert (await outcome(store)).value == value
    assert encode(arguments) in str((await outcome(store)).value)


async def test_a_decision_that_comes_too_late(store: Store, store_url: str) -> None:
    """Once a gate's time is over no decision counts, also where no worker was there meanwhile."""
    claim = await claimed(store)
    past = new_gate(expires_at=1, policy=JsonText('{"on_timeout":"deny"}'))
    await store.gates.open(claim.fence, gate_promise(claim), past)
    with pytest.raises(GateClosed, match="takes silence as 'deny'"):
        await store.gates.decide(decision())
    gate = await store.gates.get(GATE)
    assert gate is not None
    assert gate.state is GateState.PENDING


@pytest.mark.parametrize("woken", [False, True])
async def test_asked_and_let_go_in_one(store: Store, *, woken: bool) -> None:
    """The commit that asks suspends the run too, but not where something has come for it since."""
    claim = await claimed(store)
    if woken:
        await store.send_signal(Signal(RUN, "go", JsonText("1"), "1"))
    let_go = LetGo(claim.run.wake_version, need=1, due_at=NOW + 5)
    given = (gate_promise(claim), new_gate())
    stale = replace(claim.fence, epoch=claim.fence.epoch + 1)
    assert await store.gates.open_and_suspend(stale, *given, let_go) == (Fenced(), False)

    found = await store.gates.open_and_suspend(claim.fence, *given, let_go)
    assert found is not None
    assert isinstance(found[0], Promise)
    assert found[1] is not woken
    run = await store.get(RUN)
    assert run is not None
    assert run.status is (RunStatus.RUNNING if woken else RunStatus.SUSPENDED)
    assert (await store.gates.decide(decision()))[1]
    run = await store.get(RUN)
    assert run is not None
    assert run.status is (RunStatus.RUNNING if woken else RunStatus.READY)


async def test_a_gate_is_found_behind_a_thousand_others(store: Store) -> None:
    """Whoever names a run finds what it asks, however many others ask, and were first."""
    crowd = await claimed(store, "crowd")
    keys = [f"tools.{n}/refund.0/gate.0" for n in range(1_000)]
    for start in range(0, len(keys), 100):
        opening = [
            store.gates.open(crowd.fence, gate_promise(crowd, key), new_gate())
            for key in keys[start : start + 100]
        ]
        await asyncio.gather(*opening)
    claim = await claimed(store)
    await store.gates.open(claim.fence, gate_promise(claim), new_gate())

    assert all(each.run_id == "crowd" for each in await store.gates.pending())
    (found,) = await store.gates.pending_below(RUN)

    assert found.id == GATE
    assert len(await store.gates.pending_below(RunId("crowd"))) == 1_000
    assert await store.gates.pending_below(RunId("crowd#payer.0")) == []
