"""History: what was said in the runs of a namespace, word for word, to be found again."""

from collections.abc import Mapping, Sequence
from typing import Any

from substrate.memory import text_index
from substrate.memory.outcome import Changed, Outcome, Request
from substrate.store.ledger import Ledger
from substrate.values.memory import SaidRow, Space, Trust, memory_id


def say(ledger: Ledger, space: Space, ask: Mapping[str, Any], by: Request) -> Outcome:
    """Keep what was said."""
    stamp = ledger.stamp(space, by.now, by.source, Trust(ask["trust"]))
    row = SaidRow(stamp, ask["speaker"], ask["text"])
    ledger.add(row)
    text_index.enter(ledger, row)
    return Changed({"id": memory_id(space, stamp.n)}, row.table, [stamp.n])


def take_back(
    ledger: Ledger, written: Sequence[SaidRow], closed: Sequence[SaidRow], by: Request
) -> bool:
    """Undo a write: what it kept stands no more."""
    own = [row for row in written if row.stamp.gone_n is None]
    for row in own:
        text_index.leave(ledger, row, ledger.close(row, by.now, by.source))
    return bool(own)
