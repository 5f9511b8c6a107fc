"""What people do with open gates: find them, approve, edit, deny, answer. Over any channel.

A decision is made for what was shown: it carries the digest of the gate that it was made for. It
counts once; whoever comes second is told what stands. Neither a worker nor the agent's code need be
there, but edited arguments are checked by the tool's own types where the tools are given.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from substrate.agent.rules import Judged, judge, judged_arguments, judged_by_schema, rule_words
from substrate.agent.tool import Tool, as_tool
from substrate.agent.tool_schema import InvalidArguments
from substrate.engine.client import Client
from substrate.engine.context.gate import GateOutcome
from substrate.engine.context.wanted_type import WantedType
from substrate.values.codec import decode
from substrate.values.errors import GateNotFound, Misuse
from substrate.values.gates import CODE_LENGTH, Decision, Gate, GateKind, GateState, RuleVerdict
from substrate.values.ids import PromiseId, RunId, may_be_id, root_of
from substrate.values.records import JsonText, Promise
from substrate.values.secret import hidden_in

Tools = Iterable[Tool | Callable[..., Any]]

_FEWEST = 4
"""So many characters of a gate's short name are needed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An open gate with what it shows."""

    #: Its row.
    gate: Gate
    #: The arguments of the call, as JSON; empty for a question.
    arguments: Mapping[str, Any]
    #: The JSON Schema of the arguments, or of the answer.
    wants: Mapping[str, Any]
    #: What is asked, where it is a question.
    question: str | None
    #: The agent that makes the call.
    agent: str = ""

    @property
    def wanted(self) -> WantedType:
        """What the answer is to be."""
        return WantedType(self.wants)


async def find_gate(client: Client, given: str) -> Gate:
    """Return the gate that somebody means.

    Args:
        client: The open store.
        given: Its id; its short name, or the first four characters or more of it; or the id of a
            run of whose tree one gate is open. Where that has none open any more, it is the one
            decided last: a decision on it is told what stands.

    Raises:
        GateNotFound: there is none, or there are several: the message lists them.
    """
    if not may_be_id(given):
        raise GateNotFound(f"{given!r:.100} is no id of a gate")
    gates = client.store.gates
    if found := await gates.get(PromiseId(given)):
        return found
    if _FEWEST <= len(given) <= CODE_LENGTH and given.isalnum():
        named = list(await gates.by_code(given))
        if named and await client.store.get(RunId(given)) is not None:
            named += await gates.pending_below(RunId(given))
        pending = [each for each in named if each.state is GateState.PENDING]
        if len(named) == 1 or len(pending) == 1:
            return (pending or named)[0]
        if named:
            raise GateNotFound(f"{given!r} begins several: {_listed(named)}; give more of it")
    if await client.store.get(RunId(given)) is not None:
        root = await gates.pending_below(RunId(given))
        if len(root) == 1:
            return root[0]
        if root:
            raise GateNotFound(f"run {given!r} has several open gates: {_listed(root)}; name one")
        decided = [each for each in await gates.of_tree(root_of(given)) if each.is_of(given)]
        if decided:
            return max(decided, key=lambda each: each.decided_at or each.asked_at)
        raise GateNotFound(f"run {given!r} asks nobody for a decision just now")
    if len(given) < _FEWEST:
        raise GateNotFound(
            f"{given!r} is too short: give {_FEWEST} characters of a gate's short name, or more"
        )
    raise GateNotFound(f"no gate has the id {given!r}, and no run")


def _listed(gates: Iterable[Gate]) -> str:
    return ", ".join(f"{each.code} ({each.summary}, {each.state})" for each in list(gates)[:10])


async def read_asked(client: Client, gate: Gate) -> Asked:
    """Return what a gate shows, read from its promise."""
    promise = await _promise(client, gate)
    shown: dict[str, Any] = decode(promise.input or JsonText("{}"))
    return Asked(
        gate,
        arguments=shown.get("arguments") or {},
        wants=shown.get("wants") or {},
        question=shown.get("question"),
        agent=str(shown.get("agent", "")),
    )


async def _promise(client: Client, gate: Gate) -> Promise:
    found = (await client.store.promises([gate.id])).get(gate.id)
    if found is None:
        raise GateNotFound(f"the promise {gate.id!r} of gate {gate.code} is gone")
    return found


async def approve(
    client: Client,
    gate: Gate,
    *,
    by: str,
    edit: Mapping[str, Any] | None = None,
    tools: Tools = (),
    why: str | None = None,
    via: str = "code",
) -> tuple[Gate, bool]:
    """Let the call that a gate asks about be made, perhaps with other arguments.

    Args:
        client: The open store.
        gate: The gate, as it was looked at: its digest is what the decision is made for.
        by: Who decides.
        edit: Arguments that take the place of the model's, by name; the others stay.
        tools: The agent's tools. With the gate's own among them, edited arguments are checked as
            the model's are; without, by the schema that was recorded.
        why: Why, for the record.
        via: Over which channel.

    Returns:
        The gate as it stands, and whether this decision counts; see `Client.decide`.

    Raises:
        Misuse: the gate asks for an answer, an edit does not fit or holds a secret that was
            revealed, or a standing rule denies what would run. Nothing was decided.
        GateClosed: it was decided already.
        GateChanged: the digest is that of something else.
    """
    _check_is_call(gate)
    asked = await read_asked(client, gate)
    known = {tool.name: tool for tool in map(as_tool, tools)}
    tool = known.get(gate.tool)
    edited = dict(edit) if edit else None
    will_run = {**asked.arguments, **(edited or {})}
    checked = _checked(gate, asked, tool, will_run) if edited else will_run
    _check_answers(gate, asked.wants if tool is None else tool.spec.parameters, edited or {})
    await _check_rules(client, asked, checked)
    state = GateState.APPROVED if edited is None else GateState.EDITED
    outcome = GateOutcome(state, by=by, via=via, reason=why, arguments=will_run if edited else None)
    return await client.decide(_decision(gate, outcome))


