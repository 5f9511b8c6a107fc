"""`show`: a run's journal as a tree, in the order in which things were settled.

Each key stands there once, with its outcome, its effect, how long it took, tokens and cost, its
failed attempts, and its input and value cut short; what is open says what it waits for and until
when. Where another claim on the run went on, a line says so: what is above it in its scope was done
before a crash or a stop, and was not done again.

Below the tree stand the commands that answer what is asked, and the signals in the inbox that
nobody took. A child is a row with its run's id, which is what to `show` next.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from substrate.agent.history.accepted import accepted_in
from substrate.agent.history.denials import denials_in
from substrate.agent.history.mending import Mending, read_last_mending, read_mending
from substrate.agent.history.questions import read_questions
from substrate.agent.history.rows import cut_of
from substrate.agent.history.run import RunHistory, question_of, read_history
from substrate.agent.history.undo import undos_in
from substrate.agent.history.untaken import read_inbox
from substrate.agent.history.waits import read_waits
from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import (
    Document,
    of_promise,
    of_signal,
    of_unreadable,
    of_wait,
    print_document,
)
from substrate.cli.screen import open_page, put
from substrate.cli.show.failure import explanation, unreadable_lines
from substrate.cli.show.mending import mending_line, mending_lines, of_mending
from substrate.cli.show.outcome import run_document, summary, text_of
from substrate.cli.show.row import STATE_STYLES, WORDS, Reading, cut_words
from substrate.cli.show.runs import STYLES
from substrate.cli.show.state import State, state_lines
from substrate.cli.show.tree import GUIDE, Node
from substrate.cli.suspects import suspect_lines
from substrate.engine.client import Client
from substrate.engine.failure import decode_failure
from substrate.engine.worker.unknown import missing_worker
from substrate.values.codec import decode
from substrate.values.errors import RunNotFound
from substrate.values.near import did_you_mean
from substrate.values.records import OWN_KEY, JsonText, Kind, Promise, RunStatus

_LOOK = re.compile(r" What (it|this one) did: .*")


async def show(invocation: Invocation, run_id: str, key: str | None) -> int:
    """Print a run's journal, or one promise of it whole."""
    async with opened(invocation) as client:
        state = await read_state(client, run_id)
        if key is None:
            draw(state, invocation)
            return 0
        promise = _find(state.history, key)
        mending = await read_mending(client, state.history.journal, promise)
    _show_promise(invocation, promise, mending)
    return 0


async def read_state(client: Client, run_id: str) -> State:
    """Return a run with what is open about it. Raises `RunNotFound`."""
    history = await read_history(client, run_id)
    return State(
        history,
        await read_waits(client, history.run, history.journal),
        await read_inbox(client, history.run, history.journal),
        await read_questions(client, history.run, history.journal),
        await missing_worker(client.store, history.run),
        await read_last_mending(client, history.journal),
    )


def draw(state: State, invocation: Invocation) -> None:
    """Print a run's journal and what is open about it."""
    if invocation.is_json:
        print_document(_document(state))
        return
    page = open_page()
    put(page, *_page(state, invocation, page.width))


def _document(state: State) -> Document:
    return {
        **run_document(state.history),
        **of_unreadable(state.history.unreadable),
        "journal": [of_promise(promise) for promise in state.history.journal],
        "waits": [of_wait(wait) for wait in state.waits],
        "missing": state.missing,
        "inbox": [of_signal(signal) for signal in state.inbox],
        "mended": of_mending(state.mending),
    }


def _find(history: RunHistory, key: str) -> Promise:
    if key == OWN_KEY and history.own is not None:
        return history.own
    for promise in history.journal:
        if promise.key == key:
            return promise
    near = did_you_mean(key, [promise.key for promise in history.journal])
    message = f"run {history.run.id!r} has no promise {key!r}{near}"
    raise RunNotFound(message if near else f"{message}; `show` lists its keys")


def _page(state: State, invocation: Invocation, width: int) -> Iterator[RenderableType]:
    history = state.history
    yield from _head(history)
    steps = [promise for promise in history.journal if promise.kind is not Kind.RUN]
    names = max((_name_width(promise) for promise in steps), default=0)
    reading = Reading(
        names,
        width,
        undos_in(steps),
        state.statuses,
        history.usage_below,
        accepted=accepted_in(history.journal),
        denied=denials_in(history.journal),
    )
    yield Text("")
    yield _tree(steps, reading)
    yield Text("")
    yield from summary(history)
    yield from mending_line(state.mending)
    yield from suspect_lines(history.run.id, history.journal, invocation)
    yield from unreadable_lines(history)
    yield from state_lines(state, invocation)
    yield Text("")
    if history.run.status is RunStatus.DONE:
        yield Text(wording.visible(text_of(history)))
    elif history.run.status.has_ended or history.run.status is RunStatus.PAUSED:
        for line in explanation(history, invocation):  # which may say where to look: here
            line.plain = _LOOK.sub("", line.plain)
            yield line
    else:
        again = invocation.command("resume", history.run.id)
        yield Text(f"to drive it here, or to follow the worker that does: {again}", "dim")


