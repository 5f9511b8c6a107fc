"""What lies in a run's inbox: signals that were sent and that nobody has taken.

One is *late* when nobody waits for it any more: the run has ended, or a wait of that name had
expired when it came. A late answer satisfies no other gate; only where the run waits for that name
again, later, is it taken there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from substrate.agent.history.waits import awaits_signal, waits_of
from substrate.engine.client import Client
from substrate.engine.run.unreadable import is_readable
from substrate.values.codec import decode
from substrate.values.records import JsonText, Kind, Promise, PromiseState, ReceivedSignal, Run


@dataclass(frozen=True, slots=True)
class UntakenSignal:
    """A signal that nobody has taken."""

    #: The signal as it was sent.
    received: ReceivedSignal
    #: Whether nobody waits for it any more.
    is_late: bool

    @property
    def is_readable(self) -> bool:
        """Whether what was sent is JSON of the kit's."""
        return is_readable(JsonText(self.received.value))

    @property
    def value(self) -> Any:
        """What was sent; None where it cannot be read."""
        return decode(self.received.value) if self.is_readable else None


async def read_inbox(
    client: Client, run: Run, journal: Sequence[Promise]
) -> Sequence[UntakenSignal]:
    """Return the signals that a run was sent and that nobody has taken, oldest first."""
    found = await client.store.inbox(run.id)
    return [UntakenSignal(each, _is_late(each, run, journal)) for each in found]


def _is_late(received: ReceivedSignal, run: Run, journal: Iterable[Promise]) -> bool:
    if run.status.has_ended:
        return True
    if awaits_signal(waits_of(run, journal), received.name):
        return False
    expired = (
        each.settled_at or 0
        for each in journal
        if each.kind is Kind.SIGNAL
        and each.name == received.name
        and each.state is PromiseState.EXPIRED
    )
    return any(at <= received.sent_at for at in expired)
