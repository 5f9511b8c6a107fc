"""On a terminal, no command lets what others said move the cursor, hide, or turn a line round."""

import re
from unicodedata import category

import pytest

from tests.fork import HOOKS, Fork
from tests.test_cli_terminal import terminal

HOSTILE = "a\u202eb\u2066c\u200bd\u2028e\x1b]0;owned\x07f\x9b31mg\U000e0041h\u061ci\u200dj"
"""Overrides, isolates, what has no width, a title for the terminal, a style, a tag, joiners."""

FAILS = """    if what == "fail":
        raise LookupError(HOSTILE)
    return f"{what}: two"
"""

HOSTILE_HOOKS = (
    HOOKS.replace('say("Two owls.")', "say(HOSTILE)")
    .replace('call("look", what="owls")', 'call("look", what=HOSTILE), call(HOSTILE, x=1), BAD')
    .replace("TURNS =", f'HOSTILE = {HOSTILE!r}\nBAD = call("look", what="fail")\nTURNS =')
    .replace('    print("a tool that prints")\n    return f"{what}: two"\n', FAILS)
)

STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What the kit itself writes: styles, and where the cursor goes."""


def hidden_in(shown: str) -> list[str]:
    """Return the characters of a screen that nobody sees."""
    signs = STYLES.sub("", shown).replace("\r", "").replace("\n", "").replace("\t", "")
    return sorted({f"U+{ord(s):04X}" for s in signs if category(s) in ("Cc", "Cf", "Zl", "Zp")})


def screen_of(fork: Fork, *arguments: str) -> str:
    """Do a command on a terminal, and return all that it showed."""
    with terminal(fork, *arguments) as shown:
        while True:
            try:
                shown.read()
            except OSError:  # the other side was closed
                return shown.screen


@pytest.fixture(scope="module")
def fork(tmp_path_factory) -> Fork:
    """Provide a fork in which everything that others say is hostile."""
    return Fork.make(tmp_path_factory.mktemp("fork"), hooks=HOSTILE_HOOKS)


def test_every_command(fork, record_property):
    """Every command, and every complaint of one, shows all that it says."""
    (fork.folder / "scores.csv").write_text(f"first,{HOSTILE}\n")
    keys = ("run", "model.0", "tools.0/look.0", "tools.0/look.1", "tools.0/unknown_tool.0", HOSTILE)
    commands = [
        *(["run", HOSTILE, "--id", "first"], ["run", HOSTILE, "--id", "first", "--json"]),
        *(["runs"], ["runs", "--json"], ["show", "first"], ["show", "first", "--json"]),
        *(["show", "first", "--key", key] for key in keys),
        *(["signal", "first", HOSTILE, '"x"'], ["signal", "first", "mail", HOSTILE]),
        *([word, "first"] for word in ("cancel", "discard", "resume")),
        *(["run", "other", "--id", "first"], ["run", "x", "--id", HOSTILE], [HOSTILE]),
        *(["show", HOSTILE], ["runs", "--status", HOSTILE], ["compare", HOSTILE]),
        *(["--help"], ["compare", "prompt", "--scores", "scores.csv"]),
        ["run", "x", "--attach", HOSTILE],
    ]
    shown = [screen_of(fork, *command) for command in commands]
    shown += [screen_of(fork, *command, "--debug") for command in commands[-6:-1]]

    told = dict(zip(map(str, commands), map(hidden_in, shown), strict=False))
    assert {command: signs for command, signs in told.items() if signs} == {}
    assert list(map(hidden_in, shown)) == [[]] * len(shown)
    assert sum("\\u202e" in each for each in shown) > 12
    record_property("screens", len(shown))
