"""A remedy that installs something works in the environment it is told in, and trusts no name.

The kit's own name may belong to anybody on an index, so no command that a remedy tells asks one
for it: it asks for the packages that are missing.
"""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.matrix import KIT, build, environment

POSTGRES = "'psycopg[binary,pool]<4,>=3.3'"
ASKS_AN_INDEX = re.compile(
    r"\b(?:pip|pipx|uv|uvx|poetry|pdm|conda)\b[^\n]{0,40}?\b(?:install|add|upgrade|inject)\b"
    r"[^\n]{0,40}?\bostinato\b(?!(?:\[[^\]]*\])?\s*@)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", KIT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def project(tmp_path, wheel) -> Path:
    """Return a folder with an environment that has the kit and no pip."""
    folder = tmp_path / "my-agent"
    environment(folder / ".venv", wheel)
    return folder


def told(project: Path, extra: str = "postgres", *, here: Path | None = None) -> str:
    """Return the remedy for an extra, as it is told in a folder."""
    code = f"from substrate.installed import how_to_add; print(how_to_add({extra!r}))"
    done = subprocess.run(
        [project / ".venv" / "bin" / "python", "-P", "-c", code],
        cwd=here or project,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_project_of_uv(project, tmp_path):
    """A project of uv's is told of what it lacks, from wherever one stands."""
    (project / "uv.lock").touch()

    assert told(project) == f"uv add {POSTGRES}"
    assert told(project, here=tmp_path) == f"uv add --project {project} {POSTGRES}"


def test_environment_of_uv_elsewhere(project, tmp_path):
    """So is one whose environment lies in another folder."""
    (other := tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "uv.lock").touch()
    settings = project / ".venv" / "pyvenv.cfg"
    settings.write_text(settings.read_text() + "uv = 0.13.9\n")

    assert told(project, here=other) == f"uv add {POSTGRES}"


def test_environment_without_a_project(project, tmp_path):
    """Without one, and without pip, uv installs into just this environment."""
    python = project / ".venv" / "bin" / "python"

    assert told(project) == f"uv pip install --python .venv/bin/python {POSTGRES}"
    assert told(project, here=tmp_path / "my-agent" / ".venv" / "lib") == (
        f"uv pip install --python {python} {POSTGRES}"
    )


def test_environment_with_pip(project):
    """Where there is pip, it is that of this environment."""
    (site,) = project.glob(".venv/lib/python3*/site-packages")
    (site / "pip").mkdir()
    (site / "pip" / "__init__.py").touch()

    assert told(project) == f".venv/bin/python -m pip install {POSTGRES}"


def test_a_space_in_the_path(tmp_path, wheel):
    """What has to be quoted is quoted."""
    folder = tmp_path / "my agent"
    environment(folder / ".venv", wheel)
    (folder / "uv.lock").touch()

    assert told(folder, here=tmp_path) == f"uv add --project '{folder}' {POSTGRES}"


def test_every_extra_is_known(project):
    """Each extra that a provider or a command names stands for packages that can be named."""
    from substrate.models.providers.registry import PROVIDERS

    (project / "uv.lock").touch()
    for extra in {known.extra for known in PROVIDERS.values()} | {"postgres", "chat", "stats"}:
        assert re.fullmatch(r"uv add '[a-z-]+(\[[a-z,]+\])?[<>=\d.,]+'", told(project, extra))


def texts() -> dict[str, str]:
    """Return every page, and every string in the code that a person may be told."""
    found = {}
    for folder in ("substrate", "skills", "template", "examples"):
        for path in sorted((KIT / folder).rglob("*")):
            if path.suffix == ".py" and "tests" not in path.parts:
                tree = ast.parse(path.read_text(encoding="utf-8"))
                parts = [
                    node.value
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Constant) and isinstance(node.value, str)
                ]
                found[str(path.relative_to(KIT))] = "\n".join(parts)
            elif path.suffix in {".md", ".jinja", ".yml"}:
                found[str(path.relative_to(KIT))] = path.read_text(encoding="utf-8")
    for page in (*KIT.glob("*.md"), KIT / "copier.yml", KIT / "Makefile"):
        found[page.name] = page.read_text(encoding="utf-8")
    return found


def test_no_text_asks_an_index_for_the_kit():
    """No page and no message tells anybody to install or upgrade the kit by its bare name."""
    assert ASKS_AN_INDEX.search("pip install 'ostinato[postgres]'")
    assert ASKS_AN_INDEX.search("uv tool install --upgrade ostinato")
    assert not ASKS_AN_INDEX.search("pip install 'ostinato[all] @ git+https://host/kit'")
    found = {name: ASKS_AN_INDEX.search(text) for name, text in texts().items()}

    assert {name: match[0] for name, match in found.items() if match} == {}
    assert not any(re.search(r"upgrade ostinato", text) for text in texts().values())


def test_url_of_the_kit_is_told_without_its_password(project):
    """`--version` tells the address that the kit was installed from, and no password in it."""
    (site,) = project.glob(".venv/lib/python3*/site-packages")
    (info,) = site.glob("ostinato-*.dist-info")
    record = {
        "url": "https://me:FAKETOKEN@host/kit.git",
        "vcs_info": {"vcs": "git", "commit_id": "3c1fbd1e"},
    }
    (info / "direct_url.json").write_text(json.dumps(record))
    code = "from substrate.cli import main; main()"

    done = subprocess.run(
        [project / ".venv" / "bin" / "python", "-P", "-c", code, "--version"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "(https://host/kit.git at 3c1fbd1e)" in done.stdout
    assert "FAKETOKEN" not in done.stdout + done.stderr
