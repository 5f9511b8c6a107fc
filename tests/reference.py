"""`make reference`: the pages of `docs/reference`, made from the docstrings of what is public.

A page is a package that a fork imports from. Of each name it has the signature, as the source has
it, and the docstring. Names in backticks lead to their own entry where they have one.
"""

import importlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import griffe

KIT = Path(__file__).resolve().parent.parent
FOLDER = KIT / "docs" / "reference"
MODULES = {
    "substrate": ("substrate",),
    "agent": ("substrate.agent",),
    "memory": ("substrate.memory",),
    "models": (
        "substrate.models.messages",
        "substrate.models.request",
        "substrate.models.providers.scripted",
        "substrate.testing.cassette",
        "substrate.models.cheapest",
    ),
    "testing": ("substrate.testing",),
    "skills": ("skills.sql", "skills.web"),
}
"""The pages, and the modules whose names each has."""

CHOSEN = {
    "substrate.models.messages": (
        "Document",
        "Image",
        "Reply",
        "StopReason",
        "Text",
        "Thinking",
        "ToolCall",
        "ToolMessage",
        "ToolResult",
        "Usage",
        "UserMessage",
    ),
    "substrate.models.request": ("Request", "ToolSpec"),
    "substrate.models.providers.scripted": ("Script", "Turn", "call", "say"),
}
"""Of a module that says nothing of it, the names that are for forks."""

