"""The project's Markdown pages, and how each of their code blocks is run.

The blocks of a page run in their order, in one empty folder:

==========================  =======================================================================
block                       how it runs
==========================  =======================================================================
python                      as a program, in the folder, with the template's `agent` in reach
python, ``<!-- file: X -->``  is written into the page's fork as file X; what follows uses it
python, ``<!-- added to: X -->``  is added to it, its imports to those of X
bash                        in a shell, where the block before it has left that: in the page's fork
                            where there is one. `uv run X` runs X, since nothing is installed here
sql                         finds rows in a database that the blocks before it have left
text, ``<!-- output -->``   is what the program or the shell before it has printed: its lines, in
                            order; ``…`` stands for any characters
==========================  =======================================================================

Other comments: ``<!-- fork -->`` makes the page a fork of the template, without a word about it;
``<!-- stopped at: words -->`` before a bash block says that its command goes on until somebody
ends it, and is ended by Ctrl-C when it has printed these words; ``<!-- postgres -->`` before an sql
block that it is for that database; ``<!-- by hand: why -->`` that nothing here can run it.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import apsw
import copier
import psycopg
from markdown_it import MarkdownIt
from markdown_it.token import Token

from substrate import connect
from tests.fork import COMMANDS, end
from tests.loops import TASK, make_agent, scripted

KIT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in KIT.rglob("*.md")
    if not {".venv", "node_modules", "template"} & set(path.relative_to(KIT).parts)
    and not any(part.startswith(".") for part in path.relative_to(KIT).parts)
)
LIMIT_S = 90
AGENT = "uv run python -m agent "
MARK = re.compile(r"<!-- (?P<word>[a-z ]+?)(?:: (?P<said>.+?))? -->")
BY_HAND = {"minutes", "docker", "a network", "a key", "uv", "a remote", "git"}
"""Why a block may be left to people: it takes minutes, or what this machine does not have."""

UV = """#!/bin/sh
# Runs what `uv run` is given in this environment: a page's fork has no index to install from.
[ "$1" = run ] || { echo "uv $1 is not for a test" >&2; exit 1; }
shift
PYTHONPATH="$PWD:$PYTHONPATH" exec "$@"  # uv installs the fork as well
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, and the comment before it."""

    language: str
    content: str
    line: int
    mark: str = ""
    said: str = ""


@cache
def tokens(page: Path) -> list[Token]:
    """Return a page as it is parsed."""
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def all_blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    mark, said = "", ""
    for token in tokens(page):
        if token.type == "html_block" and (found := MARK.fullmatch(token.content.strip())):
            mark, said = found["word"], found["said"] or ""
            if mark == "fork":
                yield Block("fork", "", (token.map or [0])[0] + 1)
                mark = ""
        elif token.type == "fence":
            language = token.info.split(" ")[0]
            yield Block(language, token.content, (token.map or [0])[0] + 1, mark, said)
            mark, said = "", ""


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield what is in the fenced blocks of a language, in order."""
    return (each.content for each in all_blocks(page) if each.language == language)


def named(page: Path) -> str:
    """Return a page's name for a test's id."""
    return str(page.relative_to(KIT) if page.is_relative_to(KIT) else page)


