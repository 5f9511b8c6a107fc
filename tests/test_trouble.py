"""What goes wrong is said in a sentence with its remedy, not as a traceback, and loses nothing."""

import os
import re
import subprocess
import sys

import apsw
import pytest

from substrate.store.migrate import TABLE
from tests.fork import HOOKS, Fork
from tests.keeper import NAMESPACE, can_enter_namespace

OWLS = "How many owls?"
ANSWER = "Two owls.\n"
MODEL = 'Model("scripted:owls", script=script)'


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def fails(fork: Fork, *arguments: str, code: int = 1, **environment: str) -> str:
    """Do a command that must fail, and return what it says."""
    done = fork.do(*arguments, **environment)
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert "Warning" not in done.err
    assert "\nfault:" not in f"\n{done.err}", "an error that nobody foresaw"
    return done.err


# ------------------------------------------------------------------------------------------------
# The fork


def test_missing_key(fork):
    """Without its key, and without a model in its place, nothing is started."""
    fork.replace("agent/hooks.py", MODEL, 'Model("anthropic:claude-x")')

    said = fails(fork, "run", OWLS, "--id", "first")

    assert "ANTHROPIC_API_KEY is not set" in said
    assert "export it, write it into .env" in said
    assert fork.do("runs", "--json").document["runs"] == []
    assert "ANTHROPIC_API_KEY is not set" in fails(fork, "worker")


def test_a_key_that_goes_missing(fork):
    """A run that is in the middle stays as it is when its model has no key any more."""
    process = fork.open_held("run", OWLS, "--id", "first")
    process.kill()
    process.communicate()
    fork.let_go()
    fork.replace("agent/hooks.py", MODEL, 'Model("openai:gpt-x")')

    said = fails(fork, "resume", "first")

    assert "OPENAI_API_KEY is not set" in said
    fork.replace("agent/hooks.py", 'Model("openai:gpt-x")', MODEL)
    assert fork.do("resume", "first").out == ANSWER


BROKEN_HOOKS = {
    "unknown provider": (
        (MODEL, 'Model("nobody:x")'),
        ":LINE: 'nobody:x': no provider 'nobody'; known are anthropic",
    ),
    "syntax error": (
        ("def script(request):", "def script(request)"),
        ":LINE: expected ':'; mend the line",
    ),
    "missing import": (
        ("import asyncio", "import asyncio, no_such_thing"),
        ":LINE: No module named 'no_such_thing'; install what it needs",
    ),
    "wrong import": (
        ("import tool\n", "import tol\n"),
        ":LINE: cannot import name 'tol' from 'substrate.agent.tool'",
    ),
    "missing hook": (
        ("stop = ", "mine = "),
        ": there is no `stop`; hooks.py sets prompt, model, tools, stop",
    ),
    "misspelt hook": (
        ("stop = ", "stopp = "),
        ":LINE: `stopp` is no hook, and nothing uses it; did you mean `stop`?",
    ),
    "error while loading": (
        ('prompt = "Be brief."', "prompt = {}['brief']"),
        ":LINE: KeyError: 'brief'; mend it",
    ),
    "prompt of a wrong type": (
        ('prompt = "Be brief."', "prompt = 7"),
        ":LINE: `prompt` is int 7; write text, or def prompt(task: Task) -> str",
    ),
    "model of a wrong type": (
        (MODEL, '"scripted:owls"'),
        ":LINE: `model` is str 'scripted:owls'; write Model(",
    ),
    "tools of a wrong type": (
        ("tools = [look]", "tools = look"),
        ":LINE: `tools` is the tool 'look'; write a list",
    ),
    "an answer of no named fields": (
        ("tools = [look]", "answer = int\ntools = [look]"),
        ":LINE: `answer` cannot be asked for: answer=<class 'int'> is no object",
    ),
    "a tool without docstring": (
        ("tools = [look]", "tools = [look, note]"),
        ":LINE: `tools` has the function note, which is no tool: tool 'note' has no docstring",
    ),
    "two tools of one name": (
        ("tools = [look]", "tools = [look, look]"),
        ":LINE: `tools` has two called 'look'",
    ),
    "nothing among the tools": (
        ("tools = [look]", "tools = [look, None]"),
        ":LINE: `tools` has None, which is no tool",
    ),
    "a maker of tools that was not called": (
        ("tools = [look]", "import skills.web; tools = [look, skills.web.fetch_url]"),
        ":LINE: `tools` has the function fetch_url, which is no tool: 'fetch_url' makes tools",
    ),
    "a maker of conditions that was not called": (
        ("any_of(answered(), max_turns(5))", "any_of(answered(), max_turns)"),
        ":LINE: any_of() is given the function max_turns, which is no condition; call what",
    ),
    "a condition that says True": (
        ("any_of(answered(), max_turns(5))", "lambda transcript: transcript.turns > 5"),
        ":LINE: `stop` is the function <lambda>, and it gave False; give None to go on",
    ),
    "a tool with an effect that would say nothing": (
        (
            '@tool(effect="pure")\nasync def look(what: str)',
            '@tool(effect="pure")\nasync def look(ctx, what: str)',
        ),
        ":LINE: tool 'look' takes a ctx, so effect= would say nothing of it",
    ),
    "a condition that was not made": (
        ("any_of(answered(), max_turns(5))", "answered"),
        ":LINE: `stop` is the function answered; write a condition",
    ),
}


