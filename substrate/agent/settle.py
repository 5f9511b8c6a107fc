"""`settle`: has a person or a judge decide what sources disagree on, as the policy says.

What was asked, what was answered and what was decided are rows of the run, so a replay asks nobody
again. Where somebody says something else meanwhile, says it no more, or decides first, it looks
again.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import FunctionType, MethodType
from typing import Any

from substrate.agent.ask_human import answered_by
from substrate.agent.shown import shortened
from substrate.engine.context.context import Context
from substrate.engine.context.operation_types import Operation
from substrate.engine.function.function import Durable
from substrate.memory.disputes import Decision, Dispute
from substrate.values.codec import encode
from substrate.values.errors import MemoryRefused, Misuse
from substrate.values.memory import Policy

Claim = dict[str, Any]
"""What some say: its `value`, how sure they are (`confidence`), and who (`sources`)."""

Judge = Callable[[list[Claim]], int | Awaitable[int]]
"""Is given all that is said, and returns which is right, counted from 0."""

_MANY = 100  # times that others say something else meanwhile
_LONGEST = 80  # characters of a choice


def settle(
    ctx: Context,
    namespace: str,
    subject: str,
    predicate: str,
    *,
    judge: Judge | Durable[..., Any] | None = None,
    to: str = "",
    timeout: timedelta | None = None,
    remind: Sequence[timedelta] = (),
) -> Operation[Decision | None]:
    """Decide what sources disagree on; return what was decided, None where nobody is asked.

    Where the predicate was declared as ``ask``, a person is asked, and chooses one of the values:
    it waits, for days if need be. Where it was declared as ``judge``, the judge is. What is decided
    already is not asked again. Where something else was said meanwhile, or is said no more, that is
    asked anew; None, too, where nobody disagrees any more.

    Args:
        ctx: The context of a durable function.
        namespace: Where it lies.
        subject: Of whom or what.
        predicate: What is said.
        judge: A function, called as a step, or a durable function, that is given what is said and
            returns which is right: a model's judgement, say. The decision has its name.
        to: Which person is asked: it is shown, and told.
        timeout: After how long nobody is waited for any more; for ever, without one.
        remind: After how long people are told again, once for each.

    Raises:
        NoAnswer: nobody has answered in time.
        MemoryRefused: a judge is to decide, and none is given, or he names none of the values.
    """
    if not isinstance(judge, Durable | FunctionType | MethodType | None):
        raise Misuse(f"judge={judge!r:.100} is none; give a function of what is said")
    asks = {"to": to, "timeout": timeout, "remind": remind}

    async def settle(ctx: Context, namespace: str, subject: str, predicate: str) -> Decision | None:
        for _ in range(_MANY):
            dispute = await ctx.memory(namespace).dispute(subject, predicate)
            if dispute is None or dispute.decision is not None:
                return None if dispute is None else dispute.decision
            if not dispute.policy.is_told:
                return None  # of a vote that has not enough votes nobody else is asked
            if dispute.policy is Policy.ASK:
                which, by = await _by_person(ctx, dispute, asks)
                memory = ctx.memory(namespace, trust="user")
            else:
                which, by = await _by_judge(ctx, dispute, judge)
                memory = ctx.memory(namespace)
            decide = memory.decide(dispute, which, by=by)
            # Refused is what nobody says any more, or nobody is asked any more: that is seen above.
            with suppress(MemoryRefused):
                if (decision := await decide) is not None:
                    return decision
        raise MemoryRefused(f"{subject!r:.200} {predicate!r:.200} never stays as it was seen")

    return ctx.call(Durable(settle, "settle"), namespace, subject, predicate)


async def _by_person(ctx: Context, dispute: Dispute, asks: dict[str, Any]) -> tuple[Any, str]:
    """Return the value that a person has chosen, and who that is."""
    choices = _choices(dispute)
    told = [
        f"{choice} ({', '.join(fact.sources)}; {fact.confidence:g})"
        for choice, fact in zip(choices, dispute.facts, strict=True)
    ]
    question = f"{dispute.subject} {dispute.predicate}: which is right? {' or '.join(told)}"
    answer, by = await answered_by(ctx, question, choices, **asks)
    return dispute.facts[choices.index(answer)].object, by


def _choices(dispute: Dispute) -> list[str]:
    """Return what can be answered: the values, numbered where they are long or look alike."""
    texts = [
        fact.object if isinstance(fact.object, str) else encode(fact.object)
        for fact in dispute.facts
    ]
    short = [shortened(text)[:_LONGEST] for text in texts]
    if short == texts and len(set(texts)) == len(texts):
        return short
    return [f"{i}: {text}" for i, text in enumerate(short, 1)]


async def _by_judge(
    ctx: Context, dispute: Dispute, judge: Judge | Durable[..., Any] | None
) -> tuple[Any, str]:
    """Return the value that the judge has chosen, and his name."""
    if judge is None:
        raise MemoryRefused(
            f"{dispute.predicate!r} is declared as 'judge', and settle() is given none; give it "
            "judge=, or declare the predicate as 'ask'"
        )
    said = [
        {
            "value": fact.object,
            "confidence": fact.confidence,
            "sources": list(fact.sources),
        }
        for fact in dispute.facts
    ]
    name = judge.name if isinstance(judge, Durable) else getattr(judge, "__name__", "judge")
    if isinstance(judge, Durable):
        which = await ctx.call(judge, said)
    else:
        which = await ctx.step(judge, said, name="judge")
    if type(which) is not int or not 0 <= which < len(said):
        raise MemoryRefused(
            f"the judge {name!r} has answered {which!r:.100}; which of {len(said)} values is "
            "right, counted from 0, is a number"
        )
    return dispute.facts[which].object, name
