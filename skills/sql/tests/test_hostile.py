"""A statement can end its own process and nothing else: no worker, no tool, no other query."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import MAX_ANSWER, QueryFailed
from skills.sql.child import MEMORY, TEMPORARY
from skills.sql.process import LIMIT

SHORT = timedelta(seconds=0.3)
SECOND = timedelta(seconds=1)
LIMIT_S = 20

ALL = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
LONG = "hex(zeroblob(400000))"
HALF = "hex(zeroblob(200000))"
INSTR = f"instr({LONG}, {HALF} || '1')"
LIKE = f"({LONG} LIKE '%' || hex(zeroblob(20000)) || '1')"
GLOB = f"({LONG} GLOB '*' || hex(zeroblob(20000)) || '1')"
TRIM = f"length(trim({LONG}, replace(hex(zeroblob(35000)), '0', '1') || '0'))"

# Each computes for seconds or for ever, most of them inside of one function.
ENDLESS = {
    "instr": f"SELECT {INSTR}",
    "instr, many in one row": f"SELECT {', '.join([INSTR] * 50)}",
    "replace": f"SELECT length(replace({LONG}, {HALF} || '1', 'x'))",
    "like": f"SELECT {' + '.join([LIKE] * 40)}",
    "glob": f"SELECT {' + '.join([GLOB] * 40)}",
    "trim": f"SELECT {' + '.join([TRIM] * 40)}",
    "recursive": f"{ALL} SELECT count(*) FROM n",
    "join": f"{ALL}, few AS (SELECT i FROM n LIMIT 3000) SELECT count(*) FROM few, few, few",
    "sort": f"{ALL} SELECT hex(randomblob(500)) FROM (SELECT i FROM n LIMIT 9000000) ORDER BY 1",
    "distinct": f"{ALL} SELECT count(DISTINCT hex(randomblob(100))) FROM n",
    "window": f"{ALL} SELECT sum(i) OVER (ORDER BY -i) FROM (SELECT i FROM n LIMIT 90000000)",
    "group": f"{ALL} SELECT count(*) FROM (SELECT 1 FROM n GROUP BY hex(randomblob(20)))",
}

# Each asks for more than there is to be had, and hears of it.
TOO_MUCH = {
    "zeroblob": "SELECT zeroblob(2000000000)",
    "printf": "SELECT printf('%.*c', 2000000000, 'x')",
    "printf of a float": "SELECT printf('%.2000000000f', 1.5)",
    "printf of a width": "SELECT printf('%2000000000d', 1)",
    "group_concat": f"{ALL} SELECT group_concat({LONG}) FROM (SELECT 1 FROM n LIMIT 9)",
    "json_group_array": f"{ALL} SELECT json_group_array(i) FROM (SELECT i FROM n LIMIT 999999)",
    "json": f"SELECT json('{'[' * 50_000}')",
    "replace that grows": "SELECT replace(hex(zeroblob(100000)), '0', '0000000000')",
    "temporary files": f"{ALL} SELECT count(DISTINCT {HALF} || i) FROM (SELECT i FROM n LIMIT 900)",
    "a chain of joins": f"SELECT 1 FROM {', '.join(['(SELECT 1)'] * 100)}",
    "a deep expression": f"SELECT {'(' * 5000}1{')' * 5000}",
    "many columns": f"SELECT {', '.join(['1'] * 5000)}",
    "long names of columns": f"SELECT {', '.join(f'1 AS c{i:0900}' for i in range(150))}",
    "many selects": " UNION ALL ".join(["SELECT 1"] * 5000),
    "a long statement": f"SELECT '{'x' * 300_000}'",
    "a long unknown name": f"SELECT {'x' * 100_000}",
    "a long message": f'SELECT * FROM "{"x" * 100_000}"',
    "attach": "ATTACH ':memory:' AS other",
    "load_extension": "SELECT load_extension('x')",
    "heap": "PRAGMA hard_heap_limit = 0",
    "temp_store": "PRAGMA temp_store = 2",
    "files": "SELECT readfile('/etc/passwd')",
    "fts tokenizer": "SELECT fts3_tokenizer('x', x'00')",
}


def running(name="skills.sql.child"):
    """Return the processes of this one that ask databases: their ids."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and name in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


