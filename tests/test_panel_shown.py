"""What a panel said is seen in `show` and on the way, and one that cannot be is refused at load."""

import re

import pytest

from tests.fork import HOOKS, Fork

PANEL = """
from substrate.agent import Panel, majority
from substrate.values.errors import BadRequest


def broken(request):
    raise BadRequest("the account \\x1b[31mis closed")


def saying(name, text):
    return Model(f"scripted:{name}", script=[text])


model = Panel(
    {
        "left": saying("left", "Two \\x1b[31mowls."),
        "right": saying("right", "Three owls."),
        "third": saying("third", "two \\x1b[31mowls"),
        "gone": Model("scripted:gone", script=broken),
    },
    merge=majority,
)
tools = []
"""


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Provide a fork of a panel."""
    return Fork.make(tmp_path_factory.mktemp("fork"), hooks=HOOKS + PANEL)


def test_votes(fork: Fork) -> None:
    """`show` has each vote below its turn, who agrees, and who is missing; nothing is obeyed."""
    done = fork.do("run", "How many?", "--id", "votes")
    shown = fork.do("show", "votes").out
    assert (done.code, done.out.strip()[:3]) == (0, "Two"), done.err

    for name in ("left", "right", "third"):
        assert re.search(rf"[├└]── {name}\.0 +ok", shown), shown
    assert re.search(r"── gone\.0 +failed", shown)
    assert "panel:majority, 1 message → Two " in shown
    assert "majority: 2 of 3 votes" in shown
    assert "said so: left, third; said otherwise: right" in shown
    assert "no vote of gone: BadRequest: the account " in shown
    assert "\x1b[31m" not in shown + done.err


def test_who_is_asked(fork: Fork) -> None:
    """`doctor` looks at each member, and a member without its key is told at once."""
    said = fork.do("doctor").out
    assert all(f"scripted:{name}" in said for name in ("left", "right", "third", "gone"))

    fork.write("agent/hooks.py", f"{HOOKS}{PANEL}model = Panel(['openai:o'], merge=majority)\n")
    done = fork.do("run", "How many?", "--id", "keyless")
    assert (done.code, "OPENAI_API_KEY is not set" in done.err) == (1, True), done.err


@pytest.mark.parametrize(
    "hooks, told",
    [
        ("model = Panel(['nowhere:x'], merge=majority)", "no provider 'nowhere'"),
        ("model = Panel([], merge=majority)", "has no member"),
        ("model = Panel([model], merge=majority)", "a panel cannot be the member"),
        ("model = Panel(['openai:o'], merge=majority, need=2)", "need=2 is no number"),
        ("tools = [look]", "merges by majority, and there are tools"),
    ],
)
def test_what_cannot_be(fork: Fork, hooks: str, told: str) -> None:
    """A panel that cannot answer is told at load, with the file and the line; there is no run."""
    fork.write("agent/hooks.py", f"{HOOKS}{PANEL}{hooks}\n")
    done = fork.do("run", "How many?", "--id", "refused")

    assert (done.code, told in done.err, "hooks.py:" in done.err) == (2, True, True), done.err
    assert fork.do("runs").out.find("refused") == -1
