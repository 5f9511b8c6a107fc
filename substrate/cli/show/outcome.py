"""How a run stands when nothing more happens to it by itself, and what to do about it.

Its answer goes to standard output, alone. What is said about it, and what a failed or paused run
has to say, goes to standard error, with the command to type next.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from substrate.agent.history.totals import Totals
from substrate.agent.usage import summed
from substrate.cli import format as wording
from substrate.cli.exit import Exit
from substrate.cli.invocation import Invocation
from substrate.cli.journal import read_journal, read_own, read_usages
from substrate.cli.json_output import Document, of_error, of_run, print_document
from substrate.cli.screen import open_screen, put
from substrate.cli.streams import write
from substrate.cli.suspects import line_of, told_suspects
from substrate.engine.client import Client
from substrate.engine.failure import decode_failure
from substrate.engine.run.journal import NEVER_ASKED
from substrate.models.messages import Usage
from substrate.values import errors
from substrate.values.codec import decode
from substrate.values.errors import Failure, OutcomeUnknown, RunTimedOut, StepFailed
from substrate.values.ids import PromiseId
from substrate.values.records import (
    UNWIND_KEY,
    JsonText,
    Kind,
    Promise,
    PromiseState,
    Run,
    RunStatus,
)

_RECORDED = (StepFailed.__name__, OutcomeUnknown.__name__)
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run with its journal, the promise of its outcome, and what it and all below it used.

    A child has that promise elsewhere: in the journal of its parent.
    """

    run: Run
    journal: Sequence[Promise]
    own: Promise | None
    used: Sequence[tuple[PromiseId, JsonText]] = ()

    @property
    def value(self) -> Any:
        """What the run returned; None before it has."""
        return decode(self.own.value or JsonText("null")) if self.own else None

    @property
    def answer(self) -> Document | None:
        """The returned `Answer` as JSON, or None where it is none."""
        is_answer = isinstance(self.value, dict) and {"text", "reason"} <= self.value.keys()
        return self.value if is_answer else None

    @property
    def text(self) -> str:
        """The answer's words; a result of another type as JSON."""
        if self.answer is not None:
            return str(self.answer["text"])
        value = self.value
        return value if isinstance(value, str) else wording.as_json(value, indent=2)

    @property
    def tree_usage(self) -> Usage:
        """What the run and all below it have used."""
        return summed(self.used)

    @property
    def has_used_below(self) -> bool:
        """Whether runs below this one have used anything."""
        return any("#" in id_.removeprefix(f"{self.run.id}#") for id_, _ in self.used)

    def usage_below(self, promise: Promise) -> Usage:
        """Return what the run of a child, and all below that, have used."""
        return summed(each for each in self.used if each[0].startswith(f"{promise.id}#"))

    @property
    def reason(self) -> str:
        """Why the run ended, in a word."""
        return self.answer["reason"] if self.answer else self.run.status.value

    @property
    def failure(self) -> Failure | None:
        """Why the run failed or is paused."""
        own = self.own
        is_over = own is not None and own.is_settled and own.state is not PromiseState.RESOLVED
        return decode_failure(own) if own is not None and (is_over or own.error) else None

    @property
    def exit_code(self) -> Exit:
        """How the command that waited for the run ends."""
        if self.run.status is RunStatus.PAUSED:
            return Exit.PAUSED
        if self.run.status is not RunStatus.DONE:
            return Exit.FAILED
        return Exit.DONE if self.reason in ("answered", "done") else Exit.INCOMPLETE


async def read_outcome(client: Client, run_id: str) -> Outcome:
    """Return a run as it stands. Raises `RunNotFound`."""
    return await outcome_of(client, await client.get(run_id))


async def outcome_of(client: Client, run: Run) -> Outcome:
    """Return what has become of a run, as far as it has come."""
    journal, own = await read_journal(client, run), await read_own(client, run)
    return Outcome(run, journal, own, await read_usages(client, run))


def question_of(own: Promise | None) -> str | None:
    """Return what a run was asked, where it was given a `Task`."""
    task = _task_in(own)
    return str(task["text"]) if "text" in task else None


