"""What was mended in a model call before it was sent, in words."""

from collections.abc import Iterator

from rich.text import Text

from substrate.agent.history.mending import Mending
from substrate.cli import format as wording
from substrate.cli.json_output import Document
from substrate.models.mending.notes import Mend
from substrate.models.mending.rules import TABLE

_FEW = 4  # places of a rule that are told in a line


def mending_line(mending: Mending | None) -> Iterator[Text]:
    """Yield a line that says which rules mended what; none where none did."""
    if mending is None:
        return
    said = "; ".join(map(_told, mending.mends))
    line = f"mended in {mending.key} for {mending.model}{_version(mending)}: {said}"
    yield Text(wording.visible(line), "dim")


def mending_lines(mending: Mending | None) -> Iterator[Text]:
    """Yield a line for each rule, with what it did."""
    if mending is None:
        return
    yield Text("")
    yield Text(wording.visible(f"mended for {mending.model}{_version(mending)}"), "dim")
    for each in mending.mends:
        yield Text(wording.visible(f"{_told(each)}: {TABLE[each.rule].done}"))


def of_mending(mending: Mending | None) -> Document | None:
    """Return what was mended as JSON."""
    if mending is None:
        return None
    return {
        "key": mending.key,
        "model": mending.model,
        "version": mending.version,
        "rules": [{"rule": each.rule.value, "places": list(each.places)} for each in mending.mends],
    }


def _version(mending: Mending) -> str:
    if mending.is_of_today:
        return ""
    return f" (by today's table; it was sent under version {mending.version})"


def _told(mend: Mend) -> str:
    more = len(mend.places) - _FEW
    places = ", ".join(mend.places[:_FEW]) + (f" and {more} more" if more > 0 else "")
    return f"{mend.rule.value} ({places})"
