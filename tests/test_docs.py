"""Every code block of every page is executed, and does what it says; every link leads somewhere.

How a block is run, and what a comment before it says, is told in `pages`.
"""

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from substrate import Client, Context, Worker, WorkerOptions
from substrate.agent import Turn
from tests.pages import (
    BY_HAND,
    KIT,
    PAGES,
    Setting,
    all_blocks,
    blocks,
    links,
    make_fork,
    named,
    slugs,
    tokens,
)

REFERENCE = KIT / "docs" / "reference"
RUN = [
    page
    for page in PAGES
    if REFERENCE not in page.parents
    and any(each.language in ("python", "bash", "sql") for each in all_blocks(page))
]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a fork once; each page that needs one has a copy."""
    return make_fork(tmp_path_factory.mktemp("template") / "my-agent")


@pytest.mark.parametrize("page", RUN, ids=named)
def test_blocks_run(page: Path, tmp_path: Path, template: Path, postgres_url: str) -> None:
    """What a page shows works as it stands: programs, files of a fork, commands, statements."""
    Setting(page, tmp_path, template, postgres_url).run(page)


def test_every_block_is_covered() -> None:
    """No page has a block in a language that nothing executes, or one that is left out for less."""
    known = {"python", "sql", "bash", "text", "mermaid", "fork"}
    marks = {
        "python": {"", "file"},
        "bash": {"", "stopped at", "by hand"},
        "sql": {"", "postgres"},
        "text": {"", "output"},
    }
    for page in PAGES:
        languages = known | {"py", "pycon"} if REFERENCE in page.parents else known
        for block in all_blocks(page):
            where = f"{named(page)}, line {block.line}"
            assert block.language in languages, f"{where}: a block of {block.language!r}"
            assert block.mark in marks.get(block.language, {""}), f"{where}: {block.mark!r}"
            assert block.mark != "by hand" or block.said in BY_HAND, f"{where}: {block.said!r}"


def test_make_targets_exist() -> None:
    """Each `make` target that a page names is one of the Makefile's."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                if line.startswith("make "):
                    command = line.partition("#")[0].split()
                    subprocess.run([*command, "-n"], cwd=KIT, check=True, capture_output=True)


def test_files_that_are_named_are_there() -> None:
    """Each file or folder of the kit that the pages for its makers name is there."""
    first = "|".join(each.name for each in KIT.iterdir() if each.is_dir() and each.name[0] != ".")
    for page in (KIT / "AGENTS.md", KIT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(rf"`((?:{first})(?:/[^`\s]*)?)`", text):
            pattern = re.sub(r"<\w+>|…", "*", name.rstrip("/"))
            assert list(KIT.glob(pattern)), f"{named(page)} names {name}"


KNOWN = {"ctx": Context, "client": Client, "turn": Turn, "worker": Worker}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_operations_that_are_named_are_there(page: Path) -> None:
    """Each operation that a page names in its text is one: ``ctx.step`` of a context, and so on."""
    if page.name == "CHANGELOG.md":  # which tells of former ones
        return
    for token in tokens(page):
        for part in token.children or ():
            spoken = part.content if part.type == "code_inline" else ""
            for of, name in re.findall(r"\b(ctx|client|turn|worker)\.(?!py\b)(\w+)", spoken):
                assert hasattr(KNOWN[of], name) or name == "store", f"{named(page)}: {spoken}"


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_tables_and_columns_that_are_named_are_there(dialect: str) -> None:
    """Each table and column that the page of the tables lists is one of the schema."""
    page = (KIT / "docs" / "internals.md").read_text(encoding="utf-8")
    part = page.partition("\n## The tables\n")[2].partition("\n## ")[0]
    heads = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", part, re.MULTILINE)
    told = {name for head in heads for name in re.findall(r"\w+", head)}
    files = (KIT / "substrate" / "store" / "schema" / dialect).glob("*.sql")
    there = set(re.findall(r"\w+", "".join(each.read_text(encoding="utf-8") for each in files)))
    assert len(told) > 15
    assert told - there == {"ostinato_migrations"}  # which migrating itself makes


def test_options_that_are_named_are_there() -> None:
    """The how-to of workers names the options that a worker has."""
    page = KIT / "docs" / "how-to" / "many-workers.md"
    told = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(told) == {each.name for each in fields(WorkerOptions)} - {"poll"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link and picture of a page names a file that there is, and a heading of it."""
    for target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{named(page)} links to {target}"
        if anchor:
            assert anchor in slugs(there), f"{named(page)} links to {target}"