@pytest.fixture
def processes():
    """Return what tells the processes that were started by the test; those of others may idle."""
    before = running()
    return lambda: [process for process in running() if process not in before]


async def until(is_so):
    """Return when something is so, or fail after a while."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.02)


async def said(tool, sql):
    """Return what a statement's caller is told: its answer, or its failure's words."""
    try:
        return await tool.function(sql)
    except QueryFailed as error:
        return str(error)


async def test_whatever_a_statement_computes_ends_in_time(sqlite_shop):
    """Statements that nothing interrupts end at their deadline, and leave no process behind."""
    tools = [query_sql(sqlite_shop, timeout=SHORT) for _ in range(0, len(ENDLESS), LIMIT)]
    begun = monotonic()

    told = await asyncio.gather(
        *(said(tools[i // LIMIT], sql) for i, sql in enumerate(ENDLESS.values()))
    )

    for name, words in zip(ENDLESS, told, strict=True):
        assert "took longer than 0.3 s" in words, (name, words)
    assert monotonic() - begun < 10
    for tool in tools:
        assert (await tool.function("SELECT count(*) FROM customers"))["rows"] == [[2]]


@pytest.mark.parametrize("sql", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_a_statement_makes_is_bounded(sqlite_shop, sql):
    """A value, a message or an answer beyond what is allowed is refused or cut, and short."""
    tool = query_sql(sqlite_shop)

    words = await said(tool, sql)

    assert isinstance(words, str), words
    assert len(words) < 5000
    assert (await tool.function("SELECT 1"))["rows"] == [[1]]


async def test_six_at_once_keep_nobody_from_working(sqlite_shop, processes):
    """While six statements compute where nothing stops them, all else answers at once."""
    hostile = query_sql(sqlite_shop, timeout=SECOND)
    other = query_sql(sqlite_shop, name="other")
    loop = asyncio.get_running_loop()
    six = [asyncio.create_task(said(hostile, ENDLESS["instr"])) for _ in range(6)]
    await until(lambda: len(processes()) == LIMIT)

    begun = monotonic()
    for _ in range(5):
        await asyncio.wait_for(loop.getaddrinfo("127.0.0.1", 80), 1)
        await asyncio.wait_for(asyncio.to_thread(int), 1)
        assert (await other.function("SELECT 1"))["rows"] == [[1]]
    assert monotonic() - begun < 5
    # Even the tool that is overrun answers an innocent statement, in its turn.
    assert (await hostile.function("SELECT 1"))["rows"] == [[1]]

    assert all("took longer than 1 s" in words for words in await asyncio.gather(*six))


async def test_who_cannot_be_served_in_time_is_told_why(sqlite_shop, processes):
    """Where the line before a statement is too long, its caller hears of the others, in time."""
    tool = query_sql(sqlite_shop, timeout=timedelta(seconds=0.1))
    begun = monotonic()

    told = await asyncio.gather(*(said(tool, ENDLESS["instr"]) for _ in range(60)))

    assert monotonic() - begun < 8
    assert len(processes()) <= LIMIT
    assert {words.partition(";")[0] for words in told} == {
        "the query took longer than 0.1 s and was stopped",
        f"{LIMIT} other statements are running, and none ended in time",
    }


async def test_threads_and_processes_of_a_tool_are_few(sqlite_shop):
    """However many queries there are at once, a tool has three threads of its name."""
    tool = query_sql(sqlite_shop, name="few")

    answers = await asyncio.gather(*(tool.function(f"SELECT {i}") for i in range(50)))

    assert [answer["rows"][0][0] for answer in answers] == list(range(50))
    own = [thread for thread in threading.enumerate() if thread.name.startswith("ostinato-few-")]
    assert 1 <= len(own) <= LIMIT
    assert all(thread.daemon for thread in own)


async def test_a_process_that_was_ended_from_outside_is_replaced(shop, processes):
    """An idle process that the system ended is replaced, and no query fails of it."""
    tool = query_sql(shop)
    await tool.function("SELECT 1")
    [idle] = processes()
    os.kill(idle, signal.SIGKILL)
    await until(lambda: ") Z " in Path(f"/proc/{idle}/stat").read_text())

    assert (await tool.function("SELECT 2"))["rows"] == [[2]]


async def test_a_process_that_is_ended_in_the_middle_is_told(sqlite_shop, processes):
    """A process that the system ends while it computes costs the query that it ran, no other."""
    tool = query_sql(sqlite_shop, timeout=timedelta(seconds=60))
    await tool.function("SELECT 1")
    [busy] = processes()
    used = cpu(busy)

    asked = asyncio.create_task(said(tool, ENDLESS["recursive"]))
    await until(lambda: cpu(busy) > used + 5)
    os.kill(busy, signal.SIGKILL)

    assert "ended in the middle (exit code -9)" in await asked
    assert (await tool.function("SELECT 3"))["rows"] == [[3]]


def cpu(process):
    """Return how many hundredths of a second a process has computed."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11])


