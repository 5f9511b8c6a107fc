"""What became of a child agent: its answer, or why it has none, with what it had found.

Invariants: a child that failed, died, was cancelled or ran out of its budget is an outcome like any
other; what it cost is known in each of them. What is read of a child is read once, and recorded.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from substrate.agent.grant import DelegateFailed, Grant
from substrate.agent.history.found import found_in
from substrate.agent.history.keys import FOUND
from substrate.agent.history.usage import summed
from substrate.agent.named_step import named_step
from substrate.agent.share import Share
from substrate.agent.task import Answer, Task
from substrate.engine.context.child import Child
from substrate.engine.context.context import Context
from substrate.engine.failure import decode_failure
from substrate.engine.function.function import Durable
from substrate.models.messages import Json, Usage
from substrate.values.codec import fingerprint
from substrate.values.errors import Misuse
from substrate.values.ids import Key, PromiseId, RunId, promise_id
from substrate.values.records import JsonText, Kind, Promise, PromiseState


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task that an agent was given as a child."""

    #: The child's run.
    run_id: str
    #: Its answer; None where its run has none. It is whole where `is_complete`.
    answer: Answer | None
    #: Why there is no whole answer, in words; empty where there is one.
    problem: str = ""
    #: What it had found, where it has no whole answer: its last words, or its tools' last results.
    found: str = ""
    #: What it and all below it have used; the cost is None where a price is not known.
    usage: Usage = field(default_factory=Usage)

    @property
    def is_complete(self) -> bool:
        """Whether it has ended because it had its answer."""
        return self.answer is not None and self.answer.is_complete

    @property
    def text(self) -> str:
        """The words of its answer; without a whole one, what it had found."""
        return self.answer.text if self.answer is not None and self.is_complete else self.found


def child_of(
    ctx: Context,
    loop: Durable[[Task], Answer],
    task: Task,
    key: Key,
    granted: Callable[[], Grant | None],
) -> Child[Answer]:
    """Prepare a child agent. Its fingerprint is its name and its task's words: no hooks.

    `granted` says what it may use when it is started.
    """
    recorded = ctx.recorded_at(key)
    known = recorded.input if recorded else None
    arguments = loop.encode_arguments((task,), {}, known=known)
    same = fingerprint(Kind.CHILD.value, loop.name, task.text)
    grant = partial(_granted, granted)
    return ctx.child(loop, arguments, key=key, fingerprint=same, grant=grant)


def _granted(granted: Callable[[], Grant | None]) -> JsonText | None:
    grant = granted()
    return None if grant is None else grant.to_json()


def outcomes_of(
    ctx: Context, loop: Durable[[Task], Answer], items: Iterable[str | Task], limit: int | None
) -> Coroutine[Any, Any, list[Outcome]]:
    """Give each item to a child as its task; return what each came to, in their order.

    The children are prepared now, as all operations are when they are called.
    """
    if isinstance(items, str):
        raise Misuse(f"the agent {loop.name!r} is given {items!r:.80}; give a list of tasks")
    tasks = [_task(item, loop.name) for item in items]
    scope = ctx.take_key(loop.name)
    grants: dict[PromiseId, Grant] = {}
    keys = [Key(f"{scope}/{i}") for i in range(len(tasks))]
    children = [
        child_of(ctx, loop, task, key, partial(grants.get, promise_id(ctx.run_id, key)))
        for task, key in zip(tasks, keys, strict=True)
    ]
    return _settled(ctx, loop, children, grants, limit)


async def _settled(
    ctx: Context,
    loop: Durable[[Task], Answer],
    children: Sequence[Child[Answer]],
    grants: dict[PromiseId, Grant],
    limit: int | None,
) -> list[Outcome]:
    known = [ctx.recorded_at(each.key) for each in children]
    share = Share.of(ctx)
    if share is None:
        rows = await ctx.settle([each.settled() for each in children], limit)
    else:
        try:
            async with share.granting([each.id for each in children], known) as given:
                grants |= given
                rows = await ctx.settle([each.settled() for each in children], limit)
        except DelegateFailed:
            for each in children:
                each.drop()  # none of them is begun: the caller is told why
            raise
    answers = [answer_in(loop, row) for row in rows]
    partial_ids = [row.id for row, each in zip(rows, answers, strict=True) if not _is_whole(each)]
    told = await _recorded(ctx, partial_ids) if partial_ids else {}
    return [
        _outcome(row, answer, told.get(row.id)) for row, answer in zip(rows, answers, strict=True)
    ]


async def outcome_of(ctx: Context, loop: Durable[[Task], Answer], row: Promise) -> Outcome:
    """Return what became of a child that has ended, read from its own journal if need be."""
    answer = answer_in(loop, row)
    return _outcome(row, answer, None if _is_whole(answer) else await _read(ctx, row.id))


def answer_in(loop: Durable[[Task], Answer], row: Promise) -> Answer | None:
    """Return the answer of a child that has ended; None where its run has none."""
    if row.state is not PromiseState.RESOLVED:
        return None
    return loop.decode_result(row.value or JsonText("null"))


def _outcome(row: Promise, answer: Answer | None, told: dict[str, Json] | None) -> Outcome:
    if answer is not None and told is None:
        return Outcome(row.id, answer, usage=answer.usage)
    told = told or {}
    usage = Usage.from_json(told["usage"]) if "usage" in told else Usage()
    found = str(told.get("found", ""))
    if answer is None:
        failure = decode_failure(row)
        why = f"{_ENDS.get(row.state, 'it failed')}: {failure.type}: {failure.message}"
        return Outcome(row.id, None, why, found, usage)
    detail = f": {answer.detail}" if answer.detail else ""
    why = f"{_REASONS.get(answer.reason, f'it ended as {answer.reason!r}')}{detail}"
    return Outcome(row.id, answer, why, answer.text.strip() or found, usage)


async def _recorded(ctx: Context, ids: Sequence[PromiseId]) -> dict[str, dict[str, Json]]:
    """Read what these children had found, and record it: a replay reads one row."""

    async def read() -> Json:
        return {each: await _read(ctx, each) for each in ids}

    step = named_step(FOUND, read, {"of": list(ids)})
    found: dict[str, dict[str, Json]] = await ctx.checkpoint(step)
    return found


async def _read(ctx: Context, id_: PromiseId) -> dict[str, Json]:
    """Return what a child had found, and what it and all below it have used. It has ended."""
    found = found_in(await ctx.journal_of(RunId(id_)))
    return {"found": found, "usage": summed(await ctx.usages_below(f"{id_}#")).to_json()}


def _task(item: object, name: str) -> Task:
    if isinstance(item, Task):
        return item
    if isinstance(item, str):
        return Task(item)
    raise Misuse(f"the agent {name!r} is given {item!r:.200}; give tasks: texts, or Task('…')")


def _is_whole(answer: Answer | None) -> bool:
    return answer is not None and answer.is_complete


_ENDS = {
    PromiseState.CANCELLED: "it was cancelled",
    PromiseState.EXPIRED: "its time was over",
}
_REASONS = {
    "budget": "it ran out of its budget",
    "max_turns": "it had no turn left",
    "refused": "it declined",
    "failed": "it failed",
    "unchecked": "its answer did not pass its checks",
}
