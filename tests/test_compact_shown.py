"""What was left out of a transcript is read in `show`, with what that has saved."""

import json

from tests.fork import HOOKS, Fork

READER = """
from substrate.agent import Compact, drop_results, summarise
from substrate.models.providers.scripted import call, say


@tool(effect="pure")
def read(page: int) -> str:
    "Read a page."
    return f"page {page}: " + "owls " * 600


def script(request):
    if "sum up what you did" in str(request.messages[-1]):
        return say("I have read \\x1b[31mall.")
    replies = [each for each in request.messages if hasattr(each, "stop")]
    pages = [made.arguments["page"] for each in replies for made in each.tool_calls]
    if 14 in pages:
        return say("Done.")
    return say(call("read", page=pages[-1] + 1 if pages else 0))


model = Model("scripted:reader", script=script)
tools = [read]
stop = any_of(answered(), max_turns(40))
compact = Compact([drop_results(), summarise()], at=0.8, to=0.2, window=4_000)
"""


def test_shown(tmp_path) -> None:
    """A cut's line says why, what went and how much is left; its page names each row that went."""
    fork = Fork.make(tmp_path, hooks=HOOKS + READER)
    done = fork.do("run", "Read.", "--id", "read")
    shown = fork.do("show", "read").out
    assert (done.code, done.out.strip()) == (0, "Done."), done.err

    assert "the context fills; drop_results(keep=3), summarise()" in shown
    assert "→ left out " in shown
    assert " tokens of 4,000" in shown
    assert "\x1b[31m" not in shown

    page = fork.do("show", "read", "--key", "compact.0").out
    assert "left out: " in page
    assert "tools.0/read.0" in page
    assert "show read --key" in page

    record = json.loads(fork.do("show", "read", "--key", "compact.0", "--json").out)
    assert record["value"]["cut"]["version"] == 1
    row = fork.do("show", "read", "--key", "tools.0/read.0").out
    assert "page 0: owls owls" in row


def test_a_hook_that_is_none(tmp_path) -> None:
    """A hook that is no list of strategies is told before a run begins."""
    fork = Fork.make(tmp_path, hooks=f"{HOOKS}compact = drop_results\n".replace("HOOKS", ""))
    fork.write(
        "agent/hooks.py",
        HOOKS + "from substrate.agent import drop_results\ncompact = [drop_results]\n",
    )
    done = fork.do("run", "Read.", "--id", "x")
    assert done.code != 0
    assert "is no strategy" in done.err
