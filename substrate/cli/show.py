"""`show`: a run's journal as a tree, in the order in which things were settled.

Each step has its outcome, its effect, how long it took, tokens and cost, its failed attempts, and
its input and value cut short. Where another claim on the run went on, the tree is cut and a line
says so: what is above it was done before a crash or a stop, and was not done again.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from substrate.agent.transcript import NOTHING
from substrate.cli import wording
from substrate.cli.document import of_promise, print_document
from substrate.cli.environment import database_url
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.outcome import Outcome, explanation, question_of, read_outcome, shown, summary
from substrate.cli.runs import STYLES
from substrate.cli.screen import open_page, put
from substrate.cli.tally import (
    MODEL_CALLS,
    SUMMARY,
    calls_of,
    invalid_of,
    is_tool_call,
    is_turn,
    model_of,
    passed_over_of,
    tool_of,
    usage_of,
    words_of,
)
from substrate.engine.client import connect
from substrate.engine.failure import decode_failure
from substrate.models.messages import Usage
from substrate.values.codec import decode
from substrate.values.errors import RunNotFound
from substrate.values.records import Json, Kind, Promise, PromiseState, RunStatus

_PROMPT = {"system", "prompt", "version"}
_GUIDE = 4  # characters a level of the tree takes


async def show(invocation: Invocation, run_id: str, key: str | None) -> int:
    """Print a run's journal, or one promise of it whole."""
    check_there(invocation.package)
    async with connect(database_url()) as client:
        outcome = await read_outcome(client, run_id)
    if key is not None:
        _show_promise(invocation, _find(outcome, key))
    elif invocation.is_json:
        journal = [of_promise(promise) for promise in outcome.journal]
        print_document({**shown(outcome), "journal": journal})
    else:
        page = open_page()
        put(page, *_page(outcome, invocation, page.width))
    return 0


def _find(outcome: Outcome, key: str) -> Promise:
    for promise in outcome.journal:
        if promise.key == key:
            return promise
    raise RunNotFound(f"run {outcome.run.id!r} has no promise {key!r}; `show` lists its keys")


def _page(outcome: Outcome, invocation: Invocation, width: int) -> Iterator[RenderableType]:
    yield from _head(outcome)
    steps = [promise for promise in outcome.journal if promise.kind is not Kind.RUN]
    names = max((_name_width(promise) for promise in steps), default=0)
    last = 1
    for epoch, group in groupby(steps, key=lambda promise: promise.epoch):
        yield Text(wording.claim(epoch) if epoch > last else "", "yellow")
        yield _tree(outcome, list(group), names, width)
        last = epoch
    yield Text("")
    yield from summary(outcome)
    yield Text("")
    if outcome.run.status is RunStatus.DONE:
        yield Text(wording.visible(outcome.text))
    else:
        yield from explanation(outcome, invocation)
        if outcome.run.status in (RunStatus.READY, RunStatus.RUNNING):
            again = invocation.command("resume", outcome.run.id)
            yield Text(f"to drive it here, or to follow the worker that does: {again}", "dim")


def _head(outcome: Outcome) -> Iterator[Text]:
    run = outcome.run
    facts = f"{run.function} v{run.version} · started {wording.moment(run.created_at)}"
    yield Text.assemble(
        (run.id, "bold"), "  ", (run.status.value, STYLES[run.status]), (f"  {facts}", "dim")
    )
    if question := question_of(outcome.own):
        yield Text(wording.visible(question), "italic")


def _tree(outcome: Outcome, steps: Sequence[Promise], names: int, width: int) -> Tree:
    """Return promises nested by their scopes."""
    tree = Tree("", guide_style="dim", hide_root=True)
    scopes: dict[str, Tree] = {"": tree}
    for promise in steps:
        indent = _GUIDE * promise.key.count("/")
        line = _line(promise, names - indent, _used(outcome, promise))
        lines = [line, *_details(promise, width - indent - 2)]
        _scope(scopes, promise.key).label = Text("\n  ").join(lines)
    return tree


def _scope(scopes: dict[str, Tree], key: str) -> Tree:
    if key not in scopes:
        above, _, name = key.rpartition("/")
        scopes[key] = _scope(scopes, above).add(Text(name, "dim"))
    return scopes[key]


def _name_width(promise: Promise) -> int:
    return _GUIDE * promise.key.count("/") + len(promise.key.rpartition("/")[2])


def _used(outcome: Outcome, promise: Promise) -> Usage | None:
    """Return what a step or a child has used, None where it does not say."""
    if promise.kind is not Kind.CHILD:
        return usage_of(promise) if promise.usage else None
    used = outcome.usage_below(promise)
    return used if used != NOTHING else None


def _line(promise: Promise, room: int, used: Usage | None) -> Text:
    took = "" if promise.settled_at is None else wording.took(promise)
    line = Text.assemble(
        promise.key.rpartition("/")[2].ljust(room),
        "  ",
        (_WORDS[promise.state].ljust(9), _STATE_STYLES[promise.state]),
        (f"{promise.effect or promise.kind:<10}", "dim"),
        f"{took:>9}",
    )
    if used is not None:
        line.append(f"{wording.tokens(used):>15}  {wording.money(used.cost_usd)}", "dim")
    return line


