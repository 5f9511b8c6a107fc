"""What a command says is whole and said once, whatever lies in the folder."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork import HOOKS, KIT, Fork, end
from tests.keeper import wait_until
from tests.test_cli_approvals import HOOKS as SHOP
from tests.test_cli_approvals import asking

LIMIT_S = 30
LONG = "customer-of-the-north-with-a-very-long-name-that-fills-the-line-of-any-terminal-by-itself"


def test_commands_are_whole(tmp_path):
    """Where standard error is no terminal, a command that is suggested stands whole on its line."""
    fork = Fork.make(tmp_path, hooks=SHOP)
    fork.start(LONG, "Pay it back.")
    process = fork.open("resume", LONG, UV_RUN_RECURSION_DEPTH="1")
    assert wait_until(lambda: fork.do("approvals", "--json").document["gates"], LIMIT_S)
    process.send_signal(signal.SIGINT)
    told = end(process).err

    gate = fork.do("approvals", "--json").document["gates"][0]["gate"][:8]
    deny = f"uv run python -m agent deny {gate} --why REASON)"
    hint = f"in another shell: uv run python -m agent approve {gate}  (or {deny}"
    assert [line.strip() for line in told.splitlines() if "in another shell" in line] == [hint]


def talk(fork: Fork, *said: str) -> None:
    """Say something in a conversation, from a pipe."""
    subprocess.run(
        [sys.executable, "-m", "agent", "chat", "--id", "talk"],
        cwd=fork.folder,
        env=fork.environment(),
        input="".join(f"{each}\n" for each in said),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_when_a_message_is_read(tmp_path):
    """A conversation that waits answers next, also where it waits in a worker's memory."""
    hooks = HOOKS + "\nmodel = Model('scripted:talk', script=lambda request: say('Hello.'))\n"
    fork = Fork.make(tmp_path, hooks=hooks)
    talk(fork, "hello")
    suspended = fork.do("say", "talk", "and again")
    worker = fork.open("worker")
    try:
        assert wait_until(lambda: fork.run("talk")["inbox"] == [], LIMIT_S)
        assert wait_until(lambda: fork.run("talk")["waits"] != [], LIMIT_S)
        in_memory = (fork.run("talk")["status"], fork.do("say", "talk", "once more"))
    finally:
        worker.send_signal(signal.SIGTERM)
        end(worker)

    assert "it answers that next" in suspended.out
    assert in_memory[0] == "running"
    assert "it answers that next" in in_memory[1].out


def test_a_message_at_a_gate(tmp_path):
    """It is said that a message decides nothing, and what does."""
    fork = Fork.make(tmp_path, hooks=SHOP)
    gate = asking(fork)

    done = fork.do("say", "shop/1", "yes, go on")

    assert done.code == 0
    assert "reads that before its next model call" in done.out
    assert "it decides nothing" in done.err
    assert f"-m agent approve {gate['gate'][:8]}" in done.err


def test_a_conversation_goes_on_by_chat(tmp_path):
    """Who decides a gate of a conversation is told the command that goes on with one."""
    fork = Fork.make(tmp_path, hooks=SHOP)
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "chat", "--id", "talk"],
        cwd=fork.folder,
        env=fork.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("Pay it back.\n")
    process.stdin.flush()
    assert wait_until(
        lambda: (fork.folder / "runs.db").exists() and "refund" in fork.do("approvals").out, LIMIT_S
    )
    process.kill()
    process.communicate()
    done = fork.do("approve", "talk")
    assert done.code == 0, done.err
    assert "to drive it here: " in done.err
    assert done.err.rstrip().endswith("-m agent chat --id talk")


@pytest.mark.parametrize("name", ["json", "typing", "enum", "socket", "openai", "rich"])
def test_a_module_of_a_known_name(tmp_path, name):
    """A file beside the agent that is called as a module of Python's, or of others, hides none."""
    fork = Fork.make(tmp_path / "fork")
    fork.write(f"{name}.py", "x = 1\n")
    real = Fork(fork.folder, fork.url, python=None)

    done = real.do("run", "How many owls?")
    doctor = real.do("doctor")

    assert (done.code, done.out) == (0, "Two owls.\n"), done.err
    is_pythons = name in sys.stdlib_module_names
    assert (f"{name}.py has the name of a module of Python's" in doctor.out) is is_pythons


@pytest.mark.parametrize("slow", ["orjson", "typer"])
def test_ctrl_c_while_it_is_loaded(tmp_path, slow):
    """Ctrl-C during the imports ends the command with 130, without a traceback."""
    fork = Fork.make(tmp_path / "fork")
    slowed = tmp_path / "slow"
    slowed.mkdir()
    sign = tmp_path / "sign"
    (slowed / f"{slow}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(sign)!r}).touch()\ntime.sleep(60)\n"
    )
    path = os.pathsep.join((str(slowed), str(KIT)))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "runs"],
        cwd=fork.folder,
        env=fork.environment(PYTHONPATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until(sign.exists, LIMIT_S)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)

    assert (process.returncode, out, err) == (130, "", "")


FAULTS = {
    "a text for yes or no": ('lambda cents: "no"', "gave 'no'"),
    "an error": ('lambda cents: cents["x"]', "is not subscriptable"),
}


@pytest.mark.parametrize("when, told", FAULTS.values(), ids=FAULTS)
def test_an_error_is_said_once(tmp_path, when, told):
    """What a hook raised is named once, and so is the place."""
    fork = Fork.make(tmp_path, hooks=SHOP.replace("lambda cents: cents > 2000", when))

    done = fork.do("run", "Pay it back.", "--id", "a")

    (line,) = [each for each in done.err.splitlines() if each.startswith("paused: ")]
    assert told in line
    assert len(re.findall(r"Misuse|TypeError", line)) == 1
    places = re.findall(r"\([^()]*hooks\.py:\d+\)", line)
    assert len(places) == len(set(places))
    shown = fork.do("show", "a").out
    assert line in shown


def test_the_place_at_load_is_said_once(tmp_path):
    """So it is where a hook is refused before a run."""
    fork = Fork.make(tmp_path, hooks=SHOP.replace("lambda cents: cents", "lambda sum: sum"))

    done = fork.do("run", "Pay it back.")

    assert "asks for 'sum', which is no argument of it" in done.err
    assert done.err.count("hooks.py") == 2  # where the tool is made, and where the function is


def test_a_folder_called_dotenv(tmp_path):
    """What keeps a file from being read is said in words, and not in the system's numbers."""
    fork = Fork.make(tmp_path)
    Path(tmp_path / ".env").mkdir()

    done = fork.do("runs")

    assert done.code == 2
    assert ".env cannot be read: Is a directory; mend it" in done.err


def test_one_key_is_told_once(tmp_path):
    """`doctor` tells once of a key that several agents lack."""
    ours = 'Model("anthropic:claude-sonnet-5-5", offline=Model("scripted:owls", script=script))'
    more = """
from substrate.agent import Agent, delegate

tools = [delegate(Agent(name, "Help.", model), description="Helps.") for name in ("a1", "a2")]
"""
    hooks = HOOKS.replace('Model("scripted:owls", script=script)', ours) + more
    fork = Fork.make(tmp_path, hooks=hooks)

    assert fork.do("doctor").out.count("ANTHROPIC_API_KEY is not set") == 1
