"""What tests of durable functions need: time that they own, and a process that ends at any commit.

Beside it stands `substrate.testing.cassette`: a model that says what another one said when it was
recorded. What a fork's tests need is promised here; of the kit, the command `crash` uses it.
`describe_waits` says what a run waits for, a gate say, and which line of a test answers it.
"""

from substrate.testing.clock import ManualClock
from substrate.testing.crash import Side, kill_at_commit, kill_this_process
from substrate.testing.waits import describe_waits

__all__ = ["ManualClock", "Side", "describe_waits", "kill_at_commit", "kill_this_process"]
