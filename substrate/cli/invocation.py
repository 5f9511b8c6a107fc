"""How the command line was called: by which name, for which package, in which manner.

``--json`` and ``--debug`` belong to every command and may stand before or after its name.
"""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FLAGS = ("--json", "--debug")


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the command line."""

    #: The package of the fork.
    package: str
    #: How the program was called, for commands that are suggested.
    program: str
    #: The command and its arguments, without the program and the flags.
    arguments: tuple[str, ...]
    #: Whether ``--json`` was given.
    is_json: bool = False
    #: Whether ``--debug`` was given.
    is_debug: bool = False

    @classmethod
    def read(
        cls,
        package: str,
        argv: Sequence[str],
        environ: Mapping[str, str] = {},
        python: str = "python",
    ) -> "Invocation":
        """Take ``sys.argv`` apart. What stands behind ``--`` is no flag.

        The environment tells whether `uv run` stands before it; `python` is the interpreter as it
        was typed, ``sys.orig_argv[0]``.

        >>> Invocation.read("agent", ["ostinato", "--json", "show", "first"]).arguments
        ('show', 'first')
        """
        called, *given = argv
        end = given.index("--") if "--" in given else len(given)
        flags = {each for each in given[:end] if each in FLAGS}
        rest = [each for each in given[:end] if each not in FLAGS] + given[end:]
        is_script = Path(called).stem == "ostinato"
        is_by_uv = "UV_RUN_RECURSION_DEPTH" in environ
        interpreter = "uv run python" if is_by_uv else _typed(python)
        script = "uv run ostinato" if is_by_uv else "ostinato"
        return cls(
            package=package,
            program=script if is_script else f"{interpreter} -m {package}",
            arguments=tuple(rest) or ("--help",),
            is_json="--json" in flags,
            is_debug="--debug" in flags,
        )

    def command(self, *words: str) -> str:
        """Return a command as a person can type it into a shell: words are quoted where need be.

        >>> print(Invocation.read("agent", ["ostinato"]).command("signal", "a#b.0", "n", '"yes"'))
        ostinato signal 'a#b.0' n '"yes"'
        """
        return " ".join((self.program, *map(shlex.quote, words)))


def _typed(python: str) -> str:
    """Return the interpreter as a person would type it again; a supervisor's path is shortened."""
    path = Path(python)
    if not path.is_absolute():
        return shlex.quote(python)
    if path.is_relative_to(Path.cwd()):
        return shlex.quote(str(path.relative_to(Path.cwd())))
    return "python" if shutil.which("python") else shlex.quote(python)
