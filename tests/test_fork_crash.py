"""`crash` kills a fork's own agent at every commit, and tells what was done again, and broke."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from substrate.cli.crash.judge import Called, Ended, Kind, Whole, judge
from tests.fork import Done, Fork
from tests.keeper import wait_until
from tests.stores import database
from tests.test_cli_terminal import HIDE_CURSOR, SHOW_CURSOR, terminal

LIMIT_S = 120

HOOKS = '''
import os
from pathlib import Path

from substrate import Context
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say

TURNS = [
    say(call("look", what="owls")),
    say(call("pay", cents=5)),
    say(call("note", text="owls")),
    say(call("dig")),
    say("Two owls."),
]


def tell(what):
    """Write outside of the copy, where the test counts."""
    with open(os.environ["TALLY"], "a") as tally:
        tally.write(f"{Path.cwd().parent.name} {what}\\n")


def script(request):
    return TURNS[sum(isinstance(message, Reply) for message in request.messages)]


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    tell("look")
    return f"{what}: two"


@tool
def pay(cents: int) -> str:
    """Pay."""
    tell("pay")
    return "paid"


@tool(effect="idempotent")
def note(text: str, idempotency_key: str) -> str:
    """Write it down, once a key."""
    tell("note")
    file = Path("notes")
    if not file.exists() or idempotency_key not in file.read_text():
        with file.open("a") as notes:
            notes.write(f"{text} {idempotency_key}\\n")
    return "noted"


async def spade(depth: int) -> int:
    tell("spade")
    return depth


@tool
async def dig(ctx: Context) -> int:
    """Dig."""
    return await ctx.step(spade, 3)


prompt = "Be brief."
model = Model("scripted:owls", script=script)
tools = [look, pay, note, dig]
stop = any_of(answered(), max_turns(9))
'''


def make(folder: Path, hooks: str = HOOKS) -> Fork:
    """Make a fork, whose calls are counted in a file beside it."""
    fork = Fork.make(folder / "fork", hooks=hooks)
    (folder / "tmp").mkdir()
    return fork


def crash(fork: Fork, *arguments: str, **more: str) -> Done:
    """Type `crash`, and return how it ended."""
    there = {"TALLY": str(fork.folder.parent / "tally"), "TMPDIR": str(fork.folder.parent / "tmp")}
    process = fork.open("crash", *arguments, **{**there, **more})
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except BaseException:
        process.terminate()
        raise
    return Done(process.returncode, out, err)


def tally(fork: Fork) -> Counter[str]:
    """Return what was called outside, in which case and how often."""
    return Counter((fork.folder.parent / "tally").read_text().splitlines())


def left(fork: Fork) -> list[str]:
    """Return what is left in the folder for temporary files."""
    return sorted(each.name for each in (fork.folder.parent / "tmp").iterdir())


def test_every_commit(tmp_path: Path) -> None:
    """Killed before and after each commit, the agent comes to the same end; all is counted.

    Outside, in each case: `once` was called at most once, and what was called again is what the
    table says. The folder of the fork is as it was.
    """
    fork = make(tmp_path)
    before = {each: each.stat().st_mtime_ns for each in fork.folder.rglob("*.py")}

    done = crash(fork, "--json")

    assert done.code == 0, done.out + done.err
    told = done.document
    assert (told["answers"], told["store"], told["status"]) == ("scripted:owls", "SQLite", "done")
    assert told["kills"] == 2 * len(told["commits"]) - told["unreached"] >= 24
    written = {each["writes"] for each in told["commits"]}
    assert {"model.0", "tools.0/look.0", "tools.1/pay.0", "tools.3/dig.0/spade.0"} <= written
    counted = tally(fork)
    assert {n for what, n in counted.items() if what.endswith(" pay")} == {1}
    for row in told["effects"]:
        assert row["ok"]
        if row["name"] in ("look", "note", "spade"):
            again = sum(n - 1 for what, n in counted.items() if what.endswith(f" {row['name']}"))
            assert row["called_again"] == again >= 1
    effects = {row["name"]: row["effect"] for row in told["effects"]}
    assert effects["pay"] == "once"
    assert effects["note"] == "idempotent"
    assert effects["model"] == "pure"
    unknown = {row["name"]: row["unknown"] for row in told["effects"]}
    assert unknown.pop("pay") >= 2  # after its intent, and before its outcome
    assert set(unknown.values()) == {0}
    assert left(fork) == []
    after = {each: each.stat().st_mtime_ns for each in fork.folder.rglob("*.py")}
    assert before == after
    assert not (fork.folder / "notes").exists()


def test_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    """So it does over PostgreSQL, in databases of its own, which are gone in the end."""
    fork = make(tmp_path)

    done = crash(fork, "--json", "--every", "4", "--store", "postgres", DATABASE_URL=postgres_url)

    assert done.code == 0, done.out + done.err
    assert done.document["store"] == "PostgreSQL"
    assert done.document["kills"] >= 6
    with database(postgres_url) as db:
        names = [name for (name,) in db.rows("SELECT datname FROM pg_database")]
        tables = db.rows("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
    assert not [name for name in names if name.startswith("ostinato_crash")]
    assert tables == []


def test_a_key_that_is_ignored(tmp_path: Path) -> None:
    """A tool that says `idempotent` and does it again whatever its key is, is found out."""
    looks = "not file.exists() or idempotency_key not in file.read_text()"
    hooks = HOOKS.replace(looks, "True")
    fork = make(tmp_path, hooks)

    done = crash(fork, "--only", "tools.2/note.0")

    assert done.code == 1, done.out + done.err
    assert "killed before COMMIT" in done.out
    assert "notes is not as it was left without a kill" in done.out
    [kept] = left(fork)
    assert (tmp_path / "tmp" / kept).is_dir()
    [looked] = [line for line in done.out.splitlines() if "DATABASE_URL=" in line]
    url, command = looked.strip().split(" ", 1)
    assert command.endswith("-m agent show crash")
    shown = fork.do("show", "crash", "--json", DATABASE_URL=url.partition("=")[2])
    assert shown.document["status"] == "done"


def test_pure_that_is_not(tmp_path: Path) -> None:
    """Where something pure was called again and a file differs, that is told, and is no failure."""
    hooks = HOOKS.replace('tell("look")', 'Path("seen").open("a").write("x")')
    fork = make(tmp_path, hooks)

    done = crash(fork, "--only", "tools.0/look.0")

    assert done.code == 0, done.out + done.err
    assert (
        "seen is not as it was left without a kill; if look wrote that, it is not pure" in done.out
    )


def test_another_way_each_time(tmp_path: Path) -> None:
    """Code that asks for another step in each process pauses the run, and that is told."""
    hooks = HOOKS.replace("ctx.step(spade, 3)", "ctx.step(spade, os.getpid())")
    fork = make(tmp_path, hooks)

    done = crash(fork, "--only", "tools.3/dig.0")

    assert done.code == 1, done.out + done.err
    assert "the run is paused: " in done.out
    assert "tools.3/dig.0/spade.0" in done.out


def test_what_varies_is_not_compared(tmp_path: Path) -> None:
    """An answer, a result and files that are others in each run are no failure of any kill."""
    hooks = HOOKS.replace('return f"{what}: two"', 'return f"{what}: {os.getpid()}"')
    hooks = hooks.replace('tell("look")', 'Path(f"file-{os.getpid()}").touch()')
    fork = make(tmp_path, hooks)

    done = crash(fork, "--only", "tools.0/*")

    assert done.code == 0, done.out + done.err


ASKING = HOOKS.replace(
    """    return await ctx.step(spade, 3)""",
    """    return await ctx.step(spade, 3) if await ctx.receive("go", bool) else 0""",
)


def test_an_agent_that_asks(tmp_path: Path) -> None:
    """What an agent asks is answered once, whichever process asks; unanswered, it is said."""
    fork = make(tmp_path, ASKING)

    answered = crash(fork, "--json", "--only", "tools.3/*", "--signal", "go=true")
    waiting = crash(fork, "--every", "9")

    assert answered.code == 0, answered.out + answered.err
    assert answered.document["status"] == "done"
    assert answered.document["kills"] >= 4
    assert waiting.code == 0, waiting.out + waiting.err
    assert "it waits for tools.3/dig.0/go.0: what comes after that was not tried" in waiting.out


APPROVED = HOOKS.replace(
    "@tool\ndef pay(", "from substrate.agent import ask_human\n\n\n@tool(approve=True)\ndef pay("
)


def test_an_agent_that_has_to_be_approved(tmp_path: Path) -> None:
    """A call that a person is asked about is approved once, and made once, whatever is killed."""
    fork = make(tmp_path, APPROVED)

    waiting = crash(fork, "--only", "model.0")
    approved = crash(fork, "--json", "--only", "tools.1/*", "--only", "gates.*", "--approve")

    assert waiting.code == 0, waiting.out + waiting.err
    assert "it waits for tools.1/pay.0/gate.0: what comes after that was not tried" in waiting.out
    assert approved.code == 0, approved.out + approved.err
    assert approved.document["status"] == "done"
    assert approved.document["kills"] >= 6
    pays = {n for what, n in tally(fork).items() if what.endswith(" pay")}
    assert pays == {1}


def test_an_agent_that_asks_a_person(tmp_path: Path) -> None:
    """A question to a person is answered with what was given, as what it is to be."""
    asks = APPROVED.replace(
        "tools = [look, pay, note, dig]", "tools = [look, pay, note, ask_human()]"
    )
    asks = asks.replace('say(call("dig"))', 'say(call("ask_human", question="How many?"))')
    fork = make(tmp_path, asks)

    done = crash(fork, "--json", "--only", "tools.3/*", "--approve", "--answer", "two")

    assert done.code == 0, done.out + done.err
    assert done.document["status"] == "done"
    assert done.document["kills"] >= 2


def test_no_live_model(tmp_path: Path) -> None:
    """A model that would be asked live is refused before anything is called."""
    live = 'Model("openai-chat:owls", base_url="http://127.0.0.1:9/v1")'
    fork = make(tmp_path, HOOKS.replace('Model("scripted:owls", script=script)', live))

    done = crash(fork)

    assert done.code == 2
    assert "openai-chat:owls would be asked live" in done.err
    assert "say --live" in done.err
    assert left(fork) == []
    assert "Traceback" not in done.err


def test_the_key_is_not_there(tmp_path: Path) -> None:
    """With a key set, the offline model answers all the same, and no tool sees the key."""
    online = 'Model("anthropic:owls", offline=Model("scripted:owls", script=script))'
    hooks = HOOKS.replace('Model("scripted:owls", script=script)', online)
    hooks = hooks.replace('tell("look")', 'tell(os.environ.get("ANTHROPIC_API_KEY", "look"))')
    fork = make(tmp_path, hooks)

    done = crash(fork, "--json", "--only", "model.0", ANTHROPIC_API_KEY="secret")

    assert done.code == 0, done.out + done.err
    assert done.document["answers"] == "scripted:owls"
    assert "secret" not in "".join(tally(fork))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--only", "nothing.0"), "--only nothing.0 names no commit of this run; there are: "),
        (("--task", " "), "the task is empty"),
        (("--signal", "go"), "write NAME=VALUE"),
        (("--signal", "go=1"), "--signal go=…: the run asks nothing of that kind"),
        (("--approve",), "--approve: the run asks nothing of that kind"),
        (("--store", "mysql://x"), "--store is sqlite, postgres"),
        (("--every", "0"), "--every"),
    ],
)
def test_what_was_typed_wrong(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """What cannot be done is said with its remedy, exit code 2, and nothing is left."""
    fork = make(tmp_path)

    done = crash(fork, *arguments)

    assert done.code == 2, done.out + done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert left(fork) == []


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("prompt =", "prompt == ", "NameError"),
        ("    return TURNS", "    raise SystemError('no')\n    return TURNS", "SystemError"),
        ("def look(what: str) -> str:", "def look(what: str) -> str:\n    os._exit(9)", "code 9"),
    ],
)
def test_a_fork_that_does_not_run(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A fork that does not load, or whose run does not end well by itself, is told of that."""
    new = new.replace("str:\n", 'str:\n    """Look."""\n')
    fork = make(tmp_path, HOOKS.replace(old, new))

    done = crash(fork)

    assert done.code == (2 if said == "NameError" else 1), done.out + done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert left(fork) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: int) -> None:
    """Stopped in the middle, it leaves no process and no folder."""
    sleeps = 'tell(os.getpid())\n    __import__("time").sleep(60)'
    fork = make(tmp_path, HOOKS.replace('tell("look")', sleeps))
    there = {"TALLY": str(tmp_path / "tally"), "TMPDIR": str(tmp_path / "tmp")}
    process = fork.open("crash", **there)
    assert wait_until(lambda: (tmp_path / "tally").exists() and len(tally(fork)) == 2, 30)
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)

    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert left(fork) == []
    for line in tally(fork):
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[-1]), 0)


