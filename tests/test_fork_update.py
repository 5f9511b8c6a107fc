"""`copier update` moves a fork's template and its library together, and nothing of the fork's own.

Each fork is made and updated as a person does it: a clone of the kit, copier, uv, and git.
"""

from pathlib import Path

import copier
import pytest

from tests.machine import Machine, commit, copy_kit, git

MARK = "UPDATED = True"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A clone of the kit, one commit past its only release."""
    folder = tmp_path / "kit"
    copy_kit(folder)
    append(folder / "substrate" / "values" / "clock.py", "PAST_RELEASE = True")
    commit(folder, "Past the release")
    return folder


def append(file: Path, line: str) -> None:
    """Add a line to the end of a file."""
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")


def release(kit: Path) -> str:
    """Commit a newer loop, newer hooks and a newer substrate, and release them."""
    append(kit / "substrate" / "values" / "clock.py", MARK)
    append(kit / "template" / "agent" / "loop.py", "# A newer line.")
    (kit / "template" / "agent" / "hooks.py").write_text("THEIRS = True\n", encoding="utf-8")
    return commit(kit, "v0.2.0", "v0.2.0")


def update(fork: Path, ref: str | None) -> None:
    """Update a fork, which must leave no conflict behind."""
    copier.run_update(fork, defaults=True, overwrite=True, vcs_ref=ref, quiet=True, unsafe=False)
    assert git(fork, "diff", "--name-only", "--diff-filter=U") == ""
    assert "<<<<<<<" not in (fork / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("ref", ["v0.1.0", "HEAD"])
def test_update_moves_the_library_too(
    machine: Machine, kit: Path, tmp_path: Path, ref: str
) -> None:
    """An update moves a fork's substrate to the new commit, and leaves what is the fork's alone."""
    fork = machine.fork(kit, tmp_path / "my-agent", ref)
    assert machine.installed_commit(fork) == git(kit, "rev-parse", f"{ref}^{{commit}}")
    machine.do(fork, "uv", "add", "idna")
    append(fork / "agent" / "hooks.py", "MINE = True")
    loop = fork / "agent" / "loop.py"
    mine = loop.read_text(encoding="utf-8").replace('"""The loop:', '"""My loop:')
    loop.write_text(mine, encoding="utf-8")
    commit(fork)
    hooks = (fork / "agent" / "hooks.py").read_bytes()
    newest = release(kit)

    update(fork, None if ref == "v0.1.0" else "HEAD")

    assert machine.installed_commit(fork) == newest
    asked = "import substrate.values.clock as clock; assert clock.UPDATED"
    told = machine.do(fork, "uv", "run", "python", "-c", asked)
    assert "Bytecode" not in told
    assert (fork / "agent" / "hooks.py").read_bytes() == hooks
    merged = loop.read_text(encoding="utf-8")
    assert "My loop:" in merged
    assert "# A newer line." in merged
    assert '"idna' in (fork / "pyproject.toml").read_text(encoding="utf-8")
    assert "2 passed" in machine.do(fork, "uv", "run", "pytest", "-q")
    if ref == "v0.1.0":  # once is enough: it takes longer than all the rest
        assert "Success" in machine.do(fork, "uv", "run", "mypy", "--strict", "agent")


def test_a_clone_with_edits_is_used_as_it_lies(machine: Machine, kit: Path, tmp_path: Path) -> None:
    """A fork of a clone with edits has those and the next ones, until an update moves it on."""
    append(kit / "substrate" / "values" / "clock.py", "EDITED = True")
    fork = machine.fork(kit, tmp_path / "my-agent")
    asked = "import substrate.values.clock as clock; assert clock.{}"
    machine.do(fork, "uv", "run", "python", "-c", asked.format("EDITED"))
    append(kit / "substrate" / "values" / "clock.py", "AGAIN = True")
    machine.do(fork, "uv", "run", "python", "-c", asked.format("AGAIN"))
    newest = release(kit)

    update(fork, "HEAD")

    assert machine.installed_commit(fork) == newest
