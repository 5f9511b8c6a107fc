"""One model call as one step: which model is asked for what, and what is recorded of it.

The reply's row holds the request (see `chain`), the prompt's version, the reply, what it cost, and,
where the reply is not what was asked for, what is wrong with it: so a replay under newer code takes
the same turn. Last words tell the `end` at which they were asked for; a summary the turn
`before` which it was made, and the `room` that it was to make.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

from substrate.agent.answer_type import CORRECTIONS
from substrate.agent.chain import Chain
from substrate.agent.confidence import Asked
from substrate.agent.events import ModelPassedOver, TextDelta, Voice, emit
from substrate.agent.history.keys import MODEL
from substrate.agent.history.rows import input_of
from substrate.agent.history.usage import usage_from, usage_of
from substrate.agent.hook_fault import fault_in_model_call, hook
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.agent.valid_reply import longest_outputs, validated
from substrate.engine.context.context import Context
from substrate.engine.failure import error_of
from substrate.engine.function.returns import Measured
from substrate.engine.step.step import Step
from substrate.models.allowance import Allowance
from substrate.models.fallback_reason import FallbackReason
from substrate.models.frame import frame
from substrate.models.limits.model_limits import ModelLimits, shared_limits
from substrate.models.messages import Invalid, Json, PassedOver, Reply, StopReason, Text, Usage
from substrate.models.model import PATIENCE, Model
from substrate.models.panel import Panel
from substrate.models.request import ModelAsked, ModelWaits, Request
from substrate.models.tokens import estimate, tokens
from substrate.values.clock import seconds_of
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import ContextOverflow, ModelError, Refused, Unaffordable
from substrate.values.ids import root_of
from substrate.values.records import JsonText, Kind, Promise, PromiseState
from substrate.values.retry import Retry

MODEL_RETRY = Retry(
    max_attempts=1000,
    initial=timedelta(seconds=1),
    max_delay=timedelta(minutes=15),
    jitter=0.3,
    retry_on=(),
    patience=PATIENCE,
    max_paid=6,
)
"""How a model call is tried again: where its `ModelError` says that it may help, and only there.

The gaps grow from a second to a quarter of an hour, for as long as the model's `patience` lasts;
the provider's own wait, where it says one, comes first, and uses up none of that. An answer that
was paid for and is of no use is worth fewer tries than a door that is closed.
"""

_EMPTY = JsonText("{}")

Validate = Callable[[Reply], Reply]
"""Marks a reply that is not what was asked for."""


@dataclass(slots=True)
class _UnderWay:
    """An attempt at a model call that has no outcome yet: what it has used by now, about."""

    asked: "ModelCall"
    #: Who was asked; None before anybody was.
    model: str | None = None
    #: What was said since.
    words: list[str] = field(default_factory=list)

    def note(self, event: ModelWaits | ModelAsked) -> None:
        """Note that a model is asked: what another had said is void."""
        if isinstance(event, ModelAsked):
            self.model = event.model
            self.words.clear()

    def used(self) -> dict[str, Json] | None:
        """Return the record of what it has used: nobody has counted. None where that is nothing."""
        asked, request = self.asked.model, self.asked.request
        others = [each.model for each in asked.successors if isinstance(each.model, Model)]
        for each in (asked.available(), *others):
            if each.id == self.model:
                written = tokens("".join(self.words)) if self.words else 0
                usage = each.priced(Usage(estimate(request, each.provider), written))
                return {"model": each.id, **usage.to_json()}
        return None


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What one model call asks of whom."""

    #: Who is asked, its fallback with it.
    model: Model
    #: What it is asked.
    request: Request
    #: What was asked before: the row says only what is new.
    chain: Chain
    #: The name in its key.
    name: str = MODEL
    #: What its answer is to fit, where it is to be JSON.
    typed: Asked | None = None
    #: The prompt's name and version, where it has some.
    version: tuple[str, str] | None = None
    #: The models whose replies were not valid, and so are not asked again.
    passed: tuple[PassedOver, ...] = ()
    #: Marks a reply that is not what was asked for.
    validate: Validate = lambda reply: reply
    #: What its row tells beside the request.
    more: Mapping[str, Json] = field(default_factory=dict)
    #: Whether a full context is raised to the caller, who makes room; else it pauses the run.
    raises_overflow: bool = False
    #: Whether its words are none of the agent's, so that nobody who watches is told them.
    is_silent: bool = False
    #: How it is told live, where others are asked at the same time.
    voice: Voice | None = None

    def within(self, allowed: Allowance | None) -> "ModelCall":
        """Return the same, asked for no more than it may use, which its row tells.

        It tells as well how long an answer the first attempt asks for, where that is less than
        the model's own: prices change, and what was asked on that day does not.
        """
        if allowed is None:
            return self
        request = replace(self.request, allowance=allowed)
        model, theirs = self.model.first_asked(request)
        longest = theirs.max_output_tokens
        with suppress(Unaffordable):
            longest = model.longest_answer(theirs)
        limit = {} if longest == theirs.max_output_tokens else {"longest": longest}
        more = {**self.more, "allowed": allowed.to_json(), **limit}
        return replace(self, request=request, more=more)

    @property
    def is_payable(self) -> bool:
        """Whether what it may use pays for it, at the price of somebody who may be asked."""
        return self.model.can_pay(self.request)

    def raising_overflow(self) -> "ModelCall":
        """Return the same, asked only of models with a context of this size."""
        return replace(self, model=self.model.without(FallbackReason.CONTEXT), raises_overflow=True)


