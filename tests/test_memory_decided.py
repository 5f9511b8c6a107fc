"""Sources that disagree all stand, and a declared policy decides what a reader gets.

The room is `substrate.memory.decisions` and `substrate.memory.disputes`.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from substrate import Context, MemoryRefused, Misuse, RunFailed, connect, durable
from substrate.memory.decisions import choose, contested
from substrate.memory.look import Bounds, known, markdown, why
from substrate.values.memory import FactRow, Policy, PolicyRow, Space, Stamp, Trust
from substrate.values.records import JsonText
from tests.runs import QUICK, reached
from tests.stores import database, eventually, opened

NS = "acme/anna"
THEN = datetime(2020, 1, 1, tzinfo=UTC)


@durable
async def declares(ctx: Context, policy: str, options: dict[str, Any]) -> str:
    return await ctx.memory(NS).declare("lives in", policy, **options)  # type: ignore[arg-type]


@durable
async def says(ctx: Context, value: str, confidence: float = 1.0) -> str:
    return await ctx.memory(NS).remember("Anna", "lives in", value, confidence=confidence)


@durable
async def unsays(ctx: Context, value: str) -> None:
    await ctx.memory(NS).retract("Anna", "lives in", value)


@durable
async def reads(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    facts = await memory.facts("Anna", "lives in")
    hits = await memory.recall("Where does Anna live? Bonn Kiel Hamm")
    dispute = await memory.dispute("anna", "Lives in")
    return [
        [(fact.object, fact.dispute) for fact in facts],
        sorted(hit.text.rpartition(" ")[2] for hit in hits),
        None if dispute is None else [fact.object for fact in dispute.facts],
    ]


@durable
async def decides(ctx: Context, value: str, by: str) -> list[Any]:
    memory = ctx.memory(NS)
    dispute = await memory.dispute("Anna", "lives in")
    assert dispute is not None
    decision = await memory.decide(dispute, value, by=by, reason="asked her")
    return [dispute.policy, decision and (decision.value, decision.by)]


FUNCTIONS = [declares, says, unsays, reads, decides]


class Runs:
    """Runs one after the other, each with an id of its own."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._count = 0

    async def __call__(self, function: Any, *args: Any, id: str | None = None) -> Any:
        self._count += 1
        id = id or f"run-{self._count}"
        await self._client.start(function, *args, id=id)
        return await self._client.result(id)


RULES: list[tuple[str, list[tuple[str, str, float]], str]] = [
    ("latest", [("a", "Bonn", 1.0), ("b", "Kiel", 0.2)], "Kiel"),
    ("surest", [("a", "Bonn", 0.9), ("b", "Kiel", 0.8), ("c", "Kiel", 0.7)], "Bonn"),
    ("surest", [("a", "Bonn", 0.9), ("b", "Kiel", 0.9)], "Kiel"),
    ("sources", [("a", "Bonn", 0.5), ("b", "bonn", 0.5), ("c", "Kiel", 1.0)], "Bonn"),
    ("sources", [("a", "Bonn", 0.5), ("b", "Kiel", 0.5)], "Kiel"),
]