def _details(promise: Promise, width: int) -> Iterator[Text]:
    """Yield what went wrong on the way, what a step was given, and what it gave."""
    for number, attempt in enumerate(decode(promise.attempts or Json("[]")), 1):
        waited = wording.duration(attempt.get("waited_ms", 0))
        told = f"attempt {number}, again after {waited}: {attempt['type']}: {attempt['message']}"
        yield Text(wording.short(told, width), "yellow")
    given = wording.short(_given(promise, width), width)
    if promise.is_settled and promise.state is not PromiseState.RESOLVED:
        yield from _failure(promise, given, width)
        return
    for each in passed_over_of(promise) if promise.name in MODEL_CALLS else ():
        yield Text(wording.short(wording.passed_over(each), width), "yellow")
    gave, style = wording.short(_gave(promise, width - 2), width - 2), "dim"
    if given and len(given) + len(gave) + 3 <= width:
        yield Text.assemble((given, "dim"), (f" → {gave}" if gave else "", style))
    else:
        if given:
            yield Text(given, "dim")
        if gave:
            yield Text(f"→ {gave}", style)
    if promise.name in MODEL_CALLS and (wrong := invalid_of(promise)):
        yield Text(wording.short(f"not what was asked for: {wrong}", width), "yellow")


def _failure(promise: Promise, given: str, width: int) -> Iterator[Text]:
    """Yield what a step was given and, whole, why it failed."""
    if given:
        yield Text(given, "dim")
    failure = decode_failure(promise)
    told = wording.short(f"{failure.type}: {failure.message}", 4 * width)
    for i, line in enumerate(wrap(told, width - 2)):
        yield Text(f"{'  ' if i else '→ '}{line}", "red")


def _given(promise: Promise, width: int) -> str:
    """Return the input, in few words."""
    given = decode(promise.input or Json("null"))
    if promise.name in MODEL_CALLS and isinstance(given, dict) and "upto" in given:
        model = model_of(promise)
        sent = wording.count(given["upto"], "message")
        prompt = given.get("prompt")
        told = f", prompt {prompt['version']}" if isinstance(prompt, dict) else ""
        return f"{model}, {sent}{told}" if model else f"{sent}{told}"
    if is_tool_call(promise):
        return wording.call(*tool_of(promise), width)
    if promise.kind in (Kind.TIMER, Kind.SIGNAL):
        due = given.get("due_at") if isinstance(given, dict) else None
        return f"until {wording.moment(due)}" if due else ""
    return "" if given in (None, [], {}) else wording.short(given, width)


def _gave(promise: Promise, width: int) -> str:
    """Return the value or the error, in few words; nothing while there is none."""
    if not promise.is_settled or promise.kind is Kind.TIMER:
        return ""
    value = decode(promise.value or Json("null"))
    if is_turn(promise):
        calls = [
            wording.call(each["name"], each.get("arguments", {})) for each in calls_of(promise)
        ]
        said = [wording.short(words_of(promise), width)] if words_of(promise) else []
        return " · ".join([*said, *calls])
    if promise.name == SUMMARY:
        return wording.short(words_of(promise), width)
    if isinstance(value, dict) and "system" in value and value.keys() <= _PROMPT:
        given = f"{value['version']}: " if "version" in value else ""
        value = f"{given}{value['system']}"
    return wording.short(value, width)


def _show_promise(invocation: Invocation, promise: Promise) -> None:
    """Print one promise whole, its error with the traceback."""
    if invocation.is_json:
        print_document(of_promise(promise))
        return
    page, failure = open_page(), None
    state = Text.assemble(
        (promise.id, "bold"),
        "  ",
        (_WORDS[promise.state], _STATE_STYLES[promise.state]),
        (f"  {promise.kind} · claim {promise.epoch}", "dim"),
    )
    put(page, state)
    if promise.error:
        failure = decode_failure(promise)
    for name in ("input", "value", "usage", "attempts"):
        payload: Json | None = getattr(promise, name)
        if payload is not None:
            put(page, "", Text(name, "dim"), Text(wording.visible(_pretty(decode(payload)))))
    if failure is not None:
        trace = (failure.traceback or "").rstrip()
        put(page, "", Text("error", "dim"), f"{failure.type}: {failure.message}")
        put(page, *([Text(wording.visible(trace), "dim")] if trace else []))


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else wording.as_json(value, indent=2)


_WORDS = {
    PromiseState.PENDING: "pending",
    PromiseState.RESOLVED: "ok",
    PromiseState.REJECTED: "failed",
    PromiseState.CANCELLED: "cancelled",
    PromiseState.EXPIRED: "expired",
}
_STATE_STYLES = {
    PromiseState.PENDING: "cyan",
    PromiseState.RESOLVED: "green",
    PromiseState.REJECTED: "red",
    PromiseState.CANCELLED: "dim",
    PromiseState.EXPIRED: "yellow",
}