def zone_in(own: Promise | None) -> str | None:
    """Return the time zone in which a run was asked; None where its task names none."""
    return _task_in(own).get("timezone")


def _task_in(own: Promise | None) -> dict[str, Any]:
    given = decode(own.input or JsonText("null")) if own else None
    task = given.get("task") if isinstance(given, dict) else None
    return task if isinstance(task, dict) else {}


def report(outcome: Outcome, invocation: Invocation) -> int:
    """Print the answer, or why there is none, and return the exit code."""
    if invocation.is_json:
        print_document(reported(outcome))
        return outcome.exit_code
    screen = open_screen()
    if outcome.run.status is RunStatus.DONE:
        if screen.is_terminal:
            put(screen, "")
        text = wording.visible(outcome.text) if sys.stdout.isatty() else outcome.text
        write(f"{text}\n")
        if not text.strip():
            put(screen, Text("the answer is empty", "yellow"))
        put(screen, "", *summary(outcome))
        put(screen, *told_suspects(outcome.run.id, outcome.journal, invocation))
        put(screen, hint(outcome, invocation))
    else:
        put(screen, "", *explanation(outcome, invocation))
    return outcome.exit_code


def reported(outcome: Outcome) -> Document:
    """Return what a command that waited for the run prints: its answer, or its error."""
    failure = outcome.failure
    if failure is None:
        return shown(outcome)
    error = of_error(failure.type, failure.message, details=failure.details)
    return {**error, "run": of_run(outcome.run, outcome.journal, outcome.tree_usage)}


def shown(outcome: Outcome) -> Document:
    """Return the run as it stands, with its answer and its error, null while there is none."""
    answer = outcome.answer or {"text": outcome.value}
    error = outcome.failure
    return {
        **of_run(outcome.run, outcome.journal, outcome.tree_usage),
        "answer": answer["text"],
        "value": answer.get("value"),
        "reason": outcome.reason if outcome.run.status is RunStatus.DONE else None,
        "detail": answer.get("detail", ""),
        "error": error and {"type": error.type, "message": error.message},
    }


def summary(outcome: Outcome) -> list[Text]:
    """Return why the run ended, and what it took."""
    tally, run = Totals.of(outcome.journal), outcome.run
    facts = [
        wording.count(tally.turns, "turn"),
        wording.count(tally.steps, "step"),
        wording.tokens(tally.usage),
        wording.money(tally.usage.cost_usd),
        wording.duration((run.ended_at or run.created_at) - run.created_at),
    ]
    if outcome.has_used_below:
        tree = outcome.tree_usage
        told = f"{wording.tokens(tree)}, {wording.money(tree.cost_usd)}"
        facts.append(f"with all below it {told}")
    is_whole = outcome.exit_code is Exit.DONE
    lines = [
        Text.assemble(
            (outcome.reason, "green" if is_whole else "yellow"), (" · " + " · ".join(facts), "dim")
        )
    ]
    if detail := (outcome.answer or {}).get("detail"):
        told = detail if is_whole else f"incomplete: {detail}"
        lines.append(Text(wording.visible(told), "" if is_whole else "yellow"))
    return lines


def hint(outcome: Outcome, invocation: Invocation) -> Text:
    """Return the command that shows what the run has done."""
    return Text(invocation.command("show", outcome.run.id), "dim")


def explanation(outcome: Outcome, invocation: Invocation) -> list[Text]:
    """Return why a run is paused or has failed, and what to type next."""
    failure = outcome.failure
    if failure is None:
        return [Text(f"run {outcome.run.id} is {outcome.run.status}")]
    if outcome.run.status is RunStatus.PAUSED:
        return _paused(outcome, failure, invocation)
    told = wording.visible(f"{failure.type}: {failure.message}")
    lines = [Text.assemble((outcome.run.status.value, "red"), f": {told}")]
    if where := _where(outcome, failure):
        lines.append(Text(f"  at {where}"))
    return [*lines, *whats_next(outcome, invocation)]


