"""Whatever is typed, pasted or pressed, the conversation holds what was meant, and the terminal."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fork import LIMIT_S, Fork
from tests.keeper import wait_until
from tests.test_chat import HOOKS, begun, say
from tests.test_chat_prompt import half, prompted
from tests.test_cli_terminal import HIDE_CURSOR, SHOW_CURSOR, Terminal, terminal

CTRL_C, CTRL_D, CTRL_U, CTRL_Z = "\x03", "\x04", "\x15", "\x1a"


@pytest.fixture
def fork(tmp_path: Path) -> Fork:
    """Provide a fork whose agent talks and looks."""
    return Fork.make(tmp_path, hooks=HOOKS)


@contextmanager
def talking(fork: Fork) -> Iterator[Terminal]:
    """Talk, and leave in the end."""
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        yield window
        say(window, "/quit")
        assert window.process.wait(LIMIT_S) == 0


def paste(window: Terminal, text: str) -> None:
    """Paste as terminals do that tell a paste from keys."""
    window.paste(f"\x1b[200~{text}\x1b[201~".encode())


def messages(fork: Fork) -> list[str]:
    """Return what was said, message by message."""
    prompts = [row for row in fork.run("trip")["journal"] if row["name"] == "prompt"]
    said = [row["value"]["task"]["parts"][0]["text"] for row in prompts]
    return [json.loads(f'"{each["$text"]}"') if isinstance(each, dict) else each for each in said]


def test_code_can_make_bytes_of_a_message(fork: Fork) -> None:
    """Half a character is a sign that text can have, typed as pasted: code can make bytes of it."""
    fork.replace("agent/hooks.py", "{said[-1]}", "{said[-1].encode().hex()}")
    with talking(fork) as window:
        for typed in (b"h\xc3\xa9 \x9b", b"\x1b[200~a\xffb\x1b[201~"):
            window.paste(typed + b"\r")
            text = typed.removeprefix(b"\x1b[200~").removesuffix(b"\x1b[201~")
            window.read_until(f"the last: {text.decode(errors='replace').encode().hex()}")
            prompted(window)


def test_a_megabyte_is_pasted(fork: Fork) -> None:
    """A mark stands for it while one edits; it is sent whole, and the next sitting shows less."""
    text = "".join(f"{n:07} owls\n" for n in range(80_000))
    fork.replace("agent/hooks.py", "{said[-1]}", "{said[-1][:40]}")
    with talking(fork) as window:
        window.type("Count: ")
        paste(window, text)
        mark = f"[paste 1: {len(text):,} characters]"
        window.read_until(mark)
        say(window, " Please.")
        window.read_until("You have said 1 things")
        prompted(window)
        say(window, f"What was {mark} again?")  # typed by hand, it still stands for that
        window.read_until("You have said 2 things")
        prompted(window)

    assert messages(fork) == [f"Count: {text} Please.", f"What was {text} again?"]
    with terminal(fork, "chat", "--id", "trip", columns="120") as again:
        again.read_until("\x1b[?2004h")
        assert "characters more: python -m agent show trip --key prompt.0" in again.plain
        assert len(again.screen) < 20_000


@pytest.mark.parametrize(
    "text",
    [
        "Zwei Eulen, 二羽のふくろう, 👩‍🚀🏳️‍🌈, e\u0301, \u202eabc",
        "red \x1b[31mowl\x1b[0m, a bell \x07, \x00, \x9b2J",
        "one\n\n  two\n",
    ],
)
def test_odd_characters_are_pasted(fork: Fork, text: str) -> None:
    """What is pasted is said as it is, controls and wide characters too; none is obeyed."""
    with talking(fork) as window:
        paste(window, f"<{text}>")
        window.type("!\r")
        window.read_until("You have said 1 things")
        prompted(window)

    assert messages(fork) == [f"<{text}>!"]
    with talking(fork) as again:
        pass
    assert "\x1b[31m" not in window.screen + again.screen


def test_bytes_that_are_no_text(fork: Fork) -> None:
    """What is typed and is no UTF-8 neither ends the conversation nor the run."""
    with talking(fork) as window:
        window.paste(b"caf\xe9 \xff\xfe ole\r")
        window.read_until("You have said 1 things")
        prompted(window)
        say(window, "And now?")
        window.read_until("the last: And now?")
        prompted(window)

    assert len(messages(fork)) == 2


def test_nothing_is_said(fork: Fork) -> None:
    """An empty line, and one of blanks, is no message."""
    with talking(fork) as window:
        for typed in ("", "   ", "\\\r  "):
            say(window, typed)
        say(window, "Good morning.")
        window.read_until("You have said 1 things")
        prompted(window)

    assert messages(fork) == ["Good morning."]


def test_commands_that_are_none(fork: Fork) -> None:
    """A mistyped command is told and not sent; a message may begin with a slash all the same."""
    with talking(fork) as window:
        for typed, told in (
            ("/halp", "/halp is no command; did you mean '/help'?"),
            ("/", "/ is no command"),
            ("/quit now", "/quit stands alone; nothing was done"),
            ("/go", "nothing was said yet"),
            ("/show", "nothing was said yet"),
            ("/cost", "nothing was said yet"),
            ("//etc/hosts, what is it?", "the last: /etc/hosts, what is it?"),
            ("/help", "// at the beginning sends"),
        ):
            say(window, typed)
            window.read_until(told)
            prompted(window)

    assert messages(fork) == ["/etc/hosts, what is it?"]


def test_ctrl_c_at_the_prompt(fork: Fork) -> None:
    """It takes back what is half typed, as often as it is pressed, and leaves nothing."""
    with talking(fork) as window:
        half(window, "half a sen")
        for _ in range(2):
            window.type(CTRL_C)
            window.read_until("Ctrl-D or /quit leaves")
            prompted(window)
        say(window, "whole")
        window.read_until("the last: whole")
        prompted(window)

    assert messages(fork) == ["whole"]


def test_ctrl_c_twice(fork: Fork) -> None:
    """In the middle of a call that may not be done twice, the second leaves at once."""
    fork.replace("agent/hooks.py", '@tool(effect="pure")', '@tool(effect="once")')
    fork.hold()
    with terminal(fork, "chat", "--id", "trip", columns="120") as window:
        begun(window)
        say(window, "Please look.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.process.send_signal(signal.SIGINT)
        window.read_until("Ctrl-C again leaves at once")
        window.process.send_signal(signal.SIGINT)
        assert window.process.wait(LIMIT_S / 3) == 130
        assert window.is_cooked
        rest = window.screen + window.read_rest()

    assert HIDE_CURSOR not in rest[rest.rindex(SHOW_CURSOR) :]


def test_keys_in_mid_run(fork: Fork) -> None:
    """Ctrl-D while the agent works ends nothing, and what is typed ahead stands at the prompt."""
    fork.hold()
    with talking(fork) as window:
        say(window, "Please look.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.type(CTRL_D)
        window.type("ahead")
        fork.let_go()
        window.read_until("Done: owls: two")
        prompted(window)
        say(window, " of it")
        window.read_until("You have said 2 things")
        prompted(window)

    assert messages(fork) == ["Please look.", "ahead of it"]


def test_another_size(fork: Fork) -> None:
    """A window that becomes narrow and wide again loses nothing of what is half typed."""
    with talking(fork) as window:
        half(window, "a long message, that is longer than a narrow window is wide")
        for rows, columns in ((5, 20), (1, 2), (50, 200)):
            window.resize(rows, columns)
            window.read()
        say(window, ".")
        window.read_until("You have said 1 things")
        prompted(window)

    assert messages(fork) == ["a long message, that is longer than a narrow window is wide."]


def own_terminal() -> None:
    """Be who is interrupted and stopped by the keys of standard input."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_z_and_back(fork: Fork) -> None:
    """Ctrl-Z gives a shell its terminal back, also in mid-run; `fg` what was there."""
    ours, theirs = pty.openpty()
    command = f"{sys.executable} -m agent chat --id trip"
    environment = fork.environment(TERM="xterm", PS1="shell$ ", PROMPT_TOOLKIT_NO_CPR="1")
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=fork.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,  # noqa: PLW1509 - no thread of ours holds what it needs
    )
    os.close(theirs)
    try:
        window = Terminal(ours, shell)
        say(window, command)
        window.read_until("is new")  # the shell has a prompt of that kind, too
        window.screen = window.screen.rpartition("is new")[2]
        prompted(window)
        half(window, "half a sen")
        window.type(CTRL_Z)
        window.read_until("Stopped")
        window.read_until("shell$ ")
        window.screen = ""
        say(window, "stty -a; echo e''nd")
        window.read_until("end\r\n")
        assert " icanon" in window.plain
        assert " echo " in window.plain
        window.screen = ""
        say(window, "fg")
        window.read_until("> half a sen")
        say(window, "tence")
        window.read_until("the last: half a sentence")
        prompted(window)
        fork.hold()
        say(window, "Please look.")
        assert wait_until((fork.folder / "looking").exists, LIMIT_S)
        window.read_until('look(what="owls")')
        window.type(CTRL_Z)
        window.read_until("Stopped")
        window.read_until("shell$ ")
        assert window.screen.rindex(SHOW_CURSOR) > window.screen.rindex(HIDE_CURSOR)
        fork.let_go()
        window.screen = ""
        say(window, "fg")
        window.read_until("Done: owls: two")
        prompted(window)
        say(window, "/quit")
        window.read_until("shell$ ")
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        os.close(ours)
