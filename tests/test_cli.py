"""The command line starts a run or goes on with one, and says how it stands."""

import re
import signal
from dataclasses import replace

import pytest

from tests.fork import HOOKS, Fork, end
from tests.test_cli_interrupted import read_until

OWLS = "How many owls?"
ANSWER = "Two owls.\n"

STEP = '    await ctx.step(remember, "the old way")\n'

RETRYING = (
    HOOKS
    + '''
from datetime import timedelta

from substrate import Retry


@tool(effect="pure", retry=Retry(initial=timedelta(milliseconds=1)))
async def look(what: str) -> str:
    """Look something up."""
    note("look")
    if Path("calls").read_text().count("look") == 1:
        raise LookupError("not yet")
    return "two"


tools = [look]
'''
)

AS_SCRIPT = "import sys; sys.argv[0] = 'bin/ostinato'; from substrate.cli import main; main()"


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def test_the_answer_stands_alone(fork):
    """The answer is all of standard output; turns, calls, tokens and cost go to standard error."""
    done = replace(fork, python=None).do("run", OWLS)

    assert (done.code, done.out) == (0, ANSWER)
    assert re.match(r"run/\d{4}-\d\d-\d\d-[0-9a-f]{6}\n", done.err), "the id comes first"
    assert "turn 1  scripted:owls" in done.err
    assert re.search(r'look\(what="owls"\)  ok  \d\.\d\d s', done.err)
    assert "a tool that prints" in done.err
    assert re.search(r"answered · 2 turns · 4 steps · \d+ tokens · \$0 · ", done.err)


def test_a_retry_is_said_as_it_begins(fork):
    """A wait in memory is said when it begins, without a terminal too, and only once."""
    fork.write("agent/hooks.py", RETRYING.replace("milliseconds=1", "seconds=9"))
    process = fork.open("run", OWLS, "--id", "first")
    said = read_until(process, "; again after ")
    process.send_signal(signal.SIGINT)
    rest = end(process).err

    assert "look  failed  LookupError: not yet" in said
    assert "LookupError" not in rest


def test_a_tools_own_traceback(fork):
    """With --debug the traceback of a tool that fails is shown, and without it is not."""
    fork.replace("agent/hooks.py", 'note("look")', 'raise LookupError("no owls here")')

    plain, debug = fork.do("run", OWLS), fork.do("run", OWLS, "--debug")

    assert (plain.code, debug.code) == (0, 0)
    assert "LookupError: no owls here" in plain.err
    assert "Traceback" not in plain.err
    assert re.search(r'Traceback .*\n(.*\n)*.*agent/hooks.py", line \d+, in look', debug.err)


def test_a_file_is_attached(fork):
    """Files are attached in order; one that no model takes, or that is not there, is a usage."""
    (fork.folder / "a.png").write_bytes(b"\x89PNG\xff")
    (fork.folder / "b.md").write_text("# B")
    attached = ("--attach", "a.png", "--attach", "b.md")

    done = fork.do("run", OWLS, *attached, "--id", "first")
    again = fork.do("run", OWLS, "--id", "first")
    refused = [
        fork.do("run", OWLS, "--attach", "c.png"),
        fork.do("run", OWLS, "--attach", "owls.zip"),
        fork.do("run", "--id", "first", *attached),
    ]
    shown = fork.do("show", "first", "--key", "run", "--json").document

    assert (done.code, done.out) == (0, ANSWER)
    parts = shown["input"]["task"]["attachments"]
    assert [(each["type"], each["media_type"]) for each in parts] == [
        ("image", "image/png"),
        ("document", "text/plain"),
    ]
    assert "is taken by a run" in again.err
    assert [each.code for each in refused] == [2, 2, 2]
    assert "'c.png' cannot be attached: No such file" in refused[0].err


def test_one_comes_back_by_the_printed_id(fork):
    """The id that a fresh run is given leads back to it."""
    run_id = fork.do("run", OWLS).err.splitlines()[0]

    done = fork.do("run", "--id", run_id)

    assert (done.code, done.out) == (0, ANSWER)
    assert f"python -m agent show {run_id}" in done.err


def test_the_same_id_calls_nothing(fork):
    """A finished run's id prints the recorded answer, with the question or without."""
    fork.do("run", OWLS, "--id", "first")
    calls = fork.calls

    again = [
        fork.do("run", OWLS, "--id", "first"),
        fork.do("run", "--id", "first"),
        fork.do("resume", "first"),
    ]

    assert [(done.code, done.out) for done in again] == [(0, ANSWER)] * 3
    assert fork.calls == calls == ["model", "look", "model"]


def test_a_new_run_comes_alone(fork):
    """Starting a run does not take up another that was interrupted."""
    fork.start("old", OWLS)

    fork.do("run", OWLS, "--id", "new")

    assert (fork.run("old")["status"], fork.run("new")["status"]) == ("ready", "done")


def test_a_run_that_another_worker_drives(fork):
    """`run` follows a run that is driven elsewhere, and prints its answer too."""
    driver = fork.open_held("run", OWLS, "--id", "first")
    follower = fork.open("run", "--id", "first")
    said = follower.stderr.readline() + follower.stderr.readline()
    fork.let_go()

    outputs = [end(driver).out, end(follower).out]

    assert outputs == [ANSWER, ANSWER]
    assert "another worker drives this run; following it" in said
    assert fork.run("first")["claims"] == 1


def test_an_incomplete_answer(fork):
    """A run that ends without its answer prints what it has, says why, and exits with 3."""
    fork.replace("agent/hooks.py", "max_turns(5)", "max_turns(1)")

    done = fork.do("run", OWLS)

    assert (done.code, done.out) == (3, ANSWER), "the last words, asked for without tools"
    assert "max_turns · 2 turns" in done.err
    assert "incomplete: " in done.err