@pytest.mark.parametrize("name", BROKEN_HOOKS)
def test_broken_hooks(fork, name):
    """A hooks.py that does not hold is named by file and line, with what to write."""
    (old, new), told = BROKEN_HOOKS[name]
    fork.replace("agent/hooks.py", old, new)
    line = HOOKS[: HOOKS.index(old)].count("\n") + 1

    said = fails(fork, "run", OWLS, code=2)

    assert f"agent/hooks.py{told.replace('LINE', str(line))}" in said
    assert not (fork.folder / "runs.db").exists()


def test_debug_shows_where(fork):
    """`--debug` shows the traceback that is otherwise kept back."""
    fork.replace("agent/hooks.py", 'prompt = "Be brief."', "prompt = {}['brief']")

    assert "Traceback" in fork.do("run", OWLS, "--debug").err


def test_missing_file(fork):
    """A fork without its loop is told which file is missing."""
    (fork.folder / "agent" / "loop.py").unlink()

    assert "agent/loop.py is missing; take it back" in fails(fork, "run", OWLS, code=2)


def test_no_durable_agent(fork):
    """A loop whose agent is not durable is told how to make it so."""
    fork.replace("agent/loop.py", "@durable\n", "")

    said = fails(fork, "run", OWLS, code=2)

    assert "agent/loop.py:" in said
    assert "`agent` must be a durable function; write @durable" in said


def test_no_agent_here(tmp_path):
    """In a folder without a fork, every command says how to get one, and leaves no file."""
    script = "import sys; sys.argv[0] = 'ostinato'; from substrate.cli import main; main()"
    nowhere = Fork(tmp_path, "sqlite:///runs.db")

    for command in (["run", OWLS], ["worker"], ["runs"], ["show", "first"], ["resume", "first"]):
        done = nowhere.do(*command, by=("-c", script))
        assert (done.code, done.out) == (1, "")
        assert "no agent here; cd into your fork, or make one: copier copy" in done.err

    assert list(tmp_path.iterdir()) == []


def test_a_line_of_dotenv(fork):
    """A line of `.env` that sets nothing is named by its number; it is not shown, for secrets."""
    fork.write(".env", 'OWLS=7\nANTHROPIC_API_KEY "sk-secret"\n')

    said = fails(fork, "run", OWLS, code=2)

    assert ".env:2 sets nothing; write KEY=VALUE" in said
    assert "sk-secret" not in said


# ------------------------------------------------------------------------------------------------
# The database


@pytest.mark.parametrize(
    "url, expected",
    [
        ("runs.db", "not a database URL (7 characters, without a scheme such as sqlite://)"),
        ("mysql://owl:feather@host/runs", "mysql:// is not served; write sqlite:///runs.db"),
        ("sqlite://", "the SQLite URL (9 characters) names no file; write sqlite:///runs.db"),
    ],
)
def test_bad_database_url(fork, url, expected):
    """A URL that cannot be understood is not shown, but the forms that can be are."""
    said = fails(fork, "run", OWLS, code=2, DATABASE_URL=url)

    assert expected in said
    assert "DATABASE_URL says which database it is" in said
    assert "feather" not in said