@pytest.mark.parametrize("is_declared_first", [True, False])
@pytest.mark.parametrize("policy, said, expected", RULES)
async def test_a_rule_decides(store_url, policy, said, expected, is_declared_first):
    """All that was said stands, and a reader gets one value by the rule, declared then or later."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        if is_declared_first:
            await run(declares, policy, {})
        for id, value, confidence in said:
            await run(says, value, confidence, id=id)
        if not is_declared_first:
            await run(declares, policy, {})
        facts, hits, disputed = await run(reads)
    assert [(value.lower(), how) for value, how in facts] == [(expected.lower(), "decided")]
    assert hits == [expected]
    assert sorted(disputed) == ["Bonn", "Kiel"]
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM facts WHERE gone_n IS NULL") == len(said)
        ((rule, over, chosen),) = db.rows(
            "SELECT policy, over_n, object FROM decisions WHERE gone_n IS NULL"
        )
        assert (rule, chosen) == (policy, f'"{expected}"')
        # Over which rows: those that stood at that number.
        rows = db.value(
            "SELECT count(*) FROM facts WHERE n <= :over AND (gone_n IS NULL OR gone_n > :over)",
            over=over,
        )
    assert 2 <= rows <= len(said)


async def test_a_vote(store_url):
    """Only the declared voters count, with what each said last, and nothing is decided before."""
    options = {"voters": ["ann", "bob", "cid"], "need": 2}
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        await run(declares, "vote", options)
        for id, value in [
            ("ann/1", "Bonn"),
            ("bob", "Kiel"),
            ("eve/ann", "Kiel"),
            ("ann2", "Kiel"),
        ]:
            await run(says, value, id=id)
        undecided = (await run(reads))[0]
        await run(says, "Bonn", id="cid/9")
        decided = (await run(reads))[0]
        await run(says, "Kiel", id="ann/2")
        changed = (await run(reads))[0]
    assert undecided == [["Bonn", "open"], ["Kiel", "open"]]
    assert decided == [["Bonn", "decided"]]
    assert changed == [["Kiel", "decided"]]


async def test_a_person_decides(store_url):
    """A decision stands until something new is said, or nobody says any more what it is for."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        await run(declares, "ask", {})
        await run(says, "Bonn")
        await run(says, "Kiel")
        open_ = (await run(reads))[0]
        assert await run(decides, "bonn", "ada") == ["ask", ["Bonn", "ada"]]
        decided = (await run(reads))[0]
        await run(says, "Kiel")  # once more: they have seen that
        still = (await run(reads))[0]
        await run(says, "Hamm")
        again = (await run(reads))[0]
        assert await run(decides, "Hamm", "bea") == ["ask", ["Hamm", "bea"]]
        await run(unsays, "Hamm")
        gone = (await run(reads))[0]
        assert await run(decides, "Kiel", "bea") == ["ask", ["Kiel", "bea"]]
        assert await run(decides, "Bonn", "cid") == ["ask", ["Bonn", "cid"]]  # who has seen it may
        revised = (await run(reads))[0]
        await run(unsays, "Kiel")
        alone = (await run(reads))[0]
    both = [["Bonn", "open"], ["Kiel", "open"]]
    assert open_ == gone == both
    assert decided == still == [["Bonn", "decided"]]
    assert again == [*both, ["Hamm", "open"]]
    assert revised == [["Bonn", "decided"]]
    assert alone == [["Bonn", None]]
    with database(store_url) as db:
        made = db.rows(
            "SELECT object, decided_by, reason, gone_n IS NULL FROM decisions ORDER BY n"
        )
    assert [(who, bool(stands)) for _, who, _, stands in made] == [
        ("ada", False),
        ("bea", False),
        ("bea", False),
        ("cid", False),
    ]


@durable
async def decides_late(ctx: Context) -> list[Any]:
    """Look, let others go on, and decide what was seen."""
    memory = ctx.memory(NS)
    seen = await memory.dispute("Anna", "lives in")
    assert seen is not None
    await ctx.receive("go")
    decision = await memory.decide(seen, "Bonn", by="late")
    return [decision and [decision.value, decision.by]]


async def test_who_decides_late(store_url):
    """Who has not seen what was said or decided meanwhile decides nothing, and is told."""
    async with connect(store_url) as client, client.work([*FUNCTIONS, decides_late], options=QUICK):
        run = Runs(client)
        await run(declares, "judge", {})
        await run(says, "Bonn")
        await run(says, "Kiel")
        for id in ("l-0", "l-1"):
            await client.start(decides_late, id=id)
        with database(store_url) as db:
            await eventually(
                lambda: db.value("SELECT count(*) FROM promises WHERE name = 'go'") == 2
            )
        await run(decides, "Kiel", "first")
        await client.signal("l-0", "go")
        assert await client.result("l-0") == [["Kiel", "first"]]
        await run(says, "Hamm")
        await client.signal("l-1", "go")
        assert await client.result("l-1") == [None]


