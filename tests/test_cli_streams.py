"""A command ends as it should whatever its streams are: closed, full, or read by nobody."""

import shlex
import subprocess
import sys
from datetime import timedelta

import pytest

from substrate import WorkerOptions, connect
from substrate.models.model import Model
from substrate.values.errors import ModelError, Overloaded, Unusable
from tests.fork import Done, Fork
from tests.loops import TASK, make_agent
from tests.stores import eventually

OWLS = "How many owls?"
LONG = "busy " * 60


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def typed(fork: Fork, command: str) -> Done:
    """Type a command into a shell, with its redirections."""
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m agent {command}"],
        cwd=fork.folder,
        env=fork.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", [f"run {OWLS!r} --id first", "runs", "show first --json"])
def test_closed(fork, command, closed):
    """A closed stream is no reason to fail, and no file takes its place."""
    if not command.startswith("run "):
        fork.do("run", OWLS, "--id", "first")

    done = typed(fork, f"{command} {closed}")

    assert done.code == 0
    assert "Traceback" not in done.err
    assert fork.run("first")["status"] == "done"


@pytest.mark.parametrize("reader", ["true", "head -n 1"])
@pytest.mark.parametrize("both", [False, True], ids=["output", "errors, too"])
@pytest.mark.parametrize("flag", ["--json", "--debug"])
def test_a_reader_that_goes_away(fork, reader, both, flag):
    """A reader that has gone keeps no run from its end, and is told no traceback."""
    fork.replace("agent/hooks.py", 'say("Two owls.")', 'say("Two owls. " * 20_000)')

    done = fork.read_by(reader, "run", OWLS, "--id", "first", flag, both=both)
    shown = fork.read_by(reader, "show", "first", flag, both=both)

    assert (done.code, shown.code) == (0, 0), done.err + shown.err
    for each in (done, shown):
        assert "Traceback" not in each.out + each.err
        assert "fault" not in each.err
    assert fork.run("first")["status"] == "done"


def test_full(fork):
    """An answer that cannot be written is a failure, said in a sentence."""
    done = typed(fork, "runs > /dev/full")

    assert done.code == 1
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err


def failing(error: ModelError) -> Model:
    """Return a model that fails in this way."""

    def script(request: object) -> None:
        raise error

    return Model("scripted:away", script=script)


async def leave_waiting(fork: Fork, error: ModelError) -> None:
    """Drive a run until its model has failed so that the run stands still."""
    agent, cold = make_agent(failing(error)), WorkerOptions(idle_timeout=timedelta(0))
    async with connect(fork.absolute_url) as client:
        await client.start(agent, TASK, id="first")
        async with client.work([agent], options=cold):

            async def stands_still() -> bool:
                return (await client.get("first")).status in ("suspended", "paused")

            await eventually(stands_still)


async def test_a_provider_that_is_away(fork):
    """What a run waits for is shown: when it tries again, how often it did, since when, and why."""
    await leave_waiting(fork, Overloaded(f"529: {LONG}; back off", retry_after=7200))

    shown, listed = fork.do("show", "first").out, fork.do("runs").out
    (wait,) = fork.run("first")["waits"]

    told = "next try at 20"
    assert told in shown
    assert "after 1 attempt since 20" in shown
    assert "…; back off" in shown
    assert told in listed
    assert (wait["attempts"], wait["last"]["type"]) == (1, "Overloaded")
    assert wait["until_ms"] - wait["since_ms"] >= 7_200_000


async def test_a_person_need_not_wait(fork):
    """`resume` of a run that waits for its provider tries at once, as `show` says."""
    await leave_waiting(fork, Overloaded("529; back off", retry_after=7200))

    shown = fork.do("show", "first").out
    done = fork.do("resume", "first")

    assert "to try at once: python -m agent resume first" in shown
    assert (done.code, done.out) == (0, "Two owls.\n")


async def test_a_wrong_key(fork):
    """A key that is refused is said with its remedy, and not with a line of the kit's source."""
    await leave_waiting(fork, Unusable("401 invalid_api_key; check the key"))

    shown = fork.do("show", "first").out

    assert "paused: Unusable: 401 invalid_api_key; check the key" in shown
    assert ".py:" not in shown


def test_an_empty_answer(fork):
    """An answer without a word says that it is empty."""
    fork.replace("agent/hooks.py", "TURNS = [", 'TURNS = [*[say("")] * 9,')

    done = fork.do("run", OWLS, "--id", "first")

    assert done.out.strip() == ""
    assert "the answer is empty" in done.err
