"""At its prompt a conversation goes on: what comes meanwhile is told above what is being typed."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fork import LIMIT_S, Fork
from tests.keeper import wait_until
from tests.postgres import postgres, server_pid
from tests.test_chat import HOOKS, begun, say
from tests.test_cli_terminal import HIDE_CURSOR, SHOW_CURSOR, Terminal, terminal

CLERK = """
from substrate.agent import Agent, delegate


def clerk_script(request):
    if isinstance(request.messages[-1], ToolMessage):
        return say("The clerk has paid.")
    return say(call("refund", order="A-17", cents=900))


clerk = Agent("clerk", "Pay.", Model("scripted:clerk", script=clerk_script), [refund])
own = script


def script_with_clerk(request):
    asked = [words(each)[0] for each in request.messages if isinstance(each, UserMessage)]
    if "clerk" in asked[-1] and isinstance(request.messages[-1], UserMessage):
        return say(call("clerk", task="Pay A-17 back."))
    return own(request)


model = Model("scripted:owls", script=script_with_clerk)
tools = [look, refund, delegate(clerk, description="Pays.")]
"""


@pytest.fixture
def fork(tmp_path) -> Fork:
    """Provide a fork whose agent talks, looks and refunds, by itself or through a clerk."""
    return Fork.make(tmp_path, hooks=HOOKS + CLERK)


def half(window: Terminal, words: str) -> None:
    """Type words without sending them, and wait until they stand at the prompt."""
    window.type(words)
    window.read_until(words)
    window.screen = ""


def prompted(window: Terminal) -> None:
    """Wait for the prompt that comes after what was typed last."""
    window.read_until("\x1b[?2004h")
    window.screen = ""


NOBODY_WAITS = '@tool(effect="idempotent", approve=Policy(wait=False))'


def wait_for_nobody(fork: Fork) -> None:
    """Have the calls of `refund` deferred."""
    fork.replace("agent/hooks.py", '@tool(effect="idempotent", approve=True)', NOBODY_WAITS)
    fork.replace(
        "agent/hooks.py", "import asyncio", "import asyncio\nfrom substrate.agent import Policy"
    )


def test_a_message_from_elsewhere(fork):
    """It is answered and told above the prompt, and what is half typed stays and can be sent."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        half(window, "half a sen")
        assert fork.do("say", "trip", "And the attic?").code == 0
        window.read_until("> And the attic?")
        window.read_until("You have said 2 things, the last: And the attic?")
        window.read_until("> half a sen")
        assert wait_until(lambda: fork.run("trip")["status"] == "suspended", LIMIT_S)
        window.screen = ""
        say(window, "tence")
        window.read_until("> half a sentence")
        window.read_until("You have said 3 things, the last: half a sentence")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("model") == 3


def test_a_decision_from_elsewhere(fork):
    """What was put off goes on when it is decided from another terminal, while somebody types."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        window.read_until("l later >")
        window.screen = ""
        say(window, "l")
        window.read_until("it stays open as")
        prompted(window)
        half(window, "thank")
        assert fork.do("approve", "trip", "--by", "Ada").code == 0
        window.read_until("Done: 2500 paid back for A-17")
        window.read_until("> thank")
        say(window, " you")
        window.read_until("the last: thank you")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1


def test_a_child_that_finishes(fork):
    """A sub-agent whose gate is decided elsewhere ends, and so does the answer, at the prompt."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Let the clerk do it.")
        window.read_until("cents = 900")
        window.read_until("l later >")
        window.screen = ""
        say(window, "l")
        window.read_until("it stays open as")
        prompted(window)
        half(window, "and")
        (gate,) = fork.do("approvals", "--json").document["gates"]
        assert fork.do("approve", gate["gate"]).code == 0
        window.read_until("The clerk has paid.")
        window.read_until("> and")
        say(window, " now?")
        window.read_until("the last: and now?")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-900") == 1