INTRODUCTION = {
    "substrate": "Durable functions: what is imported from `substrate`.",
    "agent": "Hooks, tools and the loop: what is imported from `substrate.agent`.",
    "memory": "What is read from memory: what is imported from `substrate.memory`.",
    "models": "What models say and are told, and models for tests.",
    "testing": "For tests of durable functions: what is imported from `substrate.testing`.",
    "skills": "Tools that come with the kit.",
}
GROUPS = ("Functions", "Classes", "Values", "Types", "Errors")
INNER = {
    "Agent": {"each"},
    "Child": {"take"},
    "Durable": {
        "decode_arguments",
        "decode_result",
        "encode_arguments",
        "encode_result",
        "encode_some",
        "parameters",
        "signature",
        "with_defaults",
    },
    "Model": {
        "adapter",
        "address",
        "ask",
        "candidates",
        "describe_fallback",
        "correction_chain",
        "place",
        "without",
    },
    "Pending": {
        "close",
        "drop",
        "leaves_a_row",
        "live",
        "read",
        "read_aside",
        "send",
        "take",
        "throw",
    },
    "Promise": {"written"},
    "Reply": {"from_json", "made_by", "to_json"},
    "Request": {"call_id"},
    "Retry": {"after", "allows", "delay"},
    "Tool": {"as_durable", "takes", "with_function"},
    "ToolCall": {"read"},
    "ToolMessage": {"from_json", "to_json"},
    "Transcript": {"begin", "chain", "faults", "made_room_at", "warned", "with_message"},
    "TypedAnswer": {"problem", "schema", "value"},
    "Usage": {"from_json", "to_json"},
    "UserMessage": {"from_json", "to_json"},
    "Worker": {
        "close",
        "execution_of",
        "give_back",
        "give_leases_up",
        "hurry",
        "lines",
        "tick_soon",
        "open",
        "recognise",
        "start",
        "takes",
        "wake",
    },
}
"""Members without an underscore that are for the kit's own layers: no page has them.

`Context` has none: what is for layers stands in its base.
"""
GIVEN = {
    "Bound",
    "Child",
    "Client",
    "Context",
    "Pending",
    "Promise",
    "Run",
    "Transcript",
    "Turn",
    "Winner",
    "Worker",
}
"""Classes that the kit makes, and no fork: how they are made is nobody's business."""
_PARTS = {"Args", "Returns", "Raises", "Yields", "Example", "Examples", "Attributes", "Note"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A public name: where it is imported from, what it is, and its source."""

    module: str
    name: str
    group: str
    source: griffe.Object

    @property
    def members(self) -> list[griffe.Object]:
        """What its page shows of a class."""
        left = INNER.get(self.name, ())
        found = self.source.members.values() if isinstance(self.source, griffe.Class) else ()
        return [each for each in found if isinstance(each, griffe.Object) and is_public(each, left)]

    @property
    def methods(self) -> list[griffe.Function]:
        """Its methods."""
        return [each for each in self.members if isinstance(each, griffe.Function)]


class Reference:
    """All entries, by page, and the loader that has read their sources."""

    def __init__(self) -> None:
        self._loader = griffe.GriffeLoader(search_paths=[KIT], allow_inspection=False)
        for package in ("substrate", "skills"):
            self._loader.load(package, try_relative_path=False)
        self.pages = {page: list(self._entries(MODULES[page])) for page in MODULES}
        self._links = {
            name: f"{page}.md#{anchor}"
            for page in reversed(self.pages)
            for name, anchor in anchors(self.pages[page]).items()
        }

    def _entries(self, modules: Sequence[str]) -> Iterator[Entry]:
        for name in modules:
            module = importlib.import_module(name)
            for each in public_names(module):
                thing = getattr(module, each)
                yield Entry(name, each, group_of(thing), self._source(name, each, thing))

    def _source(self, module: str, name: str, thing: object) -> griffe.Object:
        """Return the source of a name: where it is defined, not where it is handed on."""
        is_made = isinstance(thing, type) or inspect.isroutine(thing)
        where = thing.__module__ if is_made else self._home(module, name)
        path = f"{where}.{thing.__qualname__ if is_made else name}"
        found = self._loader.modules_collection[path]
        return found.final_target if isinstance(found, griffe.Alias) else found

    def _home(self, module: str, name: str) -> str:
        """Return the module that a value is assigned in, which a value itself does not know."""
        found = self._loader.modules_collection[module]
        for _ in range(5):
            target = found.imports.get(name)
            if target is None:
                return str(found.path)
            found = self._loader.modules_collection[target.rpartition(".")[0]]
        raise LookupError(f"{module}.{name} is handed on in a circle")

    def written(self) -> dict[str, str]:
        """Return all pages by the names of their files."""
        return {f"{page}.md": self._page(page) for page in MODULES} | {"README.md": self._index()}

    def _index(self) -> str:
        lines = [
            "# Reference",
            "",
            "Made from the docstrings by `make reference`. In the examples, `drive(function, …)`",
            "starts a run in a database of its own and gives its result; they are run by",
            "`tests/test_reference.py`.",
        ]
        for page, entries in self.pages.items():
            lines += ["", f"## [{page}]({page}.md)", "", INTRODUCTION[page], ""]
            lines += ["| name | |", "|---|---|"]
            at = anchors(entries)
            for entry in in_order(entries):
                lines.append(f"| [`{entry.name}`]({page}.md#{at[entry.name]}) | {first(entry)} |")
        return "\n".join(lines) + "\n"

    def _page(self, page: str) -> str:
        entries = self.pages[page]
        lines = [f"# {page}", "", f"{INTRODUCTION[page]} [All pages](README.md)."]
        for group in GROUPS:
            here = [each for each in in_order(entries) if each.group == group]
            if here:
                lines += ["", f"## {group}"]
            for entry in here:
                lines += ["", f"### {entry.name}", "", *self._entry(entry, page)]
        return "\n".join(lines) + "\n"

    def _entry(self, entry: Entry, page: str) -> Iterator[str]:
        source = entry.source
        yield from fenced(f"from {entry.module} import {entry.name}\n\n{signature(source)}")
        yield from self._told(source, page)
        fields = [each for each in entry.members if is_told(each)]
        if fields:
            yield from ("", "| attribute | |", "|---|---|")
        for field in fields:
            yield f"| `{shown(field)}` | {self._line(field, page)} |"
        for method in entry.methods:
            yield from ("", f"#### {entry.name}.{method.name}", "")
            yield from fenced(signature(method))
            yield from self._told(method, page)

    def _told(self, source: griffe.Object, page: str) -> Iterator[str]:
        """Yield a docstring as Markdown."""
        text = source.docstring.value if source.docstring else ""
        part, is_code = "", False
        for line in dedent(text).splitlines():
            head = line.rstrip(":")
            if line.endswith(":") and head in _PARTS:
                part, is_code = head, False
                yield from ("", f"**{head}**", "")
                continue
            inner = line[4:] if part and line.startswith("    ") else line
            if part and line and not line.startswith(" "):
                part = ""
            begins = inner.lstrip().startswith((">>>", "..."))
            if begins and not is_code:
                is_code = True
                yield from ("", "```pycon")
            if is_code and not inner.strip():
                is_code = False
                yield "```"
            if is_code:
                yield inner.removeprefix("    ") if inner.startswith("    >>>") else inner
            elif part in ("Args", "Raises", "Attributes") and re.match(r"\w[\w.*, ]*: ", inner):
                name, _, said = inner.partition(": ")
                yield f"- `{name}`: {self._linked(said, page)}"
            else:
                yield self._linked(f"  {inner.strip()}" if part and inner.strip() else inner, page)
        if is_code:
            yield "```"

    def _line(self, source: griffe.Object, page: str) -> str:
        text = source.docstring.value if source.docstring else comment_of(source)
        return self._linked(" ".join(text.split()).replace("|", r"\|"), page)

    def _linked(self, line: str, page: str) -> str:
        """Return a line with its names as links, and its literals as Markdown has them."""

        def link(match: re.Match[str]) -> str:
            target = self._links.get(match[1])
            here = target and target.removeprefix(f"{page}.md")
            return f"[`{match[1]}`]({here})" if here else match[0]

        # What stands between two pairs of backticks is a literal, not a name.
        linked = re.sub(r"(?<![\[`])`([\w.]+)`(?![\]`])", link, line)
        return re.sub(r"``([^`]+)``", r"`\1`", linked)


def public_names(module: object) -> list[str]:
    """Return what a module promises: its `__all__`, else what is defined in it."""
    own = getattr(module, "__name__", "")
    given = CHOSEN.get(own) or getattr(module, "__all__", None)
    if given is not None:
        return list(given)
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == own
    ]


def group_of(thing: object) -> str:
    """Return under which heading a name stands."""
    if isinstance(thing, type):
        if issubclass(thing, BaseException):
            return "Errors"
        return "Values" if hasattr(thing, "__members__") else "Classes"
    return "Functions" if inspect.isroutine(thing) else "Types"


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a page in the order in which they stand there."""
    return sorted(entries, key=lambda each: (GROUPS.index(each.group), each.name))


def anchors(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the anchors of a page's names, as GitHub makes them: the same twice gets a number."""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in in_order(entries):
        for name in (entry.name, *(f"{entry.name}.{each.name}" for each in entry.methods)):
            slug = re.sub(r"[^\w-]", "", name.lower())
            found[name] = f"{slug}-{counts[slug]}" if counts[slug] else slug
            counts[slug] += 1
    return found


def first(entry: Entry) -> str:
    """Return the first sentence of a docstring."""
    docstring = entry.source.docstring
    text = " ".join((docstring.value if docstring else "").split())
    sentence = re.split(r"(?<=[.:]) (?=[A-Z`>])", text, maxsplit=1)[0]
    return re.sub(r"``([^`]+)``", r"`\1`", sentence).replace("|", r"\|")


def is_public(member: griffe.Object | griffe.Alias, left: Collection[str] = ()) -> bool:
    """Whether a class shows this."""
    return not member.is_alias and not member.name.startswith("_") and member.name not in left


def is_told(member: griffe.Object | griffe.Alias) -> bool:
    """Whether it is a field or a property, in one line of a table."""
    return isinstance(member, griffe.Attribute) and bool(
        member.annotation or member.value or "property" in member.labels
    )


def comment_of(source: griffe.Object) -> str:
    """Return what the comment above a field says, where it begins with ``#:``."""
    lines = source.lines_collection[source.filepath]
    found: list[str] = []
    at = (source.lineno or 1) - 2
    while at >= 0 and (line := lines[at].strip()).startswith("#:"):
        found.insert(0, line.removeprefix("#:").strip())
        at -= 1
    return " ".join(found)


def shown(member: griffe.Object) -> str:
    """Return a field as a table shows it."""
    annotation = getattr(member, "annotation", None)
    text = f"{member.name}: {annotation}" if annotation else member.name
    return text.replace("|", r"\|")


def signature(source: griffe.Object) -> str:
    """Return how something is called: the overload that says most, options one by one."""
    if isinstance(source, griffe.Class) and source.name in GIVEN:
        return f"class {source.name}"
    if isinstance(source, griffe.Class):
        made = source.members.get("__init__")
        if isinstance(made, griffe.Function):
            return f"class {source.name}{parameters(made).removesuffix(' -> None')}"
        bases = f"({', '.join(map(str, source.bases))})" if source.bases else ""
        return f"class {source.name}{bases}"
    if not isinstance(source, griffe.Function):
        return f"{source.name} = {getattr(source, 'value', '…')}"
    overloads = source.overloads or []
    best = max(overloads, key=lambda each: len(by_name(each)), default=source)
    called = f"{source.name}{parameters(best)}"
    if any("contextmanager" in str(each.value) for each in source.decorators):
        return re.sub(r" -> AsyncIterator\[(.*)\]$", r" as \1", f"async with {called}")
    return f"{'async def' if 'async' in source.labels else 'def'} {called}"


def by_name(function: griffe.Function) -> list[str]:
    """Return the parameters that have a name to whoever calls it, options one by one."""
    return [
        each.name
        for each in listed(function)
        if each.kind is not griffe.ParameterKind.positional_only and each.name != "self"
    ]


def listed(function: griffe.Function) -> list[griffe.Parameter]:
    """Return the parameters, with those of a ``TypedDict`` in the place of ``**options``."""
    found: list[griffe.Parameter] = []
    for each in function.parameters:
        text = str(each.annotation or "")
        if text.startswith("Unpack["):
            found += options_of(function.module, text[len("Unpack[") : -1])
        else:
            found.append(each)
    return found


def options_of(module: griffe.Module, name: str) -> list[griffe.Parameter]:
    """Return the options that a ``TypedDict`` names, as parameters."""
    typed = module.modules_collection[module.imports.get(name, f"{module.path}.{name}")]
    bases = [str(each) for each in typed.bases if str(each) != "TypedDict"]
    found = [each for base in bases for each in options_of(typed.module, base)]
    kind = griffe.ParameterKind.keyword_only
    for field in typed.members.values():
        if isinstance(field, griffe.Attribute):
            hint = str(field.annotation)
            is_needed = hint.startswith("Required[")
            hint = re.sub(r"^(?:Not)?Required\[(.*)\]$", r"\1", hint)
            value = None if is_needed else "…"
            found.append(griffe.Parameter(field.name, annotation=hint, kind=kind, default=value))
    return found


def plain(value: str) -> str:
    """Return a default as whoever calls it would write it."""
    value = re.sub(r"^OptionalDuration\(\)$", "None", value)
    return re.sub(r"^Duration\((.*)\)$", r"\1", value)


def parameters(function: griffe.Function) -> str:
    """Return what stands behind a function's name."""
    shown: list[str] = []
    seen_star = False
    for each in listed(function):
        if each.name in ("self", "cls") and isinstance(function.parent, griffe.Class):
            continue
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(each.kind.value, "")
        if stars:
            seen_star = True
        elif each.kind is griffe.ParameterKind.keyword_only and not seen_star:
            shown.append("*")
            seen_star = True
        annotation = f": {each.annotation}".replace(",]", "]") if each.annotation else ""
        is_set = each.default is not None and not stars
        value = f"{' = ' if annotation else '='}{plain(str(each.default))}" if is_set else ""
        shown.append(f"{stars}{each.name}{annotation}{value}".replace('"', ""))
    returned = f" -> {function.returns}" if function.returns else ""
    return wrapped("", shown, returned.replace('"', ""))


def wrapped(head: str, parts: list[str], tail: str) -> str:
    """Return a call on one line, or a line for each part where that would be long."""
    line = f"{head}({', '.join(parts)}){tail}"
    if len(line) <= 80:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{head}(\n{inner}){tail}"


def fenced(code: str) -> Iterator[str]:
    """Yield code as a block. It is shown, not run: what runs are the examples."""
    yield from ("```py", *code.splitlines(), "```", "")


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in Reference().written().items():
        (FOLDER / name).write_text(tidy(text), encoding="utf-8")
    return 0


def tidy(text: str) -> str:
    """Return a page without lines that end in blanks, or two that are empty."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
