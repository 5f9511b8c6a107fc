"""`rules`: what people decide of calls to come, listed, added and removed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from substrate.agent.rule_condition import RuleCondition
from substrate.agent.rule_types import misfit
from substrate.agent.rules import limited, read_rule, rule_words
from substrate.agent.tool import Tool
from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.errors import UsageError, blaming_what_was_typed
from substrate.cli.fork import load_tools
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_rule, print_document
from substrate.cli.moments import Moment
from substrate.cli.screen import open_page, open_screen, put
from substrate.cli.user import user
from substrate.values.gates import Rule, RuleVerdict
from substrate.values.near import did_you_mean


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule as it was typed."""

    #: ``allow refund where cents < 2000``.
    text: str
    #: Until when: ``7d``, or a date.
    until: str | None = None
    #: How often it may be used.
    uses: int | None = None
    #: In which run's tree alone.
    tree: str | None = None
    #: Of which agent's own calls alone.
    agent: str | None = None
    #: Why.
    why: str | None = None
    #: Who adds it.
    by: str | None = None


async def list_rules(invocation: Invocation) -> int:
    """Print the rules."""
    async with opened(invocation) as client:
        found = await client.store.gates.rules()
        now = client.store.clock.now_ms()
    if invocation.is_json:
        print_document({"rules": [of_rule(each) for each in found]})
    elif not found:
        put(open_screen(), Text("there are no standing rules", "dim"))
    else:
        put(open_page(), _table(found, now))
    return 0


def _table(rules: Iterable[Rule], now: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("rule", "says", "only", "until", "by", "why"):
        table.add_column(name, overflow="fold")
    for each in rules:
        style = "dim" if _is_over(each, now) else ""
        cells = (each.id, rule_words(each), _only(each), _until(each, now), each.created_by)
        table.add_row(*(Text(cell, style) for cell in cells), Text(each.reason or "", "dim"))
    return table


def _is_over(rule: Rule, now: int) -> bool:
    return rule.uses_left == 0 or (rule.expires_at is not None and rule.expires_at <= now)


def _only(rule: Rule) -> str:
    tree = f"in {rule.root_id}" if rule.root_id else ""
    agent = f"of {rule.agent}" if rule.agent else ""
    return " ".join(filter(None, (tree, agent)))


def _until(rule: Rule, now: int) -> str:
    uses = "" if rule.uses_left is None else f"{wording.count(rule.uses_left, 'use')} left"
    end = "" if rule.expires_at is None else wording.moment(rule.expires_at)
    over = " (over)" if _is_over(rule, now) else ""
    return ", ".join(filter(None, (uses, end))) + over


async def add_rule(invocation: Invocation, new: NewRule) -> int:
    """Add a rule. It settles no open gate."""
    async with opened(invocation) as client:
        now = client.store.clock.now_ms()
        with blaming_what_was_typed():
            rule = read_rule(new.text, by=new.by or user(), now=now)
            rule = limited(rule, uses=new.uses, lasts=None)
        check_known(rule, load_tools(invocation.package))
        rule = replace(rule, agent=new.agent, reason=new.why)
        if new.until is not None:
            rule = replace(rule, expires_at=_moment(new.until, now))
        if new.tree is not None:
            rule = replace(rule, root_id=(await client.get(new.tree)).root_id)
        await client.store.gates.add_rule(rule)
    if invocation.is_json:
        print_document(of_rule(rule))
        return 0
    put(open_page(), f"rule {rule.id} stands: {rule_words(rule)}")
    put(
        open_screen(),
        Text(f"to remove it: {invocation.command('rules', 'remove', rule.id)}", "dim"),
    )
    return 0


def _moment(text: str, now: int) -> int:
    moment = Moment.read("--until", text)
    # ``7d`` means seven days from now here, and not ago.
    at = now + moment.ago if moment.ago is not None else moment.fixed
    if at <= now:
        raise UsageError(f"--until {text!r:.100} has passed already")
    return at


_NEVER_JUDGED = {
    RuleVerdict.ALLOW: "let nothing through",
    RuleVerdict.ASK: "ask about every call",
    RuleVerdict.DENY: "deny every call",
}
"""What a rule does whose comparison cannot be made."""


def check_known(rule: Rule, tools: Iterable[Tool]) -> None:
    """Refuse a rule of a tool, or of an argument, that there is not: it would never be used."""
    known = {tool.name: tool for tool in tools}
    if "*" not in rule.tool and rule.tool not in known:
        there = ", ".join(sorted(known)) or "none"
        near = did_you_mean(rule.tool, known)
        raise UsageError(f"no tool here is called {rule.tool!r}{near}; there are: {there}")
    if rule.tool not in known:
        return
    hints = {
        str(each.alias): each.annotation
        for each in known[rule.tool].arguments.model_fields.values()
    }
    fields, condition = list(hints), RuleCondition.parse(rule.condition)
    strange = sorted(condition.fields().difference(fields))
    if strange:
        raise UsageError(
            f"{rule.tool} takes no {strange[0]!r}{did_you_mean(strange[0], fields)}; it takes: "
            f"{', '.join(fields) or 'nothing'}"
        )
    for each in condition.comparisons:
        if problem := misfit(each, hints[each.field.partition(".")[0]]):
            raise UsageError(f"{problem[0]}: it would {_NEVER_JUDGED[rule.verdict]}{problem[1]}")


async def remove_rule(invocation: Invocation, rule_id: str) -> int:
    """Remove a rule."""
    async with opened(invocation) as client:
        found = await client.store.gates.rules()
        named = [each for each in found if each.id.startswith(rule_id)]
        if len(named) != 1:
            what = "several begin so" if named else "there is none"
            raise UsageError(
                f"no rule {rule_id!r:.100} was removed: {what}; "
                f"all of them: {invocation.command('rules', 'list')}"
            )
        await client.store.gates.remove_rule(named[0].id)
    if invocation.is_json:
        print_document(of_rule(named[0]))
        return 0
    put(open_page(), f"rule {named[0].id} is removed: {rule_words(named[0])}")
    return 0
