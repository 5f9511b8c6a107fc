"""What is left of a model's limits, as its provider's last answer said, and when it asks for quiet.

A call that would hit a limit waits here first, which costs nothing; told by the provider to wait,
it would have cost a round trip, one of its attempts, and the provider's patience. All runs of a
process share one `Quota`: what one is told, the others keep.

The limits of Anthropic, OpenAI and Groq fill up steadily: what is missing now will be there when a
proportional part of the time to "whole again" has passed.

Invariants: nothing waits here for longer than `LONGEST_HOLD_S`; a call that would have to is
refused with `RateLimited`, so that the wait is its step's, which takes no worker's place for ever.
A model of which nothing was heard never waits. A call larger than a whole limit is let through:
its provider says best what is wrong with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from substrate.models.messages import (
    Message,
    Reply,
    Request,
    Text,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from substrate.models.waits import Allowance, allowances
from substrate.values.clock import Clock, OffsetClock, from_ms
from substrate.values.errors import ModelError, RateLimited

LONGEST_HOLD_S = 60.0
"""The longest that a call waits here, in seconds."""

_PAGE = 4000
_MARGIN_S = 0.05  # our clock and theirs; a call a moment too early is one too many


@dataclass(slots=True)
class _Limit:
    """One limit: what was left at a time, and how much of it comes back in a millisecond."""

    left: float
    whole: float
    rate: float
    at_ms: float

    def left_at(self, now_ms: float) -> float:
        """Return what is left now, with what has come back."""
        return min(self.whole, self.left + self.rate * max(now_ms - self.at_ms, 0))

    def enough_at_ms(self, need: float, now_ms: float) -> float:
        """Return when as much as is needed is left."""
        missing = min(need, self.whole) - self.left_at(now_ms)
        return now_ms if missing <= 0 else now_ms + missing / self.rate

    def take(self, amount: float, now_ms: float) -> None:
        """Count a call that goes out now."""
        self.left, self.at_ms = self.left_at(now_ms) - amount, now_ms


@dataclass(slots=True)
class _Standing:
    """How a model stands: its limits, and until when it asked for quiet."""

    quiet_until_ms: float = 0
    limits: dict[str, _Limit] = field(default_factory=dict)


class Quota:
    """The limits of all models that this process asks, by ``provider:name``."""

    __slots__ = ("_clock", "_standings")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._standings: dict[str, _Standing] = {}

    async def enter(self, model: str, request: Request) -> None:
        """Wait until a request can go out, and count it.

        Raises `RateLimited`, with the wait, where that would take longer than `LONGEST_HOLD_S`.
        """
        standing = self._standings.get(model)
        need = need_of(request) if standing is not None else 0
        while standing is not None and (wait := self._wait_s(standing, need)) > 0:
            if wait > LONGEST_HOLD_S:
                raise RateLimited(
                    f"{model} was not asked: its limit is used up for {wait:.0f} s; wait, "
                    "or ask another model",
                    retry_after=wait,
                )
            await self._clock.sleep(wait)
        if standing is not None:
            for resource, limit in standing.limits.items():
                limit.take(_needed(resource, need), self._clock.now_ms())

    def heard(self, model: str, headers: Mapping[str, str]) -> None:
        """Take in what an answer's headers say is left."""
        now_ms = self._clock.now_ms()
        for each in allowances(headers, from_ms(now_ms)):
            if limit := _limit(each, now_ms):
                standing = self._standings.setdefault(model, _Standing())
                standing.limits[each.resource] = limit

    def refused(self, model: str, error: ModelError) -> None:
        """Take in that a model asked for quiet: it is asked by nobody until then."""
        if error.retryable and error.retry_after:
            until_ms = self._clock.now_ms() + error.retry_after * 1000
            standing = self._standings.setdefault(model, _Standing())
            standing.quiet_until_ms = max(standing.quiet_until_ms, until_ms)

    def forget(self) -> None:
        """Forget all that was heard."""
        self._standings.clear()

    def _wait_s(self, standing: _Standing, need: int) -> float:
        now_ms = self._clock.now_ms()
        free_ms = [
            limit.enough_at_ms(_needed(resource, need), now_ms)
            for resource, limit in standing.limits.items()
        ]
        wait_s = (max(standing.quiet_until_ms, *free_ms, now_ms) - now_ms) / 1000
        return wait_s + _MARGIN_S if wait_s > 0 else 0.0


def need_of(request: Request) -> int:
    """Return about how many tokens a request takes from a limit: those that are not cached yet."""
    cached = next(
        (
            message.usage.cached_tokens + message.usage.cache_write_tokens
            for message in reversed(request.messages)
            if isinstance(message, Reply)
        ),
        0,
    )
    said = len(request.system) + sum(map(_size, request.messages))
    return max(1, said // 4 - cached)


def _size(message: Message) -> int:
    """Return about how many characters a message is; a picture counts as much as a page."""
    match message:
        case UserMessage(parts):
            return sum(len(part.text) if isinstance(part, Text) else _PAGE for part in parts)
        case ToolMessage(results):
            return sum(len(result.content) for result in results)
        case Reply(parts):
            return sum(
                len(str(part.arguments)) if isinstance(part, ToolCall) else len(part.text)
                for part in parts
            )


def _needed(resource: str, need: int) -> int:
    """Return what a call takes of a resource; how much it will write, nobody knows."""
    return need if "tokens" in resource and "output" not in resource else 1


def _limit(told: Allowance, now_ms: int) -> _Limit | None:
    """Return a limit as it was told, or None where it is whole, or its size is not said."""
    if told.limit is None or told.remaining >= told.limit:
        return None
    rate = (told.limit - told.remaining) / max(told.resets_in_s * 1000, 1)
    return _Limit(told.remaining, told.limit, rate, now_ms)


QUOTA = Quota(OffsetClock())
"""What this process was told."""
