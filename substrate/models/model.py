"""`Model`: a provider and a model by name, and how they are reached.

``Model("anthropic:claude-sonnet-5-5")`` is a value: making one opens nothing, reads nothing and
imports no SDK. The first `answer` loads its provider's adapter.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from substrate.engine.event_loop import check_loop
from substrate.models import prices
from substrate.models.bound import own_limit, says_too_long, within
from substrate.models.checks import (
    check_base_url,
    check_fallback,
    check_id,
    check_key,
    check_output,
    check_patience,
    check_price,
    check_script,
    check_settings,
)
from substrate.models.fallback import Candidate, first_answer
from substrate.models.fallback_reason import PATIENCE_S, FallbackReason
from substrate.models.limits import limiter
from substrate.models.limits.model_limits import ModelLimits
from substrate.models.mending.mended import mended, restored
from substrate.models.mending.takes import takes
from substrate.models.messages import Json, Message, Reply, StopReason, Usage
from substrate.models.providers.address import Address
from substrate.models.providers.registry import PROVIDERS, Provider, adapter_of, disconnect
from substrate.models.providers.scripted import Script, Scripted
from substrate.models.request import (
    OURS,
    ModelAsked,
    ModelWaits,
    OnModelEvent,
    OnText,
    Request,
    ToolSpec,
    ignore_event,
)
from substrate.models.sendable import changed
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    Misuse,
    ModelError,
    Unaffordable,
)

__all__ = ["PROVIDERS", "Fallback", "Model", "OnText", "Provider", "Script", "disconnect"]

PATIENCE = timedelta(days=1)
"""How long a run waits for a provider that is away, where its `Model` does not say otherwise."""

UsageT = TypeVar("UsageT", Usage, Usage | None)

SCRIPTED = frozenset({"scripted", "cassette"})
"""The providers that need no key, since a script says what they say."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model by ``provider:name``. Making one opens nothing, and asks nothing.

    Raises `Misuse` for an unknown provider, a name without one, or a setting that cannot be.

    Example:
        >>> model = Model("anthropic:claude-sonnet-5-5", fallback=["openai:gpt-6-luna"])
        >>> own = Model("openai-chat:qwen3", base_url="http://localhost:11434/v1", price=(0, 0))
        >>> owls = Model("scripted:owls", script=[{"look": {"what": "owls"}}, "Two owls."])
    """

    #: ``provider:name``.
    id: str
    #: Who answers in its place while its provider's key is not set, which the command line says.
    offline: "Model | None" = None
    #: For the provider ``scripted``, the offline model: a list of turns, or a function from the
    #: request to a turn.
    script: Script | None = None
    #: The longest answer, in tokens; None is as much as the model can write.
    max_output_tokens: int | None = None
    #: What its provider is told as it is (``temperature``, ``reasoning``, …), under what the
    #: request itself says; ``tools`` among them, such as a search that the provider runs, join the
    #: request's own. Two are ours, in seconds. ``read_timeout`` (600) is how long nothing may be
    #: said before a call counts as stalled; keep-alives say nothing, so a model that thinks for
    #: longer without a word needs more. ``call_timeout`` (3600) is how long an answer may take.
    settings: Mapping[str, Json] = field(default_factory=dict)
    #: A server that is not the provider's own.
    base_url: str | None = field(default=None, repr=False)  # it may hold a login
    #: The name of the environment variable that holds that server's key.
    key: str | None = None
    #: Who is asked in turn where it cannot answer: each a name, a `Model`, or a `Fallback` for
    #: certain reasons only. One whose key is not set is left out. A name alone gets this model's
    #: longest output and none of its settings, which are its provider's.
    fallback: "Sequence[str | Model | Fallback]" = ()
    #: US dollars for a million tokens read, and for a million written, where the price list does
    #: not know: ``(0, 0)`` for a model of one's own.
    price: tuple[float, float] | None = None
    #: How long a provider that is away, or short of capacity, is asked again, with gaps that grow
    #: from a second to a quarter of an hour. Meanwhile the run is suspended; then it is paused. A
    #: wait that the provider names is waited for however long it is, and does not count. 0 pauses
    #: at the first failure.
    patience: timedelta | float = PATIENCE

    def __post_init__(self) -> None:
        """Check the name now, so that a typo is found at start-up and not in the night."""
        check_id(self.id, (*PROVIDERS, *SCRIPTED))
        check_script(self.id, self.script, is_scripted=self.provider in SCRIPTED)
        check_settings(self.settings)
        check_output(self.max_output_tokens)
        check_patience(self.patience)
        check_base_url(self.id, self.base_url)
        check_key(self.id, self.key)
        check_fallback(self.fallback, lambda each: isinstance(each, str | Model | Fallback))
        if self.offline is not None and not isinstance(self.offline, Model):
            raise Misuse(f'offline={self.offline!r:.200} is no model; write Model("scripted:…", …)')
        check_price(self.price)
        _ = self.successors  # a typo in one of them is found now, too

    @property
    def provider(self) -> str:
        """The part before the colon."""
        return self.id.partition(":")[0]

    @property
    def name(self) -> str:
        """The part after the colon."""
        return self.id.partition(":")[2]

    @property
    def missing_key(self) -> str | None:
        """The environment variable that must be set before this model can answer, or None."""
        if self.provider in SCRIPTED:
            return None
        return PROVIDERS[self.provider].missing_key(self.address)

    @property
    def missing_extra(self) -> str | None:
        """The extra of the kit that its provider's SDK comes with, where that is not there."""
        known = PROVIDERS.get(self.provider)
        return None if known is None or known.is_installed else known.extra

    @property
    def address(self) -> Address:
        """Where it is reached."""
        return Address(self.base_url, self.key)

    @property
    def place(self) -> str:
        """Whose limits and health count for it: its name, with the server and key that it has.

        The same model of two servers, or under two keys, has limits of its own at each.
        """
        where = urlsplit(self.base_url).netloc.rpartition("@")[2] if self.base_url else None
        return " ".join(filter(None, (self.id, where and f"at {where}", self.key)))

    def available(self) -> "Model":
        """Return this model, or the one that answers in its place while its key is missing."""
        return self.offline if self.missing_key and self.offline else self

    def request(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> Request:
        """Return a request with this model's parameters: its settings and its longest output.

        Args:
            system: The system prompt.
            messages: What was said so far; the first is the task.
            tools: What the model may call.
        """
        return Request(system, messages, tools, self.max_output_tokens, self.settings)

    @property
    def successors(self) -> "list[Fallback]":
        """Who is asked where this model cannot answer, in order."""
        limits = {k: v for k, v in self.settings.items() if k in OURS}
        named = partial(Model, max_output_tokens=self.max_output_tokens, settings=limits)
        given = [each if isinstance(each, Fallback) else Fallback(each) for each in self.fallback]
        return [
            replace(each, model=named(each.model)) if isinstance(each.model, str) else each
            for each in given
        ]

    def without(self, reason: FallbackReason) -> "Model":
        """Return this model with nobody to ask in its place for this reason."""
        left = [replace(each, on=set(each.on) - {reason}) for each in self.successors]
        return replace(self, fallback=left)

    def correction_chain(self) -> "list[Model]":
        """Return this model, and those that are asked where what it says is not valid, in order.

        Each has those that come after it as its fallback; one whose key is not set is left out.
        """
        found, after = [self], self.successors
        for i, each in enumerate(after, 1):
            model = each.model
            if (
                isinstance(model, Model)
                and FallbackReason.INVALID in each.on
                and not model.missing_key
            ):
                found.append(replace(model, fallback=after[i:]))
        return found

    def describe_fallback(self) -> list[dict[str, Json]]:
        """Return who is asked where this model cannot answer, and how, for the record."""
        models = [each.model for each in self.successors if isinstance(each.model, Model)]
        return [
            {
                "model": each.id,
                "max_output_tokens": each.max_output_tokens,
                "settings": dict(each.settings),
            }
            for each in models
        ]

    async def answer(
        self,
        request: Request,
        on_delta: OnText = lambda text: None,
        on_event: OnModelEvent = ignore_event,
        limits: ModelLimits | None = None,
    ) -> Reply:
        """Ask once, with no retry, exactly what the request says; see `request`.

        Where this model cannot answer, its fallback is asked the same, with settings of its own.
        A piece of text that `on_delta` gets is of the model that `on_event` named last.
        `limits` are those to wait for; unless given, those of all such calls of this event loop.
        Raises `ModelError`; `BadRequest` when the key is missing; `Misuse` outside of asyncio.
        """
        check_loop()
        limits = limits or ModelLimits.of_this_loop()
        if key := self.missing_key:
            if self.offline:
                return await self.offline.answer(request, on_delta, on_event, limits)
            raise BadRequest(
                f"{self.id}: {key} is not set; export it, or give Model(…, offline=…) "
                "a scripted model to go on without"
            )
        if not self.fallback:
            return await self.ask(request, on_delta, on_event, limits, limiter.PATIENCE_S)
        candidates = self.candidates(request, on_delta, on_event, limits)
        return await first_answer(candidates, limits.breakers)

    def candidates(
        self, request: Request, on_delta: OnText, on_event: OnModelEvent, limits: ModelLimits
    ) -> list[Candidate]:
        """Return this model and those of its fallback that can be asked, ready to be asked this."""
        paid: list[Usage] = []

        async def asking(model: Model, theirs: Request) -> Reply:
            allowed = theirs.allowance
            for used in paid:  # by those that were asked before, in vain
                allowed = allowed and allowed.less(used)
            try:
                # Where others may answer at once, a limit is waited for only briefly.
                bounded = changed(theirs, allowance=allowed)
                reply = await model.ask(bounded, on_delta, on_event, limits, PATIENCE_S)
            except ModelError as error:
                paid.extend([] if error.usage is None else [error.usage])
                raise
            paid.append(reply.usage)
            return reply

        return [
            Candidate(model.id, on, partial(asking, model, theirs), model.place)
            for model, theirs, on in self._payable(request)
        ]

    def can_pay(self, request: Request) -> bool:
        """Whether this model, or one of its fallback, can be asked within what the call may use.

        Args:
            request: What is asked; its `allowance` says what it may use.
        """
        return request.allowance is None or any(
            model.is_payable(theirs) for model, theirs, _ in self._payable(request)
        )

    def first_asked(self, request: Request) -> "tuple[Model, Request]":
        """Return who is asked first, and what: this model, or the first that is not too dear.

        Args:
            request: What is asked; its `allowance` says what it may use.
        """
        model, theirs, _ = self._payable(request)[0]
        return model, theirs

    def is_payable(self, request: Request) -> bool:
        """Whether this very model can be asked within what the call may use.

        Args:
            request: What is asked; its `allowance` says what it may use.
        """
        try:
            self.longest_answer(request)
        except Unaffordable:
            return False
        return True

    def longest_answer(self, request: Request) -> int | None:
        """Return how long an answer it is asked for; None where that is its own limit.

        Args:
            request: What is asked; its `allowance` says what it may use.

        Raises:
            Unaffordable: where what the call may use pays for no answer.
        """
        return within(request, self.provider, self.priced).max_output_tokens

    def _payable(
        self, request: Request
    ) -> "list[tuple[Model, Request, frozenset[FallbackReason]]]":
        """Return who may be asked, and what: this model first, and nobody who is too dear.

        Where all are, that is this one alone.
        """
        found = [(self.available(), request, frozenset[FallbackReason]())]
        for each in self.successors:
            model = each.model
            if isinstance(model, Model) and model.missing_key is None:
                theirs = replace(
                    request, max_output_tokens=model.max_output_tokens, settings=model.settings
                )
                found.append((model, theirs, frozenset(map(FallbackReason, each.on))))
        if request.allowance is None:
            return found
        return [each for each in found if each[0].is_payable(each[1])] or found[:1]

    async def ask(
        self,
        request: Request,
        on_delta: OnText,
        on_event: OnModelEvent,
        limits: ModelLimits,
        patience_s: float,
    ) -> Reply:
        """Ask this model and no other, once, having waited for its limits no longer than that."""

        def waits(seconds: float) -> None:
            on_event(ModelWaits(self.id, round(seconds, 1)))

        adapter = await self.adapter()
        limited = within(request, self.provider, self.priced)
        # A script gets what was said; a provider gets what it can take.
        is_mended, to = self.provider not in SCRIPTED, takes(self.provider, self.name)
        sent = mended(limited, to) if is_mended else limited
        try:
            async with limits.limiter.call(self.place, limited, patience_s, waits):
                on_event(ModelAsked(self.id))
                reply = await self._answer(adapter, request, sent, on_delta)
        except ModelError as error:
            error.usage = self._priced(error.usage)
            raise
        if is_mended:
            reply = restored(reply, request, to)
        is_cut_short = reply.stop is StopReason.LENGTH and limited is not request
        return replace(reply, usage=self._priced(reply.usage), is_cut_short=is_cut_short)

    async def _answer(
        self, adapter: Provider, request: Request, sent: Request, on_delta: OnText
    ) -> Reply:
        try:
            return await adapter.answer(self.name, sent, on_delta)
        except (BadRequest, ContextOverflow) as error:
            # It cannot write as much as its call pays for: then its own limit is the lower one.
            is_own = sent.max_output_tokens == request.max_output_tokens
            if is_own or own_limit(request) is not None or not says_too_long(error):
                raise
        return await adapter.answer(self.name, replace(sent, max_output_tokens=None), on_delta)

    def _priced(self, usage: UsageT) -> UsageT:
        if self.price is None or usage is None:
            return usage
        return prices.priced_at(usage, *self.price)

    def priced(self, usage: Usage) -> Usage:
        """Return the usage with what it costs at this model's price, as far as that is known.

        It is priced as this model's replies are. A script costs nothing; a server of one's own
        has a price only where it was given, or where the list knows its address.
        """
        if self.price is not None or self.provider in SCRIPTED:
            return prices.priced_at(usage, *(self.price or (0, 0)))
        known = None if self.provider == "openai-chat" else self.provider
        return prices.priced(usage, known, self.name, address=self.base_url)

    @property
    def needs_price_list(self) -> bool:
        """Whether its price is looked up in the list, which takes a while to load."""
        return self.price is None and self.available().provider not in SCRIPTED

    async def adapter(self) -> Provider:
        """Return what reaches its provider, loaded on first use."""
        if self.script is not None:
            return Scripted(self.script)
        return await adapter_of(self.provider, self.address)


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model to ask instead, for some reasons: ``Fallback("openai:…", on=["context"])``.

    Raises `Misuse` for what is no model, and for a reason that there is not.
    """

    #: Who is asked.
    model: str | Model
    #: For which reasons: ``overloaded``, ``quota``, ``context``, ``refused``, ``invalid``.
    on: Collection[str] = tuple(FallbackReason)

    def __post_init__(self) -> None:
        """Check the reasons now, so that a typo is found at start-up and not in the night."""
        if isinstance(self.model, str):
            check_id(self.model, (*PROVIDERS, *SCRIPTED))
        elif not isinstance(self.model, Model):
            raise Misuse(f'{self.model!r:.200} is no model; write Fallback("provider:name")')
        on: object = self.on
        is_list = isinstance(on, Collection) and not isinstance(on, str | bytes)
        if not is_list or not all(each in tuple(FallbackReason) for each in self.on):
            known = ", ".join(FallbackReason)
            raise Misuse(
                f"on={on!r:.200} names a reason that there is not; give a list of some of {known}"
            )
