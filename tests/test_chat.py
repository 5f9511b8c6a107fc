"""A person talks with an agent at a terminal, and goes on where they left."""

import signal
import subprocess
import sys

import pytest

from tests.fork import LIMIT_S, Fork, end
from tests.keeper import wait_until
from tests.test_cli_terminal import Terminal, terminal

HOOKS = r'''
import asyncio
from pathlib import Path

from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.messages import Text, ToolMessage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say


def note(called):
    with Path("calls").open("a") as calls:
        calls.write(called + chr(10))


def words(message):
    return [part.text for part in message.parts if isinstance(part, Text)]


def script(request):
    note("model")
    last = request.messages[-1]
    said = [words(each)[0] for each in request.messages if isinstance(each, UserMessage)]
    if isinstance(last, ToolMessage):
        return say(f"Done: {last.results[0].content}")
    if "look" in said[-1]:
        return say("I look.", call("look", what="owls"))
    if "refund" in said[-1]:
        return say("I refund.", call("refund", order="A-17", cents=2500))
    return say(f"You have said {len(said)} things, the last: {said[-1]}")


@tool(effect="pure")
async def look(what: str) -> str:
    """Look something up."""
    note("look")
    Path("looking").touch()
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    return f"{what}: two \x1b[2J\x1b]0;title\x07"


@tool(effect="idempotent", approve=True)
def refund(order: str, cents: int) -> str:
    """Pay back."""
    note(f"refund-{cents}")
    return f"{cents} paid back for {order}"


prompt = "Be brief."
model = Model("scripted:owls", script=script)
tools = [look, refund]
stop = any_of(answered(), max_turns(5))
'''


