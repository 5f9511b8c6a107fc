"""The verbs of the loop: begin, heed, ask, call tools, finish. Each leaves its row in the journal.

=========  ===========================  =========================================================
verb       key                          what the journal keeps
=========  ===========================  =========================================================
begin      ``prompt.0``                 the system prompt, as it was rendered, and its version
heed       ``warning.0``                what the model was told of its budget
heed       ``summary.0``                what the model wrote down of the transcript so far
ask        ``model.3``                  which request (frame, length, digest), the reply, its usage
call       ``tools.3/query_sql.0``      the arguments, the result
call       ``spent.0``                  what tools used that have model calls of their own
finish     ``model.4``                  one last reply, when the loop was cut short
=========  ===========================  =========================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from substrate.agent.call import call_of, result_of
from substrate.agent.end import Advice, End, Measure, Reason, Verdict
from substrate.agent.model_call import MODEL_RETRY, Inquiry, inquiry, model_step, reply_of
from substrate.agent.prompt import Prompt, Text, rendered
from substrate.agent.spending import spent_step
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, as_tool
from substrate.agent.transcript import Transcript
from substrate.agent.typed import Typed, typed_of
from substrate.engine.context import Context
from substrate.engine.step import Step
from substrate.models.messages import Json, Reply, StopReason, ToolMessage, Usage, UserMessage
from substrate.models.model import Model
from substrate.values.codec import fingerprint
from substrate.values.errors import Misuse
from substrate.values.records import Kind

__all__ = ["MODEL_RETRY", "Tools", "ask", "begin", "call_tools", "finish", "heed"]

Tools = Sequence[Tool | Callable[..., Any]]

_LAST_WORDS = (
    "Stop here: {detail}. Without calling another tool, give the best answer you can from what "
    "you have found so far, and say what is missing."
)
_WARNING = (
    "{detail}. Little is left: do only what your answer cannot do without, and answer as soon as "
    "you can."
)
_SUM_UP = (
    "Before you go on, sum up what you did so far. Only this summary and what the last tools gave "
    "back will be left of it, so write down every fact, figure, name and id that you need, what "
    "you tried in vain, and what is yet to be done. Call no tool now."
)


async def begin(ctx: Context, prompt: Prompt | Text, task: Task) -> Transcript:
    """Render the prompt, record it, and return the transcript before the first model call.

    Of a prompt in versions, the run is given one, which is recorded. A prompt hook that raises
    pauses the run: mend it, and resume.
    """

    async def render() -> Json:
        if not isinstance(prompt, Prompt):
            return {"system": rendered(prompt, task)}
        version = prompt.choose(ctx.run_id)
        system = rendered(prompt.texts[version], task)
        return {"system": system, "prompt": prompt.name, "version": version}

    recorded = await ctx.perform(_step("prompt", render))
    version = (recorded["prompt"], recorded["version"]) if "version" in recorded else None
    return Transcript.begin(task, recorded["system"], version)


async def heed(
    ctx: Context, model: Model, transcript: Transcript, advice: Verdict, tools: Tools = ()
) -> Transcript:
    """Do what a stop condition advises before the loop goes on; mostly that is nothing.

    A warning, and a summary, are recorded: they are the same on every replay.
    """
    if not isinstance(advice, Advice):
        return transcript
    if advice.measure is Measure.COMPACT:
        return transcript.summed_up(await _summary(ctx, model, transcript, tools))

    async def warn() -> Json:
        return _WARNING.format(detail=advice.detail)

    return transcript.warned(await ctx.perform(_step("warning", warn)))


async def ask(
    ctx: Context, model: Model, transcript: Transcript, tools: Tools = (), *, answer: Any = None
) -> Reply:
    """Call the model once for the whole transcript, and return its reply.

    Where the model cannot answer, its fallback does; the reply says so. Failures that pass by
    themselves are retried. All others (a missing key, an empty account, a provider that stays
    away, a fault in a script) pause the run and say why: nothing is lost, and it goes on from here
    when the cause is mended and the run is resumed.

    With `answer`, a type with named fields, the answer is to be JSON that fits it. A reply that is
    not what was asked for says so; added to a transcript, it is followed by what is wrong with it.
    A model that was told twice (`Typed` says another number) and is still wrong is passed over for
    the next of its fallback that takes ``invalid``.
    """
    last = transcript.messages[-1]
    if isinstance(last, Reply) and not last.tool_calls:
        raise Misuse("the model has answered and `stop` did not end the loop; add answered() to it")
    asked = inquiry(transcript, model, [as_tool(tool) for tool in tools], typed_of(answer))
    return await _put(ctx, asked, transcript)


async def call_tools(ctx: Context, tools: Tools, reply: Reply) -> ToolMessage:
    """Call every tool that the reply asks for, side by side, and return their results in order.

    Each call is a promise of its own. A tool's own error, wrong arguments, a tool that does not
    exist, and an outcome nobody knows are results that the model sees. Where one of the tools
    takes a `ctx`, so that it may ask models or start runs, what was used meanwhile is recorded.
    """
    scope = ctx.scoped("tools")
    known = {tool.name: tool for tool in map(as_tool, tools)}
    pendings = []
    for call in reply.tool_calls:
        ctx.emit({"event": "tool_start", "tool": call.name, "arguments": call.arguments})
        pendings.append(call_of(scope, known, call).settled())
    settled = await scope.gather(*pendings)
    results = tuple(map(result_of, reply.tool_calls, settled))
    called = [known[call.name] for call in reply.tool_calls if call.name in known]
    if not any("ctx" in tool.takes for tool in called):
        return ToolMessage(results)
    return ToolMessage(results, Usage.from_json(await ctx.perform(spent_step(ctx))))


async def finish(
    ctx: Context,
    model: Model,
    transcript: Transcript,
    end: End,
    tools: Tools = (),
    *,
    answer: Any = None,
) -> Answer:
    """Return the answer. A loop that was cut short gets one last reply, in which to sum up.

    In that reply no tool may be called; they are named, since the transcript speaks of them. With
    `answer`, the answer's `value` is what fits that type, also of a loop that was cut short.
    """
    typed = typed_of(answer)
    if end.reason in (Reason.MAX_TURNS, Reason.BUDGET):
        plea = UserMessage.of(_LAST_WORDS.format(detail=end.detail))
        transcript += await _last_reply(ctx, model, transcript + plea, tools, typed)
    last = transcript.last_reply
    text, value = last.text if last else "", None
    if typed is not None and last is not None and last.stop is not StopReason.REFUSAL:
        try:
            value = typed.value(text)
        except ValueError as error:
            if end.reason is Reason.ANSWERED:  # it fitted the type that it was asked for
                end = End(Reason.FAILED, f"the answer fits its type no more: {error}")
    return Answer(text, end.reason.value, end.detail, transcript.turns, transcript.usage, value)


async def _last_reply(
    ctx: Context, model: Model, transcript: Transcript, tools: Tools, typed: Typed | None
) -> Reply:
    asked = inquiry(transcript, model, [as_tool(tool) for tool in tools], typed)
    request = replace(asked.request, may_call_tools=False)
    return await _put(ctx, replace(asked, request=request, judge=lambda reply: reply), transcript)


async def _summary(ctx: Context, model: Model, transcript: Transcript, tools: Tools) -> Reply:
    """Have the model write down what it did so far."""
    pleading = transcript + UserMessage.of(_SUM_UP)
    asked = inquiry(pleading, model, [as_tool(tool) for tool in tools], None)
    request = replace(asked.request, may_call_tools=False)
    asked = replace(asked, request=request, name="summary", judge=lambda reply: reply)
    return await _put(ctx, asked, transcript)


async def _put(ctx: Context, asked: Inquiry, transcript: Transcript) -> Reply:
    turn = transcript.turns + 1
    ctx.emit({"event": "turn_start", "turn": turn, "model": asked.model.id})
    return reply_of(await ctx.perform(model_step(ctx, asked)).settled())


def _step(name: str, call: Callable[[], Any]) -> Step:
    """Prepare a step that is known by its name, whatever it gives."""
    same = fingerprint(Kind.STEP.value, name)
    return Step(name=name, call=call, fingerprint=same, pause_on=(Exception,))
