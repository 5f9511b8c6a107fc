"""A row that was written by hand and cannot be read pauses its run, and is named; others go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from substrate import Client, Context, RunFailed, RunPaused, RunStatus, connect, durable
from substrate.values.errors import StoreUnusable
from substrate.values.ids import RunId
from tests.runs import QUICK, reached
from tests.stores import database, eventually

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_calls():
    calls.clear()


async def act(what: str) -> dict[str, str]:
    calls.append(what)
    return {"did": what}


async def broken(what: str) -> str:
    raise ValueError(what)


@durable
async def order(ctx: Context, what: str) -> Any:
    try:
        first = await ctx.step(act, what)
    except Exception:  # noqa: BLE001 - what careless code does
        first = "swallowed"
    go = await ctx.receive("go")
    try:
        await ctx.step(broken, what)
    except Exception as error:  # noqa: BLE001 - what careless code does
        return [first, go, str(error)]
    return None


BROKEN = {
    "no tag of ours": '{"$decimal":"none"}',
    "a blob that is gone": '{"$blob":"x"}',
    "an unknown tag": '{"$python/object":"os.system"}',
}
NO_JSON = {"no JSON": '{"did": ', "nothing": "", "bytes": "\x00\x01"}
"""What only SQLite takes: PostgreSQL knows JSON itself."""


async def plant(url: str, change: str, **given: Any) -> None:
    """Let a run come to its wait, then change a row of it while nobody drives it."""
    async with connect(url) as client:
        async with client.work([order], options=QUICK):
            await client.start(order, "a", id="run")
            await reached(client, "run", "go.0")
        with database(url) as db:
            db.rows(change, **given)


async def paused_of(url: str) -> Any:
    """Drive the run and an innocent one; return why the run is paused."""
    async with connect(url) as client, client.work([order], options=QUICK):
        await client.signal("run", "go", 1)
        await client.start(order, "b", id="innocent")
        await client.signal("innocent", "go", 2)
        with pytest.raises(RunPaused) as caught:
            await client.result("run")
        assert (await client.result("innocent"))[1] == 2
        run = await client.get("run")
    assert (run.status, run.crashes) == (RunStatus.PAUSED, 0)
    return caught.value.failure


async def mended(url: str, change: str, **given: Any) -> Any:
    """Put the row right, as the pause says, and return what the run comes to."""
    with database(url) as db:
        db.rows(change, **given)
    async with connect(url) as client, client.work([order], options=QUICK):
        await client.resume("run")
        return await client.result("run")


COLUMNS = [("run#act.0", "value"), ("run", "input"), ("run#go.0", "input")]


async def pauses_and_goes_on(url: str, row: str, column: str, text: str) -> None:
    """See that the run is paused over what stands there, and goes on once that is put right."""
    change = f"UPDATE promises SET {column} = :text WHERE id = :id"
    await plant(url, "SELECT 1")
    with database(url) as db:
        before = db.value(f"SELECT CAST({column} AS text) FROM promises WHERE id = :id", id=row)
        db.rows(change, text=text, id=row)

    failure = await paused_of(url)

    assert failure.type == "RowUnreadable"
    assert f"the row {row!r} of promises cannot be read: its {column} " in failure.message
    assert (failure.details["row"], failure.details["column"]) == (row, column)
    did = await mended(url, change, text=before, id=row)
    assert did == [{"did": "a"}, 1, "step 'broken' failed: ValueError: a"]
    assert calls == ["a", "b"]


@pytest.mark.parametrize("row, column", COLUMNS)
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
async def test_the_run_is_paused_and_the_row_named(store_url, row, column, text):
    """What the kit never writes is told to no code of the run's; put right, the run goes on."""
    await pauses_and_goes_on(store_url, row, column, text)


@pytest.mark.parametrize("row, column", COLUMNS)
@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
async def test_what_is_no_json(sqlite_url, row, column, text):
    """SQLite takes any text for JSON: such a row is named alike."""
    await pauses_and_goes_on(sqlite_url, row, column, text)


FORMS = [
    ("error", '{"what": 1}', "run#broken.0"),
    ("error", "[]", "run#broken.0"),
    ("attempts", '{"a": 1}', "run#go.0"),
    ("attempts", "[1]", "run#go.0"),
    ("input", "[1]", "run#go.0"),
]


@pytest.mark.parametrize("column, text, row", FORMS)
async def test_json_of_another_form(store_url, column, text, row):
    """JSON that is not of the form that the kit gives a column stops its run alone as well."""
    if row == "run#broken.0":
        copied = "id, part, tenant, run_id, key, seq, kind, name, state, epoch, created_at, input"
        values = copied.replace("id, part", ":id, part", 1).replace("key", "'broken.0'")
        values = values.replace("name", "'broken'").replace("state", "'rejected'")
        await plant(
            store_url,
            f"INSERT INTO promises ({copied}, settled_at, fingerprint, {column})"
            f" SELECT {values}, 1, fingerprint, :text FROM promises WHERE id = 'run#act.0'",
            id=row,
            text=text,
        )
    else:
        await plant(
            store_url, f"UPDATE promises SET {column} = :text WHERE id = :id", id=row, text=text
        )

    failure = await paused_of(store_url)

    assert f"the row {row!r} of promises cannot be read: its {column} has another form" in (
        failure.message
    )


