"""What waits for a person is listed and decided from a shell; a mistake costs nothing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fork import Fork

HOOKS = '''
from pathlib import Path

from substrate.agent import Policy, answered, any_of, ask_human, max_turns, tool
from substrate.models.messages import Reply
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say


def script(request):
    if not any(isinstance(message, Reply) for message in request.messages):
        text = request.messages[0].parts[0].text
        if "colour" in text:
            return say(call("ask_human", question="Which colour?", choices=["red", "blue"]))
        return say(call("refund", order="A-17", cents=4900))
    return say(request.messages[-1].results[0].content)


@tool(approve=Policy(when=lambda cents: cents > 2000, to="finance"))
def refund(order: str, cents: int) -> str:
    """Pay back."""
    with Path("paid").open("a") as paid:
        paid.write(f"{order} {cents}" + chr(10))
    return f"paid {cents}"


prompt = "Be brief."
model = Model("scripted:shop", script=script)
tools = [refund, ask_human()]
stop = any_of(answered(), max_turns(5))
'''


@pytest.fixture
def fork(tmp_path: Path, store_url: str) -> Fork:
    """Provide a fork that asks before it pays."""
    return Fork.make(tmp_path, store_url, HOOKS)


@pytest.fixture
def sqlite_fork(tmp_path: Path) -> Fork:
    """Provide the same over SQLite."""
    return Fork.make(tmp_path, hooks=HOOKS)


def asking(fork: Fork, question: str = "Pay it back.", run_id: str = "shop/1") -> dict[str, Any]:
    """Drive a run until it asks, and leave it with no worker; return its gate."""
    fork.start(run_id, question)
    process = fork.open("resume", run_id)
    while True:
        found = [g for g in fork.do("approvals", "--json").document["gates"] if g["run"] == run_id]
        if found:
            break
    process.kill()
    process.communicate()
    return found[0]


def paid(fork: Fork) -> list[str]:
    """Return what was paid."""
    file = fork.folder / "paid"
    return file.read_text().splitlines() if file.exists() else []


def test_from_asking_to_paying(fork: Fork) -> None:
    """It is listed with all that one needs, approved with no worker alive, and paid once."""
    gate = asking(fork)
    listed = fork.do("approvals")
    for part in (gate["gate"][:8], "shop/1", "refund(order='A-17', cents=4900)", "finance"):
        assert part in listed.out
    assert f"approve {gate['gate'][:8]}" in listed.err
    assert paid(fork) == []
    shown = fork.do("show", "shop/1")
    assert "an approval of refund(order='A-17', cents=4900)" in shown.out + shown.err

    done = fork.do("approve", gate["gate"][:8], "--by", "ada", "--why", "a good customer")

    assert done.code == 0
    assert "approved by ada: a good customer" in done.out
    ended = fork.do("resume", "shop/1")
    assert ended.out == "paid 4900\n"
    assert paid(fork) == ["A-17 4900"]
    again = fork.do("approve", gate["gate"], "--by", "bob")
    assert again.code == 2
    assert "approved already by ada over cli: a good customer" in again.err
    assert "approved by ada" in fork.do("approvals", "shop/1").out


def test_denied(fork: Fork) -> None:
    """The model is told why, and nothing is paid."""
    gate = asking(fork)
    assert fork.do("deny", gate["gate"][:6], "--why", "not again", "--by", "ada").code == 0
    ended = fork.do("resume", "shop/1")
    assert ended.out == "refund was not called: ada denied it: not again\n"
    assert paid(fork) == []


def test_edited(sqlite_fork: Fork) -> None:
    """Other arguments are checked by the tool's own types, and run."""
    asking(sqlite_fork)
    done = sqlite_fork.do("approve", "shop/1", "--edit", "cents=100", "--edit", "order=007")
    assert done.code == 0, done.err
    sqlite_fork.do("resume", "shop/1")
    assert paid(sqlite_fork) == ["007 100"]