async def test_a_query_that_nobody_awaits_ends(sqlite_shop, processes):
    """When its caller is cancelled, a statement ends with its process, long before its deadline."""
    tool = query_sql(sqlite_shop, timeout=timedelta(minutes=10))
    slow = asyncio.create_task(tool.function(ENDLESS["recursive"]))
    await until(processes)
    [busy] = processes()
    await until(lambda: cpu(busy) > 20)

    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)

    await until(lambda: not processes())


async def test_a_process_is_limited_by_the_system(shop, processes):
    """Its memory, the files that it makes and what it knows of the environment are limited."""
    os.environ["OSTINATO_TEST_API_KEY"] = "secret"
    try:
        await query_sql(shop, name="limited").function("SELECT 1")
    finally:
        del os.environ["OSTINATO_TEST_API_KEY"]

    [process] = processes()
    limits = Path(f"/proc/{process}/limits").read_text()
    environment = Path(f"/proc/{process}/environ").read_text()
    assert f"Max address space         {MEMORY}" in limits
    assert f"Max file size             {TEMPORARY}" in limits
    assert "Max core file size        0" in limits
    assert Path(f"/proc/{process}/oom_score_adj").read_text() == "1000\n"
    assert "API_KEY" not in environment
    assert "PATH=" in environment


PARENT = """
import asyncio, sys
from datetime import timedelta
from skills.sql import query_sql

async def main():
    tool = query_sql(sys.argv[1], timeout=timedelta(seconds=1))
    task = asyncio.create_task(tool.function(sys.argv[2]))
    await asyncio.sleep(0.5)
    print("asked", flush=True)
    await task

asyncio.run(main())
"""


@pytest.mark.parametrize("sql", ["SELECT 1", ENDLESS["instr, many in one row"]])
async def test_no_process_outlives_its_worker(sqlite_shop, sql):
    """When the worker is killed its processes end too, in the middle of a function if need be."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, sqlite_shop, sql], stdout=subprocess.PIPE
    )
    assert parent.stdout.readline() == b"asked\n"
    mark = json.dumps(sqlite_shop)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    threads = Path(f"/proc/{parent.pid}/task").glob("*/children")
    children = {child for path in threads for child in path.read_text().split()}
    assert len(children) == 1, mark

    parent.kill()
    parent.wait()

    [child] = children
    await until(lambda: not Path(f"/proc/{child}").exists())
    parent.stdout.close()


async def test_a_worker_ends_at_once_while_statements_run(sqlite_shop):
    """The threads and processes of a tool keep no program from ending."""
    program = PARENT.replace("    await task\n", "    sys.exit(3)\n").replace("=1)", "=60)")
    begun = monotonic()

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, sqlite_shop, ENDLESS["recursive"]],
        capture_output=True,
    )

    assert (done.returncode, done.stderr) == (3, b"")
    assert monotonic() - begun < 10


async def test_large_schemas_are_described_within_the_limit(sqlite_shop, add_to_sqlite):
    """Thousands of tables with long names are told within the limit of an answer."""
    add_to_sqlite(";".join(f'CREATE TABLE "{i:0200}" (x{"y" * 500})' for i in range(500)))

    told = await describe_schema(sqlite_shop).function()

    assert told["truncated"] is True
    assert len(json.dumps(told)) < 2.5 * MAX_ANSWER
    with pytest.raises(QueryFailed) as caught:
        await query_sql(sqlite_shop).function("SELECT * FROM nowhere")
    assert len(str(caught.value)) < 5000