def test_code_that_asks_for_something_else(fork):
    """A run whose code no longer fits is paused with both sides shown, and takes either cure."""
    remember = "async def remember(what):\n    return what\n\n\n"
    fork.replace("agent/loop.py", "@durable\n", f"{remember}@durable\n")
    fork.replace("agent/loop.py", "    turn = await begin", f"{STEP}    turn = await begin")
    for run_id in ("first", "second"):
        process = fork.open_held("run", OWLS, "--id", run_id)
        process.kill()
        end(process)
        fork.let_go()
    fork.replace("agent/loop.py", '"the old way"', '"a newer way"')

    paused = fork.do("run", "--id", "first")
    accepted = fork.do("resume", "first", "--accept", "remember.0")
    shown = fork.do("show", "first")
    second = fork.do("run", "--id", "second")
    fork.replace("agent/loop.py", '"a newer way"', '"the old way"')
    restored = fork.do("resume", "second")

    assert (paused.code, paused.out) == (4, "")
    assert re.search(r"recorded +step remember .*the old way", paused.err)
    assert re.search(r"asked now +step remember .*a newer way", paused.err)
    assert "python -m agent resume first --accept remember.0" in paused.err
    assert (accepted.code, accepted.out) == (0, ANSWER)
    assert re.search(r"accepted for step remember .*a newer way.* by \w+", shown.out)
    assert second.code == 4
    assert (restored.code, restored.out) == (0, ANSWER)


def test_what_only_a_person_can_mend(fork):
    """A model call that needs a person pauses the run; mended and resumed, it loses nothing."""
    fork.replace("agent/hooks.py", "script=script", "script=TURNS[:1]")
    paused = fork.do("run", OWLS, "--id", "first")
    shown = fork.do("show", "first")
    fork.replace("agent/hooks.py", "script=TURNS[:1]", "script=TURNS")

    done = fork.do("resume", "first")

    assert (paused.code, paused.out) == (4, "")
    assert "paused: BadRequest: the script has 1 turns" in paused.err
    assert "python -m agent resume first" in paused.err
    assert "paused: BadRequest: the script has 1 turns" in shown.out
    assert (done.code, done.out) == (0, ANSWER)
    assert fork.calls == ["look"]


def test_attempts_are_told(fork):
    """A tool's failed attempts are told while it runs and shown afterwards, with their errors."""
    fork.write("agent/hooks.py", RETRYING)

    done = fork.do("run", OWLS, "--id", "first")

    assert done.code == 0
    assert "look  failed  LookupError: not yet; again after" in done.err
    assert "attempt 1, again after" in fork.do("show", "first").out


def test_an_unknown_price(fork):
    """A cost that nobody knows is said to be unknown, and null for scripts; it is never $0."""
    reply = "Reply((Text('Two owls.'),), StopReason.END, 'scripted', '', Usage(10, 5))"
    imports = "from substrate.models.messages import Reply, StopReason, Text, Usage\n"
    hooks = HOOKS.replace("script=script", f"script=[{reply}]")
    fork.write("agent/hooks.py", imports + hooks)

    done = fork.do("run", OWLS, "--id", "first")

    assert "15 tokens · unknown price" in done.err
    assert "$0" not in done.err
    assert "unknown price" in fork.do("runs").out
    assert fork.run("first")["usage"]["cost_usd"] is None


def test_dotenv(fork):
    """`.env` in the folder is read, and what is set outside wins."""
    fork.write(".env", "# runs\nexport DATABASE_URL='sqlite:///outside.db'  # not this\nOWLS=7\n")
    answer = '__import__("os").environ["OWLS"] + " owls."'
    fork.replace("agent/hooks.py", '"Two owls."', answer)

    inside = fork.do("run", OWLS)
    outside = fork.do("run", OWLS, OWLS="9")

    assert [inside.out, outside.out] == ["7 owls.\n", "9 owls.\n"]
    assert (fork.folder / "runs.db").exists()
    assert not (fork.folder / "outside.db").exists()


def test_a_model_in_the_place_of_another(fork):
    """Where a key is missing and the offline model answers, one line says so and what to set."""
    fork.replace(
        "agent/hooks.py",
        'Model("scripted:owls", script=script)',
        'Model("anthropic:claude-x", offline=Model("scripted:owls", script=script))',
    )

    done = fork.do("run", OWLS)

    assert (done.code, done.out) == (0, ANSWER)
    told = "ANTHROPIC_API_KEY is not set, so scripted:owls answers in place of anthropic:claude-x"
    assert done.err.splitlines()[1] == told


def test_the_script_beside_a_fork(fork):
    """`ostinato` serves the agent of the current folder, and calls itself by its name."""
    done = fork.do("run", OWLS, "--id", "first", by=("-c", AS_SCRIPT))

    assert (done.code, done.out) == (0, ANSWER)
    assert "ostinato show first" in done.err


@pytest.mark.parametrize("bad", ["--id", "-x"])
def test_an_id_that_looks_like_an_option(fork, bad):
    """An id that begins as an option does is refused, and nothing is started."""
    refused = fork.do("run", OWLS, "--id", bad)

    assert refused.code == 2
    assert f"'{bad}' is not a run id, since it begins with '-' as an option does" in refused.err
    assert fork.calls == []


def test_an_empty_id(fork):
    """An id that is empty, as an unset variable makes it, is refused: it would be another run."""
    refused = fork.do("run", OWLS, "--id", "")

    assert refused.code == 2
    assert "the id is empty; is a shell variable unset?" in refused.err
