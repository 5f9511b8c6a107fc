"""Where a run goes on, told from its journal. Pure."""

from collections.abc import Iterable, Sequence

from substrate.agent.history.keys import LOOP_NAMES, MODEL, PROMPT, TOOLS
from substrate.agent.history.rows import calls_of, is_deferred, is_turn
from substrate.values.records import Kind, Promise


def next_key(journal: Sequence[Promise]) -> str | None:
    """Return the key at which the loop goes on, or None where the journal is no plain loop's.

    That is what was begun and has no outcome, else the first tool that was asked for and not
    called, else the next call of the model.
    """
    keys: dict[str, Promise] = {each.key: each for each in journal if each.kind is not Kind.RUN}
    if not {key.partition(".")[0] for key in keys} <= LOOP_NAMES:
        return None
    # A call that the loop goes on without is as good as made, until it has a row of its own.
    deferred = {key.rpartition("/")[0] for key, each in keys.items() if is_deferred(each)}
    pending = [key for key, each in keys.items() if not each.is_settled and not is_deferred(each)]
    if pending:
        return pending[0]
    turns = sum(map(is_turn, journal))
    last = keys.get(f"{MODEL}.{turns - 1}") if turns else None
    if last is None:
        return f"{MODEL}.0" if keys else f"{PROMPT}.0"
    made = {*keys, *deferred}
    return _missing_call(last, f"{TOOLS}.{turns - 1}", made) or f"{MODEL}.{turns}"


def _missing_call(reply: Promise, scope: str, keys: Iterable[str]) -> str | None:
    """Return the key of the first call that a reply asks for and that has no row yet."""
    calls = calls_of(reply)
    made = {key for key in keys if key.startswith(f"{scope}/") and key.count("/") == 1}
    if len(made) >= len(calls):
        return None
    ordinals: dict[str, int] = {}
    for name in (each["name"] for each in calls):
        ordinals[name] = ordinals.get(name, -1) + 1
        if (key := f"{scope}/{name}.{ordinals[name]}") not in made:
            return key
    return None