@durable
async def polls(ctx: Context) -> Any:
    await ctx.step(act, "polls")
    return await ctx.poll("go")


@pytest.mark.parametrize("function", [order, polls])
async def test_a_signal_that_cannot_be_read(store_url, function):
    """A signal's row that cannot be read is named, too; deleted, the run goes on."""
    arguments = ("a",) if function is order else ()
    async with connect(store_url) as client:
        await client.start(function, *arguments, id="run")
        await client.signal("run", "go", 1, dedup="bad")
        with database(store_url) as db:
            db.rows("""UPDATE signals SET value = '{"$int":"x"}' WHERE run_id = 'run'""")
        async with client.work([function], options=QUICK):
            with pytest.raises(RunPaused, match=r"the row \(run, go, bad\) of signals cannot be"):
                await client.result("run")
            with database(store_url) as db:
                db.rows("DELETE FROM signals WHERE run_id = 'run'")
            await client.resume("run")
            await client.signal("run", "go", 2)
            await client.result("run")


async def test_a_result_that_cannot_be_read(store_url):
    """Who asks for a run's result is told which row it is that cannot be read."""
    await plant(store_url, "SELECT 1")
    async with connect(store_url) as client, client.work([order], options=QUICK):
        await client.signal("run", "go", 1)
        await client.result("run")
        with database(store_url) as db:
            db.rows("""UPDATE promises SET value = '{"$int":"x"}' WHERE id = 'run'""")
        with pytest.raises(StoreUnusable, match=r"the row 'run' of promises cannot be read"):
            await client.result("run")


async def test_a_lane_of_another_version(store_url, caplog):
    """A run whose row says another version than its lane is left out: one line, no crash."""
    async with connect(store_url) as client:
        await client.start(order, "a", id="run")
        with database(store_url) as db:
            db.rows("UPDATE runs SET version = 99 WHERE id = 'run'")
        async with client.work([order], options=QUICK):
            await client.start(order, "b", id="innocent")
            await client.signal("innocent", "go", 1)
            await client.result("innocent")
            await eventually(lambda: caplog.messages)
            await asyncio.sleep(0.2)
        run = await client.get("run")

    assert (run.status, run.crashes) == (RunStatus.READY, 0)
    (told,) = caplog.records
    assert told.exc_info is None
    assert "run 'run' cannot go on, and the others do: its lane is 'default/order/1', and by" in (
        told.getMessage()
    )
    assert "'default/order/99'" in told.getMessage()
    assert RunId("run") in told.getMessage()


@pytest.mark.parametrize("other", ["innocent", "nobody", None])
async def test_a_child_of_another_parent(store_url, caplog, other):
    """A child whose row names another parent than its id is left out, and wakes no other run."""
    change = "UPDATE runs SET parent_id = :other WHERE id = 'run#child.0'"
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            db.rows(change, other=other)
        async with client.work(FAMILY, options=QUICK):
            await client.start(order, "b", id="innocent")
            await client.signal("run#child.0", "go", "x")
            await client.signal("innocent", "go", 1)
            assert (await client.result("innocent"))[1] == 1
            await eventually(lambda: caplog.messages)
        assert [each.id for each in await client.list(RunStatus.DEAD)] == []
        found = await client.get("run#child.0")
        assert (found.status, found.crashes) == (RunStatus.READY, 0)
        assert f"its parent_id is {other!r}, and by its id it is 'run'" in caplog.text
        with database(store_url) as db:
            db.rows(change, other="run")
    async with connect(store_url) as client, client.work(FAMILY, options=QUICK):
        assert await client.result("run") == "x"


@pytest.mark.parametrize("which", ["run_id = 'run'", "id = 'run#act.0'"])
async def test_a_row_of_another_run(store_url, which):
    """A row that was moved to another run pauses its own, which goes on once it is put back."""
    await plant(store_url, f"UPDATE promises SET run_id = 'other' WHERE {which}")
    failure = await paused_of(store_url)

    assert failure.type == "RowUnreadable"
    assert "has the run_id 'other', so its own run does not find it" in failure.message
    assert calls.count("a") <= 2
    back = "UPDATE promises SET run_id = 'run' WHERE run_id = 'other'"
    assert (await mended(store_url, back))[1] == 1


@durable
async def child(ctx: Context, what: str) -> str:
    return str(await ctx.receive("go", str))


@durable
async def takes_back(ctx: Context, what: str) -> None:
    await ctx.step(act, f"undid {what}")


@durable
async def parent(ctx: Context, what: str) -> str:
    await ctx.step(act, what, effect="once", undo=takes_back)
    return await ctx.spawn(child, what)


FAMILY = [parent, child, takes_back, order]


@asynccontextmanager
async def family_waiting(url: str) -> AsyncIterator[Client]:
    """Let a parent come to where its child waits for a signal, with nobody to drive them then."""
    async with connect(url) as client:
        async with client.work(FAMILY, options=QUICK):
            await client.start(parent, "a", id="run")
            await reached(client, "run", "child.0")
            await reached(client, "run#child.0", "go.0")
        yield client


