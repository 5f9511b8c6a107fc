"""A fork is whole: what copier makes lints, passes its own tests, runs, and can be updated."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from markdown_it import MarkdownIt

from substrate.models.providers.registry import PROVIDERS
from tests.fork import AGENT, COMMANDS, PLUGINS, TESTS, end
from tests.llm_servers import llmock
from tests.machine import find_uv

KIT = Path(__file__).resolve().parent.parent
Fork = Callable[..., Path]

FILES = {
    ".agents/skills/durable-agent/SKILL.md",
    ".copier-answers.yml",
    ".dockerignore",
    ".env.example",
    ".github/dependabot.yml",
    ".github/workflows/ci.yml",
    ".gitignore",
    ".python-version",
    "AGENTS.md",
    "Dockerfile",
    "README.md",
    "agent/__init__.py",
    "agent/__main__.py",
    "agent/hooks.py",
    "agent/loop.py",
    "agent/rehearsal.py",
    "compose.yaml",
    "pyproject.toml",
    "requirements.txt",
    "tests/test_hooks.py",
}

MODELS = {
    "anthropic": ("anthropic:claude-sonnet-5-5", "ANTHROPIC_API_KEY"),
    "google": ("google:gemini-3.8-flash", "GEMINI_API_KEY"),
    "groq": ("groq:openai/gpt-oss-120b", "GROQ_API_KEY"),
    "openai": ("openai:gpt-6-luna", "OPENAI_API_KEY"),
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Make forks of the template as it is on disk, edits included: of each kind one, and once.

    Of a clone with what copier reads and no more: it clones that again for each.
    """
    folder = tmp_path_factory.mktemp("forks")
    kit = tmp_path_factory.mktemp("clone") / "kit"
    make_kit(kit)

    @cache
    def make(name: str, answers: frozenset[tuple[str, str]]) -> Path:
        destination = folder / f"{len(list(folder.iterdir()))}" / name
        copier.run_copy(
            str(kit),
            destination,
            data=dict(answers),
            defaults=True,
            vcs_ref="HEAD",
            quiet=True,
            unsafe=False,
        )
        return destination

    return make


@pytest.fixture
def fork(tmp_path: Path, forks: Fork) -> Fork:
    """Copy a fork of the template."""

    def copy(name: str = "my-agent", **answers: str) -> Path:
        return shutil.copytree(forks(name, frozenset(answers.items())), tmp_path / name)

    return copy