async def deny(
    client: Client, gate: Gate, *, by: str, why: str, via: str = "code"
) -> tuple[Gate, bool]:
    """Refuse the call that a gate asks about; the model is told why.

    Args:
        client: The open store.
        gate: The gate, as it was looked at.
        by: Who decides.
        why: Why: words for the model.
        via: Over which channel.

    Raises:
        Misuse: there is no reason, or the gate asks for an answer. Nothing was decided.
        GateClosed: it was decided already.
    """
    _check_is_call(gate)
    if not why.strip():
        raise Misuse("a denial needs a reason: the model is told, and does something else then")
    return await client.decide(
        _decision(gate, GateOutcome(GateState.DENIED, by=by, via=via, reason=why))
    )


async def answer(
    client: Client,
    gate: Gate,
    value: Any,
    *,
    by: str,
    why: str | None = None,
    via: str = "code",
) -> tuple[Gate, bool]:
    """Answer the question of a gate.

    Args:
        client: The open store.
        gate: The gate, as it was looked at.
        value: JSON of the type that is asked for.
        by: Who answers.
        why: Why, for the record.
        via: Over which channel.

    Raises:
        Misuse: the gate asks for no answer, or the value does not fit, as it is or without the
            secrets in it that were revealed. Nothing was decided.
        GateClosed: it was decided already.
    """
    if gate.kind is GateKind.APPROVAL:
        raise Misuse(
            f"gate {gate.code} asks whether {gate.summary} may be called; approve or deny it"
        )
    wanted = (await read_asked(client, gate)).wanted
    if problem := wanted.refusal(value):
        raise Misuse(f"gate {gate.code} asks for {wanted.words}: {problem}")
    if (masked := hidden_in(value)) is not value and wanted.refusal(masked):
        raise Misuse(
            "nothing was decided: the answer holds a secret that was revealed, and is recorded "
            f"without it; so it would not be {wanted.words}"
        )
    outcome = GateOutcome(GateState.ANSWERED, by=by, via=via, reason=why, answer=value)
    return await client.decide(_decision(gate, outcome))


def _check_is_call(gate: Gate) -> None:
    """Refuse a yes or a no where words are asked for."""
    if gate.kind is not GateKind.APPROVAL:
        raise Misuse(f"gate {gate.code} asks {gate.summary!r}; give it an answer")


def _decision(gate: Gate, outcome: GateOutcome) -> Decision:
    assert outcome.by is not None
    assert outcome.via is not None
    if not outcome.by.strip():
        raise Misuse("by='' decides nothing: say who")
    return Decision(
        gate_id=gate.id,
        digest=gate.digest,
        state=outcome.state,
        value=outcome.value,
        by=outcome.by,
        via=outcome.via,
        reason=outcome.reason,
    )


def _checked(
    gate: Gate, asked: Asked, tool: Tool | None, will_run: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return edited arguments as they will be judged. Raises `Misuse` where they do not fit."""
    names = asked.wants.get("properties", {})
    if strange := [each for each in will_run if names and each not in names]:
        raise Misuse(f"{gate.tool} takes no {strange[0]!r}; there are: {', '.join(names)}")
    if tool is None:
        if problem := asked.wanted.refusal(dict(will_run)):
            raise Misuse(f"the edited arguments do not fit {gate.tool}: {problem}")
        return will_run
    try:
        checked: Mapping[str, Any] = judged_arguments(tool.check(will_run))
    except InvalidArguments as error:
        raise Misuse(f"nothing was decided: {error}") from None
    return checked


def _check_answers(gate: Gate, wants: Mapping[str, Any], edited: Mapping[str, Any]) -> None:
    """Refuse what a person may not answer: true for a number, a word that is no yes or no.

    pydantic would make a number, or a yes, of it. All else is the types' to say.
    """
    fields = wants.get("properties", {})
    for name, value in edited.items():
        wanted = WantedType({**fields.get(name, {}), "$defs": wants.get("$defs", {})})
        is_of_answers = isinstance(value, bool) or wanted.is_bool
        if is_of_answers and (problem := wanted.refusal(value)):
            raise Misuse(
                f"the edited arguments do not fit {gate.tool}: {name}: {problem}; it takes "
                f"{wanted.words}"
            )


async def _check_rules(client: Client, asked: Asked, arguments: Mapping[str, Any]) -> None:
    """Refuse an approval of what a standing rule denies: it would not be made."""
    gate, now = asked.gate, client.store.clock.now_ms()
    judged = judged_by_schema(arguments, asked.wants)
    call = Judged(gate.tool, judged, gate.root_id, asked.agent, now)
    rule = judge(await client.store.gates.rules(), call)
    if rule is not None and rule.verdict is RuleVerdict.DENY:
        raise Misuse(
            f"the standing rule {rule.id} ({rule_words(rule)}) denies {gate.summary}; remove it "
            "first, or deny the gate"
        )
