"""What a fork tells a coding agent is true: its commands are there, and its code runs in a fork."""

import re
from pathlib import Path
from typing import Any

import copier
import pytest
import typer
import yaml
from markdown_it import MarkdownIt

from substrate.cli.app import app
from tests.fork import KIT, Fork
from tests.test_template import in_fork

TEMPLATE = KIT / "template"
SKILL = TEMPLATE / ".agents" / "skills" / "durable-agent" / "SKILL.md"
RULES = TEMPLATE / "AGENTS.md.jinja"
KNOWN = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}

SCRIPT = """
from substrate.agent import answered, any_of, max_turns
from substrate.models.messages import Reply
from substrate.models.providers.scripted import call, say

TURNS = [
    say(call("price", item="lamp"), call("price", item="lump")),
    say(call("order", item="lamp"), call("reader", task="Read.")),
    say(call("refund", order=1, cents=5)),
    say("What is an ostinato? Done."),
]


def script(request):
    return TURNS[sum(isinstance(message, Reply) for message in request.messages)]


prompt = "Be brief."
model = Model("scripted:shop", script=script)
tools = [price, order, ask_reader]
stop = any_of(answered(), max_turns(9))
"""


def front_matter() -> dict[str, Any]:
    """Return the front matter of the skill."""
    _, front, _ = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(front)
    return loaded


def code() -> list[str]:
    """Return the Python blocks of the skill."""
    page = MarkdownIt().parse(SKILL.read_text(encoding="utf-8"))
    return [block.content for block in page if block.type == "fence" and block.info == "python"]


def test_the_format() -> None:
    """The skill is one of the Agent Skills format: its name is its folder's, and no key is new."""
    found = front_matter()
    assert set(found) <= KNOWN
    assert found["name"] == SKILL.parent.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found["name"])
    assert len(found["name"]) <= 64
    assert 1 <= len(found["description"]) <= 1024
    assert "Use it when" in found["description"]  # what it does, and when
    assert len(SKILL.read_text(encoding="utf-8").splitlines()) < 500
    assert str(SKILL.relative_to(TEMPLATE)) in RULES.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [SKILL, RULES], ids=["skill", "rules"])
def test_its_commands_are_there(page: Path) -> None:
    """Each command that is named exists, and each option; those of CI are said before a commit."""
    text = page.read_text(encoding="utf-8")
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = set(re.findall(r"python -m agent (\w+)", text))
    assert {"doctor", "crash"} <= named
    assert named <= commands.keys()
    options = {each for command in commands.values() for one in command.params for each in one.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z]+", text)) - {"--check"} <= options
    workflow = yaml.safe_load((TEMPLATE / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    for step in workflow["jobs"]["test"]["steps"]:
        if step.get("run", "").startswith("uv run"):
            assert f"\n    {step['run']}\n" in text


def test_its_code_runs(tmp_path: Path) -> None:
    """The tools, the agent below and the test that the skill shows work in a fork."""
    shop, wait, below, tested = code()
    folder = tmp_path / "fork"
    copier.run_copy(str(KIT), folder, defaults=True, vcs_ref="HEAD", quiet=True)
    hooks = f"{shop}\n{below}\n{SCRIPT}"
    fork = Fork(folder, "sqlite:///runs.db")
    fork.write("agent/hooks.py", hooks)
    fork.write("tests/test_shop.py", tested)

    passed = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    ran = fork.do("run", "Order a lamp.", "--id", "first")
    fork.write("agent/hooks.py", f"{shop}\n{wait}\n{below}\n{SCRIPT}\ntools = [*tools, refund]\n")
    looked = fork.do("doctor", "--json")
    crashed = fork.do("crash", "--json", "--only", "tools.2/*", "--signal", "approved=true")

    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "3 passed" in passed.stdout
    assert ran.code == 0, ran.err
    results = {row["key"]: row["state"] for row in fork.run("first")["journal"]}
    assert results["tools.0/price.0"] == "resolved"
    assert results["tools.0/price.1"] == "rejected"
    assert results["tools.1/reader.0"] == "resolved"
    assert (looked.code, looked.document["state"]) == (0, "ok"), looked.out
    assert crashed.code == 0, crashed.out + crashed.err
    counted = {row["name"]: row["calls"] for row in crashed.document["effects"]}
    assert counted["pay_back"] == 1