def next_model_call(
    transcript: Transcript, model: Model, tools: Sequence[Tool], typed: Asked | None
) -> ModelCall:
    """Return what the next turn asks of the model whose turn it is.

    That is the first one, until it has been told so many times what is wrong; then the next.
    """
    turns = model.available().correction_chain()
    tries = 1 + (typed.corrections if typed else CORRECTIONS)
    turn, missed = transcript.models_used_up(tries)
    turn = min(turn, len(turns) - 1)
    answering = turns[turn]
    request = replace(
        answering.request(transcript.system, transcript.messages, [each.spec for each in tools]),
        answer_schema=typed.schema if typed else None,
    )
    return ModelCall(
        answering,
        request,
        transcript.chain,
        typed=typed,
        version=transcript.version,
        passed=_models_passed_over(turns[:turn], tries),
        validate=partial(
            validated,
            {each.name: each for each in tools},
            typed,
            longest_outputs(answering),
            is_last=turn == len(turns) - 1 and missed + 1 >= tries,
        ),
    )


def model_step(
    ctx: Context, asked: ModelCall, panel: Panel | None = None, *, begun: Promise | None = None
) -> Step:
    """Prepare a model call. Its fingerprint is its name only: prompts and tools may change.

    With a panel the row says that all of its members were asked. `begun` is its row, where attempts
    of it are recorded: what they used is not there for the next one.
    """
    request, model = asked.request, asked.model
    paid = [] if begun is None or begun.usage is None else [usage_of(begun)]
    with hook(ctx, "model"):
        # The fallback belongs to it: who may answer is a part of what was asked.
        others = model.describe_fallback() if panel is None else panel.describe()
        described = frame(model.id if panel is None else panel.id, request, others)
        blob = asked.chain.frame(root_of(ctx.run_id), described)
    under_way = _UnderWay(asked)
    input_ = asked.chain.link(tuple(request.messages), blob.hash) | dict(asked.more)
    if asked.version is not None:
        name, version = asked.version
        input_["prompt"] = {"name": name, "version": version}
    return Step(
        name=asked.name,
        call=partial(_answer, ctx, asked, paid, under_way),
        input=JsonText(encode(input_)),
        fingerprint=fingerprint(Kind.STEP.value, asked.name),
        retry=replace(MODEL_RETRY, patience=timedelta(seconds=seconds_of(model.patience))),
        pause_on=(BaseException,),
        fault_in=fault_in_model_call,
        raised_to_caller=(ContextOverflow,) if asked.raises_overflow else (),
        add_usage=_add_usage,
        used_by_now=under_way.used,
        on_hurried=partial(_unblock, ctx, model),
        blobs=(blob,),
    )


def reply_of(promise: Promise) -> Reply:
    """Return the reply that a settled model call came to; raise what it failed with."""
    if promise.state is not PromiseState.RESOLVED:
        raise error_of(promise)
    record = decode(promise.value or JsonText("{}"))
    # Of a panel, what each member used stands in its row, and all of it together in the value.
    usage = record["panel"]["usage"] if "panel" in record else decode(promise.usage or _EMPTY)
    counted = {name: each for name, each in usage.items() if name != "model"}
    return Reply.from_json(record, Usage.from_json(counted) if counted else Usage())


