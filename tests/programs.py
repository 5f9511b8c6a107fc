"""Python programs, one after another in one process: ``python -m tests.programs FILE…``.

Each is run as `python -W error FILE` does, with the template's package in reach.
"""

import runpy
import sys
import warnings
from pathlib import Path

__all__: list[str] = []


def run_all(names: list[str]) -> None:
    """Run each program; of one that fails the number is told."""
    sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "template"))
    warnings.simplefilter("error")
    for number, name in enumerate(names, 1):
        try:
            runpy.run_path(name, run_name="__main__")
        except BaseException:
            print(f"program {number} of {len(names)}", file=sys.stderr)
            raise


if __name__ == "__main__":
    run_all(sys.argv[1:])
    sys.exit()  # which a process that was forked does without taking down what is imported
