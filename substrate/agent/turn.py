"""The four verbs of the loop: begin, ask, call tools, finish. Each leaves its row in the journal.

=========  ===========================  =========================================================
verb       key                          what the journal keeps
=========  ===========================  =========================================================
begin      ``prompt.0``                 the system prompt, as it was rendered
ask        ``model.3``                  which request (frame, length, digest), the reply, its usage
call       ``tools.3/query_sql.0``      the arguments, the result
finish     ``model.4``                  one last reply, when the loop was cut short
=========  ===========================  =========================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any

from substrate.agent.call import call_of, result_of
from substrate.agent.stop import End, Reason
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, as_tool
from substrate.agent.transcript import Transcript
from substrate.engine.context import Context
from substrate.engine.step import Measured, Step
from substrate.models.frame import canonical, frame
from substrate.models.messages import (
    Json,
    Reply,
    Request,
    StopReason,
    Text,
    ToolMessage,
    Usage,
    UserMessage,
)
from substrate.models.model import Model
from substrate.store.blobs import make_blob
from substrate.values.codec import decode, encode, fingerprint
from substrate.values.errors import Misuse, Refused
from substrate.values.ids import root_of
from substrate.values.records import Json as JsonText
from substrate.values.records import Kind, Promise
from substrate.values.retry import Retry

Prompt = str | Callable[[Task], str]
Tools = Sequence[Tool | Callable[..., Any]]

MODEL_RETRY = Retry(
    max_attempts=6,
    initial=timedelta(seconds=1),
    max_delay=timedelta(minutes=1),
    jitter=0.3,
    retry_on=(),
)
"""How a model call is tried again: where its `ModelError` says that it may help, and only there.

The provider's own wait, where it says one, comes first.
"""

_LAST_WORDS = (
    "Stop here: {detail}. Without calling another tool, give the best answer you can from what "
    "you have found so far, and say what is missing."
)


async def begin(ctx: Context, prompt: Prompt, task: Task) -> Transcript:
    """Render the prompt, record it, and return the transcript before the first model call.

    A prompt hook that raises pauses the run: mend it, and resume.
    """

    async def render() -> Json:
        return {"system": prompt(task) if callable(prompt) else prompt}

    same = fingerprint(Kind.STEP.value, "prompt")
    step = Step(name="prompt", call=render, fingerprint=same, pause_on=(Exception,))
    recorded = await ctx.perform(step)
    return Transcript.begin(task, recorded["system"])


async def ask(
    ctx: Context,
    model: Model,
    transcript: Transcript,
    tools: Tools = (),
    *,
    may_call_tools: bool = True,
) -> Reply:
    """Call the model once for the whole transcript, and return its reply.

    Where the model cannot answer, its fallback does; the reply says so. Failures that pass by
    themselves are retried. All others (a missing key, an empty account, a provider that stays
    away, a fault in a script) pause the run and say why: nothing is lost, and it goes on from here
    when the cause is mended and the run is resumed.
    """
    last = transcript.messages[-1]
    if isinstance(last, Reply) and not last.tool_calls:
        raise Misuse("the model has answered and `stop` did not end the loop; add answered() to it")
    specs = [as_tool(tool).spec for tool in tools]
    answering = model.available()
    request = answering.request(transcript.system, transcript.messages, specs)
    request = replace(request, may_call_tools=may_call_tools)
    ctx.emit({"event": "turn_start", "turn": transcript.turns + 1, "model": answering.id})
    return _reply_of(await ctx.perform(_model_step(ctx, answering, request)).settled())


async def call_tools(ctx: Context, tools: Tools, reply: Reply) -> ToolMessage:
    """Call every tool that the reply asks for, side by side, and return their results in order.

    Each call is a promise of its own. A tool's own error, wrong arguments, a tool that does not
    exist, and an outcome nobody knows are results that the model sees.
    """
    scope = ctx.scoped("tools")
    known = {tool.name: tool for tool in map(as_tool, tools)}
    pendings = []
    for call in reply.tool_calls:
        ctx.emit({"event": "tool_start", "tool": call.name, "arguments": call.arguments})
        pendings.append(call_of(scope, known, call).settled())
    settled = await scope.gather(*pendings)
    results = map(result_of, reply.tool_calls, settled)
    return ToolMessage(tuple(results))


async def finish(
    ctx: Context, model: Model, transcript: Transcript, end: End, tools: Tools = ()
) -> Answer:
    """Return the answer. A loop that was cut short gets one last reply, in which to sum up.

    In that reply no tool may be called; they are named, since the transcript speaks of them.
    """
    if end.reason in (Reason.MAX_TURNS, Reason.BUDGET):
        plea = UserMessage.of(_LAST_WORDS.format(detail=end.detail))
        transcript += await ask(ctx, model, transcript + plea, tools, may_call_tools=False)
    last = transcript.last_reply
    text = last.text if last else ""
    return Answer(text, end.reason.value, end.detail, transcript.turns, transcript.usage)


def _model_step(ctx: Context, model: Model, request: Request) -> Step:
    """Prepare a model call. Its fingerprint is its name only: prompts and tools may change."""
    described = encode(frame(model.id, request, model.describe_fallback())).encode()
    blob = make_blob(root_of(ctx.run_id), described)
    input_ = {
        "frame": blob.hash,
        "upto": len(request.messages),
        "digest": sha256(encode(canonical(request)).encode()).hexdigest()[:16],
    }
    return Step(
        name="model",
        call=partial(_answer, ctx, model, request),
        input=JsonText(encode(input_)),
        fingerprint=fingerprint(Kind.STEP.value, "model"),
        retry=MODEL_RETRY,
        pause_on=(Exception,),
        blobs=(blob,),
    )


async def _answer(ctx: Context, model: Model, request: Request) -> Measured:
    try:
        reply = await model.answer(
            request, lambda text: ctx.emit({"event": "text_delta", "text": text})
        )
    except Refused as error:
        reply = _refusal(model, error)
    for each in reply.passed_over:
        ctx.emit({"event": "passed_over", "model": each.model, "reason": each.reason})
    usage = {"model": f"{reply.provider}:{reply.model}", **reply.usage.to_json()}
    return Measured(reply.to_json(), usage)


def _refusal(model: Model, error: Refused) -> Reply:
    """Return a refusal that a provider sent as an error, which others send as a reply."""
    words = Text(str(error))
    usage = Usage(cost_usd=Decimal(0))  # what is refused at the door is not charged
    return Reply((words,), StopReason.REFUSAL, model.provider, model.name, usage)


def _reply_of(promise: Promise) -> Reply:
    usage = decode(promise.usage or JsonText("{}"))
    usage.pop("model", None)
    counted = Usage.from_json(usage) if usage else Usage()
    return Reply.from_json(decode(promise.value or JsonText("{}")), counted)
