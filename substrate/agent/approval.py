"""A person is asked before a tool is called: the gate, and what its outcome makes of the call.

The order is gate, decision, intent, call, outcome. A call that has an intent or an outcome is never
asked about again, and one gate covers all of its attempts. A gate that is recorded holds, though
the hook that wanted it is gone.

Rules are judged when the call is to be made, and the deny rules once more right before its intent,
and before that of each further attempt: on the arguments that will run. They never settle a gate
that is open.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from substrate.agent.gate_request import gate_request
from substrate.agent.hook_fault import hook
from substrate.agent.notify import current_agent, current_notify, tell
from substrate.agent.policy import ALWAYS, Policy
from substrate.agent.rules import CODE, Judged, judge, judged_arguments, rule_words
from substrate.agent.shown import call_words, digest_of, shortened
from substrate.agent.tool import Tool
from substrate.agent.tool_schema import InvalidArguments
from substrate.engine.context.context import Context
from substrate.engine.context.gate import GateOutcome, GateRequest, NoUseLeft, read_gate
from substrate.engine.function.arguments import copied
from substrate.models.messages import Json, ToolCall
from substrate.values.codec import encode
from substrate.values.gates import GateKind, GateState, NewGate, Rule, RuleVerdict
from substrate.values.ids import Key, root_of
from substrate.values.records import GATE, Promise


@dataclass(frozen=True, slots=True)
class Denied:
    """A call that is not made, and what the model is told of it."""

    #: Why, in the words that the model reads.
    message: str
    #: Whether the run fails for it, and is undone.
    fails: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """A call that may be made."""

    #: The arguments that it is made with, as JSON: those that were shown, or a person's; None for
    #: the model's, where nobody was asked.
    arguments: Mapping[str, Json] | None = None
    #: Whether a person has changed them.
    is_edited: bool = False
    #: The agent that has made the call, where that was recorded: another may go on with it.
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of which a person is asked while the loop goes on."""

    #: The gate's promise.
    gate: Promise


Decided = Allowed | Denied


async def decide_call(ctx: Context, tool: Tool, checked: Mapping[str, Any]) -> Decided:
    """Say whether a call may be made: ask the rules, and a person where one is wanted.

    Args:
        ctx: A context in the scope of the call.
        tool: The tool.
        checked: The model's arguments as the tool's types.
    """
    decided = await _decided(ctx, tool, checked, None)
    assert not isinstance(decided, Asked)
    return decided


async def ask_about(
    ctx: Context, tool: Tool, checked: Mapping[str, Any], made: ToolCall
) -> Decided | Asked:
    """Do as `decide_call`, for a call `made` by the model that goes on: wait for nobody."""
    return await _decided(ctx, tool, checked, made)


async def _decided(
    ctx: Context, tool: Tool, checked: Mapping[str, Any], deferred: ToolCall | None
) -> Decided | Asked:
    policy = tool.approve
    call = _judged(ctx, tool, checked)
    # One key, however often it is tried: a call has one gate, live as on a replay.
    recorded, key = ctx.recorded(GATE), ctx.take_key(GATE)
    while True:
        if recorded is None:
            rule = judge(await _rules(ctx, policy), call)
            if rule is None:
                with hook(ctx, "tools"):
                    if policy is None or not policy.asks(checked):
                        return Allowed()
            elif rule.verdict is RuleVerdict.ALLOW and policy is None:
                return Allowed()  # nobody would have asked
        else:
            rule = None
        request = partial(_request, ctx, tool, checked, rule, deferred)
        try:
            if deferred is None:
                outcome = await ctx.gate(request, tell(current_notify()), key=key)
            else:
                gate = await ctx.ask_aside(request, tell(current_notify()), key)
                if not gate.is_settled:
                    return Asked(gate)
                outcome = read_gate(gate)
        except NoUseLeft:
            continue  # somebody else has used it up: judged again, without it
        return await _outcome(ctx, tool, outcome, checked)


