"""How a run stands when nothing more happens to it by itself.

Its answer goes to standard output, alone. What is said about it, and what a failed or paused run
has to say, goes to standard error, with the command to type next.
"""

import sys

from rich.text import Text

from substrate.agent.history.run import RunHistory
from substrate.agent.history.totals import Totals
from substrate.cli import format as wording
from substrate.cli.exit import Exit
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import Document, of_error, of_run, print_document
from substrate.cli.screen import open_screen, put
from substrate.cli.show.failure import explanation
from substrate.cli.streams import write
from substrate.cli.suspects import suspect_lines
from substrate.values.records import RunStatus


def exit_code_of(history: RunHistory) -> Exit:
    """Return how the command ends that waited for the run."""
    if history.run.status is RunStatus.PAUSED:
        return Exit.PAUSED
    if history.run.status is not RunStatus.DONE:
        return Exit.FAILED
    return Exit.DONE if history.is_complete else Exit.INCOMPLETE


def text_of(history: RunHistory) -> str:
    """Return the answer's words; a result of another type as JSON."""
    if history.answer is not None:
        return str(history.answer["text"])
    value = history.value
    return value if isinstance(value, str) else wording.as_json(value, indent=2)


def report(history: RunHistory, invocation: Invocation) -> int:
    """Print the answer, or why there is none, and return the exit code."""
    if invocation.is_json:
        print_document(outcome_document(history))
        return exit_code_of(history)
    screen = open_screen()
    if history.run.status is RunStatus.DONE:
        if screen.is_terminal:
            put(screen, "")
        text = wording.visible(text_of(history)) if sys.stdout.isatty() else text_of(history)
        write(f"{text}\n")
        if not text.strip():
            put(screen, Text("the answer is empty", "yellow"))
        put(screen, "", *summary(history))
        put(screen, *suspect_lines(history.run.id, history.journal, invocation))
        put(screen, hint(history, invocation))
    else:
        put(screen, "", *explanation(history, invocation))
    return exit_code_of(history)


def outcome_document(history: RunHistory) -> Document:
    """Return what a command that waited for the run prints: its answer, or its error."""
    failure = history.failure
    if failure is None:
        return run_document(history)
    error = of_error(failure.type, failure.message, details=failure.details)
    return {**error, "run": of_run(history)}


def run_document(history: RunHistory) -> Document:
    """Return the run as it stands, with its answer and its error, null while there is none."""
    answer = history.answer or {"text": history.value}
    error = history.failure
    return {
        **of_run(history),
        "answer": answer["text"],
        "value": answer.get("value"),
        "reason": history.reason if history.run.status is RunStatus.DONE else None,
        "detail": answer.get("detail", ""),
        "confidence": answer.get("confidence"),
        "ended_by": answer.get("ended_by"),
        "error": error and {"type": error.type, "message": error.message},
    }


def summary(history: RunHistory) -> list[Text]:
    """Return why the run ended, and what it took."""
    totals = Totals.of(history.journal)
    facts = [
        wording.count(totals.turns, "turn"),
        wording.count(totals.steps, "step"),
        wording.tokens(totals.usage),
        wording.money(totals.usage.cost_usd),
        wording.duration(history.duration_ms),
    ]
    if history.has_used_below:
        tree = history.tree_usage
        usage = f"{wording.tokens(tree)}, {wording.money(tree.cost_usd)}"
        facts.append(f"with all below it {usage}")
    is_whole = exit_code_of(history) is Exit.DONE
    lines = [
        Text.assemble(
            (history.reason, "green" if is_whole else "yellow"), (" · " + " · ".join(facts), "dim")
        )
    ]
    if detail := (history.answer or {}).get("detail"):
        text = detail if is_whole else f"incomplete: {detail}"
        lines.append(Text(wording.visible(text), "" if is_whole else "yellow"))
    return lines


def hint(history: RunHistory, invocation: Invocation) -> Text:
    """Return the command that shows what the run has done."""
    return Text(invocation.command("show", history.run.id), "dim")
