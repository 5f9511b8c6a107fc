"""The commands by which people decide: gates and standing rules, with their options and help."""

from typing import Annotated

import typer

from substrate.cli.commands.begin import begin
from substrate.values.number import MOST

_Gate = Annotated[
    str,
    typer.Argument(metavar="GATE", help="Its short name, its id, or the id of the run that asks."),
]
_Why = Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")]
_By = Annotated[str | None, typer.Option(metavar="NAME", help="Who decides; you, if unset.")]
_Digest = Annotated[
    str | None, typer.Option(metavar="HEX", help="Only if this is what is asked: its digest.")
]

rules = typer.Typer(
    help="Standing rules: what is allowed, asked or denied without a word each time.",
    invoke_without_command=True,
)


def approvals(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="All gates of this run's tree, decided ones too."),
    ] = None,
) -> int:
    """List what waits for a person: open gates, oldest first.

    Each with its short name, the run and where in it, what is asked, since
    when and until when, and who is asked. Gates of sub-agents are listed too.

      approvals
      approvals shop/42
    """
    from substrate.cli.act.approvals import approvals as approvals_

    return begin(approvals_, context, run)


def approve(
    context: typer.Context,
    gate: _Gate,
    *,
    edit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another argument; may be repeated."),
    ] = None,
    why: _Why = None,
    by: _By = None,
    digest: _Digest = None,
) -> int:
    """Let a call be made that waits for a person.

    No worker is needed: the next one makes the call. It counts once; who comes
    second is told what stands. With --edit the call is made with other
    arguments, checked like the model's own, and the model is told.

      approve 3f9a2c1b
      approve 3f9a2c1b --edit cents=1500 --why "half of it"
      approve shop/42
    """
    from substrate.cli.act.approvals import TypedDecision
    from substrate.cli.act.approvals import approve as approve_

    return begin(approve_, context, TypedDecision(gate, why, by, digest), edit or ())


def deny(
    context: typer.Context,
    gate: _Gate,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why: words for the model.")],
    by: _By = None,
    digest: _Digest = None,
) -> int:
    """Refuse a call that waits for a person; the model is told why.

    deny 3f9a2c1b --why "ask the customer first"
    """
    from substrate.cli.act.approvals import TypedDecision
    from substrate.cli.act.approvals import deny as deny_

    return begin(deny_, context, TypedDecision(gate, why, by, digest))


def answer(
    context: typer.Context,
    gate: _Gate,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Words, or JSON.")],
    *,
    why: _Why = None,
    by: _By = None,
    digest: _Digest = None,
) -> int:
    """Answer a question that an agent has asked.

    It is checked against what is asked for: one of the choices, a number,
    a date. Without a type, words are words.

      answer 3f9a2c1b blue
      answer 3f9a2c1b 2026-12-24
    """
    from substrate.cli.act.approvals import TypedDecision
    from substrate.cli.act.approvals import answer as answer_

    return begin(answer_, context, TypedDecision(gate, why, by, digest), value)


@rules.callback()
def rules_alone(context: typer.Context) -> int | None:
    """List the standing rules, where nothing else is said."""
    return list_rules(context) if context.invoked_subcommand is None else None


@rules.command("list")
def list_rules(context: typer.Context) -> int:
    """List the standing rules, oldest first."""
    from substrate.cli.act.rules import list_rules as list_

    return begin(list_, context)


@rules.command("add")
def add_rule(
    context: typer.Context,
    rule: Annotated[
        list[str], typer.Argument(metavar="RULE", help="VERDICT TOOL [where CONDITION]")
    ],
    *,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Until when: 7d, 2026-12-24.")
    ] = None,
    uses: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST, help="How often it may be used.")
    ] = None,
    tree: Annotated[
        str | None, typer.Option(metavar="ID", help="Only in this run and all below it.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only calls of this agent's own.")
    ] = None,
    why: _Why = None,
    by: _By = None,
) -> int:
    """Decide of calls to come: allow, ask or deny.

    Deny beats ask, and ask beats allow, in whatever order they were added. A
    rule settles no gate that is open. Conditions compare arguments:
    = != < <= > >= in starts has, joined by `and`.

      rules add "allow refund where cents < 2000" --until 30d
      rules add "deny refund where currency != EUR" --why "only euros"
      rules add allow search --tree shop/42
    """
    from substrate.cli.act.rules import NewRule
    from substrate.cli.act.rules import add_rule as add_

    return begin(add_, context, NewRule(" ".join(rule), until, uses, tree, agent, why, by))


@rules.command("remove")
def remove_rule(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="Its name, as `rules list` has it.")],
) -> int:
    """Remove a standing rule. What it has decided stands.

    rules remove 1f2e3d4c
    """
    from substrate.cli.act.rules import remove_rule as remove_

    return begin(remove_, context, rule)
