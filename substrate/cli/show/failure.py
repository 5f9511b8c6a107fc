"""Why a run is paused or has failed, in words, and what to type next about it."""

import re
from dataclasses import replace
from typing import Any

from rich.text import Text

from substrate.agent.history.run import RunHistory
from substrate.agent.history.undo import is_decision
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.suspects import line_of
from substrate.engine.failure import decode_failure
from substrate.engine.run.mismatch import NEVER_ASKED
from substrate.values import errors
from substrate.values.errors import Failure, OutcomeUnknown, RunDead, RunTimedOut, StepFailed
from substrate.values.records import Kind, PromiseState, RunStatus

_RECORDED = (StepFailed.__name__, OutcomeUnknown.__name__)
_FEW = 10  # unreadable columns of a run that are told
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def explanation(history: RunHistory, invocation: Invocation) -> list[Text]:
    """Return why a run is paused or has failed, and what to type next."""
    failure = history.failure
    if failure is None:
        return [Text(f"run {history.run.id} is {history.run.status}")]
    if history.run.status is RunStatus.PAUSED:
        return _paused(history, failure, invocation)
    message = wording.visible(_told(failure))
    lines = [Text.assemble((history.run.status.value, "red"), f": {message}")]
    if where := _where(history, failure):
        lines.append(Text(f"  at {where}"))
    return [*lines, *next_commands(history, invocation)]


def _told(failure: Failure) -> str:
    """Return what has failed; of a hook that is at fault, the error is in the message already."""
    is_told = f" is at fault: {failure.type}: " in failure.message
    return failure.message if is_told else f"{failure.type}: {failure.message}"


def unreadable_lines(history: RunHistory) -> list[Text]:
    """Return which rows and columns of a run cannot be read, and are not shown."""
    return [Text(wording.short(each.message, 400), "yellow") for each in history.unreadable[:_FEW]]


def next_commands(history: RunHistory, invocation: Invocation) -> list[Text]:
    """Return what to type next about a run that has no answer."""
    run, failure = history.run, history.failure
    show = invocation.command("show", run.id)
    resume = invocation.command("resume", run.id)
    is_undone = any(map(is_decision, history.journal))
    if run.status is RunStatus.CANCELLED:
        return [_next("It does not go on. What it did:", show)]
    unfinished = _next("Once that is mended, it goes on with that undo:", resume)
    is_to_undo = run.status is RunStatus.DEAD and is_undone
    if run.parent_id is not None:
        above = invocation.command("show", run.parent_id)
        lines = [_next("A child does not go on; its parent was told, and decides:", above)]
        if is_to_undo:
            lines.append(unfinished)
        elif is_undone and failure and failure.type == RunDead.__name__:
            lines.append(_next("What it did is undone by now:", show))
    elif is_to_undo:
        lines = [unfinished]
    elif is_undone:
        return [_next("What it did is undone: start another run. What this one did:", show)]
    elif run.status is RunStatus.FAILED and failure and failure.type == RunTimedOut.__name__:
        return [_next("Its time is over: start another run. What this one did:", show)]
    elif failure and failure.type in _RECORDED:  # it stands, so a resumed run would fail again
        advice = "That is recorded and stands: mend it, and start another run. What this one did:"
        return [_next(advice, show)]
    else:
        lines = [_next("What is recorded is kept. Once that is mended:", resume)]
    if run.status is RunStatus.DEAD:
        lines.append(_next("To give it up as it is:", invocation.command("discard", run.id)))
    return lines


def _paused(history: RunHistory, failure: Failure, invocation: Invocation) -> list[Text]:
    resume = invocation.command("resume", history.run.id)
    details = failure.details if isinstance(failure.details, dict) else {}
    is_forgotten = failure.type == NEVER_ASKED
    sides = [details.get("recorded"), *([] if is_forgotten else [details.get("asked")])]
    if "key" not in details or not all(map(_is_side, sides)):
        lines = [Text.assemble(("paused", "yellow"), f": {_told(failure)}")]
        if where := _where(history, failure):
            lines.append(Text(f"  at {where}"))
        if body := details.get("body"):
            lines.append(Text(f"  {wording.short(body, 400)}", "dim"))
        return [*lines, _next("Nothing recorded is lost. Once that is mended:", resume)]
    key = details["key"]
    what = "for nothing any more" if is_forgotten else "for something else than was recorded"
    asked = "nothing: nobody knows whether it happened" if is_forgotten else _side(details["asked"])
    return [
        Text.assemble(("paused", "yellow"), f": at {key} the code asks {what}"),
        Text.assemble(("  recorded  ", "dim"), _side(details["recorded"])),
        Text.assemble(("  asked now ", "dim"), asked),
        _next("Under the code that recorded it:", resume),
        _next("To let what was recorded stand: ", f"{resume} --accept {key}"),
    ]


def _is_side(side: object) -> bool:
    """Whether this is one side of a mismatch, as it is recorded."""
    return isinstance(side, dict) and {"kind", "name", "input"} <= side.keys()


def _side(side: dict[str, Any]) -> str:
    given = "" if side["input"] is None else f" {wording.short(side['input'], 1000)}"
    return f"{side['kind']} {side['name']}{given}"


def _next(when: str, command: str) -> Text:
    return Text.assemble((when, "dim"), f" {command}")


def _where(history: RunHistory, failure: Failure) -> str | None:
    """Return the line of the fork at which a failure came up, or the last one there is."""
    trace = failure.traceback
    if failure.type in _RECORDED:  # raised by us; the step's own trace tells more
        rejected = [p for p in history.journal if p.state is PromiseState.REJECTED]
        inner = [p for p in rejected if p.kind is not Kind.RUN]
        trace = decode_failure(inner[-1]).traceback if inner else trace
    own = replace(failure, traceback=trace)
    known = getattr(errors, failure.type, None)
    if isinstance(known, type) and issubclass(known, errors.ModelError):
        return None  # a provider said it, and no line of anybody's
    if own.frame is not None:
        return f"{line_of(own)}, in {own.frame[2]}"
    if known is not None:  # its message says all; the line is the kit's
        return None
    frames = _FRAME.findall(trace or "")
    return "{}:{}, in {}".format(*frames[-1]) if frames else None