def note_reply(row: Promise, transcript: Transcript) -> Reply:
    """Return a row's reply, having noted what it was asked and where it stands."""
    reply, chain = reply_of(row), transcript.chain
    digest = input_of(row).get("digest", "")
    chain.note_asked(row.key, digest, transcript.messages)
    chain.note(reply, row.key)
    chain.note_reply(reply, transcript)
    return reply


async def _answer(
    ctx: Context, asked: ModelCall, paid: list[Usage], under_way: _UnderWay
) -> Measured:
    """Ask, once more where `paid` tells what attempts before have used; add to it what fails."""
    allowed, validate = asked.request.allowance, asked.validate
    for used in paid:
        allowed = allowed and allowed.less(used)
    voice = asked.voice or Voice(partial(emit, ctx))
    under_way.model = None

    def heard(text: str) -> None:
        under_way.words.append(text)
        if not asked.is_silent:
            voice.tell(TextDelta(text))

    def told(event: ModelWaits | ModelAsked) -> None:
        under_way.note(event)
        voice.tell(event)

    try:
        async with shared_limits(ctx.store) as limits:
            reply = await asked.model.answer(
                replace(asked.request, allowance=allowed) if paid else asked.request,
                heard,
                told,
                limits,
            )
    except Unaffordable as error:
        reply, validate = _unpaid(asked.model, error), _as_it_is
    except Refused as error:
        reply = _refusal(asked.model, error)
    except ContextOverflow as error:
        raise error if asked.raises_overflow else _with_remedy(error) from error
    except ModelError as error:
        paid.extend([] if error.usage is None else [error.usage])
        under_way.model = None
        voice.lose()
        raise
    reply = validate(replace(reply, passed_over=(*asked.passed, *reply.passed_over)))
    for each in reply.passed_over:
        voice.tell(ModelPassedOver(each.model, each.reason))
    usage = {"model": f"{reply.provider}:{reply.model}", **reply.usage.to_json()}
    return Measured(reply.to_json(), usage)


def _as_it_is(reply: Reply) -> Reply:
    return reply


def _unpaid(model: Model, error: Unaffordable) -> Reply:
    """Return what stands for the reply of a call that is not made any more: nobody is asked."""
    nothing = Usage(cost_usd=Decimal(0))
    invalid = Invalid(str(error), is_last=True, is_unpaid=True)
    return Reply((), StopReason.END, model.provider, model.name, nothing, invalid=invalid)


def _unblock(ctx: Context, model: Model) -> None:
    """Ask the models at once, whatever wait they asked for: a person says that they answer now."""
    others = [each.model for each in model.successors if isinstance(each.model, Model)]
    places = [each.place for each in (model.available(), *others)]
    ModelLimits.of(ctx.execution.services.store).unblock(places)


def _add_usage(before: Json, more: Json) -> Json:
    """Add up two records of usage; who answered stands in the later one."""
    if before is None:
        return more
    both = usage_from(before) + usage_from(more)
    named = {"model": more["model"]} if "model" in more else {}
    return {**named, **both.to_json()}


def _with_remedy(error: ContextOverflow) -> ContextOverflow:
    """Return the error with what helps where summing up did not."""
    message = (
        f"{error}; what was said does not fit this model, also summed up: in the hooks, give it a "
        "larger one as fallback, Model(…, fallback=[…]), or another model, and resume the run"
    )
    return ContextOverflow(message, body=error.body, usage=error.usage)


def _models_passed_over(models: Sequence[Model], tries: int) -> tuple[PassedOver, ...]:
    subject = "its reply was" if tries == 1 else f"{tries} of its replies were"
    return tuple(
        PassedOver(each.id, FallbackReason.INVALID, f"{subject} not what was asked for")
        for each in models
    )


def _refusal(model: Model, error: Refused) -> Reply:
    """Return a refusal that a provider sent as an error, which others send as a reply."""
    words = Text(str(error))
    usage = error.usage or Usage(cost_usd=Decimal(0))  # what is refused at the door is free
    return Reply((words,), StopReason.REFUSAL, model.provider, model.name, usage)
