"""What is left of a model's limits, by its provider's last answer, and when it may be asked again.

A call that would hit a limit waits here first, which costs nothing. Refused by the provider, it
would have cost a round trip, one of its attempts, and the provider's patience. All runs of a
client share one `RateLimiter`: what one of them hears, the others keep; `shared` passes it on to
other processes.

The limits of Anthropic, OpenAI and Groq fill up steadily: what is missing now will be there when a
proportional part of the time to "whole again" has passed. Gemini tells no limits: a model that
answers "too many" is asked at a slower pace afterwards, and each answer makes it quicker again.

Invariants: calls go out in the order in which they came. None waits here for longer than its
`patience_s`; one that would have to is refused with `RateLimited`, so that the wait is its step's.
A model of which nothing was heard never waits. A call larger than a whole limit goes out when all
of it is there: the provider's own error says best what is wrong with it.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

from substrate.models.limits.headers import RemainingLimit, allowances
from substrate.models.messages import Json, Reply
from substrate.models.request import Request
from substrate.models.tokens import estimate
from substrate.values.clock import Clock, from_ms
from substrate.values.errors import ModelError, RateLimited

PATIENCE_S = 300.0
"""How long a call waits here where nobody says otherwise, in seconds."""

_FIRST_GAP_MS, _LONGEST_GAP_MS = 250.0, 15_000.0
_USUAL_OUTPUT = 4096  # tokens, where an answer may be as long as the model can make it
_TIGHT = 0.25
_MARGIN_S = 0.05


@dataclass(slots=True)
class _Limit:
    """One limit, as it was at a moment."""

    #: What was left then; below 0, what calls on their way have taken beyond it.
    left: float
    whole: float
    #: How much comes back in a millisecond.
    rate: float
    #: That moment.
    at_ms: float

    def left_at(self, now_ms: float) -> float:
        """Return what is left now, with what has come back."""
        return min(self.whole, self.left + self.rate * max(now_ms - self.at_ms, 0))

    def enough_at_ms(self, ahead: float, need: float, now_ms: float) -> float:
        """Return when as much as is needed is left, after those ahead have taken theirs."""
        missing = ahead + min(need, self.whole) - self.left_at(now_ms)
        return now_ms if missing <= 0 else now_ms + missing / self.rate

    def take(self, amount: float, now_ms: float) -> None:
        """Count a call that goes out now."""
        self.left, self.at_ms = self.left_at(now_ms) - amount, now_ms


@dataclass(slots=True, eq=False)
class _Ticket:
    """A call that waits for its turn."""

    #: Tokens that are to be read; 0 where no limit is known, and nothing was estimated.
    read: int = 0
    #: Tokens that may be written at most.
    written: int = 0

    def needs(self, resource: str) -> int:
        """Return what it takes of a limit: of ``tokens``, with as much as it may write."""
        if resource == "tokens":
            return self.read + self.written
        return self.read if resource == "input-tokens" else 1


@dataclass(slots=True)
class _ModelState:
    """How a model stands."""

    #: By resource: ``requests``, ``tokens``, ``input-tokens``, ….
    limits: dict[str, _Limit] = field(default_factory=dict)
    #: Until when it asked not to be asked.
    blocked_until_ms: float = 0
    #: When somebody knew better: what was asked for before does not count.
    unblocked_at_ms: float = 0
    #: The pace: how long after one call the next may go out; 0 is as quickly as they come.
    gap_ms: float = 0
    last_out_ms: float = 0
    under_way: int = 0
    #: In the order in which they came.
    waiting: list[_Ticket] = field(default_factory=list)
    #: Whether something was heard that is not written for other processes yet.
    is_unshared: bool = False

    def wait_s(self, ticket: _Ticket, now_ms: float) -> float:
        """Return how long a call has to wait yet."""
        ahead = self.waiting[: self.waiting.index(ticket)]
        gap_ms = self.gap_ms if self.under_way else 0  # one alone is no crowd
        paced_ms = max(now_ms, self.blocked_until_ms, self.last_out_ms + gap_ms)
        free_ms = [
            limit.enough_at_ms(
                sum(each.needs(resource) for each in ahead), ticket.needs(resource), now_ms
            )
            for resource, limit in self.limits.items()
        ]
        at_ms = max(paced_ms + len(ahead) * self.gap_ms, *free_ms, now_ms)
        # The provider counts by its own clock: a call a moment too early is one too many.
        return (at_ms - now_ms) / 1000 + _MARGIN_S if at_ms > now_ms else 0.0

    def go(self, ticket: _Ticket, now_ms: float) -> None:
        """Count a call that goes out now."""
        self.under_way += 1
        self.last_out_ms = now_ms
        for resource, limit in self.limits.items():
            limit.take(ticket.needs(resource), now_ms)

    def is_tight(self, now_ms: float) -> bool:
        """Whether other processes have to know: little is left, or it asked for a wait."""
        few = (each.left_at(now_ms) < each.whole * _TIGHT for each in self.limits.values())
        return now_ms < self.blocked_until_ms or any(few)

    def record(self, now_ms: float) -> dict[str, Json]:
        """Return how it stands now, as other processes read it."""
        limits = {
            resource: [each.left_at(now_ms), each.whole, each.rate]
            for resource, each in self.limits.items()
        }
        return {"quiet_ms": max(self.blocked_until_ms - now_ms, 0), "limits": limits}


_observer: ContextVar[Callable[[Mapping[str, str]], None]] = ContextVar(
    "ostinato_limits_observer", default=lambda headers: None
)
"""Takes the headers of the present call's answer: no adapter has to know whose limits they are."""


def observe_headers(headers: Mapping[str, str]) -> None:
    """Hand an answer's headers to the limiter of the present `RateLimiter.call`, if any."""
    _observer.get()(headers)