def test_a_question_that_comes_while_somebody_types(fork):
    """It is told with how to be asked, and takes no key: what is typed is a message, not a yes."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        half(window, "ye")
        assert fork.do("say", "trip", "A refund.").code == 0
        window.read_until("here: /go")
        window.read_until("> ye")
        window.screen = ""
        say(window, "s")
        window.read_until("cents = 2500")
        window.read_until("l later >")
        assert "refund-2500" not in fork.calls
        say(window, "y")
        window.read_until("the last: yes")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1


def test_a_call_that_mutes_nothing(fork):
    """A call that is decided while one talks on is told of above the prompt, when it is called."""
    wait_for_nobody(fork)
    fork.replace("agent/hooks.py", 'if "refund" in said[-1]', 'if said[-1] == "A refund."')
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        window.read_until("l later >")
        window.screen = ""
        say(window, "l")
        window.read_until("Done: refund was not called yet")
        prompted(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        half(window, "thank")
        assert fork.do("approve", "trip", "--by", "Ada").code == 0
        window.read_until("2500 paid back for A-17")
        window.read_until("> thank")
        say(window, " you")
        window.read_until("the last: thank you")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1


def test_a_call_of_a_child_that_mutes_nothing(fork):
    """Put off, it gives the prompt back once nothing else goes on; `/go` has it asked again."""
    wait_for_nobody(fork)
    once = '    if len(request.messages) > 1:\n        return say("The clerk'
    last = '    if isinstance(request.messages[-1], ToolMessage):\n        return say("The clerk'
    fork.replace("agent/hooks.py", last, once)
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Let the clerk do it.")
        window.read_until("l later >")
        window.screen = ""
        say(window, "l")
        window.read_until("it stays open as")
        prompted(window)
        half(window, "Good")
        assert wait_until(lambda: fork.run("trip")["status"] == "suspended", LIMIT_S)
        say(window, "\x15/go")
        window.read_until("cents = 900")
        window.read_until("l later >")
        say(window, "y")
        window.read_until("The clerk has paid.")
        prompted(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-900") == 1


def test_a_sub_agent_at_fault(fork):
    """It is told, the prompt is given back, and `/go` has it go on once that is mended."""
    fork.replace(
        "agent/hooks.py",
        "def clerk_script(request):",
        'def clerk_script(request):\n    assert Path("mended").exists(), "no money"',
    )
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Let the clerk do it.")
        window.read_until("no money")
        window.read_until("paused: trip#tools.0/clerk.0/clerk.0; /go tries again")
        prompted(window)
        say(window, "Good morning.")
        window.read_until("/go tries again")
        prompted(window)
        (fork.folder / "mended").touch()
        say(window, "/go")
        window.read_until("cents = 900")
        window.read_until("l later >")
        say(window, "y")
        window.read_until("the last: Good morning.")
        prompted(window)
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-900") == 1


def test_a_sub_agent_at_fault_is_resumed_by_its_parent(fork):
    """Once that is mended, `resume` of the run that somebody began has what is below go on."""
    fork.replace(
        "agent/hooks.py",
        "def clerk_script(request):",
        'def clerk_script(request):\n    assert Path("mended").exists(), "no money"',
    )
    with terminal(fork, "run", "Let the clerk do it.", "--id", "trip", columns="120") as window:
        window.read_until("goes on from here")
        window.process.send_signal(signal.SIGINT)
        window.read_until("resume trip")
        window.process.wait(LIMIT_S)
    (fork.folder / "mended").touch()
    with terminal(fork, "resume", "trip", columns="120") as window:
        window.read_until("cents = 900")
        window.read_until("l later >")
        say(window, "y")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-900") == 1


def test_a_sitting_with_an_open_call(fork):
    """The next sitting asks what is open, also where the agent goes on without it."""
    wait_for_nobody(fork)
    fork.replace("agent/hooks.py", 'if "refund" in said[-1]', 'if said[-1] == "A refund."')
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "A refund.")
        window.read_until("l later >")
        window.screen = ""
        say(window, "l")
        window.read_until("Done: refund was not called yet")
        prompted(window)
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        window.read_until("cents = 2500")
        window.read_until("l later >")
        say(window, "y")
        window.read_until("2500 paid back for A-17")
        prompted(window)
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0

    assert fork.calls.count("refund-2500") == 1


def test_two_terminals(fork):
    """Two people talk in one conversation: each sees what the other says, and the answers."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as one:
        begun(one)
        say(one, "Good morning.")
        one.read_until("the last: Good morning.")
        prompted(one)
        with terminal(fork, "chat", "--id", "trip", columns="120") as two:
            begun(two)
            half(one, "mine,")
            say(two, "theirs")
            two.read_until("You have said 2 things, the last: theirs")
            prompted(two)
            one.read_until("> theirs")
            one.read_until("You have said 2 things, the last: theirs")
            one.read_until("> mine,")
            say(one, " later")
            one.read_until("the last: mine, later")
            two.read_until("> mine, later")
            two.read_until("the last: mine, later")
            for each in (one, two):
                say(each, "/quit")
                assert each.process.wait(LIMIT_S) == 0

    assert fork.calls.count("model") == 3