def allowed_before(ctx: Context, key: Key, tool: Tool) -> Allowed:
    """Return how a call that has begun was allowed: with a gate's arguments, or the model's own.

    Args:
        ctx: The context in which the call stands.
        key: The call's key.
        tool: The tool.
    """
    gate = ctx.recorded_at(Key(f"{key}/{GATE}.0"))
    if gate is None or not gate.is_settled or gate.value is None:
        return Allowed()
    outcome = read_gate(gate)
    agent = _agent_in(outcome)
    if outcome.arguments is not None:
        return Allowed(outcome.arguments, is_edited=True, agent=agent)
    shown = outcome.shown.get("arguments")
    is_same = isinstance(shown, dict) and _makes(tool, shown)
    return Allowed(shown if is_same else None, agent=agent)


def _agent_in(outcome: GateOutcome) -> str | None:
    """Return the agent that has made a call, as its gate has it."""
    agent = outcome.shown.get("agent")
    return None if agent is None else str(agent)


async def denied_since(
    ctx: Context, tool: Tool, arguments: Mapping[str, Json], agent: str | None, failed: int
) -> Denied | None:
    """Say whether a rule denies by now what was allowed: asked before each further attempt.

    Args:
        ctx: A context of the run.
        tool: The tool.
        arguments: Those that the attempts are made with.
        agent: The agent that has made the call, where that is known.
        failed: How many attempts have failed.
    """
    rules = await _rules(ctx, tool.approve)
    if all(each.verdict is not RuleVerdict.DENY for each in rules):
        return None  # what is given is checked once an attempt, where no rule wants to see it
    try:
        call = _judged(ctx, tool, tool.check(copied(arguments)))
    except InvalidArguments:  # it takes them no more, as the attempt itself will say
        return None
    rule = _denying(rules, call, agent)
    often = "1 attempt failed" if failed == 1 else f"{failed} attempts failed"
    words = "" if rule is None else _denied_by(tool, rule, f"again after {often}")
    return Denied(words, _fails(tool)) if words else None


def _denying(rules: list[Rule], call: Judged, agent: str | None) -> Rule | None:
    # As the agent's that has made it, which may have handed the conversation over since.
    rule = judge(rules, call if agent is None else replace(call, agent=agent))
    return rule if rule is not None and rule.verdict is RuleVerdict.DENY else None


def _fails(tool: Tool) -> bool:
    """Whether a run fails where a call of this tool is denied."""
    return tool.approve is not None and tool.approve.on_denied == "fail"


def _makes(tool: Tool, shown: Mapping[str, Json]) -> bool:
    """Whether a tool makes of arguments that were shown what was shown."""
    try:
        return _is_same(tool.shown(tool.check(copied(shown))), shown)
    except InvalidArguments:
        return False


