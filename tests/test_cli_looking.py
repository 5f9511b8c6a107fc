"""What a run has done can be looked at: as a tree, as a table, as JSON, at once and unharmed."""

import asyncio
import os
import re
import time
from dataclasses import replace

import pytest

from substrate import Context, connect, durable
from tests.fork import Fork
from tests.runs import QUICK
from tests.stores import database

OWLS = "How many owls?"

RUN_KEYS = {
    *("id", "parent", "status", "function", "version", "queue", "generation", "claims", "crashes"),
    *("cancel_requested", "turns", "steps", "usage", "tree_usage"),
    *("created_at_ms", "deadline_at_ms", "ended_at_ms"),
}
SHOWN_KEYS = {"journal", "waits", "inbox", "mended", "missing"}
ANSWER_KEYS = {"answer", "confidence", "ended_by", "value", "reason", "detail", "error"}
PROMISE_KEYS = {
    *("key", "kind", "name", "state", "effect", "claim", "seq", "created_at_ms", "settled_at_ms"),
    *("duration_ms", "input", "value", "error", "attempts", "usage", "granted"),
}

TELL_WHAT_IS_LOADED = """
import sys
from substrate.cli import main
try:
    main()
except SystemExit:
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(sorted(loaded & {"agent", "anthropic", "openai", "psycopg", "genai_prices"}))
"""


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def test_show(fork):
    """The journal is a tree: a step with outcome, effect, time, tokens, cost, input and value."""
    fork.do("run", OWLS, "--id", "first")

    lines = fork.do("show", "first").out.splitlines()

    assert lines[0].startswith("first  done  agent v1 · started ")
    assert lines[1] == OWLS
    tools = lines.index("tools.0")
    assert re.match(r"└── look\.0 +ok +pure +\d\.\d\d s", lines[tools + 1])
    assert 'look(what="owls") → owls: two' in lines[tools + 2]
    assert any(re.match(r"model\.0 .* tokens  \$0", line) for line in lines)
    assert any('I look first. · look(what="owls")' in line for line in lines)
    assert lines[-1] == "Two owls."


@durable
async def branches(ctx: Context) -> list[int]:
    """Do two things in each of three branches, the second after a signal."""
    return list(await ctx.gather(*(ctx.call(branch, i) for i in range(3))))


@durable
async def branch(ctx: Context, i: int) -> int:
    """Do a thing, and in the middle branch wait before the next."""
    await ctx.step(abs, i)
    if i == 1:
        await ctx.receive("go", bool)
    return int(await ctx.step(abs, i))


STANDS = {
    "suspended": ("suspended", None),
    "paused": ("paused", None),
    "done": ("done", 425_000),
    "failed": ("failed", 425_000),
}


@pytest.mark.parametrize("status, took", STANDS.values(), ids=STANDS)
def test_how_long_a_run_took(fork, status, took):
    """`show` and `runs` say the same of a run: from its start to its end, or to now."""

    async def begin() -> None:
        async with connect(fork.absolute_url) as client:
            await client.start(branches, id="first")
            async with client.work([branches, branch], options=QUICK) as worker:
                await worker.run_until_idle()

    asyncio.run(begin())
    with database(fork.absolute_url) as db:
        db.rows("UPDATE runs SET created_at = created_at - 600000, status = :status", status=status)
        if took is not None:
            db.rows("UPDATE runs SET ended_at = created_at + :took", took=took)

    shown = fork.do("show", "first").out
    listed = fork.do("runs", COLUMNS="200").out

    said = r"10 min \d+ s" if took is None else "7 min 5 s"
    assert re.search(rf"^{status} · .* · {said}$", shown, re.MULTILINE)
    assert re.search(rf"first .* {said} ", listed)


def test_where_another_claim_went_on(fork):
    """The line of another claim stands between the branches of a tree, and is none of them."""

    async def drive() -> None:
        async with connect(fork.absolute_url) as client:
            await client.start(branches, id="tree")
            async with client.work([branches], options=QUICK) as worker:
                await worker.run_until_idle()
            await client.signal("tree", "go", True)
            async with client.work([branches], options=QUICK) as worker:
                await worker.run_until_idle()

    asyncio.run(drive())
    lines = fork.do("show", "tree").out.splitlines()
    at = lines.index("│   — claim 2: another process went on from here —")

    assert lines[at - 2].startswith("├── abs.0")
    assert lines[at - 1].startswith("│     [1]")
    assert lines[at + 1].startswith("├── go.0")
    assert lines[at + 3].startswith("└── abs.1")
    assert lines[at + 4].startswith("      [1]")
    assert lines[at + 5].startswith("branch.2")
    assert sum(line.startswith("└── ") for line in lines) == 3


def test_show_one_promise(fork):
    """`show --key` prints one promise whole, an error with its traceback."""
    fork.replace("agent/hooks.py", 'note("look")', 'raise LookupError("no owls here")')
    fork.do("run", OWLS, "--id", "first")

    shown = fork.do("show", "first", "--key", "tools.0/look.0").out
    document = fork.do("--json", "show", "first", "--key", "tools.0/look.0").document

    assert shown.startswith("first#tools.0/look.0  failed")
    assert '"what": "owls"' in shown
    assert "LookupError: no owls here" in shown
    assert 'agent/hooks.py", line' in shown
    assert document["error"]["type"] == "LookupError"