def whats_next(outcome: Outcome, invocation: Invocation) -> list[Text]:
    """Return what to type next about a run that has come to nothing."""
    run, failure = outcome.run, outcome.failure
    show = invocation.command("show", run.id)
    resume = invocation.command("resume", run.id)
    is_undone = any(each.key == UNWIND_KEY for each in outcome.journal)
    lines: list[Text] = []
    if run.status is RunStatus.CANCELLED:
        return [_next("It does not go on. What it did:", show)]
    if run.parent_id is not None:
        above = invocation.command("show", run.parent_id)
        lines = [_next("A child does not go on; its parent was told, and decides:", above)]
    elif run.status is RunStatus.DEAD and is_undone:
        lines = [_next("Once that is mended, it goes on with that undo:", resume)]
    elif is_undone:
        return [_next("What it did is undone: start another run. What this one did:", show)]
    elif run.status is RunStatus.FAILED and failure and failure.type == RunTimedOut.__name__:
        return [_next("Its time is over: start another run. What this one did:", show)]
    elif failure and failure.type in _RECORDED:  # it stands, so a resumed run would fail again
        told = "That is recorded and stands: mend it, and start another run. What this one did:"
        return [_next(told, show)]
    else:
        lines = [_next("What is recorded is kept. Once that is mended:", resume)]
    if run.status is RunStatus.DEAD:
        lines.append(_next("To give it up as it is:", invocation.command("discard", run.id)))
    return lines


def _paused(outcome: Outcome, failure: Failure, invocation: Invocation) -> list[Text]:
    resume = invocation.command("resume", outcome.run.id)
    details = failure.details if isinstance(failure.details, dict) else {}
    if not {"key", "recorded", "asked"} <= details.keys():
        lines = [Text.assemble(("paused", "yellow"), f": {failure.type}: {failure.message}")]
        if where := _where(outcome, failure):
            lines.append(Text(f"  at {where}"))
        if body := details.get("body"):
            lines.append(Text(f"  {wording.short(body, 400)}", "dim"))
        return [*lines, _next("Nothing recorded is lost. Once that is mended:", resume)]
    key = details["key"]
    is_forgotten = failure.type == NEVER_ASKED
    what = "for nothing any more" if is_forgotten else "for something else than was recorded"
    asked = "nothing: nobody knows whether it happened" if is_forgotten else _side(details["asked"])
    return [
        Text.assemble(("paused", "yellow"), f": at {key} the code asks {what}"),
        Text.assemble(("  recorded  ", "dim"), _side(details["recorded"])),
        Text.assemble(("  asked now ", "dim"), asked),
        _next("Under the code that recorded it:", resume),
        _next("To let what was recorded stand: ", f"{resume} --accept {key}"),
    ]


def _side(side: dict[str, Any]) -> str:
    given = "" if side["input"] is None else f" {wording.short(side['input'], 1000)}"
    return f"{side['kind']} {side['name']}{given}"


def _next(when: str, command: str) -> Text:
    return Text.assemble((when, "dim"), f" {command}")


def _where(outcome: Outcome, failure: Failure) -> str | None:
    """Return the line of the fork at which a failure came up, or the last one there is."""
    trace = failure.traceback
    if failure.type in _RECORDED:  # raised by us; the step's own trace tells more
        rejected = [p for p in outcome.journal if p.state is PromiseState.REJECTED]
        inner = [p for p in rejected if p.kind is not Kind.RUN]
        trace = decode_failure(inner[-1]).traceback if inner else trace
    told = replace(failure, traceback=trace)
    known = getattr(errors, failure.type, None)
    if isinstance(known, type) and issubclass(known, errors.ModelError):
        return None  # a provider said it, and no line of anybody's
    if told.frame is not None:
        return f"{line_of(told)}, in {told.frame[2]}"
    if known is not None:  # its message says all; the line is the kit's
        return None
    frames = _FRAME.findall(trace or "")
    return "{}:{}, in {}".format(*frames[-1]) if frames else None
