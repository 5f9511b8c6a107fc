"""Who sits at the terminal: what is decided here is signed with that."""

import getpass


def user() -> str:
    """Return who sits at the terminal, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may know no name for its user
        return "somebody"
