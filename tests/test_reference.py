"""The reference says what the docstrings say, and the docstrings say enough, and what is true."""

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import re
import traceback
from collections.abc import Iterator
from itertools import count
from types import CodeType
from typing import Any

import pytest

from substrate import Durable, connect
from tests.reference import FOLDER, INNER, KIT, MODULES, Reference, public_names, tidy


def things() -> Iterator[tuple[str, Any]]:
    """Yield what the pages have: names, and the methods of classes."""
    for module in dict.fromkeys(each for modules in MODULES.values() for each in modules):
        there = importlib.import_module(module)
        for name in public_names(there):
            thing = getattr(there, name)
            yield f"{module}.{name}", thing
            for word in vars(thing) if isinstance(thing, type) else ():
                member = getattr(thing, word)
                is_shown = not word.startswith("_") and word not in INNER.get(name, ())
                if is_shown and inspect.isroutine(member):
                    yield f"{module}.{name}.{word}", member


def examples() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the docstrings of the kit that show something, as ``module:name``, and the module."""
    for package in ("substrate", "skills"):
        for file in sorted((KIT / package).rglob("*.py")):
            if "tests" in file.parts:
                continue
            if ">>>" not in (source := file.read_text(encoding="utf-8")):
                continue  # before it is parsed: each process that has tests to run does this
            module = ".".join(file.relative_to(KIT).with_suffix("").parts)
            module = module.removesuffix(".__init__")
            for name, text in docstrings(ast.parse(source)):
                if ">>>" in text:
                    yield f"{module}:{name}", (module, text)


def docstrings(node: ast.AST, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the docstring of a module, a class or a function, and those inside of it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield name, ast.get_docstring(node) or ""
    for each in ast.iter_child_nodes(node):
        yield from docstrings(each, f"{name}.{getattr(each, 'name', '')}".strip("."))


THINGS = dict(things())
EXAMPLES = dict(examples())
FUNCTIONS = [name for name, thing in THINGS.items() if inspect.isroutine(thing)]


def test_pages_are_current():
    """What is committed in docs/reference is what `make reference` makes of the docstrings."""
    made = {name: tidy(text) for name, text in Reference().written().items()}
    there = {page.name: page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md")}

    assert sorted(made) == sorted(there)
    assert [name for name in made if made[name] != there[name]] == []  # else: make reference


def test_what_is_left_out_is_there():
    """Each member that no page has is one: a new name for it does not bring it back unseen."""
    classes = {name.rpartition(".")[2]: thing for name, thing in THINGS.items()}
    gone = {
        f"{name}.{word}"
        for name, words in INNER.items()
        for word in words
        if not hasattr(classes[name], word) and word not in classes[name].__init__.__code__.co_names
    }

    assert gone == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_parameter_is_told(name):
    """The docstring of a public function names each of its parameters, in its own words."""
    thing = THINGS[name]
    told = inspect.getdoc(thing) or ""
    given = [
        each.name
        for each in inspect.signature(thing).parameters.values()
        if each.name not in ("self", "cls")
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]

    assert told
    assert [each for each in given if not re.search(rf"\b{each}\b", told)] == []


def test_each_field_is_told():
    """Of each public name there is a sentence, and of each field of a class what it holds."""
    pages = {page: FOLDER / page for page in ("README.md", *(f"{each}.md" for each in MODULES))}
    silent = [
        f"{page}: {line}"
        for page, file in pages.items()
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.fullmatch(r"\| .* \|\s+\|", line) and line not in ("| attribute | |", "| name | |")
    ]

    assert silent == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    """The example in a docstring does what it shows."""
    monkeypatch.chdir(tmp_path)
    module, text = EXAMPLES[name]
    scope = vars(importlib.import_module(module)) | names()
    with asyncio.Runner() as runner:
        for example in doctest.DocTestParser().get_examples(text):
            got = run(example.source, scope, runner)
            wanted = example.want if example.exc_msg is None else example.exc_msg
            is_same = doctest.OutputChecker().check_output(
                wanted, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert is_same, f"{example.source}gave\n{got}and not\n{wanted}"


def names() -> dict[str, Any]:
    """Return what examples may use without importing it."""
    scope: dict[str, Any] = {"__name__": "example", "asyncio": asyncio, "drive": drive}
    for module in (each for modules in MODULES.values() for each in modules):
        there = importlib.import_module(module)
        scope |= {name: getattr(there, name) for name in public_names(there)}
    for line in (
        "from datetime import *",
        "from pathlib import Path",
        "from pydantic import BaseModel",
    ):
        exec(line, scope)
    return scope


_numbers = count(1)


async def drive(function: Durable[..., Any], *args: Any) -> Any:
    """Start a run in a database of its own, and return its result."""
    id = f"example/{next(_numbers)}"
    async with connect("sqlite:///example.db") as client, client.work([function]):
        await client.start(function, *args, id=id)
        return await client.result(id, function)


def run(source: str, scope: dict[str, Any], runner: asyncio.Runner) -> str:
    """Run a statement as somebody types it, `await` and all; return what is printed."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(source, "<example>", "single", flags, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, scope))  # what is typed at `python -m asyncio`
            else:
                exec(code, scope)
        except Exception as error:  # noqa: BLE001 - an example may show one
            printed.write("".join(traceback.format_exception_only(error)))
    return printed.getvalue()


def test_what_is_shown_is_compared():
    """An example that shows something else than it does is found."""
    with asyncio.Runner() as runner:
        scope = names()
        assert run("1 + 1\n", scope, runner) == "2\n"
        assert run("await asyncio.sleep(0, 'awake')\n", scope, runner) == "'awake'\n"
        assert run("1 / 0\n", scope, runner) == "ZeroDivisionError: division by zero\n"
