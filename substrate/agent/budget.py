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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from substrate.agent.end import Advice, End, EndReason, Measure, Stop, Verdict
from substrate.agent.grant import Told, Unit
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
    #: What that is counted in.
    unit: Unit
    #: How an amount reads.
    describe: Callable[[Decimal], str]

    def amount(self, usage: Usage) -> Decimal | None:
        """Return how much of it a usage is; None where nobody knows."""
        return self.unit.of(usage)


def budget(
    *, usd: float | Decimal | None = None, tokens: int | None = None, mode: Mode = "hard"
) -> Stop:
    """Keep a run, and every run below it, within so many dollars or tokens, in and out.

    The loop ends when there is no room for one more turn and, after it, one last call without
    tools; the run returns what it has and says why. Each is taken to be as large as the largest
    so far, and to grow as the last one did. And no call is made that may exceed the budget: what
    it reads is estimated, and it is asked for no longer an answer than what is left pays for. What
    a tool spends by itself, and a child that is no agent, counts once that has ended. What is left
    is divided among the sub-agents of a turn, as grants: see `delegate`. With
    ``mode="soft"`` the model is warned instead, once; with ``mode="adaptive"`` what was said is
    summed up before, to make room.

    Args:
        usd: US dollars. A model whose price is not known ends such a budget with its first reply,
            since nobody could keep it: limit `tokens` there, or give the model its `price`.
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
        verdicts = [_verdict(transcript, limit, mode) for limit in limits]
        if transcript.told is not None:
            pairs = zip(limits, verdicts, strict=True)
            transcript.told.extend(_told(transcript, *pair, mode) for pair in pairs)
        ends = (each for each in verdicts if isinstance(each, End))
        return next(ends, None) or next((each for each in verdicts if each is not None), None)

    return stop


def told_by(stop: Stop | None, transcript: Transcript) -> list[Told]:
    """Return what each budget in a stop condition tells, and what the run's own grant does.

    The condition is asked, so a budget is found in whatever function composes it.
    """
    asked = replace(transcript, told=[])
    if stop is not None:
        stop(asked)
    told = list(asked.told or ())
    own = ((limit, _verdict(transcript, limit, "hard")) for limit in _granted(transcript))
    return [*told, *(_told(transcript, limit, verdict, "hard") for limit, verdict in own)]


def grant_verdict(transcript: Transcript) -> End | None:
    """Return the end of a run that has used what it was granted; None to go on."""
    verdicts = (_verdict(transcript, limit, "hard") for limit in _granted(transcript))
    return next((each for each in verdicts if isinstance(each, End)), None)


def has_last_words(transcript: Transcript) -> bool:
    """Whether a run's grant has room for one call more, as large as the last one and growing."""
    if not transcript.replies:
        return True
    for limit in _granted(transcript):
        spent = limit.amount(transcript.usage)
        if spent is None or limit.most - spent < _last_words(transcript, limit):
            return False
    return True


def _granted(transcript: Transcript) -> Sequence[_Limit]:
    if transcript.granted is None:
        return ()
    return [
        _Limit(most, unit, _GRANTED[unit](most)) for unit, most in transcript.granted.most.items()
    ]


def _told(transcript: Transcript, limit: _Limit, verdict: Verdict, mode: Mode) -> Told:
    spent = limit.amount(transcript.usage)
    rest = None if spent is None else limit.most - spent
    left = None if rest is None else rest - _kept(transcript, limit)
    return Told(limit.unit, left, mode != "soft", verdict, rest, _last_words(transcript, limit))


def _kept(transcript: Transcript, limit: _Limit) -> Decimal:
    """Return what is kept for the next turn and, after it, a last one, which grows twice."""
    call = limit.amount(transcript.peak) or Decimal(0)
    return call + _growth(transcript, limit) + _last_words(transcript, limit)


def _last_words(transcript: Transcript, limit: _Limit) -> Decimal:
    """Return what is kept for last words after the next turn."""
    return (limit.amount(transcript.peak) or Decimal(0)) + 2 * _growth(transcript, limit)


_GRANTED: Mapping[Unit, Callable[[Decimal], Callable[[Decimal], str]]] = {
    Unit.USD: lambda most: lambda spent: f"${spent:.4f} of ${most:.4f} granted spent",
    Unit.TOKENS: lambda most: lambda used: f"{used:,} of {most:,} granted tokens used",
}


def _dollars(usd: float | Decimal) -> _Limit:
    most = Decimal(str(usd))
    limit_text = f"of ${most:.2f} spent" if most >= Decimal("0.01") else f"of ${most} spent"
    return _Limit(most, Unit.USD, lambda spent: f"${spent:.4f} {limit_text}")


def _of(tokens: int) -> _Limit:
    return _Limit(
        Decimal(tokens),
        Unit.TOKENS,
        lambda used: f"{used:,} of {tokens:,} tokens used",
    )


def _verdict(transcript: Transcript, limit: _Limit, mode: Mode) -> Verdict:
    if not transcript.replies:
        return None
    spent = limit.amount(transcript.usage)
    if spent is None:
        return _unless_warned(transcript, _unknown(transcript), mode)
    call, growth = limit.amount(transcript.peak) or Decimal(0), _growth(transcript, limit)
    left = limit.most - spent
    if left < _kept(transcript, limit):
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
