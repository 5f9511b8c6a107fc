"""Temporary files of tests lie in memory where there is room, and where their user wants them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.temporary import VARIABLE, folder_in_memory

WHERE = """
import os, tempfile
def test_where(tmp_path):
    with open(os.environ["TOLD"], "w") as told:
        told.write(f"{tempfile.gettempdir()} {tmp_path} {tempfile.mkdtemp()}")
"""


def test_what_is_taken(tmp_path):
    """A folder is taken that can be written to and has room, where nobody has named another."""
    assert folder_in_memory({}, tmp_path, room=1) == tmp_path
    assert folder_in_memory({}, tmp_path, room=1 << 60) is None
    assert folder_in_memory({}, tmp_path / "none", room=1) is None
    assert folder_in_memory({VARIABLE: "/elsewhere"}, tmp_path, room=1) is None


def test_what_a_user_names_is_used(tmp_path):
    """With TMPDIR, what pytest makes and what Python makes lies there."""
    (tmp_path / "test_where.py").write_text(WHERE)
    (named := tmp_path / "named").mkdir()
    told = tmp_path / "told"
    environment = os.environ | {VARIABLE: str(named), "TOLD": str(told)}

    root = Path(__file__).parents[1]
    options = ("-q", "-p", "tests.temporary", "-p", "no:cacheprovider", "-c", os.devnull)
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    assert all(Path(each).is_relative_to(named) for each in told.read_text().split())
