"""What PyInstaller has to know of the kit; it finds this by an entry point of the package."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folders with the hooks."""
    return [str(Path(__file__).parent)]
