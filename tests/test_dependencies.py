"""What is installed with the kit is known: how large it is, and under which licences."""

import re
import tomllib
from collections.abc import Collection
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KIT = Path(__file__).resolve().parent.parent
BARE_MB = 32

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
"""Licences that ask for their own text, and for nothing else."""

OLDER = {
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "any-OSI": "MIT",
}
"""What packages say that have no expression of SPDX's yet. Of apsw's, one may take any."""

COPYLEFT = {
    "certifi": {"MPL-2.0"},
    "orjson": {"MPL-2.0"},
    "psycopg": {"LGPL-3.0-only"},
    "psycopg-binary": {"LGPL-3.0-only"},
    "psycopg-pool": {"LGPL-3.0-only"},
}
"""What asks for more, each named in README.md: changes to its own files have to be published."""


def closure(*extras: str) -> dict[str, Distribution]:
    """Return what the kit with these extras brings in this environment, by name."""
    project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    wanted = [Requirement(line) for lines in declared for line in lines]
    found: dict[str, Distribution] = {}
    seen = set()
    while wanted:
        asked = wanted.pop()
        if str(asked) in seen or not applies(asked, frozenset()):
            continue
        seen.add(str(asked))
        name = canonicalize_name(asked.name)
        found[name] = distribution(name)
        needed = [Requirement(line) for line in found[name].requires or ()]
        for each in needed:
            if applies(each, asked.extras):
                each.marker = None
                wanted.append(each)
    return found


def applies(asked: Requirement, extras: Collection[str]) -> bool:
    """Say whether a requirement is one in this environment, with these extras of who has it."""
    marker = asked.marker
    return not marker or any(marker.evaluate({"extra": each}) for each in {"", *extras})


def size(installed: Distribution) -> int:
    """Return the bytes that a distribution takes, without what Python compiles later."""
    paths = (Path(str(file.locate())) for file in installed.files or () if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def licence(installed: Distribution) -> str:
    """Return what a distribution says of its licence: an SPDX expression, or older words for it."""
    said = installed.metadata
    listed = [
        each.rpartition(" :: ")[2]
        for each in said.get_all("Classifier", [])
        if each.startswith("License :: ")
    ]
    short = [text for text in [said.get("License")] if text and len(text) < 60]
    first = [*filter(None, [said.get("License-Expression")]), *short, *listed, "unknown"][0]
    return str(first)


def demands(expression: str) -> set[str]:
    """Return the licences of an expression that are not permissive, where none may be chosen.

    >>> demands("MPL-2.0 AND (Apache-2.0 OR MIT)")
    {'MPL-2.0'}
    """
    found = set()
    for part in re.split(r"\s+AND\s+", expression):
        choices = {OLDER.get(each, each) for each in re.split(r"\s+OR\s+", part.strip("() "))}
        if not choices & PERMISSIVE:
            found |= choices
    return found


def test_bare_install_is_small(record_property):
    """The kit without extras, and all that it needs, takes no more than 32 MB."""
    sizes = {name: size(each) for name, each in closure().items()}
    sizes["ostinato"] = sum(
        path.stat().st_size
        for folder in ("substrate", "skills")
        for path in (KIT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "tests" not in path.parts
    )
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    record_property("bare install, MB", round(sum(sizes.values()) / 1e6, 1))
    record_property("the largest, MB", {name: round(each / 1e6, 1) for name, each in largest})

    assert sum(sizes.values()) < BARE_MB * 1e6, largest


def test_licences_are_known():
    """Of all extras, each package's licence is permissive, or is one of those that README names."""
    readme = (KIT / "README.md").read_text(encoding="utf-8")
    found = {
        name: demands(licence(each))
        for name, each in closure(
            "postgres", "anthropic", "openai", "google", "groq", "stats"
        ).items()
    }

    assert {name: licences for name, licences in found.items() if licences} == COPYLEFT
    for name, licences in COPYLEFT.items():
        assert f"`{name}`" in readme
        assert all(each.removesuffix("-only") in readme for each in licences)


@pytest.mark.parametrize(
    "expression, asks",
    [
        ("MIT", set()),
        ("Apache-2.0 OR GPL-3.0-only", set()),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", {"MPL-2.0"}),
        ("GPL3", {"GPL3"}),
        ("AGPL-3.0-or-later AND MIT", {"AGPL-3.0-or-later"}),
        ("unknown", {"unknown"}),
    ],
)
def test_what_a_licence_asks(expression, asks):
    """A licence that asks for more than its own text is seen, and so is one that nobody knows."""
    assert demands(expression) == asks
