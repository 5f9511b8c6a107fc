"""The lines that tell of a run's rows: a turn, a step, a check, an undo, a failed attempt."""

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from substrate.agent.events import (
    TurnEnd,
)
from substrate.agent.history.keys import (
    ANSWER,
    CARRIED,
    DECIDED,
    HANDOFF,
    MESSAGE,
    PROMPT,
    REVISION,
    SPENT,
    name_in,
)
from substrate.agent.history.rows import CheckRow, panel_of
from substrate.agent.history.totals import Totals
from substrate.agent.history.undo import is_decision, undone_by
from substrate.cli import format as wording
from substrate.cli.show.row import STATE_STYLES, WORDS, panel_lines
from substrate.cli.suspects import line_of
from substrate.engine.failure import decode_failure
from substrate.values.records import Kind, Promise, PromiseState

INDENT = 8
_SILENT = (
    PROMPT,
    SPENT,
    REVISION,
    HANDOFF,
    ANSWER,
    CARRIED,
    DECIDED,
    MESSAGE,
)  # the loop's own notes, shown only if they fail


def is_note(promise: Promise) -> bool:
    """Whether a row is a note of the loop's own: nothing to tell, unless it went wrong."""
    name = name_in(promise.key)
    # A wait for a message that was given up: a decision came first, which is told.
    was_woken = name == MESSAGE and promise.state is PromiseState.CANCELLED
    return name in _SILENT and (was_woken or promise.state is PromiseState.RESOLVED)


def undo_line(promise: Promise, undos: Collection[str]) -> RenderableType:
    """Return a line for an undo, or for the decision to undo."""
    if is_decision(promise):
        return Text(f"undoing {wording.count(len(undos), 'step')}, newest first", "yellow")
    word = "undone" if promise.state is PromiseState.RESOLVED else WORDS[promise.state]
    line = Text.assemble(undone_by(promise, undos) or "", "  ", (word, "yellow"))
    return indented(line.append(f"  by {promise.name}", "dim"))


def attempt_line(name: str, kind: Kind, attempt: Mapping[str, Any]) -> RenderableType:
    """Return a line for an attempt that failed: why, and when the next one is made."""
    if kind is Kind.SIGNAL:
        error = wording.short(attempt.get("message"), 160)
        return indented(Text.assemble(f"{name}  ", ("refused", "yellow"), f"  {error}"))
    error = wording.gist(f"{attempt.get('type')}: {attempt.get('message')}", 200)
    if "gave_up" in attempt:
        return indented(Text.assemble(f"{name}  ", ("failed", "yellow"), f"  {error}"))
    waited = wording.duration(attempt.get("waited_ms", 0))
    line = Text.assemble(f"{name}  ", ("failed", "yellow"))
    return indented(line.append(f"  {error}; again after {waited}", "dim"))


def step_line(promise: Promise, called: str, gave: str = "") -> RenderableType:
    """Return a line for a step: what was called, whether it went well, and how long it took."""
    word = (WORDS[promise.state], STATE_STYLES[promise.state])
    line = Text.assemble(f"{called}  ", word, f"  {wording.took(promise)}", (gave, "dim"))
    if promise.error:
        failure = decode_failure(promise)
        if at := line_of(failure):  # first, since what is too long for the terminal is cut
            line.append(f"  {at}", "dim")
        line.append(f"  {wording.short(f'{failure.type}: {failure.message}', 200)}", "dim")
    return indented(line)


def check_line(promise: Promise, check: CheckRow) -> RenderableType:
    """Return a line for a check: its name, and whether the answer passes."""
    passes = check.problem is None and check.is_judgement
    line = Text.assemble(
        f"{check.name}  ",
        (wording.short(wording.said_by(check), 200), "green" if passes else "yellow"),
    )
    return indented(line.append(f"  {wording.took(promise)}", "dim"))


def indented(line: Text) -> Padding:
    """Return a line that stands below one of a turn."""
    return Padding(line, (0, 0, 0, INDENT), expand=False)


def turn_lines(turn: TurnEnd, promise: Promise, totals: Totals) -> list[RenderableType]:
    """Return the lines of a turn: what it took, and what the model said before it goes on."""
    usage = totals.usage
    line = Text.assemble(
        (f"turn {totals.turns}", "bold"),
        f"  {turn.model}  {wording.took(promise)}",
        (f"  {wording.tokens(usage)}, {wording.money(usage.cost_usd)} so far", "dim"),
    )
    passed = [
        indented(Text(wording.short(wording.passed_over(each), 200), "yellow"))
        for each in turn.passed_over
    ]
    if (panel := panel_of(promise)) is not None:
        passed += map(indented, panel_lines(panel, 200))
    said = wording.short(turn.text, 200)
    is_last = not turn.calls  # then its words are the answer, printed in full
    if turn.invalid and is_last:
        wrong = Text("not what was asked for", "yellow")
        return [line, *passed, indented(wrong)]
    spoken = [] if is_last or not said else [indented(Text(said, "italic"))]
    if turn.confidence is not None:
        sure = wording.short(wording.confidence(turn.confidence), 200)
        spoken.append(indented(Text(sure, "dim" if turn.confidence.is_enough else "yellow")))
    return [line, *passed, *spoken]
