"""Calls that were not made since a person, a rule, or silence has denied them.

The row of such a call is a step of the kit's, which did nothing; what the tool's own effect is
stands in the gate before it.
"""

from collections.abc import Iterable, Mapping

from substrate.agent.history.result import CallDenied, CallDeniedForGood
from substrate.agent.history.rows import input_of
from substrate.engine.failure import decode_failure
from substrate.values.ids import Key
from substrate.values.records import GATE, Promise, PromiseState

_DENIED = (CallDenied.__name__, CallDeniedForGood.__name__)


def denials_in(journal: Iterable[Promise]) -> Mapping[Key, str]:
    """Return the effect of the tool of each call that was denied, by the call's key."""
    rows = {each.key: each for each in journal}
    found = {}
    for key, row in rows.items():
        if row.state is PromiseState.REJECTED and decode_failure(row).type in _DENIED:
            gate = rows.get(Key(f"{key}/{GATE}.0"))
            effect = None if gate is None else input_of(gate).get("effect")
            found[key] = str(effect or row.effect or row.kind)
    return found
