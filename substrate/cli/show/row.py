"""How a row of a journal reads: one line, and below it what went in, what came out, what failed.

A child's line has the state of its run, and its id. An undo's row, and the decision to undo, read
as what they are: they are steps in the table, and no steps of the function's.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

from rich.text import Text

from substrate.agent.grant import Grant, Unit
from substrate.agent.history.accepted import Acceptance
from substrate.agent.history.keys import MODEL_CALLS, REVISION, SUMMARY
from substrate.agent.history.rows import (
    CutRow,
    PanelRow,
    answer_of,
    calls_of,
    check_of,
    confidence_of,
    cut_of,
    handoff_of,
    input_of,
    invalid_of,
    is_tool_call,
    is_turn,
    is_vote,
    model_call_of,
    model_of,
    panel_of,
    passed_over_of,
    prompt_version_of,
    system_prompt_of,
    task_of,
    tool_of,
    value_of,
    words_of,
)
from substrate.agent.history.undo import decision_of, is_decision, undone_by
from substrate.agent.history.usage import NOTHING, usage_from, usage_of
from substrate.agent.history.waits import Wait, wait_of
from substrate.cli import format as wording
from substrate.cli.show.waits import wait_words
from substrate.engine.failure import decode_failure
from substrate.engine.run.attempts import Attempt, failed_in
from substrate.models.messages import Usage
from substrate.values.codec import decode
from substrate.values.ids import Key, PromiseId
from substrate.values.records import JsonText, Kind, Promise, PromiseState, RunStatus

WORDS = {
    PromiseState.PENDING: "pending",
    PromiseState.RESOLVED: "ok",
    PromiseState.REJECTED: "failed",
    PromiseState.CANCELLED: "cancelled",
    PromiseState.EXPIRED: "expired",
}
STATE_STYLES = {
    PromiseState.PENDING: "cyan",
    PromiseState.RESOLVED: "green",
    PromiseState.REJECTED: "red",
    PromiseState.CANCELLED: "dim",
    PromiseState.EXPIRED: "yellow",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows of one page share."""

    #: The width of the column of names.
    names: int
    #: The width of the page.
    width: int
    #: The keys of what is undone.
    undos: Collection[str]
    #: How open children stand.
    statuses: Mapping[PromiseId, RunStatus]
    #: What a child, and all below it, has used.
    used_below: Callable[[Promise], Usage]
    #: What people let stand, by key.
    accepted: Mapping[Key, Sequence[Acceptance]] = field(default_factory=dict)
    #: The effects of the tools of calls that were denied, by the calls' keys.
    denied: Mapping[Key, str] = field(default_factory=dict)

    def line(self, promise: Promise, indent: int) -> Text:
        """Return a row's line: name, state, effect or kind, how long it took, what it used."""
        took = "" if promise.settled_at is None else wording.took(promise)
        is_undo = undone_by(promise, self.undos) or is_decision(promise)
        effect = self.denied.get(promise.key) or promise.effect or promise.kind
        line = Text.assemble(
            promise.key.rpartition("/")[2].ljust(self.names - indent),
            "  ",
            (self._word(promise).ljust(10), STATE_STYLES[promise.state]),
            (f"{'undo' if is_undo else effect:<10}", "dim"),
            f"{'' if is_undo else took:>9}",
        )
        used = self._used(promise)
        if used is not None:
            line.append(f"{wording.tokens(used):>15}  {wording.money(used.cost_usd)}", "dim")
        return line

    def details(self, promise: Promise, indent: int) -> Iterator[Text]:
        """Yield what went wrong on the way, what a step was given, and what it gave."""
        width = self.width - indent - 2
        shown = 0
        for number, attempt in enumerate(failed_in(promise), 1):
            n = attempt.get("n", number)
            if shown and n > shown + 1:
                yield Text(f"{wording.count(n - shown - 1, 'attempt')} more", "yellow")
            shown = n
            yield Text(wording.gist(_attempt(n, attempt), width), "yellow")
        if is_decision(promise) and promise.value is not None:
            yield from _decision(promise, width)
            return
        if promise.kind is Kind.CHILD:
            yield Text(f"run {promise.id}{_granted(promise)}", "dim")
        if undone := undone_by(promise, self.undos):
            yield Text(f"makes up for {undone}", "dim")
        for accepted in self.accepted.get(promise.key, ()):
            yield Text(_accepted(accepted), "yellow")
        if wait := _open_wait(promise):
            yield Text(wait_words(wait), "dim")
        given = wording.short(_given(promise, width), width)
        if promise.is_settled and promise.state is not PromiseState.RESOLVED:
            yield from _failure(promise, given, width)
            return
        for each in passed_over_of(promise) if _is_reply(promise) else ():
            yield Text(wording.short(wording.passed_over(each), width), "yellow")
        gave = wording.short(_gave(promise, width - 2), width - 2)
        if given and len(given) + len(gave) + 3 <= width:
            yield Text(given + (f" → {gave}" if gave else ""), "dim")
        else:
            yield from (Text(line, "dim") for line in (given, gave and f"→ {gave}") if line)
        yield from _remarks(promise, width)

    def _used(self, promise: Promise) -> Usage | None:
        """Return what a step, or a child and all below it, has used; None where it does not say."""
        if (panel := panel_of(promise)) is not None:
            return usage_from(panel.usage)
        if promise.kind is not Kind.CHILD:
            return usage_of(promise) if promise.usage else None
        used = self.used_below(promise)
        return used if used != NOTHING else None

    def _word(self, promise: Promise) -> str:
        if is_decision(promise):
            return "decided"
        if undone_by(promise, self.undos) and promise.state is PromiseState.RESOLVED:
            return "undone"
        if promise.key in self.denied:
            return "denied"
        status = self.statuses.get(promise.id)
        return status.value if status and not promise.is_settled else WORDS[promise.state]


