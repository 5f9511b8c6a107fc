"""What an agent had found when it ended without a whole answer: from its rows alone. Pure."""

from collections.abc import Sequence

from substrate.agent.history.result import result_in
from substrate.agent.history.rows import is_tool_call, is_turn, words_of
from substrate.values.records import Promise

LONGEST = 16_000
"""So many characters of it are kept."""

_RESULTS = 5  # results of tools, the last ones, where it has said nothing


def found_in(journal: Sequence[Promise]) -> str:
    """Return the last words of an agent; where it has said none, what its tools gave it last."""
    said = (words_of(row).strip() for row in reversed(journal) if is_turn(row))
    if words := next((each for each in said if each), None):
        return _short(words)
    results = [result_in(row) for row in journal if is_tool_call(row) and row.is_settled]
    good = [each for each in results if not each.is_error and each.content.strip()]
    return _short("\n".join(f"{each.name}: {each.content}" for each in good[-_RESULTS:]))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
