"""Where a model is reached: a base URL and the environment variable that holds its key.

Invariant: both are None where the provider's own are meant, which its SDK finds in the environment.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and the name of the variable with the key to it."""

    base_url: str | None = None
    key_name: str | None = None

    @property
    def key(self) -> str | None:
        """The key, or None where it is not set or the SDK is to find it."""
        return os.environ.get(self.key_name) if self.key_name else None
