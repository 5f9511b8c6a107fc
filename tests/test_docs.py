"""Every code block of every README is executed, and does what it says.

Python blocks run one after another in a process of their own, in an empty folder, with the
template on the path. SQL blocks run against the databases that these left behind, or on Postgres.
In shell blocks of the kit's own pages, `make` targets are looked up; the rest is run by
`test_template`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import psycopg
import pytest
from markdown_it import MarkdownIt

KIT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in KIT.rglob("*.md")
    if not {".venv", "node_modules", "template"} & set(path.relative_to(KIT).parts)
    and not any(part.startswith(".") for part in path.relative_to(KIT).parts)
)
RUN_BY_HAND = re.compile(r"make \w+")


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language, in order."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info.split()[:1] == [language]:
            yield token.content


def named(pages: list[Path]) -> list[str]:
    """Return the pages' names for the test ids."""
    return [str(page.relative_to(KIT)) for page in pages]


def with_blocks(language: str) -> list[Path]:
    """Return the pages that have a block of the language."""
    return [page for page in PAGES if any(blocks(page, language))]


@pytest.mark.parametrize("page", with_blocks("python"), ids=named(with_blocks("python")))
def test_python_and_sql_run(page: Path, tmp_path: Path, postgres_dsn: str) -> None:
    """Each Python block runs as it stands; each SQL block finds rows, or runs on Postgres."""
    for i, block in enumerate(blocks(page, "python")):
        script = tmp_path / f"block_{i}.py"
        script.write_text(block, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", script],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{KIT}:{KIT / 'template'}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"block {i + 1} of {page.name}:\n{block}\n{done.stderr}"
    for query in blocks(page, "sql"):
        if not any(rows_of(file, query) for file in tmp_path.glob("*.db")):
            run_on_postgres(postgres_dsn, query)


def rows_of(file: Path, query: str) -> list[tuple[object, ...]]:
    """Return what a query finds in a database; nothing where its tables are not there."""
    database = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(database.execute(query))
    except apsw.SQLError:
        return []
    finally:
        database.close()


def run_on_postgres(dsn: str, statements: str) -> None:
    """Run statements, and take them back."""
    with psycopg.connect(dsn) as server, server.transaction(force_rollback=True):
        server.execute(statements.encode())


def test_every_block_is_covered() -> None:
    """No page has a block in a language that nothing executes."""
    known = {"python", "sql", "bash", "text", "mermaid"}
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            if token.type == "fence":
                language = token.info.split(" ")[0]
                assert language in known, f"{page.name} has a block of {token.info!r}"


@pytest.mark.parametrize("page", with_blocks("bash"), ids=named(with_blocks("bash")))
def test_make_targets_exist(page: Path) -> None:
    """Each `make` target that a page names is one of the Makefile's."""
    for block in blocks(page, "bash"):
        for command in RUN_BY_HAND.findall(block):
            subprocess.run([*command.split(), "-n"], cwd=KIT, check=True, capture_output=True)


def links(page: Path) -> Iterator[str]:
    """Yield where the links of a page lead."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        for part in token.children or []:
            if part.type == "link_open":
                yield str(part.attrs["href"])


@pytest.mark.parametrize("page", PAGES, ids=named(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file that there is."""
    for target in links(page):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