def test_two_terminals_of_a_new_conversation(fork):
    """What one begins is told in the other, half typed words stay there, and its message counts."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as one:
        begun(one)
        with terminal(fork, "chat", "--id", "trip", columns="120") as two:
            begun(two)
            half(one, "mine,")
            say(two, "theirs")
            two.read_until("You have said 1 things, the last: theirs")
            prompted(two)
            one.read_until("> theirs")
            one.read_until("You have said 1 things, the last: theirs")
            one.read_until("> mine,")
            say(one, " later")
            one.read_until("You have said 2 things, the last: mine, later")
            two.read_until("> mine, later")
            two.read_until("the last: mine, later")
            for each in (one, two):
                say(each, "/quit")
                assert each.process.wait(LIMIT_S) == 0

    assert fork.calls.count("model") == 2


def test_what_became_no_conversation(fork):
    """Where the id is given to another run while somebody types, that is said, and nothing sent."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        half(window, "mine")
        assert fork.do("run", "Good morning.", "--id", "trip").code == 0
        window.read_until("and no conversation")
        assert window.process.wait(LIMIT_S) == 2
        assert window.is_cooked


def test_what_a_tool_prints(fork):
    """What a tool prints while somebody types stands above the prompt, too."""
    prints = '    note("look")\n    __import__("sys").stdout.fileno()\n    print("\\x1b[2Jodd")'
    fork.replace("agent/hooks.py", '    note("look")', prints)
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        half(window, "wai")
        assert fork.do("say", "trip", "Please look.").code == 0
        window.read_until("\\x1b[2Jodd")
        window.read_until("Done: owls")
        window.read_until("> wai")
        say(window, "t")
        window.read_until("the last: wait")
        assert "\x1b[2Jodd" not in window.screen