WAIT = """
        Path("looking").touch()
        while Path("hold").exists():
            await asyncio.sleep(0.01)
"""


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose agent talks, looks and refunds."""
    return Fork.make(tmp_path, hooks=HOOKS)


def say(window: Terminal, words: str) -> None:
    window.type(f"{words}\r")


def test_a_talk(fork):
    """Question, tool, approval, kill -9, restart, history, a message from a second terminal."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        window.read_until("\x1b[?2004h")
        say(window, "Good morning.")
        window.read_until("You have said 1 things, the last: Good morning.")
        say(window, "Please look.")
        window.read_until("Done: owls: two")
        say(window, "A refund, please.")
        window.read_until("cents = 2500")
        window.read_until("l later >")
        say(window, "y")
        window.read_until("Done: 2500 paid back for A-17")
        fork.hold()
        say(window, "Please look again.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.kill()

    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        window.read_until("Done: 2500 paid back for A-17")
        window.read_until("> Please look again.")
        window.read_until('look(what="owls")')
        said = fork.do("say", "trip", "And what of the attic?")
        assert said.code == 0
        fork.let_go()
        window.read_until("And what of the attic?")
        window.read_until("You have said 5 things, the last: And what of the attic?")
        say(window, "/cost")
        window.read_until("so far")
        say(window, "/quit")
        code = window.process.wait(LIMIT_S)

    assert code == 0
    assert fork.run("trip")["status"] == "suspended"
    assert fork.calls.count("refund-2500") == 1


def begun(window: Terminal) -> None:
    """Wait until the prompt is there, and what was drawn before is of no interest."""
    window.read_until("\x1b[?2004h")
    window.screen = ""


def approve_and_edit(window: Terminal, keys: str) -> None:
    window.read_until("l later >")
    window.screen = ""
    say(window, keys)


def test_no_and_its_reason(fork):
    """No asks why, and the model is told; nothing was called."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        approve_and_edit(window, "maybe")
        window.read_until("'maybe' is none of y, n, e, a, l")
        approve_and_edit(window, "n")
        window.read_until("the model is told >")
        say(window, "ask Ada first")
        window.read_until("ask Ada first\r\n")
        window.read_until("Done:")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert not [each for each in fork.calls if each.startswith("refund")]


def test_edited_arguments(fork):
    """Each argument is edited in its place; one that does not fit is asked for again."""
    with terminal(fork, "run", "A refund.", "--id", "first", columns="120") as window:
        approve_and_edit(window, "e")
        window.read_until("cents =")
        say(window, "\x15many")  # Ctrl-U clears the line
        window.read_until("order =")
        say(window, "")
        window.read_until("nothing was decided")
        approve_and_edit(window, "e")
        window.read_until("cents =")
        say(window, "\x15900")
        window.read_until("order =")
        say(window, "")
        window.read_until("900 paid back for A-17")
        assert window.process.wait(LIMIT_S) == 0

    assert "refund-900" in fork.calls


def test_always_is_shown_before_it_is_saved(fork):
    """A rule that does not allow the call, or is not confirmed, is not saved; another holds."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        approve_and_edit(window, "a")
        window.read_until("rule >")
        say(window, " where cents < 100")
        window.read_until("does not allow this call; nothing was saved")
        approve_and_edit(window, "a")
        window.read_until("rule >")
        say(window, " where cents < 3000")
        window.read_until("allow refund where cents < 3000: for all runs")
        say(window, "n")
        window.read_until("no rule was saved")
        assert fork.do("rules", "list", "--json").document["rules"] == []
        approve_and_edit(window, "a")
        window.read_until("rule >")
        say(window, " where cents < 3000")
        window.read_until("save this rule?")
        say(window, "y")
        window.read_until("2500 paid back")
        window.screen = ""
        say(window, "Another refund.")  # nobody is asked
        window.read_until("2500 paid back")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    (rule,) = fork.do("rules", "list", "--json").document["rules"]
    assert (rule["tool"], rule["where"]) == ("refund", "cents < 3000")
    assert fork.calls.count("refund-2500") == 2


def test_later_and_elsewhere(fork):
    """Later gives the prompt back; what is decided from another terminal ends the question."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        approve_and_edit(window, "l")
        window.read_until("it stays open as")
        window.read_until("\x1b[?2004h")
        window.screen = ""  # else the question of before is read again
        say(window, "/go")
        window.read_until("l later >")
        assert fork.do("approve", "trip", "--by", "Ada").code == 0
        window.read_until("it is approved by Ada meanwhile")
        window.read_until("2500 paid back")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0


def test_ctrl_c_gives_the_prompt_back(fork):
    """Ctrl-C stops what is under way, at a question too; the conversation goes on from there."""
    fork.hold()
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Please look.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.send_signal(signal.SIGINT)  # the test is no session's leader
        window.read_until("stopped; it goes on with /go")
        window.read_until("\x1b[?2004h")
        assert fork.run("trip")["status"] in ("ready", "suspended")
        fork.let_go()
        say(window, "/go")
        window.read_until("Done: owls: two")
        window.screen = ""
        say(window, "A refund.")
        window.read_until("l later >")
        window.type("\x03")
        window.read_until("stopped; it goes on with /go")
        window.screen = ""
        say(window, "/go")
        approve_and_edit(window, "y")
        window.read_until("2500 paid back")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1


def test_nothing_said_is_obeyed_by_the_terminal(fork):
    """Controls in what people, models and tools say are shown as escapes, in history too."""
    fork.do("chat", "--id", "trip", "--debug")
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Please look.")
        window.read_until("\\x1b[2J\\x1b]0;title\\x07")
        say(window, "/quit")
        window.process.wait(LIMIT_S)
    assert fork.do("say", "trip", "\x1b[31mred look\x1b[2J").code == 0
    with terminal(fork, "chat", "--id", "trip", columns="120") as again:
        again.read_until("\\x1b[31mred look\\x1b[2J")
        again.read_until("Done:")

    for screen in (window.screen, again.screen):
        assert "\x1b[2J" not in screen
        assert "\x1b]0;title" not in screen


@pytest.mark.parametrize("command", [("chat",), ("run", "A refund, please.")])
def test_what_is_typed_before_a_question_decides_nothing(fork, command):
    """Keys that were pressed before a gate was shown neither approve it nor are taken for later."""
    fork.replace("agent/hooks.py", "def script(request):", "async def script(request):")
    fork.replace(
        "agent/hooks.py", '        return say("I refund."', WAIT + '        return say("I refund."'
    )
    fork.hold()
    with terminal(fork, *command, "--id", "trip", columns="120") as window:
        if command == ("chat",):
            begun(window)
            say(window, "A refund, please.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.type("y\ryes\ry")
        window.read_until("yes")  # the terminal has them: it shows what is typed
        fork.let_go()
        window.read_until("l later >")

        assert "is not taken" in window.plain
        window.type("n\r")
        window.read_until("the model is told >")
        window.type("No need.\r")
        window.read_until("Done: ")
    assert "refund-2500" not in fork.calls


def test_several_lines(fork):
    """Alt+Enter, or a backslash before Enter, begins a new line of the same message."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        window.type("One,\\\rtwo,\x1b\rthree.\r")
        window.read_until("You have said 1 things")
        window.read_until("three.")
        say(window, "/quit")
        window.process.wait(LIMIT_S)

    (prompt,) = [row for row in fork.run("trip")["journal"] if row["name"] == "prompt"]
    assert prompt["value"]["task"]["parts"][0]["text"] == "One,\ntwo,\nthree."


def piped(fork: Fork, words: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "chat", *arguments],
        cwd=fork.folder,
        env=fork.environment(),
        input=words,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_lines_of_a_pipe(fork):
    """Without a terminal each line is a message, and who has to decide is told the command."""
    done = piped(fork, "Good morning.\n\nAnd you?\n", "--id", "trip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "You have said 1 things, the last: Good morning.",
        "You have said 2 things, the last: And you?",
    ]

    history = piped(fork, "/cost\n/nothing\n", "--id", "trip")
    assert "> Good morning." in history.stderr
    assert "/nothing is no command" in history.stderr
    assert "tokens" in history.stderr
    shown = fork.do("show", "trip")
    assert "agent say trip MESSAGE" in shown.out + shown.err


@pytest.mark.parametrize(
    "typed, words",
    [
        (("say", "nobody", "Hello"), "there is no run 'nobody'"),
        (("say", "first", "  "), "the message is empty"),
        (("chat", "--id", "first"), "no conversation"),
        (("chat", "--id", "a b"), "'a b'"),
        (("chat", "--json"), "echo '…' | python -m agent chat --id ID"),
    ],
)
def test_what_is_wrong_is_said(fork, typed, words):
    """What cannot be said, or talked with, is refused with the cure, and nothing is changed."""
    assert fork.do("run", "Good morning.", "--id", "first").code == 0
    before = fork.calls
    done = fork.do(*typed)

    assert done.code in (1, 2)
    assert words in done.err + done.out
    assert fork.calls == before


def test_a_message_to_a_run(fork):
    """`say` reaches an agent at work before its next model call, and a run that has ended not."""
    running = fork.open_held("run", "Please look.", "--id", "first")
    told = fork.do("say", "first", "Hurry.", "--dedup", "m1")
    again = fork.do("say", "first", "Hurry.", "--dedup", "m1", "--json")
    fork.let_go()
    assert end(running).code == 0

    assert "reads that before its next model call" in told.out
    assert again.document["counts"] is False
    heard = [
        row["value"] for row in fork.run("first")["journal"] if row["key"].startswith("heard.")
    ]
    assert heard == [["Hurry."]]
    assert fork.do("say", "first", "Too late.").code == 1


POLICY = "from substrate.agent.policy import Policy\n"
LATER = (
    HOOKS.replace("approve=True", "approve=Policy(wait=False)")
    .replace("from substrate.agent.stop", f"{POLICY}from substrate.agent.stop")
    .replace(
        '    if "look" in said[-1]:',
        '    if said[-1].startswith("[outcome"):\n        return say(f"Told: {said[-1]}")\n'
        '    if "look" in said[-1]:',
    )
)


def test_a_question_that_mutes_nothing(tmp_path):
    """Put off, it is not asked again while one talks on; decided elsewhere, the agent tells."""
    fork = Fork.make(tmp_path, hooks=LATER)
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        window.read_until("the agent goes on meanwhile")
        approve_and_edit(window, "l")
        window.read_until("it stays open as")
        window.read_until("Done: refund was not called yet")
        window.read_until("\x1b[?2004h")
        window.screen = ""
        say(window, "Good morning.")
        window.read_until("You have said 2 things, the last: Good morning.")
        assert "l later" not in window.screen
        assert fork.do("approve", "trip", "--by", "Ada").code == 0
        window.read_until('refund(cents=2500, order="A-17")')
        window.read_until("2500 paid back for A-17")
        window.screen = ""
        say(window, "Thanks.")
        window.read_until("the last: Thanks.")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1
    with terminal(fork, "chat", "--id", "trip", columns="120") as again:
        again.read_until("2500 paid back for A-17")
        again.read_until("the last: Thanks.")
        assert "> [outcome" not in again.screen
        say(again, "/quit")
        again.process.wait(LIMIT_S)


def test_go_asks_again(tmp_path):
    """Who has put a question off is asked again by /go, and the agent tells what came of it."""
    fork = Fork.make(tmp_path, hooks=LATER)
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        approve_and_edit(window, "l")
        window.read_until("it stays open as")
        window.read_until("\x1b[?2004h")
        window.screen = ""
        say(window, "/go")
        approve_and_edit(window, "y")
        window.read_until("2500 paid back for A-17")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0
    assert fork.calls.count("refund-2500") == 1


def test_run_shows_what_is_asked_and_what_came(tmp_path):
    """It tells that the agent goes on, ends once all is decided, and the answer tells the rest."""
    fork = Fork.make(tmp_path, hooks=LATER)
    with terminal(fork, "run", "A refund.", "--id", "first", columns="200") as window:
        window.read_until("; the agent goes on meanwhile")
        approve_and_edit(window, "y")
        window.read_until('refund(cents=2500, order="A-17")  ok')
        window.read_until("Told: [outcome")
        window.read_until("2500 paid back for A-17")
        assert window.process.wait(LIMIT_S) == 0
    assert fork.calls.count("refund-2500") == 1
