"""Whatever ends a command, its runs go on from where they were: a kill, a signal, a stuck tool."""

import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.fork import HOOKS, LIMIT_S, Fork, end
from tests.keeper import wait_until
from tests.warm import Command

OWLS = "How many owls?"
ANSWER = "Two owls.\n"
NEXT_CLAIM = "— claim 2: another process went on from here —"


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose runs live in a SQLite file beside it."""
    return Fork.make(tmp_path)


def test_killed_and_run_again(tmp_path, store_url):
    """After SIGKILL the same line goes on where it was, and calls nothing that was recorded."""
    fork = Fork.make(tmp_path, store_url)
    process = replace(fork, python=None).open_held("run", OWLS, "--id", "first")
    process.kill()
    end(process)
    fork.let_go()

    done = replace(fork, python=None).do("run", OWLS, "--id", "first")

    assert (done.code, done.out) == (0, ANSWER)
    resumed = "resuming: 2 steps recorded, going on with tools.0/look.0"
    assert resumed in done.err or NEXT_CLAIM in done.err
    assert fork.calls == ["model", "look", "look", "model"], "again, only what was not recorded"
    before, cut, after = fork.do("show", "first").out.partition(NEXT_CLAIM)
    assert cut
    assert "model.0" in before
    assert "look.0" in after
    assert "model.1" in after


@pytest.mark.parametrize(
    "number, code",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["int", "term", "hup"],
)
def test_a_signal_gives_the_run_back(tmp_path, store_url, number, code):
    """Ctrl-C, SIGTERM and SIGHUP let a `once` call end, and leave the run ready."""
    fork = Fork.make(tmp_path, store_url, HOOKS.replace('effect="pure"', 'effect="once"'))
    fork.replace("agent/hooks.py", "print(", "await asyncio.sleep(0.5)  # not ")
    process = fork.open_held("run", OWLS, "--id", "first")
    process.send_signal(number)
    said = read_until(process, "Ctrl-C again leaves at once")
    fork.let_go()

    stopped = end(process)
    run = fork.run("first")
    resumed = fork.do("resume", "first")

    assert (stopped.code, stopped.out) == (code, "")
    assert "first\n" in said
    assert f"stopped by {number.name}: run first is given back" in stopped.err
    assert "python -m agent resume first" in stopped.err
    assert (run["status"], run["crashes"]) == ("ready", 0)
    assert run["journal"][-1]["state"] == "resolved", "what was under way is recorded"
    assert (resumed.code, resumed.out) == (0, ANSWER)
    assert fork.calls == ["model", "look", "model"]


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
"""


def test_a_terminal_that_is_closed(fork):
    """A terminal that goes away stops a run as SIGTERM does: what is under way ends."""
    fork.write("agent/hooks.py", HOOKS.replace('effect="pure"', 'effect="once"'))
    fork.hold()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, "run", OWLS, "--id", "first"],
        cwd=fork.folder,
        env=fork.environment(TERM="xterm"),
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
    )
    os.close(theirs)
    try:
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as the shell does, beside the system
        assert not wait_until(lambda: process.poll() is not None, 0.3)
        fork.let_go()
        assert process.wait(LIMIT_S) == 129
    finally:
        process.kill()
        process.wait()
    run = fork.run("first")

    assert (run["status"], run["crashes"]) == ("ready", 0)
    assert run["journal"][-1]["state"] == "resolved", "what was under way is recorded"


def test_under_nohup_a_hang_up_stays_ignored(fork):
    """Where SIGHUP is ignored when the command starts, it goes on to the answer."""
    fork.hold()
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "agent", "run", OWLS, "--id", "first"],
        cwd=fork.folder,
        env=fork.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until((fork.folder / "looking").exists, LIMIT_S)
    process.send_signal(signal.SIGHUP)
    fork.let_go()

    done = end(process)

    assert (done.code, done.out) == (0, ANSWER)


