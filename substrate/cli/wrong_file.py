"""What is wrong with a fork's own files, as an error: nothing was done, whatever a run's state."""

from substrate.values.errors import Misuse


class WrongFile(Misuse):
    """A file of the fork is wrong as it is: its code, or its settings. No run was touched."""