class RateLimiter:
    """The limits of all models that are asked, by `Model.place`."""

    __slots__ = ("_clock", "_models")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._models: dict[str, _ModelState] = {}

    @asynccontextmanager
    async def call(
        self,
        model: str,
        request: Request,
        patience_s: float = PATIENCE_S,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> AsyncIterator[None]:
        """Wait until a request can go out, then count it while the block sends it.

        `on_wait` is called once with about how many seconds, where that is not at once. What the
        block raises counts for later calls, and passes through.

        Raises `RateLimited`, with the wait, where that would take longer than `patience_s`.
        """
        state = self._models.setdefault(model, _ModelState())
        await self._enter(model, state, request, patience_s, on_wait)
        outer = _observer.set(partial(self.observe, model))
        try:
            yield
        except ModelError as error:
            self._refused(state, error)
            raise
        else:
            quicker = state.gap_ms * 0.8
            state.gap_ms = quicker if quicker > _FIRST_GAP_MS / 4 else 0
        finally:
            state.under_way -= 1
            _observer.reset(outer)

    def observe(self, model: str, headers: Mapping[str, str]) -> None:
        """Keep what an answer's headers say is left of a model's limits."""
        now_ms = self._clock.now_ms()
        for each in allowances(headers, from_ms(now_ms)):
            if limit := _limit(each, now_ms):
                state = self._models.setdefault(model, _ModelState())
                state.is_unshared = True
                state.limits[each.resource] = limit
                if "input-tokens" in state.limits:  # Anthropic's sum of both says no more
                    state.limits.pop("tokens", None)

    def unshared(self) -> list[tuple[str, dict[str, Json]]]:
        """Return the models with something tight that was heard since `mark_shared`, with a record.

        A record says how long the model is to be left alone, in ms, and of each limit what is left,
        the whole, and how much of it comes back in a ms.
        """
        now_ms = self._clock.now_ms()
        heard = ((model, each) for model, each in self._models.items() if each.is_unshared)
        return [(model, each.record(now_ms)) for model, each in heard if each.is_tight(now_ms)]

    def mark_shared(self, model: str) -> None:
        """Note that what was heard of a model has been written for other processes."""
        self._models[model].is_unshared = False

    def merge(self, model: str, record: Mapping[str, Json], age_ms: float) -> None:
        """Keep what another process heard so long ago, where it is the stricter."""
        now_ms = self._clock.now_ms()
        state = self._models.setdefault(model, _ModelState())
        if now_ms - age_ms > state.unblocked_at_ms:
            blocked_until_ms = now_ms - age_ms + record["quiet_ms"]
            state.blocked_until_ms = max(state.blocked_until_ms, blocked_until_ms)
        for resource, (left, whole, rate) in record["limits"].items():
            theirs = _Limit(left, whole, rate, now_ms - age_ms)
            ours = state.limits.get(resource)
            if ours is None or theirs.left_at(now_ms) < ours.left_at(now_ms):
                state.limits[resource] = theirs

    def unblock(self, model: str) -> None:
        """Let calls go out though the model asked for quiet: a person knows that it is there."""
        state = self._models.setdefault(model, _ModelState())
        state.blocked_until_ms, state.unblocked_at_ms = 0, self._clock.now_ms()

    async def _enter(
        self,
        model: str,
        state: _ModelState,
        request: Request,
        patience_s: float,
        on_wait: Callable[[float], None],
    ) -> None:
        ticket, is_told = _Ticket(), False
        if state.limits:  # else nothing has to be counted
            need = need_of(request, model.partition(":")[0])
            ticket = _Ticket(need, request.max_output_tokens or _USUAL_OUTPUT)
        state.waiting.append(ticket)
        try:
            while (wait := state.wait_s(ticket, self._clock.now_ms())) > 0:
                if wait > patience_s:
                    raise RateLimited(
                        f"{model} was not asked: its limit is used up for {wait:.0f} s; wait, "
                        "or ask another model",
                        retry_after=wait,
                    )
                if not is_told:
                    on_wait(wait)
                is_told = True
                await self._clock.sleep(wait)
            state.go(ticket, self._clock.now_ms())
        finally:
            state.waiting.remove(ticket)

    def _refused(self, state: _ModelState, error: ModelError) -> None:
        """Keep until when a model asked for quiet: no call goes out before."""
        is_limit = isinstance(error, RateLimited)
        if not error.retryable or not (is_limit or error.retry_after):
            return
        now_ms = self._clock.now_ms()
        # Of calls that are refused together, the first has slowed the pace.
        if is_limit and now_ms >= state.blocked_until_ms:
            state.gap_ms = min(max(state.gap_ms * 2, _FIRST_GAP_MS), _LONGEST_GAP_MS)
        wait_ms = state.gap_ms if error.retry_after is None else error.retry_after * 1000
        state.blocked_until_ms = max(state.blocked_until_ms, now_ms + wait_ms)
        state.is_unshared = True


def need_of(request: Request, provider: str | None = None) -> int:
    """Return about how many tokens of a request are to be read: those that are not cached yet."""
    cached = next(
        (
            message.usage.cached_tokens + message.usage.cache_write_tokens
            for message in reversed(request.messages)
            if isinstance(message, Reply)
        ),
        0,
    )
    return max(1, estimate(request, provider) - cached)


def _limit(left: RemainingLimit, now_ms: int) -> _Limit | None:
    """Return a limit as it stands, or None where it is whole, or its size is missing."""
    if left.limit is None or left.remaining >= left.limit:
        return None
    seconds = left.resets_in_s + float(left.resets_in_s.is_integer())  # it may be rounded down
    rate = (left.limit - left.remaining) / max(seconds * 1000, 1)
    return _Limit(left.remaining, left.limit, rate, now_ms)