@pytest.mark.parametrize("is_document", [False, True])
def test_a_disk_that_is_full(fork, is_document):
    """Where nothing can be saved the command ends with what the database says, and stays not."""
    hooks = HOOKS.replace("TURNS = [", "TURNS = [say('x' * 9, call('look', what='y'))] * 400 + [")
    fork.write("agent/hooks.py", hooks.replace("max_turns(5)", "max_turns(390)"))
    assert fork.do("runs").code == 0
    process = subprocess.Popen(
        [sys.executable, "-c", FULL, "run", OWLS, "--id", "first", *["--json"] * is_document],
        cwd=fork.folder,
        env=fork.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    done = end(process)

    assert done.code == 1
    said = done.document["error"]["message"] if is_document else done.err
    assert "disk I/O error" in said
    assert "check the file and its disk" in said
    assert "Traceback" not in done.err
    assert fork.run("first")["status"] in ("running", "ready"), "and goes on from what was saved"


FULL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
"""


def read_until(process: subprocess.Popen[str] | Command, text: str) -> str:
    """Read what a command says until this text has come; return it."""
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, f"{text!r} did not come: {said}"
        said += line
    return said


@pytest.mark.parametrize("call", ["model", "look", "plain"])
def test_ctrl_c_gives_the_prompt_back(tmp_path, store_url, record_property, call):
    """What may be done again is cut off by Ctrl-C: the prompt is back, and the run given back."""
    hooks = HOOKS
    if call == "plain":  # which runs in a thread, and cannot be cut off
        hooks = hooks.replace("async def look", "def look")
        hooks = hooks.replace("await asyncio.sleep(0.01)", "__import__('time').sleep(0.01)")
    if call == "model":
        hooks = hooks.replace("def script(request):", "async def script(request):")
        hooks = hooks.replace('note("model")', f'note("model")\n{WAITS}')
    fork = Fork.make(tmp_path, store_url, hooks)
    process = fork.open_held("run", OWLS, "--id", "first")
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    stopped = end(process)
    took = time.perf_counter() - began
    run = fork.run("first")
    fork.let_go()
    resumed = fork.do("resume", "first")

    record_property(f"Ctrl-C during {call}, seconds to the prompt", round(took, 2))
    assert stopped.code == 130
    assert took < 3, "a second on a machine that does nothing else"
    assert "stopping: what is under way is done again later" in stopped.err
    assert "stopped by SIGINT: run first is given back, nothing is lost" in stopped.err
    assert "Traceback" not in stopped.err
    assert (run["status"], run["crashes"]) == ("ready", 0)
    assert (resumed.code, resumed.out) == (0, ANSWER)
    twice = ["model", "model", "look"] if call == "model" else ["model", "look", "look"]
    assert fork.calls == [*twice, "model"], "again, only what was cut off"


WAITS = """    Path("looking").touch()
    while Path("hold").exists():
        await asyncio.sleep(0.01)"""


def test_a_second_signal_leaves_at_once(fork):
    """A second Ctrl-C does not wait for a step that hangs, and the run can be gone on with."""
    fork.replace("agent/hooks.py", 'effect="pure"', 'effect="once"')
    process = fork.open_held("run", OWLS, "--id", "first")
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again leaves at once")
    process.send_signal(signal.SIGINT)
    code = process.wait(LIMIT_S / 6)
    end(process)
    fork.let_go()

    again = fork.do("run", "--id", "first")

    assert code == 130
    assert (again.code, again.out) == (0, ANSWER)
    assert fork.calls == ["model", "look", "model"], "what may not be made twice is not"


def test_a_tool_that_blocks_the_loop(fork):
    """Two signals end the command also while a tool keeps the event loop from running."""
    blocking = "__import__('time').sleep(0.01)"
    fork.replace("agent/hooks.py", "await asyncio.sleep(0.01)", blocking)
    process = fork.open_held("run", OWLS, "--id", "first")

    def end_it() -> bool:  # two signals of one kind that wait at once count as one
        process.send_signal(signal.SIGTERM)
        return process.poll() is not None

    assert wait_until(end_it, LIMIT_S / 6)
    assert end(process).code == 143


def test_a_plain_tool_that_never_ends(fork):
    """A thread that a timed-out tool left behind does not keep the command from ending."""
    imports = "import threading\nfrom datetime import timedelta\n"
    hooks = (
        HOOKS.replace('effect="pure"', 'effect="pure", timeout=timedelta(milliseconds=50)')
        .replace("async def look", "def look")
        .replace("await asyncio.sleep(0.01)", "threading.Event().wait()")
    )
    fork.write("agent/hooks.py", imports + hooks)
    fork.hold()

    done = fork.do("run", OWLS)

    assert (done.code, done.out) == (0, ANSWER)
    assert 'look(what="owls")  failed' in done.err
    assert "TimeoutError" in done.err


def test_a_run_that_kills_its_workers(fork):
    """After three crashes at the same point a run is dead, and only `resume` tries it again."""
    deadly = 'note("look"); import os; os.kill(os.getpid(), 9)'
    fork.replace("agent/hooks.py", 'note("look")', deadly)
    killed = [fork.do("run", OWLS, "--id", "first").code for _ in range(3)]
    fork.replace("agent/hooks.py", deadly, 'note("look")')

    dead = fork.do("run", "--id", "first")
    resumed = fork.do("resume", "first")

    assert killed == [-signal.SIGKILL] * 3
    assert dead.code == 1
    assert "dead: RunDead: its workers ended 3 times" in dead.err
    assert "python -m agent resume first" in dead.err
    assert (resumed.code, resumed.out) == (0, ANSWER)


def test_worker(tmp_path, store_url):
    """A worker drives what was started, logs each run, and gives back what it cannot end."""
    fork = Fork.make(tmp_path, store_url)
    fork.start("first", OWLS)
    worker = replace(fork, python=None).open("worker", "--concurrency", "4", "--lease", "5")
    assert wait_until(lambda: fork.run("first")["status"] == "done", LIMIT_S)
    fork.hold()
    fork.start("second", OWLS)
    assert wait_until((fork.folder / "looking").exists, LIMIT_S)
    worker.send_signal(signal.SIGTERM)
    fork.let_go()

    stopped = end(worker)

    assert (stopped.code, stopped.out) == (0, "")
    for told in (
        "queue default: agent v1, and conversations (agent-conversation v1), up to 4 at once",
        "run first is taken, claim 1",
        "run first is done",
        "run second is taken, claim 1",
        "every run is given back",
    ):
        assert told in stopped.err
    second = fork.run("second")
    assert (second["status"], second["crashes"]) == ("ready", 0)
