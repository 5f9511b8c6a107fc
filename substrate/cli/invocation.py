"""How the command line was called: by which name, for which package, in which manner.

``--json`` and ``--debug`` belong to every command and may stand before or after its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("--json", "--debug")


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the command line. `arguments` are without the program and the flags."""

    package: str
    program: str
    arguments: tuple[str, ...]
    is_json: bool = False
    is_debug: bool = False

    @classmethod
    def read(
        cls, package: str, argv: Sequence[str], environ: Mapping[str, str] = {}
    ) -> "Invocation":
        """Take ``sys.argv`` apart. What stands behind ``--`` is no flag.

        The environment tells whether `uv run` stands before it.

        >>> Invocation.read("agent", ["ostinato", "--json", "show", "first"]).arguments
        ('show', 'first')
        """
        called, *given = argv
        end = given.index("--") if "--" in given else len(given)
        flags = {each for each in given[:end] if each in FLAGS}
        rest = [each for each in given[:end] if each not in FLAGS] + given[end:]
        is_script = Path(called).stem == "ostinato"
        by_uv = "uv run " if "UV_RUN_RECURSION_DEPTH" in environ else ""
        return cls(
            package=package,
            program=by_uv + ("ostinato" if is_script else f"python -m {package}"),
            arguments=tuple(rest) or ("--help",),
            is_json="--json" in flags,
            is_debug="--debug" in flags,
        )

    def command(self, *words: str) -> str:
        """Return a command as a person would type it."""
        return " ".join((self.program, *words))