def test_ctrl_c_stops_what_came_from_elsewhere(fork):
    """At the prompt it stops what is under way there, too, and that goes on when it is told to."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        fork.hold()
        assert fork.do("say", "trip", "Please look.").code == 0
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.read_until("I look.")
        prompted(window)  # while it is told of, the terminal is no prompt's, and no key is its
        window.type("\x03")
        window.read_until("what is under way is done again later")
        window.read_until("stopped; it goes on with /go")
        prompted(window)
        assert fork.run("trip")["status"] == "ready"
        fork.let_go()
        say(window, "/go")
        window.read_until("Done: owls: two")
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0


def test_a_worker_elsewhere(fork):
    """Where another process answers, that is told here all the same."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        fork.hold()
        say(window, "Please look.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.send_signal(signal.SIGINT)
        window.read_until("stopped; it goes on with /go")
        prompted(window)
        half(window, "so")
        fork.let_go()
        worker = fork.open("worker")
        try:
            window.read_until("Done: owls: two")
            window.read_until("> so")
        finally:
            worker.terminate()
            worker.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_signal_at_the_prompt(fork, number, is_busy):
    """The terminal is given back, and the run left suspended, or given back where it works."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Good morning.")
        window.read_until("the last: Good morning.")
        prompted(window)
        half(window, "half a sen")
        assert not window.is_cooked
        if is_busy:
            fork.hold()
            assert fork.do("say", "trip", "Please look.").code == 0
            assert wait_until((fork.folder / "looking").exists, LIMIT_S)
            window.process.send_signal(number)
            window.read_until("what is under way has")
            fork.let_go()
        else:
            window.process.send_signal(number)
        code = window.process.wait(LIMIT_S)
        assert window.is_cooked
        rest = window.read_rest()

    assert code == 128 + number
    assert "\x1b[?2004l" in window.screen + rest
    assert HIDE_CURSOR not in rest[rest.rfind(SHOW_CURSOR) :]
    assert fork.run("trip")["status"] == ("ready" if is_busy else "suspended")
    with terminal(fork, "chat", "--id", "trip", columns="120") as again:
        again.read_until("Done: owls" if is_busy else "the last: Good morning.")


def test_lines_that_come_slowly(fork):
    """Between the lines of a pipe it goes on, too; answers alone are on standard output."""
    chat = subprocess.Popen(
        [sys.executable, "-m", "agent", "chat", "--id", "trip"],
        cwd=fork.folder,
        env=fork.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        chat.stdin.write("Good morning.\n")
        chat.stdin.flush()
        first = chat.stdout.readline()
        assert fork.do("say", "trip", "And the attic?").code == 0
        second = chat.stdout.readline()
        chat.send_signal(signal.SIGTERM)
        told = chat.communicate(timeout=LIMIT_S)[1]
    finally:
        chat.kill()
        chat.wait()

    assert first == "You have said 1 things, the last: Good morning.\n"
    assert second == "You have said 2 things, the last: And the attic?\n"
    assert chat.returncode == 128 + signal.SIGTERM
    assert "> And the attic?" in told
    assert "Traceback" not in told
    assert fork.run("trip")["status"] == "suspended"


def test_lines_of_what_another_has_begun(fork):
    """Two streams of one new conversation are one conversation: the second is a message in it."""
    command = [sys.executable, "-m", "agent", "chat", "--id", "trip"]
    late = subprocess.Popen(
        command,
        cwd=fork.folder,
        env=fork.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert late.stderr.readline() == "trip\n"  # it has looked, and nothing was begun
        early = subprocess.run(
            command,
            cwd=fork.folder,
            env=fork.environment(),
            input="Good morning.\n",
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        told = late.communicate("And the attic?\n", timeout=LIMIT_S)
    finally:
        late.kill()
        late.wait()

    assert early.returncode == late.returncode == 0
    assert told[0] == "You have said 2 things, the last: And the attic?\n"
    assert "> Good morning." in told[1]


def test_a_stream_without_lines(fork):
    """It is no message, which is said before it fills the memory; nothing is begun."""
    with Path("/dev/zero").open("rb") as zeros:
        chat = subprocess.run(
            [sys.executable, "-m", "agent", "chat", "--id", "trip"],
            cwd=fork.folder,
            env=fork.environment(),
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert chat.returncode == 2
    assert "a line of over 64,000,000 bytes is no message" in chat.stderr
    assert fork.do("show", "trip").code != 0


def is_away(window: Terminal, url: str) -> bool:
    """Kill the server, which is started again at once; whether the conversation has missed it."""
    with suppress(OSError, ValueError):  # it is on its way up
        os.kill(server_pid(url), signal.SIGKILL)
    while window.has_more(0.1):
        window.read()
    return "cannot be reached" in window.plain


def test_the_database_goes_and_comes_back(tmp_path):
    """A server that is killed while somebody types ends nothing; it answers when that is back."""
    with postgres() as url:
        fork = Fork.make(tmp_path, url=url, hooks=HOOKS + CLERK)
        with terminal(fork, "chat", "--id", "trip", columns="120") as window:
            begun(window)
            say(window, "Good morning.")
            window.read_until("the last: Good morning.")
            prompted(window)
            half(window, "half a sen")
            assert wait_until(lambda: is_away(window, url), LIMIT_S)
            assert wait_until(lambda: fork.do("runs").code == 0, LIMIT_S)
            window.screen = ""
            say(window, "tence")
            window.read_until("the last: half a sentence")
            say(window, "/quit")
            assert window.process.wait(LIMIT_S) == 0
