"""What the build adds to the project's metadata: the README, as an index shows it."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURES = re.compile(r"<picture>.*?</picture>\n+|!\[[^\]]*\]\((?!\w+:)[^)]*\)\n+", re.DOTALL)
_RELATIVE = re.compile(r"\[(?P<text>[^\]]+)\]\((?!\w+:)[^)]*\)")


class Readme(MetadataHookInterface):
    """Leaves out of the README its pictures, and the links that lead into the repository.

    An index has no files beside it, and the repository has no public address yet.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _RELATIVE.sub(r"\g<text>", _PICTURES.sub("", text)),
        }