@pytest.mark.parametrize(
    "command, why",
    [
        (["approve", "GATE", "--edit", "cents=many"], "cents"),
        (["approve", "GATE", "--edit", "cent=1"], "it takes: cents, order"),
        (["approve", "GATE", "--edit", "cents"], "NAME=VALUE"),
        (["approve", "GATE", "--edit", "cents=1", "--edit", "cents=2"], "twice"),
        (["approve", "GATE", "--why"], "requires an argument"),
        (["approve", "GATE", "--yes"], "No such option"),
        (["deny", "GATE"], "--why"),
        (["deny", "GATE", "--why", " "], "reason"),
        (["answer", "GATE", "yes"], "approve or deny"),
        (["approve", "GATE", "--by", ""], "say who"),
        (["rules", "add", "allow", "refunds"], "did you mean 'refund'"),
        (["rules", "add", "allow refund where cent < 5"], "did you mean 'cents'"),
        (["rules", "add", "permit refund"], "allow, ask or deny"),
        (["rules", "add", "allow refund where cents <"], "FIELD OP VALUE"),
        (["rules", "add", "allow refund", "--until", "2020-01-01"], "passed"),
        (["rules", "add", "deny refund", "--uses", "2"], "uses"),
        (["rules", "remove", "beef"], "there is none"),
    ],
)
def test_a_mistake(sqlite_fork: Fork, command: list[str], why: str) -> None:
    """It is told with its remedy, exits with 2, and nothing is decided."""
    gate = asking(sqlite_fork)
    given = [gate["gate"] if part == "GATE" else part for part in command]
    done = sqlite_fork.do(*given)
    assert done.code == 2, done
    assert why in done.err
    assert "Traceback" not in done.err
    assert len(sqlite_fork.do("approvals", "--json").document["gates"]) == 1
    assert sqlite_fork.do("rules", "list", "--json").document["rules"] == []


def test_a_cancelled_run(sqlite_fork: Fork) -> None:
    """A decision on it is refused, and says why."""
    gate = asking(sqlite_fork)
    sqlite_fork.do("cancel", "shop/1")
    done = sqlite_fork.do("approve", gate["gate"])
    assert done.code == 2
    assert "withdrawn" in done.err
    assert sqlite_fork.do("approvals", "--json").document["gates"] == []


def test_a_question(fork: Fork) -> None:
    """One of its choices is the answer, which the model gets; anything else is refused."""
    gate = asking(fork, "Which colour?")
    assert gate["kind"] == "question"
    wrong = fork.do("answer", gate["gate"], "green")
    assert wrong.code == 2
    assert "'red' or 'blue'" in wrong.err
    assert fork.do("approve", gate["gate"]).code == 2
    assert fork.do("answer", gate["gate"], "blue", "--by", "ada").code == 0
    assert fork.do("resume", "shop/1").out == "blue\n"


def test_rules(fork: Fork) -> None:
    """A rule that was added lets calls through until it is removed; the run says which it was."""
    fork.start("shop/1", "Pay it back.")
    added = fork.do(
        "rules", "add", "allow refund where cents < 5000", "--until", "7d", "--by", "ada"
    )
    assert added.code == 0, added.err
    rule = re.findall(r"rule (\w+) stands", added.out)[0]
    assert fork.do("resume", "shop/1").out == "paid 4900\n"
    assert f"auto-approved (rule {rule})" in fork.do("approvals", "shop/1").out
    listed = fork.do("rules", "list").out
    assert "allow refund where cents < 5000" in listed
    assert "ada" in listed
    assert fork.do("rules", "remove", rule[:4]).code == 0
    asking(fork, run_id="shop/2")
    assert paid(fork) == ["A-17 4900"]


def test_what_is_printed_as_json(sqlite_fork: Fork) -> None:
    """Each command prints one document, with the gate as it stands."""
    gate = asking(sqlite_fork)
    done = sqlite_fork.do("approve", gate["id"], "--json", "--by", "ada")
    assert json.loads(done.out)["counts"] is True
    assert done.document["state"] == "approved"
    assert done.document["by"] == "ada"
    again = sqlite_fork.do("approve", gate["id"], "--json", "--by", "ada")
    assert again.document["counts"] is False


def test_a_long_argument_hides_no_other(sqlite_fork: Fork) -> None:
    """Each argument is cut by itself, and JSON has them whole; a choice moves no terminal."""
    sqlite_fork.replace(
        "agent/hooks.py", 'order="A-17", cents=4900', 'order="L" * 200_000, cents=10**15'
    )
    gate = asking(sqlite_fork)
    assert gate["arguments"] == {"order": "L" * 200_000, "cents": 10**15}
    for command in (["approvals"], ["show", "shop/1"], ["approve", "shop/1"]):
        done = sqlite_fork.do(*command)
        assert f"cents={10**15}" in re.sub(r"\s", "", done.out + done.err), done
        assert "L" * 200 not in done.out


def test_what_may_be_answered(sqlite_fork: Fork) -> None:
    """A question is listed with its choices; one with a line break begins no line of its own."""
    sqlite_fork.replace("agent/hooks.py", '"red", "blue"', '"a\\r\\nFAKE", "blue"')
    asking(sqlite_fork, "Which colour?")
    listed = sqlite_fork.do("approvals")
    assert "blue" in listed.out
    for command in (["approvals"], ["show", "shop/1"], ["runs", "--asking"]):
        done = sqlite_fork.do(*command)
        assert not re.search(r"(?m)^\s*FAKE", done.out + done.err), done