def _remarks(promise: Promise, width: int) -> Iterator[Text]:
    """Yield what is to be said of a reply: that it is none, and how sure it is."""
    if (panel := panel_of(promise)) is not None:
        yield from panel_lines(panel, width)
    if _is_reply(promise) and (wrong := invalid_of(promise)):
        yield Text(wording.short(f"not what was asked for: {wrong}", width), "yellow")
    if (cut := cut_of(promise)) is not None:
        for name, why in cut.failed.items():
            yield Text(wording.short(f"no {_ASKED.get(name, name)}: {why}", width), "yellow")
    if (sure := confidence_of(promise)) is not None:
        style = "dim" if sure.is_enough else "yellow"
        yield Text(wording.short(wording.confidence(sure), width), style)


_ASKED = {"extract": "facts"}

CAUSES = {
    "fill": "the context fills",
    "full": "the context is full",
    "budget": "the budget advises it",
}


def cut_words(cut: CutRow) -> str:
    """Return what was left out of a transcript, and how much that has saved."""
    messages = [wording.count(cut.messages, "message")] if cut.messages else []
    results = [wording.count(cut.results, "result")] if cut.results else []
    what = " and ".join([*messages, *results])
    of = f" of {cut.window:,}" if cut.window else ""
    saved = f"about {cut.before:,} → {cut.after:,} tokens{of}"
    kept = f"; {wording.count(cut.facts, 'fact')} in memory" if cut.facts else ""
    return f"left out {what}: {saved}{kept}" if what else f"left out nothing: {cut.before:,} tokens"


def _is_reply(promise: Promise) -> bool:
    """Whether a model has answered here: the agent's, or a member of its panel."""
    return promise.name in MODEL_CALLS or is_vote(promise)


def panel_lines(panel: PanelRow, width: int) -> Iterator[Text]:
    """Yield how the votes of a panel were merged, who said otherwise, and who is missing."""
    yield Text(wording.short(f"{panel.merge}: {panel.why}", width), "dim")
    others = [name for name, agrees in panel.votes.items() if not agrees]
    with_it = [name for name, agrees in panel.votes.items() if agrees]
    sides = {"said so": with_it, "said otherwise": others, "not waited for": list(panel.left)}
    said = [f"{word}: {', '.join(names)}" for word, names in sides.items() if names]
    if said:
        yield Text(wording.short("; ".join(said), width), "dim")
    for name, why in panel.missing.items():
        yield Text(wording.short(f"no vote of {name}: {why}", width), "yellow")


def _accepted(accepted: Acceptance) -> str:
    """Return what somebody let stand: for which call, who, and when."""
    call = f"{accepted.kind} {accepted.name} {wording.short(accepted.input, 60)}"
    who = f" by {wording.visible(accepted.by)}" if accepted.by else ""
    return f"accepted for {call}{who}, {wording.moment(accepted.at)}"


