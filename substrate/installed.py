"""How the kit came to be installed here: which version, from where, and how to add a part of it.

The name of a package says nothing of who owns it on an index. So no remedy names the kit's: it
names the packages that an extra stands for, as the kit's own metadata lists them, in a command
that works in this environment. Nothing is read before somebody asks.
"""

import json
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution

DISTRIBUTION = "ostinato"
_KIT = Path(__file__).parent.parent
_OF_EXTRA = re.compile(r"""^(?P<package>[^;]+?)\s*;\s*extra\s*==\s*['"](?P<extra>[\w-]+)['"]$""")
_CREDENTIALS = re.compile(r"://[^@/]*@")


def version() -> str:
    """Return the version that is installed; ``0+unknown`` where the kit only lies on the path."""
    found = _distribution()
    return found.version if found else "0+unknown"


def origin() -> str:
    """Return where this kit is from: a commit of a repository, a folder, a file, or nothing."""
    found = _distribution()
    record: dict[str, Any] = json.loads((found and found.read_text("direct_url.json")) or "{}")
    address = _CREDENTIALS.sub("://", record.get("url", ""))
    commit = record.get("vcs_info", {}).get("commit_id")
    return f"{address} at {commit}" if commit else address.removeprefix("file://")


def how_to_add(extra: str) -> str:
    """Return the command that installs what an extra of the kit stands for, here.

    >>> how_to_add("stats").endswith("'scipy>=1.15'")
    True
    """
    packages = packages_of(extra)
    if not packages:
        return f"install what the kit's pyproject.toml lists under {extra!r}"
    return how_to_install(*packages)


def how_to_install(*packages: str) -> str:
    """Return the command that installs packages into this environment, so that they stay there.

    A project of uv's is told of them, since `uv run` takes away whatever its lock does not know.
    """
    asked = shlex.join(packages)
    if getattr(sys, "frozen", False):
        return f"build this program anew, with {asked} installed"
    if project := _uv_project():
        if project == _KIT:
            return "uv sync --all-extras"
        inside = _here().is_relative_to(project)
        where = "" if inside else f"--project {shlex.quote(str(project))} "
        return f"uv add {where}{asked}"
    python = shlex.quote(_short(Path(sys.executable or "python3")))
    if find_spec("pip"):
        return f"{python} -m pip install {asked}"
    return f"uv pip install --python {python} {asked}"


def packages_of(extra: str) -> tuple[str, ...]:
    """Return the requirements that an extra stands for, as the installed metadata has them."""
    found = _distribution()
    listed = [_OF_EXTRA.match(each) for each in (found and found.requires) or ()]
    return tuple(match["package"] for match in listed if match and match["extra"] == extra)


def _distribution() -> "Distribution | None":
    # It reads mail headers and archives, and takes as long to load as a tenth of the kit.
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def _uv_project() -> Path | None:
    """Return the folder of the uv project whose environment this is."""
    beside = Path(sys.prefix).parent
    if (beside / "uv.lock").is_file():
        return beside
    if not _is_made_by_uv():
        return None
    near = (_here(), *_here().parents)  # UV_PROJECT_ENVIRONMENT may be anywhere
    return next((folder for folder in near if (folder / "uv.lock").is_file()), None)


def _is_made_by_uv() -> bool:
    settings = Path(sys.prefix) / "pyvenv.cfg"
    if not settings.is_file():
        return False
    return re.search(r"^uv\s*=", settings.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _short(path: Path) -> str:
    """Return a path as seen from the current folder, where it lies in there."""
    here = _here()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # a worker outlives the folder that it was started in
        return Path(sys.prefix)
