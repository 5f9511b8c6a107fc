"""What tests of durable functions need: time that they own, and a process that ends at any commit.

Beside it stands `substrate.testing.cassette`: a model that says what another one said when it was
recorded. What a fork's tests need is promised here; of the kit, the command `crash` uses it.
"""

from substrate.testing.clock import ManualClock
from substrate.testing.crash import Side, kill_at_commit, kill_this_process

__all__ = ["ManualClock", "Side", "kill_at_commit", "kill_this_process"]