def _is_same(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether both are recorded alike: a NaN is no other NaN's equal, but its record is."""
    return encode(dict(one)) == encode(dict(other))


async def _outcome(
    ctx: Context, tool: Tool, outcome: GateOutcome, checked: Mapping[str, Any]
) -> Allowed | Denied:
    fails = _fails(tool)
    if outcome.state is GateState.EXPIRED:
        return Denied(f"{tool.name} was not called: nobody has decided in time", fails)
    if outcome.state in (GateState.DENIED, GateState.WITHDRAWN):
        return Denied(_denial(tool, outcome), fails)
    try:
        allowed, checked = _to_be_made(tool, outcome, checked)
    except InvalidArguments as error:  # the tool has changed since a person decided
        return Denied(f"{tool.name} was not called: what was approved does not fit it now: {error}")
    rules, agent = await _rules(ctx, tool.approve), _agent_in(outcome)
    denying = _denying(rules, _judged(ctx, tool, checked), agent)
    if denying is not None:
        return Denied(_denied_by(tool, denying), fails)
    return replace(allowed, agent=agent)


def _to_be_made(
    tool: Tool, outcome: GateOutcome, checked: Mapping[str, Any]
) -> tuple[Allowed, Mapping[str, Any]]:
    """Return a call as it was approved, and its arguments as the tool's types.

    What was shown is what runs: a default, or a type's own check, may give others by now, and not
    only after a deploy. Raises `InvalidArguments` where the tool makes something else of them.
    """
    if outcome.arguments is not None:
        return Allowed(outcome.arguments, is_edited=True), tool.check(outcome.arguments)
    shown = outcome.shown.get("arguments")
    if not isinstance(shown, dict):  # a gate of another form, written by hand
        return Allowed(), checked
    if _makes(tool, shown):
        return Allowed(shown), tool.check(copied(shown))
    if _is_same(tool.shown(checked), shown):  # its types do not read what they write
        return Allowed(), checked
    raise InvalidArguments(f"it would be called with {call_words(tool.name, tool.shown(checked))}")


def _denial(tool: Tool, outcome: GateOutcome) -> str:
    if outcome.state is GateState.WITHDRAWN:
        return f"{tool.name} was not called: it was withdrawn before anybody decided"
    if outcome.rule is not None and outcome.by is None:
        return f"{tool.name} was not called: a standing rule denies it (rule {outcome.rule})"
    why = f": {outcome.reason}" if outcome.reason else ""
    return f"{tool.name} was not called: {outcome.by or 'a person'} denied it{why}"


def _denied_by(tool: Tool, rule: Rule, again: str = "") -> str:
    why = f": {rule.reason}" if rule.reason else ""
    called = f"{tool.name} was not called {again}".rstrip()
    return f"{called}: a standing rule denies it ({rule_words(rule)}){why}"


def _request(
    ctx: Context,
    tool: Tool,
    checked: Mapping[str, Any],
    rule: Rule | None,
    deferred: ToolCall | None,
) -> GateRequest:
    policy = tool.approve or ALWAYS
    with hook(ctx, "tools"):
        summary = policy.summed_up(checked)
    shown = tool.shown(checked)
    # By these a row tells that its call is deferred, and whoever reads it what the model was told.
    # The mark is drawn at random: nobody else can begin a message with it.
    more: dict[str, Json] = {}
    if deferred is not None and (rule is None or rule.verdict is RuleVerdict.ASK):
        more = {"call_id": deferred.id, "mark": secrets.token_hex(4)}
    asked = gate_request(
        GateKind.APPROVAL,
        tool.name,
        summary=call_words(tool.name, shown) if summary is None else shortened(summary),
        digest=digest_of(tool.name, shown),
        policy=policy,
        shown={
            "agent": current_agent() or ctx.execution.claim.run.function,
            "arguments": dict(shown),
            "effect": tool.effect.value,
            "wants": tool.spec.parameters,
            **more,
        },
    )
    return asked if rule is None else replace(asked, gate=_by_rule(asked.gate, rule))


def _by_rule(gate: NewGate, rule: Rule) -> NewGate:
    """Return a gate that a rule decides at once, or wants asked."""
    takes_use = _is_row(rule) and rule.verdict is RuleVerdict.ALLOW
    return replace(gate, state=_STATES[rule.verdict], rule=rule_name(rule), uses_rule=takes_use)


_STATES: Mapping[RuleVerdict, GateState] = {
    RuleVerdict.ALLOW: GateState.AUTO_APPROVED,
    RuleVerdict.ASK: GateState.PENDING,
    RuleVerdict.DENY: GateState.DENIED,
}


def rule_name(rule: Rule) -> str:
    """Return what a gate calls a rule: its id; one that stands in code has none, and is written."""
    return rule.id if _is_row(rule) else rule_words(rule)


def _is_row(rule: Rule) -> bool:
    return rule.created_by != CODE


def _judged(ctx: Context, tool: Tool, checked: Mapping[str, Any]) -> Judged:
    run = ctx.execution.claim.run
    return Judged(
        tool=tool.name,
        arguments=judged_arguments(checked),
        root_id=root_of(run.id),
        agent=current_agent() or run.function,
        now=ctx.execution.now_ms,
    )


async def _rules(ctx: Context, policy: Policy | None) -> list[Rule]:
    return [*(policy.own_rules if policy else ()), *await ctx.rules()]
