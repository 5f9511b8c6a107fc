"""What a run and everything below it may use, and what happens when that is nearly used up.

==========  =====================================================================================
mode        when it is nearly used up
==========  =====================================================================================
hard        the loop ends, with room kept for one last call
soft        the model is told so, once, and the loop goes on
adaptive    before that, what was said so far is summed up, so that what follows costs less; when it
            is nearly used up all the same, the loop ends
==========  =====================================================================================

Invariants: pure, so the same on every replay; a price that is not known is never taken for 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from substrate.agent.end import Advice, End, EndReason, Measure, Stop, Verdict
from substrate.agent.transcript import Transcript
from substrate.models.messages import Reply, Usage
from substrate.values.errors import Misuse
from substrate.values.number import is_amount, is_whole

Mode = Literal["hard", "soft", "adaptive"]

FEW_CALLS = 8
"""Fewer calls left than this, of the present size, are a reason to make them smaller."""

WORTH_TURNS = 3
"""How many turns there must have been since the last summary to make another worth its price."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit of a budget."""

    #: The most that may be used.
    most: Decimal
    #: How much of it a usage is; None where nobody knows.
    amount: Callable[[Usage], Decimal | None]
    #: How an amount reads.
    describe: Callable[[Decimal], str]


def budget(
    *, usd: float | Decimal | None = None, tokens: int | None = None, mode: Mode = "hard"
) -> Stop:
    """Keep a run, and every run below it, within so many dollars or tokens, in and out.

    The loop ends when there is no room for one more turn and, after it, one last call without
    tools; the run returns what it has and says why. Each is taken to be as large as the largest
    so far, and to grow as the last one did. So only a call that grows faster, or a child, can
    exceed the budget: what a child uses counts once the tool that started it has ended. With
    ``mode="soft"`` the model is warned instead, once; with ``mode="adaptive"`` what was said is
    summed up before, to make room.

    Args:
        usd: US dollars. A model whose price is not known ends such a budget at once, since nobody
            could keep it: limit `tokens` there, or give the model its `price`.
        tokens: Tokens, read and written.
        mode: ``"hard"``, ``"soft"`` or ``"adaptive"``.

    Raises:
        Misuse: a budget of nothing, an amount that is none, or a mode that there is not.

    Example:
        >>> stop = any_of(answered(), budget(usd=0.50, tokens=200_000))
    """
    if usd is None and tokens is None:
        raise Misuse("budget() limits nothing; give usd= or tokens=")
    if usd is not None and (not is_amount(usd) or usd <= 0):
        raise Misuse(f"usd={usd!r:.60} must be a number of dollars above 0; write usd=0.50")
    if tokens is not None and (not is_whole(tokens) or tokens < 1):
        raise Misuse(f"tokens={tokens!r:.60} must be a whole number above 0; write tokens=200_000")
    if mode not in ("hard", "soft", "adaptive"):
        raise Misuse(f"mode={mode!r} is none; write 'hard', 'soft' or 'adaptive'")
    limits = [*([] if usd is None else [_dollars(usd)]), *([] if tokens is None else [_of(tokens)])]

    def stop(transcript: Transcript) -> Verdict:
        if not transcript.replies:
            return None
        verdicts = [_verdict(transcript, limit, mode) for limit in limits]
        ends = (each for each in verdicts if isinstance(each, End))
        return next(ends, None) or next((each for each in verdicts if each is not None), None)

    return stop


def _dollars(usd: float | Decimal) -> _Limit:
    most = Decimal(str(usd))
    limit_text = f"of ${most:.2f} spent" if most >= Decimal("0.01") else f"of ${most} spent"
    return _Limit(most, lambda usage: usage.cost_usd, lambda spent: f"${spent:.4f} {limit_text}")


def _of(tokens: int) -> _Limit:
    return _Limit(
        Decimal(tokens),
        lambda usage: Decimal(usage.input_tokens + usage.output_tokens),
        lambda used: f"{used:,} of {tokens:,} tokens used",
    )


def _verdict(transcript: Transcript, limit: _Limit, mode: Mode) -> Verdict:
    spent = limit.amount(transcript.usage)
    if spent is None:
        return _unless_warned(transcript, _unknown(transcript), mode)
    call, growth = limit.amount(transcript.peak) or Decimal(0), _growth(transcript, limit)
    left = limit.most - spent
    if left < 2 * call + 3 * growth:  # the next turn, and a last one, which grows twice
        return _unless_warned(transcript, f"{limit.describe(spent)}; the rest is kept", mode)
    is_near = 3 * (call + growth) <= left < FEW_CALLS * call
    if mode == "adaptive" and is_near and _is_worth_it(transcript, limit):
        return Advice(Measure.COMPACT, limit.describe(spent))
    return None


def _is_worth_it(transcript: Transcript, limit: _Limit) -> bool:
    """Whether calls have grown enough since the last summary for another one."""
    if transcript.turns_since_summary < WORTH_TURNS:
        return False
    first = transcript.replies[transcript.summed_up_at]
    return _amount(limit, transcript.replies[-1]) >= 2 * _amount(limit, first)


def _unless_warned(transcript: Transcript, detail: str, mode: Mode) -> Verdict:
    """Return the end; with a soft budget a warning, the first time."""
    if mode != "soft":
        return End(EndReason.BUDGET, detail)
    detail = detail.removesuffix("; the rest is kept")
    return None if transcript.is_warned else Advice(Measure.WARN, detail)


def _growth(transcript: Transcript, limit: _Limit) -> Decimal:
    """Return how much more the last call took than the one before it, since the last summary."""
    if transcript.turns_since_summary < 2:
        return Decimal(0)
    before, last = transcript.replies[-2:]
    return max(_amount(limit, last) - _amount(limit, before), Decimal(0))


def _amount(limit: _Limit, reply: Reply) -> Decimal:
    return limit.amount(reply.usage) or Decimal(0)


def _unknown(transcript: Transcript) -> str:
    """Say whose price is not known."""
    said = (*transcript.replies, *transcript.summaries)
    models = [each.model for each in said if each.usage.cost_usd is None]
    whose = f"the price of {models[0]!r}" if models else "what a tool's own model calls cost"
    return f"{whose} is not known; use budget(tokens=…)"