@pytest.mark.parametrize("text", ["null", "[1,2]", '"V"', "7", '{"$secret":"PATH"}'])
async def test_a_child_whose_input_has_another_form(store_url, text):
    """A child is paused over what it was begun with, as a root is; its parent waits for it."""
    async with family_waiting(store_url) as client:
        change = "UPDATE promises SET input = :text WHERE id = 'run#child.0'"
        with database(store_url) as db:
            before = db.value("SELECT CAST(input AS text) FROM promises WHERE id = 'run#child.0'")
            db.rows(change, text=text)

        async with client.work(FAMILY, options=QUICK):
            await client.signal("run#child.0", "go", "x")
            with pytest.raises(RunPaused, match="its input has another form") as caught:
                await client.result("run#child.0")
            assert caught.value.failure.details["row"] == "run#child.0"
            assert (await client.get("run")).status is RunStatus.SUSPENDED
            with database(store_url) as db:
                db.rows(change, text=before)
            await client.resume("run#child.0")
            assert await client.result("run") == "x"
    assert calls == ["a"]


@pytest.mark.parametrize("row", ["run", "run#act.0", "run#go.0"])
@pytest.mark.parametrize("key", ["", "act.1", "go.0 ", "unwind", "x\u202e"])
async def test_a_row_under_another_key(store_url, row, key):
    """A row whose key is not that of its id pauses its run, which goes on once it is put back."""
    change = "UPDATE promises SET key = :key WHERE id = :id"
    await plant(store_url, change, key=key, id=row)
    failure = await paused_of(store_url)

    assert failure.type == "RowUnreadable"
    assert (failure.details["row"], failure.details["column"]) == (row, "key")
    back = {"run": "", "run#act.0": "act.0", "run#go.0": "go.0"}
    with database(store_url) as db:
        back["run"] = db.value("SELECT key FROM promises WHERE id = 'innocent'")
    assert (await mended(store_url, change, key=back[row], id=row))[1] == 1
    assert calls == ["a", "b"]


@pytest.mark.parametrize("row", ["run#go.0", "run#child.0"])
async def test_a_pending_row_that_was_moved(store_url, row):
    """A row that waits and was moved to another run is not written over: its own run is paused."""
    move = "UPDATE promises SET run_id = :to WHERE id = :id"
    if row == "run#go.0":
        await plant(store_url, move, to="other", id=row)
        failure = await paused_of(store_url)
        assert (failure.details["row"], failure.details["column"]) == (row, "run_id")
        assert (await mended(store_url, move, to="run", id=row))[1] == 1
        return
    async with family_waiting(store_url) as client:
        with database(store_url) as db:
            db.rows(move, to="other", id=row)
            db.rows("UPDATE runs SET status = 'ready' WHERE id = 'run'")
        async with client.work(FAMILY, options=QUICK):
            with pytest.raises(RunPaused, match="has the run_id 'other'"):
                await client.result("run")
            await client.signal("run#child.0", "go", "x")
            assert await client.result("run#child.0") == "x"
            with database(store_url) as db:
                db.rows(move, to="run", id=row)
            await client.resume("run")
            assert await client.result("run") == "x"


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"keys":["act.0"]}',
        '{"failure":[],"keys":[],"state":"rejected","status":"failed"}',
        '{"failure":{"message":"","type":""},"keys":{},"state":"rejected","status":"failed"}',
        '{"failure":{"message":"","type":""},"keys":[1],"state":"rejected","status":"failed"}',
        '{"failure":{"message":"","type":""},"keys":[],"state":"x","status":"failed"}',
    ],
)
async def test_a_decision_to_undo_that_cannot_be_read(store_url, text):
    """Where it cannot be read what is to be undone, the run is paused, and undone once it can."""

    @durable
    async def fails(ctx: Context, what: str) -> None:
        await ctx.step(act, what, effect="once", undo=waits)
        raise ValueError(what)

    @durable
    async def waits(ctx: Context, what: str) -> None:
        await ctx.receive("go")
        await ctx.step(act, f"undid {what}")

    functions = [fails, waits]
    async with connect(store_url) as client:
        async with client.work(functions, options=QUICK):
            await client.start(fails, "a", id="run")
            await reached(client, "run", "unwind/act.0/0/go.0")
        change = "UPDATE promises SET value = :text WHERE id = 'run#unwind'"
        with database(store_url) as db:
            before = db.value("SELECT CAST(value AS text) FROM promises WHERE id = 'run#unwind'")
            db.rows(change, text=text)
        async with client.work(functions, options=QUICK):
            await client.signal("run", "go")
            with pytest.raises(RunPaused, match="its value has another form") as caught:
                await client.result("run")
            assert caught.value.failure.details["row"] == "run#unwind"
            with database(store_url) as db:
                db.rows(change, text=before)
            await client.resume("run")
            with pytest.raises(RunFailed, match="ValueError: a"):
                await client.result("run")
    assert calls == ["a", "undid a"]
