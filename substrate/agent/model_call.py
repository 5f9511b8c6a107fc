"""One model call as one step: which model is asked for what, and what is recorded of it.

The reply's row holds the request (frame, number of messages, digest, the prompt's version), the
reply, what it cost, and, where the reply is not what was asked for, what is wrong with it: so a
replay under newer code takes the same turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256

from substrate.agent.call import problem_of
from substrate.agent.spending import usage_from
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.agent.typed import CORRECTIONS, Typed
from substrate.engine.context import Context
from substrate.engine.step import Measured, Step
from substrate.models.fallback import Reason
from substrate.models.frame import canonical, frame
from substrate.models.messages import (
    Invalid,
    Json,
    PassedOver,
    Reply,
    Request,
    StopReason,
    Text,
    Usage,
)
from substrate.models.model import PATIENCE, Model
from substrate.models.sharing import SHARING
from substrate.store.blobs import make_blob
from substrate.values.clock import seconds_of
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import Refused
from substrate.values.ids import root_of
from substrate.values.records import Json as JsonText
from substrate.values.records import Kind, Promise
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

Judge = Callable[[Reply], Reply]
"""Marks a reply that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What one model call asks of whom. `passed` are the models whose replies were not valid."""

    model: Model
    request: Request
    name: str = "model"
    version: tuple[str, str] | None = None
    passed: tuple[PassedOver, ...] = ()
    judge: Judge = lambda reply: reply


def inquiry(
    transcript: Transcript, model: Model, tools: Sequence[Tool], typed: Typed | None
) -> Inquiry:
    """Return what the next turn asks of the model whose turn it is.

    That is the first one, until it has been told so many times what is wrong; then the next.
    """
    turns = model.available().in_turn()
    tries = 1 + (typed.corrections if typed else CORRECTIONS)
    turn, missed = transcript.misses(tries)
    turn = min(turn, len(turns) - 1)
    answering = turns[turn]
    request = replace(
        answering.request(transcript.system, transcript.messages, [each.spec for each in tools]),
        answer_schema=typed.schema if typed else None,
    )
    is_last = turn == len(turns) - 1 and missed + 1 >= tries
    return Inquiry(
        answering,
        request,
        version=transcript.version,
        passed=_passed(turns[:turn], tries),
        judge=partial(_judged, {each.name: each for each in tools}, typed, is_last=is_last),
    )


def model_step(ctx: Context, asked: Inquiry) -> Step:
    """Prepare a model call. Its fingerprint is its name only: prompts and tools may change."""
    request, model = asked.request, asked.model
    described = encode(frame(model.id, request, model.describe_fallback())).encode()
    blob = make_blob(root_of(ctx.run_id), described)
    input_ = {
        "frame": blob.hash,
        "upto": len(request.messages),
        "digest": sha256(encode(canonical(request)).encode()).hexdigest()[:16],
    }
    if asked.version is not None:
        name, version = asked.version
        input_["prompt"] = {"name": name, "version": version}
    return Step(
        name=asked.name,
        call=partial(_answer, ctx, asked),
        input=JsonText(encode(input_)),
        fingerprint=fingerprint(Kind.STEP.value, asked.name),
        retry=replace(MODEL_RETRY, patience=timedelta(seconds=seconds_of(model.patience))),
        pause_on=(Exception,),
        add_usage=_together,
        blobs=(blob,),
    )


def reply_of(promise: Promise) -> Reply:
    """Return the reply that a settled model call came to."""
    usage = decode(promise.usage or JsonText("{}"))
    usage.pop("model", None)
    counted = Usage.from_json(usage) if usage else Usage()
    return Reply.from_json(decode(promise.value or JsonText("{}")), counted)


async def _answer(ctx: Context, asked: Inquiry) -> Measured:
    try:
        async with SHARING.around(ctx.execution.means.store):
            reply = await asked.model.answer(
                asked.request, lambda text: ctx.emit({"event": "text_delta", "text": text})
            )
    except Refused as error:
        reply = _refusal(asked.model, error)
    reply = asked.judge(replace(reply, passed_over=(*asked.passed, *reply.passed_over)))
    for each in reply.passed_over:
        ctx.emit({"event": "passed_over", "model": each.model, "reason": each.reason})
    usage = {"model": f"{reply.provider}:{reply.model}", **reply.usage.to_json()}
    return Measured(reply.to_json(), usage)


def _together(before: Json, more: Json) -> Json:
    """Add up two records of usage; who answered stands in the later one."""
    if before is None:
        return more
    both = usage_from(before) + usage_from(more)
    named = {"model": more["model"]} if "model" in more else {}
    return {**named, **both.to_json()}


def _judged(tools: dict[str, Tool], typed: Typed | None, reply: Reply, *, is_last: bool) -> Reply:
    """Return the reply, marked where none of its calls can be made, or its answer does not fit."""
    if reply.stop is StopReason.REFUSAL:
        return reply
    told: str | None = None
    if reply.tool_calls:
        problems = [problem_of(tools, call) for call in reply.tool_calls]
        told = None if None in problems else "\n".join(filter(None, problems))
    elif typed is not None:
        told = typed.problem(reply)
    return reply if told is None else replace(reply, invalid=Invalid(told, is_last))


def _passed(models: Sequence[Model], tries: int) -> tuple[PassedOver, ...]:
    told = "its reply was" if tries == 1 else f"{tries} of its replies were"
    return tuple(
        PassedOver(each.id, Reason.INVALID, f"{told} not what was asked for") for each in models
    )


def _refusal(model: Model, error: Refused) -> Reply:
    """Return a refusal that a provider sent as an error, which others send as a reply."""
    words = Text(str(error))
    usage = Usage(cost_usd=Decimal(0))  # what is refused at the door is not charged
    return Reply((words,), StopReason.REFUSAL, model.provider, model.name, usage)