def test_documents(fork):
    """`--json` prints one document with the documented keys, and tells nothing beside it."""
    ran = fork.do("--json", "run", OWLS, "--id", "first")
    shown = fork.do("show", "--json", "first")
    listed = fork.do("runs", "--json")

    assert [ran.err, shown.err, listed.err] == ["a tool that prints\n", "", ""]
    assert set(ran.document) == RUN_KEYS | ANSWER_KEYS
    assert (ran.document["answer"], ran.document["reason"]) == ("Two owls.", "answered")
    assert set(shown.document) == RUN_KEYS | ANSWER_KEYS | SHOWN_KEYS
    assert all(set(row) == PROMISE_KEYS for row in shown.document["journal"])
    (run,) = listed.document["runs"]
    assert set(run) == RUN_KEYS | {"question", "asks"}
    assert (run["question"], run["asks"]) == (OWLS, [])
    assert [run["id"], run["status"], run["turns"], run["steps"]] == ["first", "done", 2, 4]
    assert run["usage"]["cost_usd"] == "0"


def test_errors_as_documents(fork):
    """With `--json` an error is a document too, with the exit code that it has without."""
    fork.start("another", OWLS)
    unknown = fork.do("--json", "show", "nope")
    usage = fork.do("runs", "--json", "--limit", "many")
    fork.replace("agent/hooks.py", "script=script", "script=TURNS[:1]")
    paused = fork.do("run", OWLS, "--id", "first", "--json")

    assert (unknown.code, unknown.document["error"]["type"]) == (1, "RunNotFound")
    assert (usage.code, usage.document["error"]["type"]) == (2, "UsageError")
    assert (paused.code, paused.document["error"]["type"]) == (4, "BadRequest")
    assert (paused.document["run"]["id"], paused.document["run"]["status"]) == ("first", "paused")
    assert all(done.document["error"]["message"] for done in (unknown, usage, paused))


def test_runs(fork):
    """`runs` lists the newest first, of one status if asked, at most so many."""
    fork.do("run", OWLS, "--id", "first")
    fork.start("second", OWLS)

    everything = fork.do("runs").out.splitlines()
    ready = fork.do("runs", "--status", "ready").out.splitlines()
    newest = fork.do("runs", "--limit", "1", "--json").document["runs"]

    waits = ["", "second", "  waits for a worker that knows agent v1; none does"]
    assert [line.split()[0] for line in everything[:3]] == ["id", "second", "first"]
    assert [line.split()[0] for line in ready[:2]] == ["id", "second"]
    assert (everything[3:], ready[2:]) == (waits, waits)
    assert [run["id"] for run in newest] == ["second"]


def test_no_runs_yet(fork):
    """A fork that never ran says how to begin."""
    told = f'no runs in {fork.url}, which is not there yet; start one: python -m agent run "…"\n'
    assert fork.do("runs").out == told


@pytest.mark.parametrize("command", ["runs", "show first", "--help"])
def test_nothing_is_loaded_that_is_not_needed(fork, command):
    """Looking at runs loads no provider, no Postgres driver, and not the fork's own code."""
    fork.do("run", OWLS, "--id", "first")

    done = fork.do(*command.split(), by=("-c", TELL_WHAT_IS_LOADED))

    assert done.out.splitlines()[-1] == "[]"


def test_help_comes_at_once(fork, record_property):
    """`--help` takes no longer than a moment; the figure is that of the quickest of three."""
    fork = replace(fork, python=None)
    took, worked = [], []
    for _ in range(3):
        began, before = time.perf_counter(), os.times()
        assert fork.do("--help").code == 0
        took.append(time.perf_counter() - began)
        worked.append(os.times().children_user - before.children_user)

    record_property("cli --help, seconds", round(min(took), 2))
    assert min(worked) < 1, "of computing, however busy the machine is; 0.3 by itself"


@pytest.mark.parametrize(
    "command", ["run", "worker", "runs", "show", "resume", "signal", "cancel", "discard"]
)
def test_each_command_explains_itself(fork, command):
    """Every command's help has examples of it."""
    done = fork.do(command, "--help")

    assert done.code == 0
    assert re.search(rf"^ {{3}}{command}\b", done.out, re.MULTILINE)


def test_what_is_shown_cannot_move_the_cursor(fork):
    """Control characters of a model or a tool are shown as escapes where people look."""
    fork.replace("agent/hooks.py", 'f"{what}: two"', 'chr(27) + "[2J" + chr(7) + what')
    fork.do("run", OWLS, "--id", "first")

    shown = fork.do("show", "first").out

    assert r"\x1b[2J\x07owls" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("command", ["show first", "show first --json"])
def test_a_reader_that_goes_away(fork, command):
    """Output into a pipe that nobody reads ends the command without a traceback."""
    fork.do("run", OWLS, "--id", "first")

    done = fork.read_by("true", *command.split())

    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("column", ["input", "value", "usage", "attempts", "error"])
def test_a_row_that_cannot_be_read(fork, column):
    """A row that was written by hand keeps nobody from looking at its run, or at others."""
    keys = ["run", "model.0", "tools.0/look.0"]
    for key in keys:
        fork.do("run", OWLS, "--id", key)
        with database(fork.absolute_url) as db:
            id_ = key if key == "run" else f"{key}#{key}"
            db.rows(f"UPDATE promises SET {column} = '{{\"$int\": ' WHERE id = :id", id=id_)

    shown = [("show", key, *more) for key in keys for more in ((), ("--json",), ("--key", key))]
    for command in (*shown, ("runs",)):
        done = fork.do(*command)
        assert (done.code, "Traceback" in done.err) == (0, False), (command, done.err)
