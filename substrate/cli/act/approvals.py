"""`approvals`, `approve`, `deny`, `answer`: what waits for a person, and what a person decides.

No worker is needed and none is started. The fork's code is loaded only for edited arguments, which
are checked by the tool's own types.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from substrate.agent import decisions
from substrate.agent.conversation import is_conversation
from substrate.agent.decisions import find_gate, read_asked
from substrate.agent.history.journal import read_journal
from substrate.agent.history.questions import Question, read_questions
from substrate.agent.history.waits import wait_of
from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.errors import UsageError, blaming_what_was_typed
from substrate.cli.fork import load_tools
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_gate, print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.cli.show.questions import SHOWN_CODE, answering_command, question_words
from substrate.cli.typed_value import read_answer, read_typed
from substrate.cli.user import user
from substrate.engine.client import Client
from substrate.engine.context.wanted_type import WantedType
from substrate.values.codec import decode
from substrate.values.errors import GateChanged, GateNotFound
from substrate.values.gates import Gate, GateKind, GateState
from substrate.values.ids import RunId, may_be_id, root_of
from substrate.values.records import Kind, Promise, Run, RunStatus

CHANNEL = "cli"

MOST_LISTED = 1000
"""So many open gates are listed at most, the oldest first."""


async def approvals(invocation: Invocation, run_id: str | None) -> int:
    """Print the open gates of all runs, or all gates of one tree."""
    async with opened(invocation) as client:
        if run_id is None:
            found = await client.store.gates.pending(MOST_LISTED)
        else:
            run = await client.get(run_id)
            below = await client.store.gates.of_tree(root_of(run.id))
            found = [each for each in below if each.is_of(run.id)]
        now = client.store.clock.now_ms()
        shown = await client.store.promises([each.id for each in found])
    if invocation.is_json:
        print_document({"gates": [of_gate(each, shown.get(each.id)) for each in found]})
        return 0
    if not found:
        asked = "nobody is asked anything" if run_id is None else f"run {run_id} has asked nobody"
        put(open_screen(), Text(f"{asked} just now", "dim"))
        return 0
    put(open_page(), _table(found, shown, now))
    hints = list(_hints(invocation, found))
    if run_id is None and len(found) == MOST_LISTED:
        hints.insert(0, Text(f"the oldest {MOST_LISTED}; there may be more", "dim"))
    put(open_screen(), *hints)
    return 0


def _table(gates: Sequence[Gate], shown: Mapping[str, Promise], now: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("gate", "run", "what", "asked", "until", "of"):
        table.add_column(name, overflow="fold")
    is_whole = any(each.state is not GateState.PENDING for each in gates)
    if is_whole:
        table.add_column("state", overflow="fold")
    for each in gates:
        until = "" if each.expires_at is None else wording.moment(each.expires_at)
        waits = "" if each.run_status is RunStatus.SUSPENDED else f" ({each.run_status})"
        cells = [
            Text(each.code[:SHOWN_CODE], "bold"),
            Text(each.run_id + (waits if each.run_status in _UNTIL_RESUMED else "")),
            Text(_what(each, shown.get(each.id))),
            Text(wording.age(now - each.asked_at)),
            Text(until),
            Text(str(decode(each.policy).get("to") or "")),
        ]
        if is_whole:
            cells.append(Text(_decided(each)))
        table.add_row(*cells)
    return table


def _what(gate: Gate, promise: Promise | None) -> str:
    """Return what a gate asks; of a question, what may be answered too."""
    if gate.kind is not GateKind.QUESTION or promise is None:
        return gate.summary
    return f"{gate.summary} ({WantedType.by(promise).words})"


_UNTIL_RESUMED = (RunStatus.PAUSED, RunStatus.DEAD)
"""A run that stands so takes decisions, and does nothing with them until it is resumed."""


def _decided(gate: Gate) -> str:
    by = f" by {gate.decided_by}" if gate.decided_by else ""
    why = f": {gate.reason}" if gate.reason else ""
    rule = f" (rule {gate.rule})" if gate.rule and not gate.decided_by else ""
    return f"{gate.state.word}{by}{rule}{why}"


def _hints(invocation: Invocation, gates: Sequence[Gate]) -> Iterator[Text]:
    open_ = [each for each in gates if each.state is GateState.PENDING]
    calls = next((each for each in open_ if each.kind == "approval"), None)
    asks = next((each for each in open_ if each.kind != "approval"), None)
    if calls is not None:
        code = calls.code[:SHOWN_CODE]
        yield Text(invocation.command("approve", code), "dim")
        yield Text(invocation.command("deny", code, "--why", "REASON"), "dim")
    if asks is not None:
        yield Text(invocation.command("answer", asks.code[:SHOWN_CODE], "VALUE"), "dim")


@dataclass(frozen=True, slots=True)
class TypedDecision:
    """A decision as it was typed."""

    #: Which gate: its short name, its id, or the run that asks.
    gate: str
    #: Why.
    why: str | None = None
    #: Who decides; who sits at the terminal, without one.
    by: str | None = None
    #: The digest of what was seen, or the beginning of it.
    digest: str | None = None

    @property
    def who(self) -> str:
        """Who decides."""
        return user() if self.by is None else self.by


async def approve(invocation: Invocation, typed: TypedDecision, edits: Sequence[str]) -> int:
    """Approve the call that a gate asks about, perhaps with other arguments."""
    async with opened(invocation) as client:
        gate = await _find(client, invocation, typed)
        await _check_kind(client, invocation, gate)
        edit = await _read_edits(client, gate, edits) if edits else None
        tools = load_tools(invocation.package) if edits else ()
        with blaming_what_was_typed():
            decided = await decisions.approve(
                client, gate, by=typed.who, edit=edit, tools=tools, why=typed.why, via=CHANNEL
            )
        root = await client.store.get(gate.root_id)
    return _report(invocation, root, *decided)


async def deny(invocation: Invocation, typed: TypedDecision) -> int:
    """Deny the call that a gate asks about."""
    async with opened(invocation) as client:
        gate = await _find(client, invocation, typed)
        await _check_kind(client, invocation, gate)
        why = typed.why or ""
        with blaming_what_was_typed():
            decided = await decisions.deny(client, gate, by=typed.who, why=why, via=CHANNEL)
        root = await client.store.get(gate.root_id)
    return _report(invocation, root, *decided)


async def answer(invocation: Invocation, typed: TypedDecision, value: str) -> int:
    """Answer the question of a gate."""
    async with opened(invocation) as client:
        gate = await _find(client, invocation, typed)
        if gate.kind is GateKind.APPROVAL:
            code = gate.code[:SHOWN_CODE]
            yes = invocation.command("approve", code)
            no = invocation.command("deny", code, "--why", "REASON")
            raise UsageError(
                f"gate {code} asks about {gate.summary}; approve or deny it: {yes}  (or {no})"
            )
        read = read_answer(value, (await read_asked(client, gate)).wanted)
        with blaming_what_was_typed():
            decided = await decisions.answer(
                client, gate, read, by=typed.who, why=typed.why, via=CHANNEL
            )
        root = await client.store.get(gate.root_id)
    return _report(invocation, root, *decided)


async def _find(client: Client, invocation: Invocation, typed: TypedDecision) -> Gate:
    """Return the gate that is meant, as somebody has seen it.

    Raises `GateNotFound` with what a run waits for in its place, or with where the gates are.
    """
    given, fact = typed.gate, ""
    try:
        gate = await find_gate(client, given)
        if gate.state is GateState.PENDING or given != gate.root_id:
            return _seen(gate, typed.digest)
    except GateNotFound as error:
        gate, fact = None, str(error)
    run = await client.store.get(RunId(given)) if may_be_id(given) else None
    if run is None:
        raise GateNotFound(f"{fact}; the open ones: {invocation.command('approvals')}")
    asked = await read_questions(client, run, await read_journal(client, run))
    signals = [each for each in asked if each.wait.promise.kind is Kind.SIGNAL]
    if signals:
        first = signals[0]
        send = answering_command(first, invocation).plain
        raise GateNotFound(
            f"run {given!r} waits for no decision, but for a signal: {question_words(first)}; to "
            f"send it: {send}"
        )
    if gate is None:
        raise GateNotFound(fact)
    return _seen(gate, typed.digest)


async def _check_kind(client: Client, invocation: Invocation, gate: Gate) -> None:
    """Refuse a yes or a no where words are asked for, with the command that gives them."""
    if gate.kind is GateKind.APPROVAL:
        return
    promise = (await client.store.promises([gate.id])).get(gate.id)
    wait = None if promise is None else wait_of(promise)
    how = "" if wait is None else answering_command(Question(gate.run_id, wait), invocation).plain
    raise UsageError(
        f"gate {gate.code[:SHOWN_CODE]} asks {gate.summary!r}; give it an answer: {how}"
    )


def _seen(gate: Gate, digest: str | None) -> Gate:
    """Return the gate, if it asks about what somebody has seen. Raises `GateChanged`."""
    if digest is not None and (len(digest) < _FEWEST or not gate.digest.startswith(digest)):
        raise GateChanged(
            f"gate {gate.code} asks about {gate.summary!r} (digest {gate.digest[:12]}), and this "
            f"decision was made for the digest {digest[:12]!r}; look at it again, and decide"
        )
    return gate


_FEWEST = 4
"""So many characters of a digest are needed: fewer would fit by chance."""


async def _read_edits(client: Client, gate: Gate, edits: Sequence[str]) -> dict[str, Any]:
    """Return arguments as they were typed, ``name=value``: JSON, or words where a text belongs."""
    fields = (await read_asked(client, gate)).wants.get("properties", {})
    found: dict[str, Any] = {}
    for each in edits:
        name, is_given, value = each.partition("=")
        if not is_given or not name.strip():
            raise UsageError(f"--edit {each!r:.100}: write NAME=VALUE, as in --edit cents=1500")
        if name in found:
            raise UsageError(f"--edit {name}= is given twice")
        if fields and name not in fields:
            raise UsageError(
                f"--edit {name}=: {gate.tool} takes no {name!r}; it takes: {', '.join(fields)}"
            )
        found[name] = read_typed(value, WantedType(fields.get(name, {})))
    return found


def _report(
    invocation: Invocation,
    root: Run | None,
    gate: Gate,
    counts: bool,  # noqa: FBT001
) -> int:
    if invocation.is_json:
        print_document({**of_gate(gate), "counts": counts})
        return 0
    already = "" if counts else " already"
    put(open_page(), f"gate {gate.code[:SHOWN_CODE]} is{already} {_decided(gate)}: {gate.summary}")
    if gate.run_status in _UNTIL_RESUMED:
        resume = invocation.command("resume", RunId(root_of(gate.run_id)))
        hint = f"run {gate.run_id} is {gate.run_status}, and goes on when it is resumed: {resume}"
    else:
        # A conversation that is resumed waits for its next message, and says nothing to anybody.
        is_talk = root is not None and is_conversation(root.function)
        again = invocation.command(*("chat", "--id") if is_talk else ("resume",), gate.root_id)
        hint = f"goes on where a worker is running; to drive it here: {again}"
    put(open_screen(), Text(hint, "dim"))
    return 0