async def test_who_declares_otherwise(store_url):
    """Another policy than the one that stands is refused, and so is a write that brings its own."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        first = await run(declares, "latest", {}, id="first")
        assert await run(declares, "latest", {}) == first
        with pytest.raises(RunFailed, match=r"'latest' by first#declare\.0 since .* instead_of"):
            await run(declares, "sources", {})
        with pytest.raises(RunFailed, match="and not as"):
            await run(declares, "sources", {"instead_of": "ask"})
        with pytest.raises(RunFailed, match="leave policy= out"):
            await run(overrules)
        await run(says, "Kiel", 0.2)
        await run(says, "Bonn", 0.9)
        await run(says, "Hamm", 0.1)
        assert (await run(reads))[0] == [["Hamm", "decided"]]
        assert await run(declares, "surest", {"instead_of": "latest"}) != first
        assert (await run(reads))[0] == [["Bonn", "decided"]]
        await run(declares, "many", {"instead_of": "surest"})
        assert len((await run(reads))[0]) == 3


@durable
async def overrules(ctx: Context) -> None:
    await ctx.memory(NS).remember("Anna", "lives in", "Hamm", policy="one")


FUNCTIONS.append(overrules)


@durable
async def doubts(ctx: Context) -> list[Any]:
    """Say something, and declare another predicate, in a child that is undone."""
    with suppress(RunFailed):
        await ctx.spawn(doubted)
    return [(fact.object, fact.dispute) for fact in await ctx.memory(NS).facts("Anna")]


@durable
async def doubted(ctx: Context) -> None:
    memory = ctx.memory(NS, undo=True)
    await memory.remember("Anna", "lives in", "Hamm")
    await memory.declare("likes", "latest")
    await memory.declare("lives in", "surest", instead_of="latest")
    raise ValueError("never mind")


async def test_an_undo_decides_anew(store_url):
    """What is undone takes its decision along: a reader gets what he got before."""
    functions = [*FUNCTIONS, doubts, doubted]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        run = Runs(client)
        await run(declares, "latest", {})
        await run(says, "Bonn", 1.0)
        await run(says, "Kiel", 0.4)
        assert await run(doubts) == [["Kiel", "decided"]]
    with database(store_url) as db:
        stands = db.rows("SELECT predicate, policy FROM policies WHERE gone_n IS NULL")
    assert stands == [("lives_in", "latest")]


@durable
async def wavers(ctx: Context, value: str, name: str) -> None:
    """Say something, wait, and be undone."""
    await ctx.memory(NS, undo=True).remember("Anna", "lives in", value)
    await ctx.receive(name)
    raise ValueError("never mind")


async def test_an_undo_gives_a_decision_back(store_url):
    """What a person has decided is open while another value is said, and stands when it is not."""
    async with connect(store_url) as client, client.work([*FUNCTIONS, wavers], options=QUICK):
        run = Runs(client)

        async def waver(value: str) -> str:
            id_ = f"waver-{value}"
            await client.start(wavers, value, "go", id=id_)
            await reached(client, id_, "remember.0")
            assert {mark for _, mark in (await run(reads))[0]} == {"open"}
            return id_

        async def undone(id_: str) -> list[Any]:
            await client.signal(id_, "go")
            with pytest.raises(RunFailed, match="never mind"):
                await client.result(id_)
            return (await run(reads))[0]

        await run(declares, "ask", {})
        await run(says, "Bonn")
        await run(says, "Kiel")
        await run(decides, "Kiel", "ada")
        assert await undone(await waver("Hamm")) == [["Kiel", "decided"]]
        with database(store_url) as db:
            stands = db.rows("SELECT decided_by, reason FROM decisions WHERE gone_n IS NULL")
        assert stands == [("ada", "asked her")]

        # Whoever has decided anew meanwhile, and what is said by others as well, counts more.
        waver_ = await waver("Essen")
        await run(decides, "Bonn", "eve")
        assert await undone(waver_) == [["Bonn", "decided"]]
        waver_ = await waver("Ulm")
        await run(says, "Ulm")
        assert len(await undone(waver_)) == 3


@durable
async def remembers_when(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS)
    await memory.declare("lives in", "latest")
    await memory.remember("Anna", "lives in", "Bonn", valid_from=THEN)
    before = (await memory.changes(0)).n
    await memory.remember("Anna", "lives in", "Kiel")
    told: list[Any] = []
    for at, as_of in [(None, None), (THEN, None), ("any", None), (None, before)]:
        found = await memory.facts("Anna", at=at, as_of=as_of)  # type: ignore[arg-type]
        told.append([(fact.object, fact.dispute) for fact in found])
    return told


async def test_as_it_was(store_url):
    """A decision is of what was known at a number, and says nothing of a time without its value."""
    async with connect(store_url) as client, client.work([remembers_when], options=QUICK):
        now, then, ever, before = await Runs(client)(remembers_when)
    assert now == [["Kiel", "decided"]]
    assert then == before == [["Bonn", None]]
    assert ever == [["Bonn", "overruled"], ["Kiel", "decided"]]


async def test_people_see_it(store_url):
    """A page of the namespace says by which row it was decided, and `why` says what that says."""
    async with connect(store_url) as client, client.work(FUNCTIONS, options=QUICK):
        run = Runs(client)
        await run(declares, "ask", {})
        await run(says, "Bonn")
        await run(says, "Kiel")
        async with opened(store_url) as store:
            space, now = Space("", NS), store.clock.now_ms()
            before = markdown(space, await known(store.memory, space, Bounds(), now))
            await run(decides, "Kiel", "ada")
            n = (await store.memory.counter(space)).last_n
            after = markdown(space, await known(store.memory, space, Bounds(), now + 1000))
            (row,) = await why(store.memory, space, n)
    assert before.count("disputed, not decided") == 2
    assert f"decided by `{NS}#{n}`" in after
    assert f"## Agreed\n\n- lives_in is decided by ask (`{NS}#1`)\n" in after
    assert "Bonn" not in after
    assert row.says == 'Anna lives_in is "Kiel", by ask: ada as of 3; asked her'


MISTAKES: list[tuple[Any, ...]] = [
    ("lives in", "newest", {}),
    ("lives in", "vote", {}),
    ("lives in", "vote", {"voters": "ann"}),
    ("lives in", "vote", {"voters": ["ann", "ann"]}),
    ("lives in", "vote", {"voters": ["ann"], "need": 2}),
    ("lives in", "vote", {"voters": ["ann"], "need": True}),
    ("lives in", "latest", {"voters": ["ann"]}),
    ("lives in", "latest", {"need": 1}),
    ("lives in", "latest", {"instead_of": "x"}),
    ("", "latest", {}),
    (None, "latest", {}),
]


@durable
async def mistaken(ctx: Context) -> int:
    refused = 0
    for predicate, policy, options in MISTAKES:
        try:
            ctx.memory(NS).declare(predicate, policy, **options)
        except Misuse:
            refused += 1
    try:
        ctx.memory(NS).remember("a", "b", "c", policy="latest")  # type: ignore[arg-type]
    except Misuse:
        refused += 1
    return refused


async def test_what_is_no_policy(store_url):
    """What is no policy, no voters, or no number of them is refused before anything is recorded."""
    async with connect(store_url) as client, client.work([mistaken], options=QUICK):
        assert await Runs(client)(mistaken) == len(MISTAKES) + 1
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM promises WHERE kind = 'step'") == 0


@durable
async def decides_wrongly(ctx: Context) -> list[str]:
    memory, told = ctx.memory(NS), []
    dispute = await memory.dispute("Anna", "lives in")
    assert dispute is not None
    try:
        await memory.decide(dispute, "Rome", by="ada")
    except MemoryRefused as error:
        told.append(str(error))
    await memory.declare("lives in", "latest", instead_of="ask")
    try:
        await memory.decide(dispute, "Bonn", by="ada")
    except MemoryRefused as error:
        told.append(str(error))
    return told


async def test_what_nobody_says(store_url):
    """Nobody decides for what nobody says, or where a rule decides."""
    functions = [*FUNCTIONS, decides_wrongly]
    async with connect(store_url) as client, client.work(functions, options=QUICK):
        run = Runs(client)
        await run(declares, "ask", {})
        await run(says, "Bonn")
        await run(says, "Kiel")
        first, second = await run(decides_wrongly)
    assert "nobody says that 'Anna' lives_in is 'Rome'" in first
    assert "declared as 'latest', so nobody is asked" in second


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 9),
        st.one_of(st.none(), st.integers(1, 9)),
        st.integers(0, 4),
    ),
    max_size=12,
)


def fact_row(n: int, value: int, begin: int, length: int | None, run: int) -> FactRow:
    """Return a fact that a run has said."""
    stamp = Stamp(Space("", NS), n, n, 0, f"r{run}#a.0", f"r{run}#a.0", Trust.AGENT)
    end = None if length is None else begin + length
    text = JsonText(str(value))
    return FactRow(stamp, "a", "a", "p", text, str(value), (value + n) % 3 / 2, begin, end)


@given(ROWS, st.integers(0, 12))
def test_what_disagrees(said, now):
    """Facts disagree if they say something else of a time that is not over, in whatever order."""
    rows = [fact_row(n, *each) for n, each in enumerate(said, 1)]
    left = [row for row in rows if row.valid_to is None or row.valid_to > now]
    expected = [
        row
        for row in left
        if any(
            row.object_key != other.object_key
            and (row.valid_to is None or row.valid_to > other.valid_from)
            and (other.valid_to is None or other.valid_to > row.valid_from)
            for other in left
        )
    ]
    assert contested(rows, now) == expected


@given(ROWS, st.sampled_from([each for each in Policy if each.decides]))
def test_what_is_chosen_was_said(said, policy):
    """A rule is for a value that was said, the same whatever the order in which rows are read."""
    rows = [fact_row(n, *each) for n, each in enumerate(said, 1)]
    if not rows:
        return
    declared = PolicyRow(rows[0].stamp, "p", policy, JsonText('["r0","r1","r2"]'), 2)
    chosen = choose(declared, rows)
    again = choose(declared, rows[::-1])
    assert (chosen and chosen.object_key) == (again and again.object_key)
    if policy.is_told:
        assert chosen is None
    elif policy is not Policy.VOTE:
        assert chosen in rows
