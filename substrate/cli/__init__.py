"""What people type: `python -m agent …` in a fork, `ostinato …` beside one.

The command line is the kit's edge. The environment is read here; below, only keys and addresses of
providers, secrets, and what libpq knows are looked up in it. Everything below is a library that
says what went wrong by raising. Here an error becomes a sentence with its remedy, and an exit code.

Invariants: an answer goes to standard output, alone; what is said about it goes to standard error.
Whatever ends a command (Ctrl-C, SIGTERM, an error) gives its runs back first. No run is started
that could not go on for want of a key. A table, a terminal library or a provider's SDK is loaded
by the command that needs it.
"""

from typing import NoReturn


def main(package: str = "agent") -> NoReturn:
    """Do what the command line says for the agent in a package, and end the process.

    A fork's ``__main__`` passes its own package; the script ``ostinato`` takes the package `agent`
    of the current folder.
    """
    import os
    import sys
    from io import TextIOWrapper
    from pathlib import Path

    try:
        from substrate.cli.exit import leave, open_closed_streams
        from substrate.cli.invocation import Invocation
        from substrate.cli.perform import perform
    except KeyboardInterrupt:  # nothing was begun yet
        sys.exit(130)

    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what it cannot write is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    if str(Path.cwd()) not in sys.path:  # last: a fork's csv.py is not the standard library's
        sys.path.append(str(Path.cwd()))
    python = sys.orig_argv[0] or "python"
    leave(perform(Invocation.read(package, sys.argv, os.environ, python)))
