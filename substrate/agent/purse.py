"""What a loop's budgets leave: for its next model call, and for the children of a turn.

Invariants: pure, so the same on every replay. What a call may use is read from what is recorded of
all before it, so a call that is made again after a crash may use as much as it might before.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from substrate.agent.budget import told_by
from substrate.agent.end import End, EndReason, Stop
from substrate.agent.grant import Grant, Told, Unit
from substrate.agent.hook_fault import hook
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.allowance import Allowance
from substrate.models.messages import Reply

LAST, TURN, ASIDE = 0, 1, 2
"""How many calls room is kept for after one: none after last words and judges, last words after a
turn, and a turn with last words after a summary."""


@dataclass(slots=True)
class Purse:
    """What a loop's budget is read from, noted in its context as the loop goes."""

    #: The condition that keeps its budgets.
    stop: Stop
    #: What was said before the turn's reply.
    transcript: Transcript
    #: What the budgets told last, and of which transcript.
    last: tuple[Transcript, list[Told]] | None = field(default=None, repr=False)

    @classmethod
    def note(cls, ctx: Context, transcript: Transcript, stop: Stop | None = None) -> None:
        """Note what the loop's next turn begins with."""
        found = ctx.notes.get(cls)
        if isinstance(found, cls) and (stop is None or found.stop is stop):
            found.transcript = transcript
        elif stop is not None:
            ctx.notes[cls] = cls(stop, transcript)

    @classmethod
    def left(cls, ctx: Context, reply: Reply | None) -> Grant | None:
        """Return what the budgets leave once a reply, if any, is paid; None without budgets.

        Raises `DelegateFailed` where that is not known.
        """
        found = ctx.notes.get(cls)
        if not isinstance(found, cls):
            return None
        with hook(ctx, "stop"):
            paid = found.transcript if reply is None else found.transcript.counting(reply)
            told = told_by(found.stop, paid)
        return Grant.of(told)

    @classmethod
    def allowance(
        cls, ctx: Context, transcript: Transcript, follow: int = TURN
    ) -> Allowance | None:
        """Return what the next model call may use; None where nothing limits it.

        `follow` says for how many calls after it room is kept. What nobody knows limits nothing:
        the budget itself ends such a loop.
        """
        least: dict[Unit, Decimal] = {}
        for each in cls._told(ctx, transcript):
            if not each.is_hard or each.rest is None or each.left is None:
                continue
            rooms = (each.rest, each.rest - each.last_words, each.left)
            least[each.unit] = min(rooms[follow], least.get(each.unit, rooms[follow]))
        if not least:
            return None
        tokens = least.get(Unit.TOKENS)
        return Allowance(
            least.get(Unit.USD), None if tokens is None else int(tokens), _counted(transcript)
        )

    @classmethod
    def _told(cls, ctx: Context, transcript: Transcript) -> list[Told]:
        found = ctx.notes.get(cls)
        if not isinstance(found, cls):
            return told_by(None, transcript)
        if found.last is None or found.last[0] is not transcript:
            with hook(ctx, "stop"):
                found.last = transcript, told_by(found.stop, transcript)
        return found.last[1]

    @classmethod
    def cheapest(cls, ctx: Context, reply: Reply | None) -> dict[Unit, Decimal]:
        """Return what the cheapest model call of the loop so far has used, where that is known."""
        found = ctx.notes.get(cls)
        before = found.transcript.replies if isinstance(found, cls) else ()
        said = before if reply is None else (*before, reply)
        least: dict[Unit, Decimal] = {}
        for unit in Unit:
            used = [amount for each in said if (amount := unit.of(each.usage))]
            if used:
                least[unit] = min(used)
        return least

    @classmethod
    def timezone(cls, ctx: Context) -> str | None:
        """Return the time zone of the loop's task."""
        found = ctx.notes.get(cls)
        return found.transcript.task.timezone if isinstance(found, cls) else None


def not_paid(allowed: Allowance) -> End:
    """Return the end of a loop that cannot pay for a call more."""
    return End(EndReason.BUDGET, f"what is left, {allowed}, does not pay for a call more")


def _counted(transcript: Transcript) -> int | None:
    """Return how many tokens the last call read; None where the next one begins anew."""
    last = transcript.last_reply
    is_new = transcript.turns_since_summary == 0 or transcript.handed_at == transcript.turns
    return None if last is None or is_new else last.usage.input_tokens or None
