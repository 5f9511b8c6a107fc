"""What a crash matrix came to: a table of what was repeated, by effect, and what is wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.crash.judge import Kind
from substrate.cli.crash.matrix import Judged, Matrix
from substrate.cli.json_output import Document
from substrate.values.records import Effect

RULES = {
    Effect.PURE: "if not recorded",
    Effect.IDEMPOTENT: "with its key",
    Effect.ONCE: "never twice",
    Effect.TRANSACTIONAL: "if rolled back",
}
"""When what has such an effect may be called again."""

_ORDER = [Effect.ONCE, Effect.IDEMPOTENT, Effect.TRANSACTIONAL, Effect.PURE]
_FEW = 8  # faults that are shown


def table(matrix: Matrix, found: Sequence[Judged]) -> Table:
    """Return a row for each thing that was called: how often a kill hit it, and what then."""
    whole = Counter(each.kind for each in matrix.called)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("effect", "what"):
        drawn.add_column(name)
    for name in ("calls", "cut off", "called again", "unknown"):
        drawn.add_column(name, justify="right")
    drawn.add_column("may be again", style="dim", no_wrap=True)
    drawn.add_column("")
    for kind, counts in _rows(whole, found):
        drawn.add_row(
            kind.effect,
            kind.name,
            *(str(each or "") for each in counts),
            RULES[Effect(kind.effect)],
            Text("broken", "red") if _is_broken(kind, found) else Text("ok", "green"),
        )
    return drawn


def lines(matrix: Matrix, found: Sequence[Judged], show: str) -> Iterator[Text]:
    """Yield what is said below the table; `show` is the command that looks into a case's run."""
    wrong = [each for each in found if each.verdict.faults]
    doubtful = [each for each in found if each.verdict.doubts and not each.verdict.faults]
    unknown = sum(each.verdict.unknown.total() for each in found)
    ends = "point" if matrix.status == "suspended" else "end"
    of = f"{len(found) - len(wrong)} of {wording.count(len(found), 'kill')}"
    good = f"{of} came to the same {ends}"
    yield Text(good, "red" if wrong else "green")
    if matrix.unreached:
        missed = wording.count(matrix.unreached, "commit")
        yield Text(f"{missed} did not come in the process that was to be killed there", "dim")
    if matrix.waits:
        yield Text(
            f"it waits for {', '.join(matrix.waits)}: what comes after that was not tried; answer "
            "with --signal NAME=VALUE, --approve or --answer VALUE",
            "yellow",
        )
    if unknown:
        yield Text(
            f"{wording.count(unknown, 'call')} nobody knows of: the kill came between the call and "
            "its outcome. The model is told so; an idempotent tool is called again instead",
            "dim",
        )
    for each in (*wrong, *doubtful)[:_FEW]:
        yield Text("")
        style = "red" if each.verdict.faults else "yellow"
        yield Text(f"{where(each)}:", style)
        for told in (*(fault.text for fault in each.verdict.faults), *each.verdict.doubts):
            yield Text(f"  {wording.visible(told)}")
        if matrix.databases.server is None:
            yield Text(f"  DATABASE_URL=sqlite:///{each.folder}/runs.db {show}", "dim")
        yield Text(f"  what it left: {each.folder}", "dim")
    if (more := len(wrong) + len(doubtful) - _FEW) > 0:
        yield Text(f"and {wording.count(more, 'more case')}, of which --json tells", "yellow")


def where(judged: Judged) -> str:
    """Return which kill it was: ``before COMMIT 7, tools.0/pay.0``."""
    case = judged.case
    return f"killed {case.side} COMMIT {case.boundary}, {judged.commit.words}"


def document(matrix: Matrix, found: Sequence[Judged]) -> Document:
    """Return all of it as JSON."""
    whole = Counter(each.kind for each in matrix.called)
    names = ("calls", "cut_off", "called_again", "unknown")
    return {
        "answers": matrix.answers,
        "store": matrix.databases.name,
        "status": matrix.status,
        "waits": list(matrix.waits),
        "commits": [{"method": each.method, "writes": each.words} for each in matrix.commits],
        "kills": len(found),
        "unreached": matrix.unreached,
        "effects": [
            {
                "effect": kind.effect,
                "name": kind.name,
                **dict(zip(names, counts, strict=True)),
                "ok": not _is_broken(kind, found),
            }
            for kind, counts in _rows(whole, found)
        ],
        "cases": [_case(each) for each in found if each.verdict.faults or each.verdict.doubts],
    }


def _case(judged: Judged) -> dict[str, Any]:
    return {
        "commit": judged.case.boundary,
        "side": judged.case.side.value,
        "writes": judged.commit.words,
        "faults": [each.text for each in judged.verdict.faults],
        "doubts": list(judged.verdict.doubts),
        "folder": str(judged.folder),
    }


def _rows(
    whole: Counter[Kind], found: Sequence[Judged]
) -> Iterator[tuple[Kind, tuple[int, int, int, int]]]:
    """Yield what was called, with its counts, the strictest effect first."""
    in_flight, again, unknown = Counter[Kind](), Counter[Kind](), Counter[Kind]()
    for each in found:
        in_flight += each.verdict.in_flight
        again += each.verdict.repeated
        unknown += each.verdict.unknown
    kinds = {*whole, *in_flight, *again, *unknown}
    for kind in sorted(kinds, key=lambda kind: (_ORDER.index(Effect(kind.effect)), kind.name)):
        yield kind, (whole[kind], in_flight[kind], again[kind], unknown[kind])


def _is_broken(kind: Kind, found: Sequence[Judged]) -> bool:
    return any(fault.kind == kind for each in found for fault in each.verdict.faults)
