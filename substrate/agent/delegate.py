"""`delegate`: another agent as a tool. The model gives it a task, and gets its answer.

Its run is a child, ``tools.n/<tool>.k/<agent name>.0``, then ``.1`` where it is tried again: with a
lease, a journal and a failure of its own, and a grant within its parent's budget (see `share`).

Invariants: what becomes of the child is a result for the parent's model, whatever that is; the
row of the call keeps it. What the child has used is in the parent's budget.
"""

import inspect
from functools import partial
from types import ModuleType
from typing import Annotated

from pydantic import Field

from substrate.agent.agent import Agent, durable_of
from substrate.agent.ended import CUT_OFF
from substrate.agent.grant import DelegateFailed
from substrate.agent.history.result import CallDeniedForGood
from substrate.agent.loop import Hooks
from substrate.agent.outcome import Outcome, child_of, outcome_of
from substrate.agent.policy import Approve
from substrate.agent.share import Share
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, tool
from substrate.engine.context.child import MAX_DEPTH
from substrate.engine.context.context import Context
from substrate.engine.failure import error_of_run
from substrate.engine.function.function import Durable
from substrate.models.messages import Json
from substrate.values.errors import Misuse, RunCancelled
from substrate.values.ids import Key, promise_id
from substrate.values.number import is_whole
from substrate.values.records import Promise, PromiseState
from substrate.values.retry import NO_RETRY, Retry

DEPTH = 8
"""How deep agents may stand below each other, if not told otherwise."""

TaskWords = Annotated[str, Field(description="What it is to do, with all that it needs to know.")]


def delegate(
    agent: Agent | ModuleType | Hooks,
    *,
    name: str | None = None,
    description: str | None = None,
    retry: Retry | None = None,
    max_depth: int = DEPTH,
    approve: Approve | None = None,
) -> Tool:
    """Make a tool of another agent: the model gives it a task in words, and gets its answer.

    The agent works as a child run, and what is left of the caller's budget is divided evenly among
    the calls of the turn that may start one: a child ends, with what it has, when its part is used
    up. One that fails, dies, is cancelled or has no whole answer is an error result, with what it
    had found.

    Args:
        agent: An `Agent`, or a module of hooks that says its `name`.
        name: What the model calls it; the agent's name, if not told otherwise.
        description: What the model chooses it by; a module's docstring, if not told otherwise.
        retry: How it is tried again, each time with a fresh child, where its run fails or dies, or
            no model gives what it is asked for; one child, if not told otherwise. What a person,
            or a rule, has denied is not tried again.
        max_depth: How deep agents may stand below each other; one that would stand deeper is not
            started, and the model is told.
        approve: Whether a person is asked before each child, as for any tool: see `tool`.

    Raises:
        Misuse: it is no agent with a name of its own, there is no description, or an option is
            none.

    Example:
        >>> owls = Agent("owls", "Count.", Model("scripted:owls", script=["Two owls."]))
        >>> count = delegate(owls, description="Have owls counted.")
        >>> count.name, list(count.spec.parameters["properties"])
        ('owls', ['task'])
    """
    loop = durable_of(agent)
    _check_options(loop.name, retry, max_depth)
    words = _description(agent, loop.name, description)
    tries = retry or NO_RETRY

    async def hand_over(ctx: Context, task: TaskWords) -> Json:
        share = Share.of(ctx)
        given = Task(task, timezone=share.timezone if share else None)
        n = 0
        while True:
            n += 1
            key = ctx.take_key(loop.name)
            row = await _child(ctx, loop, given, key, max_depth)
            outcome = await outcome_of(ctx, loop, row)
            if outcome.is_complete and outcome.answer is not None:
                answer = outcome.answer
                if answer.value is None and answer.detail.startswith(CUT_OFF):
                    return f"{answer.text}\n\n({CUT_OFF}: what follows is missing)"
                return answer.text if answer.value is None else answer.value
            failed = _failed(loop.name, outcome, n)
            error = _error(row, failed)
            if not tries.allows(error, n) or not _may_help(row, outcome):
                raise failed
            if pause := tries.delay(error, n, ctx.random):
                await ctx.sleep(pause)

    called = loop.name if name is None else name
    return tool(name=called, description=words, approve=approve)(hand_over)


def _check_options(name: str, retry: Retry | None, max_depth: int) -> None:
    if retry is not None and not isinstance(retry, Retry):
        raise Misuse(f"delegate({name!r}): retry={retry!r} is no Retry; write Retry(…)")
    if not is_whole(max_depth) or not 1 <= max_depth <= MAX_DEPTH:
        raise Misuse(f"delegate({name!r}): max_depth={max_depth!r} is none; give 1 to {MAX_DEPTH}")


def _description(agent: object, name: str, given: str | None) -> str:
    """Return what the model chooses a sub-agent by: what is given, or a module's docstring."""
    words = given or (inspect.getdoc(agent) if isinstance(agent, ModuleType) else None)
    if not words:
        raise Misuse(
            f"delegate({name!r}) has no description; say what it is good for, since the model "
            'chooses tools by that: delegate(…, description="…")'
        )
    return words


async def _child(
    ctx: Context, loop: Durable[[Task], Answer], task: Task, key: Key, max_depth: int
) -> Promise:
    """Start a child, or find the one that was started; return its row once it has ended."""
    share, known, id_ = Share.of(ctx), ctx.recorded_at(key), promise_id(ctx.run_id, key)
    if known is None and ctx.run_id.count("#") >= max_depth:
        raise DelegateFailed(
            f"{loop.name!r} was not asked: agents stand {max_depth} deep here, and that is the "
            "limit; do it yourself"
        )
    if share is None:
        return await child_of(ctx, loop, task, key, lambda: None).settled()
    try:
        async with share.granting([id_], [known]) as grants:
            return await child_of(ctx, loop, task, key, partial(grants.get, id_)).settled()
    except DelegateFailed as error:
        raise DelegateFailed(f"{loop.name!r} was not asked: {error}") from None


def _failed(name: str, outcome: Outcome, tries: int) -> DelegateFailed:
    """Return what the model is told, and the call's row keeps, of a child without an answer."""
    often = f" ({tries} tries, the last:)" if tries > 1 else ""
    found = f"\nWhat it had found: {outcome.found}" if outcome.found else "\nIt had found nothing."
    reason = outcome.answer.reason if outcome.answer else "failed"
    details = {"run": outcome.run_id, "reason": reason, "found": outcome.found}
    return DelegateFailed(f"{name!r} has no answer{often}: {outcome.problem}{found}", details)


def _error(row: Promise, failed: DelegateFailed) -> Exception:
    return failed if row.state is PromiseState.RESOLVED else error_of_run(row)


def _may_help(row: Promise, outcome: Outcome) -> bool:
    """Whether a fresh child may do better: not than one that was stopped, or used what it had.

    Nor where a person's denial has failed it: nobody is asked again for what they have denied.
    """
    if outcome.answer is not None:
        return outcome.answer.reason in ("failed", "unchecked")
    error = error_of_run(row)
    was_denied = error.failure.type == CallDeniedForGood.__name__
    return not was_denied and not isinstance(error, RunCancelled)