def test_unreachable_postgres(fork):
    """A Postgres that does not answer is named with what to check, and without its password."""
    url = "postgresql://owl:feather@127.0.0.1:1/runs"

    said = fails(fork, "run", OWLS, DATABASE_URL=url)

    assert "'postgresql://owl@127.0.0.1:1/runs' cannot be reached" in said
    assert "check that it runs" in said
    assert "feather" not in said


def test_newer_schema(fork):
    """A database that a newer kit has migrated is left alone."""
    fork.do("run", OWLS, "--id", "first")
    database = apsw.Connection(str(fork.folder / "runs.db"))
    database.execute(f"INSERT INTO {TABLE} VALUES (99, 'later', '', 0)")

    said = fails(fork, "run", OWLS)

    assert "the database has schema 99" in said
    assert "update the kit" in said
    database.execute(f"DELETE FROM {TABLE} WHERE version = 99")
    database.close()
    assert fork.do("run", "--id", "first").out == ANSWER


def test_not_a_database(fork):
    """A file that is no database is not touched."""
    file = fork.folder / "runs.db"
    file.write_text("These are my notes on owls, and they are no database at all.\n" * 100)
    before = file.read_bytes()

    said = fails(fork, "run", OWLS)

    assert "SQLite cannot use 'runs.db' (file is not a database)" in said
    assert "move it away" in said
    assert file.read_bytes() == before


def test_corrupt_file(fork):
    """A database whose pages are damaged is said to be so, with the way back."""
    fork.do("run", OWLS, "--id", "first")
    file = fork.folder / "runs.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))

    said = fails(fork, "show", "first")

    assert "SQLite cannot use" in said
    assert "restore it from a backup" in said
    file.write_bytes(whole)
    assert fork.do("run", "--id", "first").out == ANSWER


def test_read_only_file(fork):
    """A database that this user may not write is named, with what to change."""
    fork.do("run", OWLS, "--id", "first")
    file = fork.folder / "runs.db"
    file.chmod(0o444)

    done = as_somebody_else(fork, "run", OWLS)

    assert (done.returncode, done.stdout) == (1, "")
    assert "SQLite cannot use 'runs.db'" in done.stderr
    assert "make the file and its folder writable for this user" in done.stderr
    assert "Traceback" not in done.stderr
    file.chmod(0o644)
    assert fork.do("run", "--id", "first").out == ANSWER