class Setting:
    """The folder in which the blocks of a page run, and what they have left there."""

    def __init__(self, page: Path, folder: Path, template: Path, postgres_url: str) -> None:
        self._page = named(page)
        self._folder = folder / "here"
        self._folder.mkdir()
        self._template = template
        self._url = postgres_url
        self._has_run = False
        self._where = self._folder
        self._printed = ""
        self._tools = folder / "bin"
        self._tools.mkdir()
        (self._tools / "uv").write_text(UV, encoding="utf-8")
        (self._tools / "uv").chmod(0o755)

    def run(self, page: Path) -> None:
        """Run all blocks of a page; of a fork's own, there."""
        if page.is_relative_to(self._template):
            self._enter_fork()
        programs: list[Block] = []
        for block in all_blocks(page):
            if block.language == "python" and block.mark == "":
                programs.append(block)
                continue
            self._run_programs(programs)
            programs = []
            if block.mark != "by hand":
                self._run(block)
        self._run_programs(programs)

    def _run(self, block: Block) -> None:
        match block.language, block.mark:
            case "fork", _:
                self._enter_fork()
            case "python", "file":
                self._enter_fork()
                file = self._where / block.said
                file.parent.mkdir(exist_ok=True)
                file.write_text(block.content, encoding="utf-8")
            case "python", "added to":
                self._enter_fork()
                add(self._where / block.said, block.content)
            case "bash", "stopped at":
                self._run_until(block)
            case "bash", _:
                self._run_shell(block)
            case "sql", "postgres":
                self._run_on_postgres(block)
            case "sql", _:
                files = [*self._folder.glob("*.db"), *self._where.glob("*.db")]
                assert any(rows_of(file, block.content) for file in files), self._at(block)
            case "text", "output":
                self._check_output(block)

    def _run_programs(self, programs: list[Block]) -> None:
        """Run Python programs one after another, in one process, which need not import the kit."""
        if not programs:
            return
        names = []
        for block in programs:
            name = self._folder / f"line_{block.line}.py"
            name.write_text(block.content, encoding="utf-8")
            names.append(str(name))
        there = {"cwd": self._folder, "env": self._environment()}
        # Forked from what has the kit imported: a Python of its own takes a page twice as long.
        process = COMMANDS.start("tests.programs", *names, **there)
        self._printed, err = process.communicate(LIMIT_S)
        assert process.returncode == 0, f"{self._page}: {err}"

    def _run_shell(self, block: Block) -> None:
        """Run what is typed; what the fork's own command line is asked, by a warm Python."""
        self._printed = ""
        for is_agent, lines in groupby(block.content.splitlines(), key=is_of_agent):
            if is_agent:
                for line in lines:
                    self._run_agent(block, line)
            else:
                self._run_script(block, "\n".join(lines))

    def _run_agent(self, block: Block, line: str) -> None:
        done = end(COMMANDS.start(*agent_of(line), **self._there))
        assert done.code == 0, f"{self._at(block)}\n{done.out}{done.err}"
        self._printed += done.out + done.err

    def _run_script(self, block: Block, script: str) -> None:
        left = self._tools / "pwd"
        # Where the script has gone is left behind, so that what comes next begins there.
        done = subprocess.run(
            ["bash", "-c", f'set -e\n{script}\npwd > "{left}"\n'],
            **self._there,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, f"{self._at(block)}\n{done.stdout}{done.stderr}"
        self._where = Path(left.read_text(encoding="utf-8").strip())
        self._printed += done.stdout + done.stderr

    def _run_until(self, block: Block) -> None:
        """Run a command that goes on, and end it as Ctrl-C does when it has said the words."""
        output = self._tools / "output"
        with output.open("w", encoding="utf-8") as printed:
            files = (os.open(os.devnull, os.O_RDONLY), printed.fileno(), printed.fileno())
            process = COMMANDS.start(*agent_of(block.content), **self._there, stdio=files)
            os.close(files[0])
        ends = time.monotonic() + LIMIT_S
        while block.said not in (self._read(output)):
            assert process.poll() is None, f"{self._at(block)}\n{self._read(output)}"
            assert time.monotonic() < ends, f"{self._at(block)}\n{self._read(output)}"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)
        self._printed = self._read(output)

    def _run_on_postgres(self, block: Block) -> None:
        """Run statements where an agent has run, and take them back. A question finds rows."""
        if not self._has_run:
            asyncio.run(run_an_agent(self._url))
            self._has_run = True
        with psycopg.connect(self._url) as server, server.transaction(force_rollback=True):
            done = server.execute(block.content.encode())
            assert done.description is None or done.fetchall(), self._at(block)

    def _enter_fork(self) -> None:
        if not (self._where / "agent").exists():
            self._where = self._folder / "my-agent"
            shutil.copytree(self._template, self._where)

    def _check_output(self, block: Block) -> None:
        rest = self._printed
        for line in filter(str.strip, block.content.splitlines()):
            pattern = re.escape(line.rstrip()).replace("…", ".*")
            found = re.search(rf"^{pattern}\s*$", rest, re.MULTILINE)
            assert found, f"{self._at(block)}: {line!r} is not in\n{self._printed}"
            rest = rest[found.end() :]

    @property
    def _there(self) -> dict[str, Any]:
        return {"cwd": self._where, "env": self._environment()}

    def _environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        path = f"{self._tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        # Wide enough for the widest table, so that what is printed does not hang on the terminal.
        # Plugins that a fork's tests do not need take half of their time.
        left = "-p no:cacheprovider -p no:hypothesispytest -p no:xdist"
        return clean | {
            "PYTEST_ADDOPTS": left,
            "KIT": str(KIT),
            "PATH": path,
            "PYTHONPATH": str(KIT),
            "COLUMNS": "100",
        }

    def _at(self, block: Block) -> str:
        return f"{self._page}, line {block.line}"

    @staticmethod
    def _read(file: Path) -> str:
        return file.read_text(encoding="utf-8")


def add(file: Path, code: str) -> None:
    """Add code to a program: its imports to those that are there, and the rest below."""
    imports, _, rest = code.partition("\n\n\n")
    before, last, after = file.read_text(encoding="utf-8").rpartition("\nfrom ")
    file.write_text(f"{before}\n{imports}{last}{after}\n\n{rest}", encoding="utf-8")


async def run_an_agent(url: str) -> None:
    """Have an agent answer, so that the tables have rows of every kind of an agent's call."""
    agent = make_agent(scripted("Two owls."))
    async with connect(url) as client, client.work([agent]):
        await client.start(agent, TASK, id="first")
        await client.result("first")


def is_of_agent(line: str) -> bool:
    """Whether a line asks the fork's own command line."""
    return line.startswith(AGENT)


def agent_of(line: str) -> list[str]:
    """Return the module and the arguments of a line that asks the fork's own command line."""
    assert is_of_agent(line), f"{line!r} does not begin with {AGENT}"
    return ["agent", *shlex.split(line.removeprefix(AGENT), comments=True)]


def rows_of(file: Path, query: str) -> list[tuple[object, ...]]:
    """Return what a query finds in a database; nothing where its tables are not there."""
    database = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(database.execute(query))
    except apsw.SQLError:
        return []
    finally:
        database.close()


def make_fork(folder: Path) -> Path:
    """Copy the template as it is on disk, edits that are not committed included."""
    copier.run_copy(str(KIT), folder, defaults=True, vcs_ref="HEAD", quiet=True, unsafe=False)
    return folder


@cache
def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    parsed = tokens(page)
    for i, token in enumerate(parsed):
        if token.type == "heading_open":
            children = parsed[i + 1].children or []
            text = "".join(
                each.content for each in children if each.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            if count:
                found[f"{slug}-{count}"] = 1
    return set(found)


def links(page: Path) -> Iterator[str]:
    """Yield where the links and the pictures of a page lead."""
    for token in tokens(page):
        for part in (token, *(token.children or [])):
            if part.type == "link_open":
                yield str(part.attrs["href"])
            elif part.type == "image":
                yield str(part.attrs["src"])
            elif part.type in ("html_block", "html_inline"):
                yield from re.findall(r'(?:src|srcset|href)="([^"]+)"', part.content)