def test_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal a bar tells how far it is, and is gone when the table comes."""
    tally_file = repr(str(tmp_path / "tally"))
    fork = make(tmp_path, HOOKS.replace('os.environ["TALLY"]', tally_file))
    with terminal(fork, "crash", "--only", "model.*", columns="100") as window:
        window.read_until("came to the same end")

        assert "scripted:owls answers; 5 commits of" in window.plain
        assert "10/10" in window.plain
        assert "killed after COMMIT" in window.plain
        assert window.screen.rindex(HIDE_CURSOR) < window.screen.rindex(SHOW_CURSOR)
        window.process.wait(30)
        assert window.process.returncode == 0


def test_links_and_what_is_left_out(tmp_path: Path) -> None:
    """The copy has the fork's files and links, and no key, run, cache or history of it."""
    tells = 'tell(" ".join(map(str, Path.cwd().glob("**/*"))))'
    hooks = HOOKS.replace('tell("look")', tells)
    hooks = hooks.replace("prompt =", 'DATA = Path("data/owls").read_text()\nprompt =')
    fork = make(tmp_path, hooks)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "owls").write_text("two")
    (fork.folder / "data").symlink_to("../data")
    for name in (".env", ".git/HEAD", ".venv/bin/python", "runs.db", "runs.db-wal", "mine/a"):
        (fork.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (fork.folder / name).write_text("")

    done = crash(fork, "--json", "--only", "model.0")

    assert done.code == 0, done.out + done.err
    seen = next(iter(tally(fork)))
    assert "/world/mine/a" in seen
    assert "/world/data" in seen
    assert not [name for name in (".env", ".git", ".venv", "runs.db") if f"/world/{name}" in seen]


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    """A folder that is too large is told with what is large in it; its own temporary one is not."""
    fork = make(tmp_path)
    (fork.folder / "tmp").mkdir()
    with (fork.folder / "films").open("wb") as file:
        file.truncate(300_000_000)  # a hole, which is as long

    large = crash(fork, TMPDIR="tmp")
    (fork.folder / "films").unlink()
    done = crash(fork, "--only", "model.0", TMPDIR=str(fork.folder / "tmp"))

    assert large.code == 1
    assert "has 300 MB, and is copied for each kill" in large.err
    assert "films (300 MB)" in large.err
    assert done.code == 0, done.out + done.err
    assert list((fork.folder / "tmp").iterdir()) == []


UNDOES = HOOKS.replace(
    "async def spade(depth: int) -> int:",
    """from substrate import durable


@durable
async def fill_in(ctx: Context, depth: int) -> None:
    await ctx.step(shovel, depth)


async def shovel(depth: int) -> None:
    tell("shovel")


async def spade(depth: int) -> int:""",
).replace("ctx.step(spade, 3)", "ctx.step(spade, 3, undo=fill_in)")


def test_an_agent_that_is_undone(tmp_path: Path) -> None:
    """A run that fails and is undone comes to that end after each kill, and is undone once."""
    fails = UNDOES.replace("@tool\nasync def dig", "@tool(pause_on=())\nasync def dig")
    fork = make(tmp_path, fails)
    loop = (fork.folder / "agent" / "loop.py").read_text()
    fork.write(
        "agent/loop.py",
        loop.replace("    return await turn.finish(end)", '    raise ValueError("off")'),
    )

    done = crash(fork, "--json", "--only", "unwind*", "--only", "tools.3/*")

    assert done.code == 0, done.out + done.err
    assert done.document["status"] == "failed"
    assert done.document["kills"] >= 4
    effects = {row["name"]: row for row in done.document["effects"]}
    assert effects["shovel"]["calls"] == 1


DONE = Ended(
    "done", "a", {"crash#pay.0": ["step", "resolved", "x", False, "once", "pay"]}, {"notes": "1"}
)


def verdict(ended: Ended, before: list[Called], after: list[Called], recorded: object) -> list[str]:
    """Judge beside a run that called `pay` once; return what is wrong."""
    whole = Whole.of(DONE, DONE, [Called("crash#pay.0", "pay", "once", None)])
    found = judge(whole, ended, before, after, recorded)  # type: ignore[arg-type]
    return [each.text for each in found.faults]


@pytest.mark.parametrize("effect", ["once", "idempotent", "pure"])
def test_judged(effect: str) -> None:
    """Each rule that a broken kit, tool or agent would hurt says so by the key."""
    one = Called("crash#pay.0", "pay", effect, "k")
    other = one._replace(key="l")
    pending = {"crash#pay.0": ["step", "pending", "x", False, "once", "pay"]}
    settled = DONE.rows

    again = "pay.0 was recorded at the kill, and was called again"
    assert again in verdict(DONE, [one], [one], settled)
    twice = ["pay.0 is `once`, and was called 2 times"] if effect == "once" else []
    assert verdict(DONE, [one], [one], pending) == twice
    keys = ["pay.0 is `idempotent`, and was given 2 keys"] if effect == "idempotent" else []
    assert verdict(DONE, [one], [other], pending) == (keys or twice)


def test_judged_by_its_end() -> None:
    """Another end, answer, journal or file is wrong, but where the outcome of a call is unknown."""
    row = ["step", "rejected", "y", False, "once", "pay"]
    unknown = {"crash#pay.0": [*row[:3], True, *row[4:]]}
    for ended, said in (
        (Ended("failed", "a", DONE.rows, DONE.files, "OSError: x"), "the run is failed, not done"),
        (Ended("done", "b", DONE.rows, DONE.files), "its answer is another one"),
        (Ended("done", "a", {}, DONE.files), "its journal has no pay.0"),
        (Ended("done", "a", {"crash#pay.0": row}, DONE.files), "another outcome is recorded of"),
        (Ended("done", "a", DONE.rows, {"notes": "2"}), "notes is not as it was left"),
    ):
        [fault] = verdict(ended, [], [], {})
        assert fault.startswith(said)
    assert verdict(Ended("done", "b", unknown, {"notes": "2"}), [], [], {}) == []
    waits = Ended("suspended", "b", {"crash#pay.0": [*row[:1], "pending", *row[2:]]}, DONE.files)
    assert verdict(waits, [], [], {}) == ["the run is suspended, not done"]
    asked = replace(waits, waits=("pay.0/unknown.0",))  # a person says what became of it
    assert verdict(asked, [], [], {}) == []
    assert Kind("once", "pay") == Called("crash#pay.0", "pay", "once", None).kind
    assert json.dumps(DONE.rows)