def as_somebody_else(fork: Fork, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Do a command as one who is bound by file modes, which root is not."""
    prefix = [] if os.geteuid() else list(NAMESPACE)
    assert os.geteuid() or can_enter_namespace(), "run this test as another user than root"
    return subprocess.run(
        [*prefix, sys.executable, "-m", "agent", *arguments],
        cwd=fork.folder,
        env=fork.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# ------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.parametrize("command", ["show", "resume", "run --id"])
def test_unknown_run(fork, command):
    """A run that is not there is told apart from one that failed."""
    fork.start("first", OWLS)
    assert "there is no run 'nope'; `runs` lists" in fails(fork, *command.split(), "nope")


def test_id_taken(fork):
    """An id that belongs to another question names that question, and both ways on."""
    fork.do("run", OWLS, "--id", "first")

    said = fails(fork, "run", "How many bats?", "--id", "first")

    assert "'first' is taken by a run that was asked 'How many owls?'" in said
    assert "choose another id, or go on with that run: run --id first" in said
    assert fork.do("run", "--id", "first").out == ANSWER


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["run"], 'ask something, run "…"'),
        (["run", OWLS, "--id", "two words"], "'two words' is not a run id; use 1 to 200 letters"),
        (["runs", "--status", "asleep"], "'asleep' is not one of 'ready', 'running'"),
        (["dance"], "No such command 'dance'"),
        (["shwo", "first"], "No such command 'shwo'. Did you mean 'show'?"),
        (["run", OWLS, "--idd", "first"], "--id"),
    ],
)
def test_usage(fork, arguments, expected):
    """A command line that cannot be understood exits with 2."""
    assert expected in fails(fork, *arguments, code=2)


def test_a_run_of_other_code(fork):
    """A run whose function the loop does not have is left to the code that started it."""
    fork.start("first", OWLS)
    fork.replace("agent/loop.py", "@durable\n", "@durable(version=2)\n")

    said = fails(fork, "resume", "first")

    assert "is one of 'agent' v1, and the loop here has agent v2" in said
    assert fork.run("first")["status"] == "ready"


def test_a_key_that_is_not_there(fork):
    """A key that the run does not have points to the list of those it has."""
    fork.do("run", OWLS, "--id", "first")

    assert "has no promise 'nope'; `show` lists its keys" in fails(
        fork, "show", "first", "--key", "nope"
    )
    assert "run 'first' is done" in fails(fork, "resume", "first", "--accept", "model.0")


def test_a_prompt_that_raises(fork):
    """A prompt hook that raises pauses the run with its file and line; mended, it goes on."""
    prompt = "def prompt(task):\n    raise ValueError('no words')"
    fork.replace("agent/hooks.py", 'prompt = "Be brief."', prompt)

    said = fails(fork, "run", OWLS, "--id", "first", code=4)
    fork.replace("agent/hooks.py", prompt, 'prompt = "Be brief."')

    assert re.search(r"the hook `prompt` \(.*agent/hooks\.py:\d+\) is at fault: ", said)
    assert "is at fault: ValueError: no words; mend it, and resume the run" in said
    assert "python -m agent resume first" in said
    assert fork.do("resume", "first").code == 0


def test_a_loop_that_raises(fork):
    """A fault in the loop itself fails the run with its line; mended and resumed, it goes on."""
    fork.replace("agent/loop.py", "call_tools(reply)", "call_tools(rply)")
    said = fails(fork, "run", OWLS, "--id", "first")
    fork.replace("agent/loop.py", "call_tools(rply)", "call_tools(reply)")

    done = fork.do("resume", "first")

    assert "failed: NameError: name 'rply' is not defined" in said
    assert re.search(r"at agent/loop\.py:\d+, in agent", said)
    assert "Once that is mended: python -m agent resume first" in said
    assert (done.code, done.out) == (0, ANSWER)
    assert fork.calls == ["model", "look", "model"]


# ------------------------------------------------------------------------------------------------
# Tools, and what a model makes of them: told to the model, which goes on

TOOLS = {
    "a tool that raises": (
        ('return f"{what}: two"', "raise LookupError('no owls')"),
        'look(what="owls")  failed  ? s  agent/hooks.py:33  LookupError: no owls',
    ),
    "a tool that does not exist": (
        ('call("look", what="owls")', 'call("find", what="owls")'),
        "find(what=\"owls\")  failed  ? s  InvalidArguments: there is no tool 'find'",
    ),
    "arguments that do not fit": (
        ('call("look", what="owls")', 'call("look", wat="owls")'),
        'look(wat="owls")  failed  ? s  InvalidArguments: look was not called',
    ),
    "arguments that are not JSON": (
        ('call("look", what="owls")', 'ToolCall.read("c1", "look", "{what: owls")'),
        "look()  failed  ? s  InvalidArguments: look was not called: its arguments are not a",
    ),
}


def test_a_result_that_is_no_json(fork):
    """It is no matter of the model's: the run is paused, says where, and goes on once mended."""
    fork.replace("agent/hooks.py", 'return f"{what}: two"', "return object()")

    done = fork.do("run", OWLS, "--id", "first")

    assert done.code == 4
    assert re.search(r"look\(\) \(.*agent/hooks\.py:\d+\) returned object, no JSON form", done.err)
    assert "Traceback" not in done.err
    fork.replace("agent/hooks.py", "return object()", 'return f"{what}: two"')
    assert fork.do("resume", "first").out == ANSWER


@pytest.mark.parametrize("name", TOOLS)
def test_tools(fork, name):
    """What goes wrong with a tool is told and recorded, and the model goes on and answers."""
    (old, new), expected = TOOLS[name]
    fork.write(
        "agent/hooks.py",
        "from substrate.models.messages import ToolCall\n" + HOOKS.replace(old, new),
    )

    done = fork.do("run", OWLS, "--id", "first")

    assert (done.code, done.out) == (0, ANSWER)
    assert expected in re.sub(r"\d+\.\d\d s", "? s", done.err)
    assert "Traceback" not in done.err
    (call,) = [row for row in fork.run("first")["journal"] if row["key"].startswith("tools.0/")]
    assert call["state"] == "rejected"
    assert expected.split("  ")[-1].partition(":")[0] == call["error"]["type"]