def _attempt(number: int, attempt: Attempt) -> str:
    error = f"{attempt.get('type')}: {attempt.get('message')}"
    if "dedup" in attempt:  # a signal that was taken and did not fit
        return f"refused: {attempt.get('message')}"
    if "gave_up" in attempt:
        return f"attempt {number}, then a person was asked: {error}"
    return f"attempt {number}, again after {wording.duration(attempt.get('waited_ms', 0))}: {error}"


def _decision(promise: Promise, width: int) -> Iterator[Text]:
    """Yield what the run comes to, and what is undone before that, in its order."""
    decision = decision_of(promise)
    why = f"{decision.end.failure.type}: {decision.end.failure.message}"
    yield Text(wording.short(f"the run will be {decision.end.status}: {why}", width), "yellow")
    undone = f"undone before that: {', '.join(decision.keys)}"
    yield Text(wording.short(undone, width), "dim")


def _failure(promise: Promise, given: str, width: int) -> Iterator[Text]:
    """Yield what a step was given and, whole, why it has no value."""
    if given:
        yield Text(given, "dim")
    if promise.error is None:
        nobody = promise.state is PromiseState.EXPIRED
        yield Text("→ none came in time" if nobody else "→ nobody waits for it any more", "dim")
        return
    failure = decode_failure(promise)
    text = wording.short(f"{failure.type}: {failure.message}", 4 * width)
    for i, line in enumerate(wrap(text, width - 2)):
        yield Text(f"{'  ' if i else '→ '}{line}", "red")


def _given(promise: Promise, width: int) -> str:
    """Return the input, in few words."""
    if (asked := model_call_of(promise)) is not None:
        model = model_of(promise)
        sent = wording.count(asked.added, "message")
        sent += f" after {asked.previous}" if asked.previous else ""
        sent += f", prompt {asked.version}" if asked.version else ""
        return f"{model}, {sent}" if model else sent
    if is_tool_call(promise):
        return wording.call(*tool_of(promise), width)
    if check_of(promise) is not None:
        return model_of(promise)
    if (cut := cut_of(promise)) is not None:
        return wording.short(f"{CAUSES.get(cut.cause, cut.cause)}; {cut.policy}", width)
    if promise.name == REVISION:
        return str(input_of(promise).get("source", ""))
    if promise.kind is Kind.CHILD and (task := task_of(promise)) is not None:
        return wording.short(task, width)
    given = decode(promise.input or JsonText("null"))
    if promise.kind in (Kind.TIMER, Kind.SIGNAL):
        due = given.get("due_at") if promise.is_settled and isinstance(given, dict) else None
        return f"until {wording.moment(due)}" if due else ""
    return "" if given in (None, [], {}) else wording.short(given, width)


def _open_wait(promise: Promise) -> Wait | None:
    """Return what a row waits for that nobody has settled; a child's has its own line."""
    return None if promise.is_settled or promise.kind is Kind.CHILD else wait_of(promise)


def _granted(promise: Promise) -> str:
    """Return what a child may use of its parent's budget; nothing where that is not limited."""
    if promise.granted is None:
        return ""
    most = Grant.from_json(promise.granted).most
    usd = [wording.money(most[Unit.USD])] if Unit.USD in most else []
    tokens = [f"{int(most[Unit.TOKENS]):,} tokens"] if Unit.TOKENS in most else []
    return f", granted {' and '.join([*usd, *tokens])}"


def _gave(promise: Promise, width: int) -> str:
    """Return the value, in few words; nothing while there is none."""
    if not promise.is_settled or promise.kind is Kind.TIMER:
        return ""
    if is_turn(promise) or is_vote(promise):
        calls = [
            wording.call(each["name"], each.get("arguments", {})) for each in calls_of(promise)
        ]
        said = [wording.short(words_of(promise), width)] if words_of(promise) else []
        return " · ".join([*said, *calls])
    if promise.name == SUMMARY:
        return wording.short(words_of(promise), width)
    if (check := check_of(promise)) is not None:
        return wording.short(wording.said_by(check), width)
    if (cut := cut_of(promise)) is not None:
        return wording.short(cut_words(cut), width)
    if promise.kind is Kind.CHILD and (answer := answer_of(promise)) is not None:
        words, reason = answer
        return wording.short(words if reason == "answered" else f"{reason}: {words}", width)
    if (handed := handoff_of(promise)) is not None:
        return wording.short(f"to {handed[0]}: {handed[1]}", width)
    if (system := system_prompt_of(promise)) is not None:
        given = prompt_version_of(promise)
        return wording.short(f"{given.version}: {system}" if given else system, width)
    return wording.short(value_of(promise), width)