def _head(history: RunHistory) -> Iterator[Text]:
    run = history.run
    facts = [f"{run.function} v{run.version}", f"started {wording.moment(run.created_at)}"]
    if run.parent_id is not None:
        facts.append(f"child of {run.parent_id}")
    if run.generation:
        facts.append(f"generation {run.generation}, keys from g{run.generation}/")
    if run.deadline_at is not None:
        facts.append(f"has time until {wording.moment(run.deadline_at)}")
    line = Text.assemble((run.id, "bold"), "  ", (run.status.value, STYLES[run.status]))
    line.append(f"  {' · '.join(facts)}", "dim")
    if run.cancel_requested:
        line.append(" · cancel requested", "yellow")
    yield line
    if question := question_of(history.own):
        yield Text(wording.visible(question), "italic")


def _tree(steps: Sequence[Promise], reading: Reading) -> Node:
    """Return promises nested by their scopes, and a line where another claim went on."""
    tree = Node()
    scopes: dict[str, Node] = {"": tree}
    last = 1
    for promise in steps:
        if promise.epoch > last:
            last = promise.epoch
            claimed = Text(wording.claim(last), "yellow")
            _nearest(scopes, promise.key).add(claimed, is_remark=True)
        indent = GUIDE * promise.key.count("/")
        lines = [reading.line(promise, indent), *reading.details(promise, indent)]
        _scope(scopes, promise.key).label = Text("\n  ").join(lines)
    return tree


def _nearest(scopes: Mapping[str, Node], key: str) -> Node:
    """Return the innermost scope around a key that has a place in the tree already.

    That is the key itself where something was done below it before: it was settled after that.
    """
    above = key
    while above not in scopes:
        above = above.rpartition("/")[0]
    return scopes[above]


def _scope(scopes: dict[str, Node], key: str) -> Node:
    if key not in scopes:
        above, _, name = key.rpartition("/")
        scopes[key] = _scope(scopes, above).add(Text(name, "dim"))
    return scopes[key]


def _name_width(promise: Promise) -> int:
    return GUIDE * promise.key.count("/") + len(promise.key.rpartition("/")[2])


def _show_promise(invocation: Invocation, promise: Promise, mending: Mending | None) -> None:
    """Print one promise whole, its error with the traceback, and what was mended in it."""
    if invocation.is_json:
        mended = {} if mending is None else {"mended": of_mending(mending)}
        print_document({**of_promise(promise), **mended})
        return
    page, failure = open_page(), None
    state = Text.assemble(
        (promise.id, "bold"),
        "  ",
        (WORDS[promise.state], STATE_STYLES[promise.state]),
        (f"  {promise.kind} · claim {promise.epoch}", "dim"),
    )
    put(page, state)
    if promise.error:
        failure = decode_failure(promise)
    for name in ("input", "value", "usage", "attempts"):
        payload: JsonText | None = getattr(promise, name)
        if payload is not None:
            put(page, "", Text(name, "dim"), Text(wording.visible(_pretty(decode(payload)))))
    if failure is not None:
        trace = (failure.traceback or "").rstrip()
        put(page, "", Text("error", "dim"), f"{failure.type}: {failure.message}")
        put(page, *([Text(wording.visible(trace), "dim")] if trace else []))
    put(page, *mending_lines(mending), *_cut_lines(promise, invocation))


def _cut_lines(promise: Promise, invocation: Invocation) -> Iterator[Text]:
    """Yield what was left out of the transcript here, and how each of it is read."""
    if (cut := cut_of(promise)) is None:
        return
    yield Text("")
    yield Text(wording.visible(cut_words(cut)))
    if cut.keys:
        each = invocation.command("show", promise.run_id, "--key", cut.keys[0])
        yield Text(wording.visible(f"left out: {', '.join(cut.keys)}"), "dim")
        yield Text(wording.visible(f"each stands in its row: {each}"), "dim")


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else wording.as_json(value, indent=2)