def in_fork(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command in the fork, with the kit on the path and no key set."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    there = clean | {"PYTHONPATH": str(KIT)} | environment
    python = COMMANDS if command[:2] == AGENT else TESTS
    done = end(python.start(*command[1:], cwd=folder, env=there | PLUGINS))
    return subprocess.CompletedProcess(command, done.code, done.out, done.err)


def files_of(folder: Path) -> set[str]:
    """Return the files of a folder, without what running left in it."""
    left = {"__pycache__", ".pytest_cache", ".git"}
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not left & set(path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_nothing_missing_nothing_leaked(fork: Fork, database: str) -> None:
    """A fork has exactly its files, and no Jinja is left in any."""
    folder = fork(database=database)
    more = {".env"} if database == "postgres" else set()
    assert files_of(folder) == FILES | more
    for name in files_of(folder):
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"(?<!\$)\{\{|\{%", text), name  # but what a workflow's runner reads


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize("provider", sorted(MODELS))
def test_one_provider_is_chosen(fork: Fork, provider: str, database: str) -> None:
    """A fork depends on the SDK of one provider, and its hooks name a model of it, and a key."""
    folder = fork(provider=provider, database=database)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    extras = f"chat,{provider}" if database == "sqlite" else f"chat,{provider},postgres"
    assert project["project"]["dependencies"] == [f"ostinato[{extras}]"]
    hooks = (folder / "agent" / "hooks.py").read_text(encoding="utf-8")
    model, key = MODELS[provider]
    assert f'model = Model(\n    "{model}",\n' in hooks
    assert f"Until {key} is set" in hooks
    theirs = (KIT / "template" / "agent" / "hooks.py").read_text(encoding="utf-8")
    others = {each for each, _ in MODELS.values()}
    assert {each for each in others if hooks.count(f'"{each}"') == 1} == others
    if provider == "anthropic":
        assert hooks == theirs
    for name in ("README.md", ".env.example"):
        assert key in (folder / name).read_text(encoding="utf-8")


def test_every_provider_can_be_chosen() -> None:
    """A fork can be made for each provider whose SDK is an extra of the kit."""
    asked = yaml.safe_load((KIT / "copier.yml").read_text(encoding="utf-8"))["provider"]
    assert set(asked["choices"].values()) == {known.extra for known in PROVIDERS.values()}
    assert set(MODELS) == set(asked["choices"].values())


def test_python_is_one(fork: Fork) -> None:
    """A fork's image has the Python that its `.python-version` names."""
    folder = fork()
    version = (folder / ".python-version").read_text(encoding="utf-8").strip()
    images = re.findall(
        r"^FROM python:([\d.]+)-", (folder / "Dockerfile").read_text(), re.MULTILINE
    )
    assert images == [version, version]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_settings_are_read(fork: Fork, database: str) -> None:
    """What is written for others (compose, workflow, updates of dependencies) is well formed."""
    folder = fork(database=database)
    compose = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"worker"} | ({"postgres"} & {database})
    used = {each.split(":")[0] for s in compose["services"].values() for each in s["volumes"]}
    assert used == set(compose["volumes"])
    assert compose["services"]["worker"]["build"] == "."
    workflow = yaml.safe_load((folder / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
    assert commands[2:] == [
        "uv sync --locked",
        "uv run ruff check",
        "uv run ruff format --check",
        "uv run mypy",
        "uv run pytest",
    ]
    updates = yaml.safe_load((folder / ".github/dependabot.yml").read_text(encoding="utf-8"))
    kinds = {each["package-ecosystem"] for each in updates["updates"]}
    assert kinds == {"docker", "github-actions", "uv"}


def test_git_keeps_the_lock_and_no_secret(fork: Fork) -> None:
    """A fork's history takes `uv.lock` and `.env.example`, and no other `.env`."""
    folder = fork(database="postgres")
    made = ("uv.lock", ".env.local", ".env.prod", ".envrc", "runs.db", "runs.db-wal", "notes.md")
    for name in made:
        (folder / name).touch()
    committed(folder)
    done = subprocess.run(["git", "ls-files"], cwd=folder, capture_output=True, text=True)
    kept = set(done.stdout.split())
    assert kept == FILES | {"uv.lock"}


def test_the_kit_is_not_for_the_caller_to_say(fork: Fork) -> None:
    """What is given as data under whatever name does not change which kit a fork installs."""
    names = ("kit_requirement", "url", "rev", "source", "folder", "_commit", "kit")
    folder = fork(**dict.fromkeys(names, "evil @ http://127.0.0.1/evil.whl"))
    for name in files_of(folder):
        assert "evil" not in (folder / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", ["My_Agent", "my agent 2", "agent", "42", "ostinato"])
def test_any_folder_name_does(fork: Fork, name: str) -> None:
    """Whatever the folder is called, the fork's name is a valid one."""
    text = (fork(name) / "pyproject.toml").read_text(encoding="utf-8")
    (called,) = re.findall(r'^name = "(.*)"$', text, re.MULTILINE)
    assert re.fullmatch(r"[a-z][a-z0-9-]*", called)


@pytest.mark.parametrize("name", ["My Agent!", "two\n", "-x", "7up"])
def test_bad_name_is_refused(fork: Fork, name: str) -> None:
    """A name that cannot be a package's is refused with what is allowed."""
    with pytest.raises(ValueError, match="Lowercase letters, digits and dashes"):
        fork(agent_name=name)


@pytest.mark.parametrize("name", ["ostinato", "substrate", "skills", "agent", "tests", "pydantic"])
def test_name_that_is_taken_is_refused(fork: Fork, name: str) -> None:
    """A name of the kit's, or of a package that a fork needs, is refused with one that is free."""
    with pytest.raises(ValueError, match=f"write my-{name}, say"):
        fork(agent_name=name)


def test_names_that_are_taken() -> None:
    """Each package that a fork needs by name is among the names that it cannot have."""
    taken = set(re.findall(r"'([a-z0-9-]+)'", (KIT / "template" / "taken.jinja").read_text()))
    project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    template = (KIT / "template" / "pyproject.toml.jinja").read_text(encoding="utf-8")
    (dev,) = re.findall(r"^dev = (\[.*\])$", template, re.MULTILINE)
    names = [re.split(r"[^\w.-]", each)[0] for each in [*needed, *json.loads(dev)]]
    assert {name.replace(".", "-") for name in names} <= taken


def test_fork_is_green_offline(fork: Fork) -> None:
    """The fork's own tests pass, its first run answers, and the same id gives the same answer."""
    folder = fork()
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    first = in_fork(folder, "-m", "agent", "run", "What is an ostinato?", "--id", "first")
    assert first.returncode == 0, first.stderr
    assert "What is an ostinato?" in first.stdout
    assert "ANTHROPIC_API_KEY" in first.stderr
    again = in_fork(folder, "-m", "agent", "run", "What is an ostinato?", "--id", "first")
    assert again.stdout == first.stdout
    assert (folder / "notes.md").read_text(encoding="utf-8").count("Somebody asked") == 1


def test_hooks_of_the_readme(fork: Fork) -> None:
    """With the hooks of the kit's README a fork's tests pass, and its rehearsal claims no tool."""
    folder = fork()
    page = MarkdownIt().parse((KIT / "README.md").read_text(encoding="utf-8"))
    shown = [block.content for block in page if block.type == "fence" and block.info == "python"]
    (hooks,) = [block for block in shown if "\ntools = " in block]
    (folder / "agent" / "hooks.py").write_text(hooks, encoding="utf-8")
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    done = in_fork(folder, "-m", "agent", "run", "What is an ostinato?", "--id", "first")
    assert "What is an ostinato?" in done.stdout
    assert "note" not in done.stdout
    shown_keys = json.loads(in_fork(folder, "-m", "agent", "show", "first", "--json").stdout)
    assert not [each for each in shown_keys["journal"] if "tool" in each["key"]]


TYPED = """

from enum import StrEnum

from pydantic import BaseModel, Field


class Mood(StrEnum):
    GOOD = "good"


class Line(BaseModel):
    text: str = Field(max_length=200)
    weight: int = Field(gt=0, le=9)


class Report(BaseModel):
    title: str
    mood: Mood
    lines: list[Line] = Field(min_length=2)
    last: Line | None
    share: float
    is_final: bool


answer = Report
"""


def test_rehearsal_of_a_typed_answer(fork: Fork) -> None:
    """The rehearsal of an agent with answers of a type gives one, and the fork's tests pass."""
    folder = fork()
    with (folder / "agent" / "hooks.py").open("a", encoding="utf-8") as hooks:
        hooks.write(TYPED)
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    done = in_fork(folder, "-m", "agent", "run", "What is an ostinato?", "--id", "first")
    report = json.loads(done.stdout)
    assert "This is a rehearsal" in report["title"]
    assert [line["weight"] for line in report["lines"]] == [1, 1]


ASKING = '''

from substrate import Context


@tool
async def read_notes(ctx: Context) -> str:  # noqa: F811
    """Return everything that is in the notebook."""
    return "Yes." if await ctx.receive("approval", bool) else "No."


tools = [read_notes, write_note]
'''


def test_an_agent_that_asks_somebody(fork: Fork) -> None:
    """A test of an agent that waits for a person fails at once, and says what it waits for."""
    folder = fork()
    with (folder / "agent" / "hooks.py").open("a", encoding="utf-8") as hooks:
        hooks.write(ASKING)
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 1, tested.stdout + tested.stderr
    assert "2 failed" in tested.stdout
    told = (
        "the signal 'approval' (true, false, yes or no): await client.signal('test/1', 'approval'"
    )
    assert told in tested.stdout


GATED = """

from substrate import Context
from substrate.agent import ask_person


@tool(approve=True)
def read_notes() -> str:  # noqa: F811
    \"\"\"Return everything that is in the notebook.\"\"\"
    return "It is empty."


@tool
async def write_note(ctx: Context, text: str) -> str:  # noqa: F811
    \"\"\"Add a line to the notebook.\"\"\"
    return await ask_person(ctx, "Which page?", choices=["first", "last"])


tools = [read_notes, write_note]
"""


def test_an_agent_that_asks_a_person(fork: Fork) -> None:
    """A test that fails at a gate names it, and the line that answers it: with that it passes."""
    folder = fork()
    with (folder / "agent" / "hooks.py").open("a", encoding="utf-8") as hooks:
        hooks.write(GATED)
    tests = folder / "tests" / "test_hooks.py"
    tests.write_text(f"{tests.read_text()}\nfrom substrate.agent import *\n", encoding="utf-8")
    for asked in ("an approval of read_notes()", "an answer to 'Which page?' ('first' or 'last')"):
        tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "answers")
        assert tested.returncode == 1, tested.stdout + tested.stderr
        # Where CI is set, pytest tells the failure in its summary as well: twice the same line.
        (line,) = set(re.findall(rf"  {re.escape(asked)}: (await .*?\))(?:, or|\n)", tested.stdout))
        again = f"        {line}\n        await worker.run_until_idle()\n"
        place = "        if (await client.get(run_id)).status"
        tests.write_text(tests.read_text().replace(place, f"{again}{place}"), encoding="utf-8")
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "answers")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_rehearsal_of_a_conversation(fork: Fork) -> None:
    """The rehearsal answers the message that was said last, and does its work for each."""
    folder = fork()
    said = ["How many owls are there?", "And where do they live?"]
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    talked = subprocess.run(
        [sys.executable, "-m", "agent", "chat", "--id", "owls"],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(KIT)},
        input="".join(f"{each}\n" for each in said),
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = re.findall(r"You wanted to know: (.*?\?) I", talked.stdout)
    assert told == said, talked.stdout + talked.stderr
    notes = (folder / "notes.md").read_text(encoding="utf-8")
    assert re.findall(r"Somebody asked: (.*?\?)", notes) == said


CHILDREN = """
from agent.loop import agent
from substrate import connect
from substrate.agent import Task


async def test_a_person_says_yes_and_no(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with connect("sqlite:///runs.db") as client, client.work([agent]) as worker:
        await client.start(agent, Task("Please refund orders 7 and 8."), id="both")
        await worker.run_until_idle()
        for order, is_approved in enumerate((True, False)):
            child = f"both#tools.0/refund.0/refund_one.{order}"
            await client.signal(child, "approved", is_approved)
        await worker.run_until_idle()
        answer = await client.result("both", agent)
        assert answer.text == "Both are seen to."
"""


def test_children_of_a_tool_in_a_test_of_the_fork(fork: Fork) -> None:
    """A fork's test that gives its worker the loop alone drives the children of its tools, too."""
    folder = fork()
    page = MarkdownIt().parse((KIT / "docs" / "guide.md").read_text(encoding="utf-8"))
    (hooks,) = [each.content for each in page if "async def refund_one" in each.content]
    (folder / "agent" / "hooks.py").write_text(hooks, encoding="utf-8")
    (folder / "tests" / "test_children.py").write_text(CHILDREN, encoding="utf-8")
    tested = in_fork(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "2 failed, 1 passed" in tested.stdout, tested.stdout + tested.stderr
    child = "test/1#tools.0/refund.0/refund_one.0"
    told = f"the signal 'approved' (true, false, yes or no): await client.signal('{child}', "
    assert f"{told}'approved', True)" in tested.stdout


def test_fork_is_clean(fork: Fork) -> None:
    """A fork passes the linter and the formatter with the settings that it comes with."""
    folder = fork()
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_fork_lints_in_place() -> None:
    """The template's Python files carry no Jinja: they lint as they lie in the kit."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "template"],
        cwd=KIT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    for file in (KIT / "template").rglob("*.py"):
        ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "model, environment",
    [
        ("openai:gpt-6-luna", {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": "{}/v1"}),
        (
            "anthropic:claude-sonnet-5-5",
            {"ANTHROPIC_API_KEY": "x", "ANTHROPIC_BASE_URL": "{}/anthropic"},
        ),
    ],
)
def test_fork_speaks_to_providers(fork: Fork, model: str, environment: dict[str, str]) -> None:
    """With a key and another model in its hooks, the same fork calls tools and answers."""
    folder = fork()
    hooks = folder / "agent" / "hooks.py"
    text = hooks.read_text(encoding="utf-8")
    hooks.write_text(text.replace("anthropic:claude-sonnet-5-5", model), encoding="utf-8")
    with llmock() as server:
        there = {name: value.format(server.url) for name, value in environment.items()}
        done = in_fork(folder, "-m", "agent", "run", "Read the notes.", "--id", "x", **there)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(in_fork(folder, "-m", "agent", "show", "x", "--json").stdout)
    keys = [promise["key"] for promise in shown["journal"]]
    assert any(key.startswith("tools.0/") for key in keys)
    assert "model.1" in keys


def git(folder: Path, *command: str) -> None:
    """Run git with a name of its own."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)


def make_kit(folder: Path) -> None:
    """Make a repository of the kit as it is on disk, with only what copier reads."""
    folder.mkdir()
    shutil.copy(KIT / "copier.yml", folder)
    left = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(KIT / "template", folder / "template", ignore=left)
    git(folder, "init", "-b", "main")
    release(folder, "v0.1.0")


def release(folder: Path, version: str) -> None:
    """Commit everything and tag it."""
    git(folder, "add", "-A")
    git(folder, "commit", "-m", version)
    git(folder, "tag", "-a", version, "-m", version)


def test_update_keeps_what_is_yours(tmp_path: Path) -> None:
    """`copier update` leaves hooks alone, merges the loop, and leaves no conflict behind."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    copier.run_copy(str(kit), folder, defaults=True, quiet=True, unsafe=False)
    hooks, loop = folder / "agent" / "hooks.py", folder / "agent" / "loop.py"
    hooks.write_text(hooks.read_text(encoding="utf-8") + "\nMINE = True\n", encoding="utf-8")
    mine = loop.read_text(encoding="utf-8").replace('"""The loop:', '"""My loop:')
    loop.write_text(mine, encoding="utf-8")
    project = folder / "pyproject.toml"
    added = project.read_text(encoding="utf-8").replace(
        "dependencies = [\n", 'dependencies = [\n    "mine>=1",\n', 1
    )
    project.write_text(added, encoding="utf-8")
    git(folder, "init", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "Mine")
    theirs = kit / "template" / "agent"
    newer = (theirs / "loop.py").read_text(encoding="utf-8") + "\n# A newer line at the end.\n"
    (theirs / "loop.py").write_text(newer, encoding="utf-8")
    (theirs / "hooks.py").write_text("THEIRS = True\n", encoding="utf-8")
    release(kit, "v0.2.0")
    kept = hooks.read_text(encoding="utf-8")

    copier.run_update(folder, defaults=True, overwrite=True, quiet=True, unsafe=False)

    assert hooks.read_text(encoding="utf-8") == kept
    merged = loop.read_text(encoding="utf-8")
    assert "My loop:" in merged
    assert "A newer line at the end." in merged
    assert '"mine>=1"' in project.read_text(encoding="utf-8")
    for name in files_of(folder):
        assert "<<<<<<<" not in (folder / name).read_text(encoding="utf-8"), name


LOOP_KEYS = ("agent/hooks.py", "agent/rehearsal.py", "tests/test_hooks.py", "README.md")


def committed(folder: Path, message: str = "Mine") -> None:
    """Put all of a fork's files into its history."""
    if not (folder / ".git").exists():
        git(folder, "init", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", message)


def test_update_brings_nothing_back(tmp_path: Path) -> None:
    """Files of the fork's own that were deleted stay away, and those that are new come."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    copier.run_copy(str(kit), folder, defaults=True, quiet=True, unsafe=False)
    for name in (*LOOP_KEYS, "AGENTS.md"):
        (folder / name).unlink()
    committed(folder)
    for name in (*(each for each in LOOP_KEYS if each != "README.md"), "NEW.md"):
        (kit / "template" / name).write_text("# Newer.\n", encoding="utf-8")
    release(kit, "v0.2.0")

    copier.run_update(folder, defaults=True, overwrite=True, quiet=True, unsafe=False)

    there = files_of(folder)
    assert there & {*LOOP_KEYS, "AGENTS.md"} == set()
    assert "NEW.md" in there


def test_update_of_a_fork_whose_name_is_taken(tmp_path: Path) -> None:
    """A fork that has such a name from before is updated as any other."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    copier.run_copy(str(kit), folder, defaults=True, quiet=True, unsafe=False)
    for name in (".copier-answers.yml", "pyproject.toml", "README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("my-agent", "agent"), encoding="utf-8")
    committed(folder)
    (kit / "template" / "NEW.md").write_text("# Newer.\n", encoding="utf-8")
    release(kit, "v0.2.0")

    copier.run_update(folder, defaults=True, overwrite=True, quiet=True, unsafe=False)

    assert (folder / "NEW.md").exists()
    assert "agent_name: agent\n" in (folder / ".copier-answers.yml").read_text(encoding="utf-8")


def test_update_of_a_fork_from_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork that was made from a relative path is updated from wherever one stands."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    monkeypatch.chdir(tmp_path)
    copier.run_copy("./kit", folder, defaults=True, quiet=True, unsafe=False)
    committed(folder)
    (kit / "template" / "NEW.md").write_text("# Newer.\n", encoding="utf-8")
    release(kit, "v0.2.0")
    monkeypatch.chdir(folder)

    copier.run_update(".", defaults=True, overwrite=True, quiet=True, unsafe=False)

    assert (folder / "NEW.md").exists()
    answers = (folder / ".copier-answers.yml").read_text(encoding="utf-8")
    assert f"_src_path: {kit}\n" in answers
    assert answers.startswith("# Written by copier")


@pytest.mark.parametrize(
    "given, named, kept",
    [
        ("gh:org/kit", "https://github.com/org/kit.git", "gh:org/kit"),
        (
            "git+https://{}@git.example/org/kit",
            "https://git.example/org/kit",
            "git+https://git.example/org/kit",
        ),
        ("https://{}@git.example/kit.git", "https://git.example/kit.git", None),
        ("https://me:{}@git.example/kit.git", "https://git.example/kit.git", None),
        ("https://me:a@{}@git.example/kit.git", "https://git.example/kit.git", None),
        ("ssh://git@git.example/kit.git", "ssh://git@git.example/kit.git", None),
        ("ssh://git:{}@git.example/kit.git", "ssh://git@git.example/kit.git", None),
        (
            "git@git.example:org/kit.git",
            "ssh://git@git.example/org/kit.git",
            "git@git.example:org/kit.git",
        ),
    ],
)
def test_kit_of_a_url(tmp_path: Path, given: str, named: str, kept: str | None) -> None:
    """A fork of a URL is pinned to its commit, and no file of it has the token in the URL."""
    given = given.format("t0ken-of-mine")
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    asked = given.removeprefix("git+")
    asked = "https://github.com/org/kit.git" if asked == "gh:org/kit" else asked
    there = {  # the address leads to this folder
        "COPIER_CACHE_DIR": str(tmp_path / "mirrors"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{kit.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": asked,
    }

    subprocess.run(
        [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", given, str(folder)],
        env=os.environ | there,
        check=True,
        capture_output=True,
    )

    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=kit, capture_output=True, text=True)
    commit = head.stdout.strip()
    assert source_of(folder) == {"git": named, "rev": commit}
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert f"git+{named}@{commit}#egg=ostinato" in lines
    answers = yaml.safe_load((folder / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert answers["_src_path"] == (kept or named)
    for name in files_of(folder):
        assert "t0ken" not in (folder / name).read_text(encoding="utf-8"), name


def source_of(folder: Path) -> dict[str, Any]:
    """Return where a fork's kit comes from, as uv reads it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    source: dict[str, Any] = project["tool"]["uv"]["sources"]["ostinato"]
    return source


def test_kit_of_a_folder(tmp_path: Path) -> None:
    """A clone is pinned to the commit that was copied; what no commit holds is taken as it lies."""
    kit = tmp_path / 'a kit "é"'
    make_kit(kit)
    (kit / "NEW.md").touch()
    committed(kit, "Past the release")
    commits = [
        subprocess.run(["git", "rev-parse", ref], cwd=kit, capture_output=True, text=True).stdout
        for ref in ("v0.1.0^{commit}", "HEAD")
    ]

    def fork(name: str, ref: str | None) -> dict[str, Any]:
        copier.run_copy(
            str(kit), tmp_path / name, defaults=True, vcs_ref=ref, quiet=True, unsafe=False
        )
        return source_of(tmp_path / name)

    assert fork("release", None) == {"git": kit.as_uri(), "rev": commits[0].strip()}
    assert fork("newest", "HEAD") == {"git": kit.as_uri(), "rev": commits[1].strip()}
    (kit / "NEW.md").write_text("edited", encoding="utf-8")
    assert fork("edited", "HEAD") == {"path": str(kit), "editable": True}
    assert fork("release-of-edited", None) == {"git": kit.as_uri(), "rev": commits[0].strip()}
    shutil.rmtree(kit / ".git")
    assert fork("plain", None) == {"path": str(kit), "editable": True}


def test_a_folder_becomes_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork of a folder whose files are told a URL, as its README says, is updated from there."""
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "mirrors"))
    kit, folder, shared = tmp_path / "kit", tmp_path / "my-agent", tmp_path / "shared.git"
    make_kit(kit)
    copier.run_copy(str(kit), folder, defaults=True, quiet=True, unsafe=False)
    (kit / "template" / "NEW.md").touch()
    release(kit, "v0.2.0")
    git(tmp_path, "clone", "--bare", str(kit), str(shared))
    shutil.rmtree(kit)
    url = shared.as_uri()
    for name, old, new in (
        (".copier-answers.yml", f"_src_path: {kit}\n", f"_src_path: git+{url}\n"),
        ("pyproject.toml", kit.as_uri(), url),
        ("requirements.txt", kit.as_uri(), url),
    ):
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    committed(folder)

    copier.run_update(folder, defaults=True, overwrite=True, quiet=True, unsafe=False)

    newest = subprocess.run(
        ["git", "rev-parse", "v0.2.0^{commit}"], cwd=shared, capture_output=True, text=True
    )
    assert source_of(folder) == {"git": url, "rev": newest.stdout.strip()}
    assert (folder / "NEW.md").exists()
    assert "<<<<<<<" not in (folder / "requirements.txt").read_text(encoding="utf-8")


def test_update_of_a_fork_of_edits(tmp_path: Path) -> None:
    """A fork that was made of a clone with edits is updated like any other, again and again."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    loop = kit / "template" / "agent" / "loop.py"
    text = loop.read_text(encoding="utf-8")
    loop.write_text(text + "\n# Edited.\n", encoding="utf-8")
    copier.run_copy(str(kit), folder, defaults=True, vcs_ref="HEAD", quiet=True, unsafe=False)
    committed(folder)
    for line in ("# Edited.\n\n# Edited again.", "# Committed."):
        loop.write_text(f"{text}\n{line}\n", encoding="utf-8")
        if line == "# Committed.":
            release(kit, "v0.2.0")
        copier.run_update(
            folder, defaults=True, overwrite=True, vcs_ref="HEAD", quiet=True, unsafe=False
        )
        assert "<<<<<<<" not in (folder / "pyproject.toml").read_text(encoding="utf-8")
        (folder / "agent" / "loop.py").write_text(f"{text}\n{line}\n", encoding="utf-8")
        committed(folder, line)
    assert source_of(folder)["git"] == kit.as_uri()
    answers = (folder / ".copier-answers.yml").read_text(encoding="utf-8")
    assert "_commit: v0.2.0\n" in answers


def test_other_answers_meet_nothing(tmp_path: Path) -> None:
    """An update to another database and provider does not meet what `uv add` wrote."""
    kit, folder = tmp_path / "kit", tmp_path / "my-agent"
    make_kit(kit)
    copier.run_copy(str(kit), folder, defaults=True, quiet=True, unsafe=False)
    # Without a word about it, uv wants the Python that the fork names, from the network if need be.
    python = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    for name in ("zstd", "idna", "pandas", "psutil"):  # which uv sorts around the kit's
        command = [find_uv(), "add", "--quiet", "--frozen", name]
        subprocess.run(command, cwd=folder, env=os.environ | python, check=True)
    committed(folder)
    (kit / "template" / "NEW.md").touch()
    release(kit, "v0.2.0")

    answers = {"database": "postgres", "provider": "openai"}
    copier.run_update(folder, data=answers, defaults=True, overwrite=True, quiet=True, unsafe=False)

    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    needed = sorted(project["project"]["dependencies"])
    assert needed == ["idna", "ostinato[chat,openai,postgres]", "pandas", "psutil", "zstd"]
    assert (folder / ".env").exists()


def test_message_names_real_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What copier prints after a copy can be typed as it stands."""
    folder = tmp_path / "told"
    copier.run_copy(str(KIT), folder, defaults=True, vcs_ref="HEAD", unsafe=False)
    told = capfd.readouterr().err
    commands = [shlex.split(line) for line in told.splitlines() if line.startswith("  ")]
    assert commands[0] == ["cd", str(folder)]
    typed = [command[2:] for command in commands if command[:2] == ["uv", "run"]]
    assert [command[0] for command in typed] == ["pytest", "python"]
    for command in typed:
        options = command[1:] if command[0] == "python" else ["-m", *command]
        done = in_fork(folder, *options)
        assert done.returncode == 0, done.stdout + done.stderr


def test_message_of_a_postgres_fork(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is printed first closes the file that has a password, and starts the database."""
    answers = {"database": "postgres"}
    folder = tmp_path / "told"
    copier.run_copy(str(KIT), folder, data=answers, defaults=True, vcs_ref="HEAD", unsafe=False)
    told = [line.strip() for line in capfd.readouterr().err.splitlines() if line[:2] == "  "]
    assert told[:4] == [f"cd {folder}", "chmod 600 .env", "docker compose up -d", "uv run pytest"]
    assert ".env" in files_of(folder)
